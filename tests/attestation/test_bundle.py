"""Bundles: their one reading, and the refusal of everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.deployment import Deployment
from rlu_attestation import bundle as bundles
from rlu_attestation.bundle import Bundle, BundledPolicy, Cosigned, EvidenceItem, Exchange, Logged
from rlu_attestation.errors import Malformed

LOGGED = Logged(b"statement", b"receipt")
FULL = Bundle(
    statement="a.b.c",
    evidence=(EvidenceItem("tpm2", b"item"), EvidenceItem("none", b"")),
    channel=bytes(32),
    nonce=bytes(8),
    session=LOGGED,
    commitment_key=bytes(range(32)),
    exchanges=(Exchange(LOGGED, b"request", b""), Exchange(LOGGED, None, b"response"), Exchange(LOGGED)),
    close=LOGGED,
    head=b"head",
    cosignatures=(Cosigned(b"head", "— a b"), Cosigned(b"", "x")),
)
LEAST = Bundle(statement="", evidence=())


@pytest.mark.parametrize("bundle", [FULL, LEAST])
def test_what_is_written_is_read_again(bundle: Bundle) -> None:
    assert bundles.parse(bundle.encode()) == bundle


def test_layout_does_not_matter() -> None:
    value = json.loads(FULL.encode())
    assert bundles.parse(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()) == FULL


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(FULL.encode())
    change(value)
    return json.dumps(value).encode()


BROKEN: tuple[tuple[str, bytes], ...] = (
    ("empty", b""),
    ("not-utf-8", b'{"\xff":1}'),
    ("not-json", b"{"),
    ("array", b"[]"),
    ("trailing-garbage", FULL.encode() + b"x"),
    ("truncated", FULL.encode()[:-10]),
    ("byte-order-mark", b"\xef\xbb\xbf" + FULL.encode()),
    ("duplicate-key", FULL.encode().replace(b'"nonce"', b'"head"')),
    ("duplicate-nested-key", changed(lambda v: None).replace(b'"receipt"', b'"statement"')),
    ("number", changed(lambda v: v.update(nonce=1))),
    ("deep", b"[" * 100_000),
    ("unknown-key", changed(lambda v: v.update(extra="x"))),
    ("unknown-nested-key", changed(lambda v: v["attestation"].update(extra="x"))),
    ("unknown-evidence-key", changed(lambda v: v["attestation"]["evidence"][0].update(extra="x"))),
    ("unknown-exchange-key", changed(lambda v: v["exchanges"][0].update(extra="x"))),
    ("unknown-session-key", changed(lambda v: v["session"].update(extra="x"))),
    ("unknown-channel-key", changed(lambda v: v["channel"].update(extra="x"))),
    ("another-version", changed(lambda v: v.update(rlu_bundle="2"))),
    ("no-version", changed(lambda v: v.pop("rlu_bundle"))),
    ("no-attestation", changed(lambda v: v.pop("attestation"))),
    ("no-statement", changed(lambda v: v["attestation"].pop("statement"))),
    ("no-evidence", changed(lambda v: v["attestation"].pop("evidence"))),
    ("statement-not-text", changed(lambda v: v["attestation"].update(statement=["x"]))),
    ("evidence-not-array", changed(lambda v: v["attestation"].update(evidence={}))),
    (
        "too-much-evidence",
        changed(lambda v: v["attestation"].update(evidence=[{"data": "", "kind": "x"}] * 17)),
    ),
    ("null-nonce", changed(lambda v: v.update(nonce=None))),
    ("short-nonce", changed(lambda v: v.update(nonce="AAAA"))),
    ("padded", changed(lambda v: v.update(head="AA=="))),
    ("short-key", changed(lambda v: v.update(commitment_key="AAAA"))),
    ("short-channel", changed(lambda v: v["channel"].update(spki_sha256="AAAA"))),
    ("exchanges-not-array", changed(lambda v: v.update(exchanges={}))),
    ("cosignatures-not-array", changed(lambda v: v.update(cosignatures={}))),
    ("half-a-cosignature", changed(lambda v: v["cosignatures"][0].pop("head"))),
    ("unknown-cosignature-key", changed(lambda v: v["cosignatures"][0].update(extra="x"))),
    ("cosignature-not-text", changed(lambda v: v["cosignatures"][0].update(cosignature=[]))),
    ("cosigned-head-padded", changed(lambda v: v["cosignatures"][0].update(head="AA=="))),
    ("half-a-close", changed(lambda v: v["close"].pop("receipt"))),
    ("session-not-object", changed(lambda v: v.update(session="x"))),
    (
        "exchanges-without-session",
        changed(lambda v: [v.pop(k) for k in ("session", "commitment_key", "close")]),
    ),
    (
        "close-without-session",
        changed(lambda v: [v.pop(k) for k in ("session", "commitment_key", "exchanges")]),
    ),
    ("key-without-session", changed(lambda v: [v.pop(k) for k in ("session", "exchanges", "close")])),
    ("many-values", b'{"a":[' + b"[]," * 600_000 + b"[]]}"),
    ("too-long", b" " * (64 * 1024 * 1024 + 1)),
)


@pytest.mark.parametrize(("name", "data"), BROKEN, ids=[name for name, _ in BROKEN])
def test_anything_else_is_malformed(name: str, data: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        bundles.parse(data)
    assert refusal.value.code == "bundle.encoding", name


def test_limits_are_met_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    data = FULL.encode()
    values = sum(map(data.count, (b",", b"[", b"{")))
    for name, limit in (
        ("MAX_BUNDLE", len(data)),
        ("_MAX_VALUES", values),
        ("MAX_EVIDENCE", 2),
        ("MAX_EXCHANGES", 3),
        ("MAX_COSIGNATURES", 2),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(bundles, name, limit)
            assert bundles.parse(data) == FULL
            patched.setattr(bundles, name, limit - 1)
            with pytest.raises(Malformed):
                bundles.parse(data)


def test_a_number_is_refused_even_where_no_one_would_read_it() -> None:
    with pytest.raises(Malformed, match="number"):
        bundles.parse(b'{"rlu_bundle":1}')


def test_too_many_values_are_refused_before_they_are_made() -> None:
    with pytest.raises(Malformed, match="more members"):
        bundles.parse(b'{"a":[' + b"[]," * 600_000 + b"[]]}")
    with pytest.raises(Malformed, match="longer than"):
        bundles.parse(b" " * (64 * 1024 * 1024 + 1))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    with suppress(Malformed):
        bundles.parse(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = (
    "rlu_bundle",
    "attestation",
    "channel",
    "nonce",
    "session",
    "commitment_key",
    "exchanges",
    "close",
    "head",
)


@given(st.dictionaries(st.sampled_from(KEYS), json_values))
def test_arbitrary_values_of_known_keys_raise_nothing_else(changes: dict[str, Any]) -> None:
    data = json.dumps(json.loads(FULL.encode()) | changes).encode()
    with suppress(Malformed):
        bundles.parse(data)


def test_two_files_of_a_policy_have_two_names() -> None:
    policy = BundledPolicy(b"version = 1\n", (("a.pem", b"1"), ("b.pem", b"2")))
    whole = replace(Deployment().bundle(), policy=policy)
    assert bundles.parse(whole.encode()).policy == policy
    twice = replace(whole, policy=replace(policy, files=(("a.pem", b"1"), ("a.pem", b"2"))))
    with pytest.raises(Malformed) as refused:
        bundles.parse(twice.encode())
    assert refused.value.code == "bundle.encoding"
