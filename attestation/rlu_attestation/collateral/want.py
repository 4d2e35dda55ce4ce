"""One thing that evidence needs: where to ask for it, and how to know that the answer is authentic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from rlu_attestation.errors import RluError

CERTIFICATES = "x509-certificates"
"""Certificates in PEM: for evidence that comes without them, and for `ek_roots` of a policy. No part of a bundle's collateral."""


class FetchError(RluError):
    """A service did not give what was asked for."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered; header names are lower case."""

    url: str
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Ask(Protocol):
    """The network, as wants see it. Both raise `FetchError`."""

    def get(self, url: str, types: tuple[str, ...]) -> Answer:
        """GET; `types` are media types that are accepted."""

    def post(self, url: str, content: bytes, content_type: str, types: tuple[str, ...]) -> Answer:
        """POST."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An authentic piece.

    Attributes:
        what: it is, in words.
        until: when it stops to answer; None if it says no end.
        warning: what it says against the evidence, such as that a certificate is revoked.
    """

    what: str
    since: datetime | None
    until: datetime | None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Want:
    """One piece.

    Attributes:
        name: in words, for the report.
        kind: of collateral, or `CERTIFICATES`.
        ask: gets it; raises `FetchError` or what parsing the answer raises.
        check: refuses what is not authentic, not about this evidence, or not in force; raises `RluError`.
        then: what is wanted next, given a checked piece.
        evidence: the kind of evidence that needs it; empty where nobody asks for that.
    """

    name: str
    kind: str
    ask: Callable[[Ask], bytes]
    check: Callable[[bytes], Checked]
    then: Callable[[bytes], tuple[Want, ...]] = lambda data: ()
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Services:
    """Where vendors publish; a mirror of one's own is as good, since every answer is checked.

    Attributes:
        amd_kds: AMD Key Distribution Service (specification 57230).
        intel_pcs: Intel Provisioning Certification Service, API version 4; or a PCCS.
        intel_crl: where Intel's root list is, a whole URL; empty: at the PCCS (`rootcacrl`).
        nvidia_rim: NVIDIA's service of reference values, version 1.
        nvidia_ocsp: NVIDIA's OCSP responder.
    """

    amd_kds: str = "https://kdsintf.amd.com"
    intel_pcs: str = "https://api.trustedservices.intel.com"
    intel_crl: str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
    nvidia_rim: str = "https://rim.attestation.nvidia.com"
    nvidia_ocsp: str = "https://ocsp.ndis.nvidia.com"


PUBLISHERS = (
    "kdsintf.amd.com",
    "ftpm.amd.com",
    "api.trustedservices.intel.com",
    "certificates.trustedservices.intel.com",
    "trustedservices.intel.com",
    "tsci.intel.com",
    "upgrades.intel.com",
    "rim.attestation.nvidia.com",
    "ocsp.ndis.nvidia.com",
    "aws-nitro-enclaves-crl.s3.amazonaws.com",
    "pki.infineon.com",
    "sw-center.st.com",
    "secure.globalsign.com",
    "www.nuvoton.com",
    "www.microsoft.com",
    "pki.goog",
    "storage.googleapis.com",
)
"""Hosts that are asked at all, each with those below it: certificates name URLs, and not every URL is for us to follow."""
