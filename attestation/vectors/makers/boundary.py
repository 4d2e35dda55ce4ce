"""FORMATS sections 11.6 and 18: tallies, and reports about them, honest and not. Trees and proofs come from the naive reference.

The figures of a report are the code's own; `tests/attestation/boundary/test_check.py` has the same deployment with its sums by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.boundary import AT, KEY, Instance, day, report
from reference import merkle as naive
from rlu_attestation.boundary.report import Report


def boundary() -> dict[str, Any]:
    instances = day()
    made = report(instances)
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "at": AT,
        "key": public.decode(),
        "instances": [one.issuer for one in instances],
        "tallies": [
            {"statement": data.decode(), "leaf_hash": naive.hash_leaf(data).hex()}
            for one in instances
            for _, data in one.tallies
        ],
        "refused_tallies": [
            {"name": name, "statement": data} for name, data in _refused(instances[0].tallies[1][1].decode())
        ],
        "report": made.sign(KEY),
        "figures": [figure.to_json() for figure in made.figures],
        "others": [
            {"name": name, "false": false, "open": left, "report": one.sign(KEY)}
            for name, false, left, one in _others(instances, made)
        ],
    }


def _refused(text: str) -> Iterator[tuple[str, str]]:
    for name, old, new in (
        ("another-sum", '"rlu_closes":2', '"rlu_closes":3'),
        ("number-0", '"rlu_number":2', '"rlu_number":0'),
        ("number-1-with-a-beginning", '"rlu_number":2', '"rlu_number":1'),
        ("before-it-began", '"rlu_since":', '"rlu_since":9'),
        ("a-sentence", '"drift":3', '"It said no.":3'),
        ("unknown-claim", '"rlu_since"', '"rlu_prompt":"x","rlu_since"'),
        ("white-space", '"rlu_sessions":2,"rlu_since"', '"rlu_sessions":2, "rlu_since"'),
    ):
        assert text.count(old) == 1, name
        yield name, text.replace(old, new)


def _others(instances: list[Instance], made: Report) -> Iterator[tuple[str, list[str], list[str], Report]]:
    first, second = made.instances
    figure = next(f for f in made.figures if f.name == "sessions")
    more = tuple(replace(f, value=f.value + 1) if f == figure else f for f in made.figures)
    yield "a-figure", ["boundary.figures"], [], replace(made, figures=more)
    yield "a-figure-left-out", ["boundary.figures"], [], replace(made, figures=made.figures[1:])
    asserted = tuple(replace(f, source="asserted") if f == figure else f for f in made.figures)
    yield "a-figure-that-is-not-asserted", ["boundary.figures"], [], replace(made, figures=asserted)
    flipped = first.head[:-1] + bytes([first.head[-1] ^ 1])
    yield "a-head", ["boundary.head"], [], replace(made, instances=(replace(first, head=flipped), second))
    moved = (replace(first.tallies[0], path=first.tallies[1].path), *first.tallies[1:])
    yield "a-path", ["boundary.tally"], [], replace(made, instances=(replace(first, tallies=moved), second))
    proof = replace(first, extends=(bytes(32),))
    yield "an-extension", ["boundary.instances"], [], replace(made, instances=(proof, second))
    yield "the-first-instance-alone", ["boundary.instances"], [], report(instances[:1])
    shorter = _without(slice(2, 3))
    yield "the-end-left-out", [], ["boundary.open.end", "boundary.open.uncounted"], shorter


def _without(tallies: slice) -> Report:
    """The same day, told without some tallies of the second instance."""
    instances = day()
    del instances[1].tallies[tallies]
    return report(instances)
