"""Runs every verification step of SEV-SNP evidence and says which refuse, for tests that expect exactly some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from fakes.pki import AT
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import sev_snp

T = TypeVar("T")


def failures(data: bytes, binding: bytes, roots: Sequence[sev_snp.Root], at: datetime = AT) -> list[str]:
    """Codes of all refusals in the order of the steps; `parse` refusing is the only one then.

    Without a root there is no product to compare, and without a product no TCB and chip: those steps are left out then.
    """
    try:
        evidence = sev_snp.parse(data)
    except RluError as error:
        return [f"parse: {error.code}"]
    return step_failures(evidence, binding, roots, at)


def step_failures(
    evidence: sev_snp.SevSnpEvidence, binding: bytes, roots: Sequence[sev_snp.Root], at: datetime
) -> list[str]:
    found: list[str] = []

    def check(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except RluError as error:
            found.append(error.code)
            return None

    root = check(lambda: sev_snp.verify_root(evidence, roots))
    check(lambda: sev_snp.verify_chain(evidence, at))
    check(lambda: sev_snp.verify_vek(evidence))
    product = None if root is None else check(lambda: sev_snp.verify_product(evidence, root))
    if product is not None:
        check(lambda: sev_snp.verify_tcb(evidence, product))
        check(lambda: sev_snp.verify_chip_id(evidence, product))
    check(lambda: sev_snp.verify_signature(evidence))
    check(lambda: sev_snp.verify_vmpl(evidence))
    check(lambda: sev_snp.verify_revocation(evidence, at))
    check(lambda: sev_snp.verify_binding(evidence, binding))
    return found
