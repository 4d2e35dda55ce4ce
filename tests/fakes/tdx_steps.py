"""Runs every verification step of TDX evidence and says which refuse, for tests that expect exactly some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from fakes.pki import AT
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import tdx

T = TypeVar("T")


def failures(data: bytes, binding: bytes, roots: Sequence[tdx.Root], at: datetime = AT) -> list[str]:
    """Codes of all refusals in the order of the steps; `parse` refusing is the only one then.

    What builds on a step that refused is left out.
    """
    try:
        evidence = tdx.parse(data)
    except RluError as error:
        return [f"parse: {error.code}"]
    return step_failures(evidence, binding, roots, at)


def step_failures(
    evidence: tdx.TdxEvidence, binding: bytes, roots: Sequence[tdx.Root], at: datetime
) -> list[str]:
    found: list[str] = []

    def check(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except RluError as error:
            found.append(error.code)
            return None

    check(lambda: tdx.verify_root(evidence, roots))
    check(lambda: tdx.verify_chain(evidence, at))
    pck = check(lambda: tdx.verify_pck(evidence))
    check(lambda: tdx.verify_qe_report(evidence))
    check(lambda: tdx.verify_attestation_key(evidence))
    check(lambda: tdx.verify_signature(evidence))
    info = check(lambda: tdx.verify_tcb_info(evidence, at))
    identity = check(lambda: tdx.verify_qe_identity(evidence, at))
    qe = None if identity is None else check(lambda: tdx.verify_qe(evidence, identity))
    module = None if info is None else check(lambda: tdx.verify_module(evidence, info))
    if pck and info and module and qe:
        check(lambda: tdx.verify_tcb(evidence, pck, info, module, qe))
    check(lambda: tdx.verify_revocation(evidence, at))
    check(lambda: tdx.verify_binding(evidence, binding))
    if evidence.event_log is not None:
        check(lambda: tdx.verify_event_log(evidence))
    return found
