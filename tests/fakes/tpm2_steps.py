"""Runs every verification step of TPM evidence and says which refuse, for tests that expect exactly some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from fakes.pki import AT
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import tpm2
from rlu_attestation.tpm import checks
from rlu_attestation.tpm.members import TpmEvidence
from rlu_attestation.x509 import Certificate

STEPS = (
    "ek.chain",
    "ek.vendor",
    "ak.certificate",
    "ak.attributes",
    "key.attributes",
    "key.policy",
    "key.certify",
    "quote.signature",
    "quote.binding",
    "quote.pcrs",
    "quote.clock",
    "quote.eventlog",
    "quote.ima",
)


def failures(
    data: bytes,
    binding: bytes,
    ek_roots: Sequence[Certificate],
    registrars: Sequence[Certificate],
    at: datetime = AT,
) -> list[str]:
    """Codes of all refusals in the order of the steps; `parse` refusing is the only one then."""
    try:
        evidence = tpm2.parse(data)
    except RluError as error:
        return [f"parse: {error.code}"]
    steps: dict[str, Callable[[], object]] = {
        "ek.chain": lambda: tpm2.verify_ek_chain(evidence, ek_roots, at),
        "ek.vendor": lambda: tpm2.ek_vendor(evidence),
        "ak.certificate": lambda: tpm2.verify_ak_certificate(evidence, registrars, at),
        **shared_steps(evidence, binding),
    }
    assert tuple(steps) == STEPS
    found = []
    for step in steps.values():
        try:
            step()
        except RluError as error:
            found.append(error.code)
    return found


def shared_steps(evidence: TpmEvidence, binding: bytes) -> dict[str, Callable[[], object]]:
    """Those that do not depend on who vouches for the AK."""
    return {
        "ak.attributes": lambda: checks.verify_ak_attributes(evidence),
        "key.attributes": lambda: checks.verify_key_attributes(evidence),
        "key.policy": lambda: checks.verify_key_policy(evidence),
        "key.certify": lambda: checks.verify_key_certify(evidence),
        "quote.signature": lambda: checks.verify_quote_signature(evidence),
        "quote.binding": lambda: checks.verify_quote_binding(evidence, binding),
        "quote.pcrs": lambda: checks.verify_quote_pcrs(evidence),
        "quote.clock": lambda: checks.verify_quote_clock(evidence),
        "quote.eventlog": lambda: checks.verify_quote_eventlog(evidence),
        "quote.ima": lambda: checks.verify_quote_ima(evidence),
    }
