"""Runs every verification step of a Compute Engine instance's evidence and says which refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from fakes import google
from fakes.pki import AT
from fakes.tpm2_steps import shared_steps
from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import gcp_vtpm

STEPS = ("gcp-vtpm.root", "gcp-vtpm.chain", "gcp-vtpm.certificate", "gcp-vtpm.ak", "gcp-vtpm.revocation")


def roots() -> list[gcp_vtpm.Root]:
    return [gcp_vtpm.Root.of(x509.parse(google.root(older).der)) for older in (False, True)]


def failures(data: bytes, binding: bytes, trusted: Sequence[gcp_vtpm.Root], at: datetime = AT) -> list[str]:
    """Codes of all refusals in the order of the steps; `parse` refusing is the only one then."""
    try:
        evidence = gcp_vtpm.parse(data)
    except RluError as error:
        return [f"parse: {error.code}"]
    steps: list[Callable[[], object]] = [
        lambda: gcp_vtpm.verify_root(evidence, trusted),
        lambda: gcp_vtpm.verify_chain(evidence, at),
        lambda: gcp_vtpm.verify_certificate(evidence),
        lambda: gcp_vtpm.verify_ak(evidence),
        *shared_steps(evidence, binding).values(),
    ]
    found = []
    for step in steps:
        try:
            step()
        except RluError as error:
            found.append(error.code)
    if not any(code.startswith("gcp-vtpm.chain.") for code in found):
        try:
            gcp_vtpm.verify_revocation(evidence, at)
        except RluError as error:
            found.append(error.code)
    return found
