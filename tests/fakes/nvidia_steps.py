"""Runs every verification step of NVIDIA evidence and says which refuse, for tests that expect exactly some of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from fakes import nvidia as fake
from fakes.pki import AT
from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nvidia

T = TypeVar("T")
MAX_AGE = timedelta(days=3)


def roots(label: str = "") -> nvidia.Roots:
    """Those of the fake NVIDIA."""
    device = nvidia.Root.of(x509.parse(fake.device_root(label).der), "fake devices")
    rim = nvidia.Root.of(x509.parse(fake.rim_root(label).der), "fake reference values")
    return nvidia.Roots((device,), (device,), (rim,))


def failures(
    data: bytes, binding: bytes, trusted: nvidia.Roots, at: datetime = AT, max_age: timedelta = MAX_AGE
) -> list[str]:
    """Codes of all refusals in the order of the steps; `parse` refusing is the only one then.

    A step that needs what another gives is left out when that refuses.
    """
    try:
        evidence = nvidia.parse(data)
    except RluError as error:
        return [f"parse: {error.code}"]
    return step_failures(evidence, binding, trusted, at, max_age)


def step_failures(
    evidence: nvidia.NvidiaEvidence, binding: bytes, trusted: nvidia.Roots, at: datetime, max_age: timedelta
) -> list[str]:
    found: list[str] = []

    def check(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except RluError as error:
            found.append(error.code)
            return None

    check(lambda: nvidia.verify_devices(evidence))
    check(lambda: nvidia.verify_root(evidence, trusted))
    check(lambda: nvidia.verify_chain(evidence, at))
    identities = check(lambda: nvidia.verify_identity(evidence))
    check(lambda: nvidia.verify_fwid(evidence))
    check(lambda: nvidia.verify_signature(evidence))
    if identities is not None:
        drivers = check(lambda: nvidia.verify_rim_driver(evidence, identities, at, trusted))
        firmware = check(lambda: nvidia.verify_rim_vbios(evidence, identities, at, trusted))
        if drivers is not None and firmware is not None:
            check(lambda: nvidia.verify_measurements(evidence, drivers, firmware))
    check(lambda: nvidia.verify_topology(evidence))
    check(lambda: nvidia.verify_revocation(evidence, at, max_age))
    check(lambda: nvidia.verify_binding(evidence, binding))
    return found
