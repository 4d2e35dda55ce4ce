"""Runs every verification step of a Nitro document and says which refuse, for tests that expect exactly some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from fakes.pki import AT
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nitro

MAX_AGE = timedelta(minutes=5)


def failures(data: bytes, binding: bytes, roots: Sequence[nitro.Root], at: datetime = AT) -> list[str]:
    """Codes of all refusals in the order of the steps; `parse` refusing is the only one then."""
    try:
        evidence = nitro.parse(data)
    except RluError as error:
        return [f"parse: {error.code}"]
    steps: list[Callable[[], object]] = [
        lambda: nitro.verify_root(evidence, roots),
        lambda: nitro.verify_chain(evidence, at),
        lambda: nitro.verify_certificate(evidence),
        lambda: nitro.verify_signature(evidence),
        lambda: nitro.verify_timestamp(evidence, at, MAX_AGE),
        lambda: nitro.verify_revocation(evidence, at),
        lambda: nitro.verify_binding(evidence, binding),
    ]
    found = []
    for step in steps:
        try:
            step()
        except RluError as error:
            found.append(error.code)
    return found
