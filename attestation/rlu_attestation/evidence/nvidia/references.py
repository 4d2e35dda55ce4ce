"""Reference values: which RIM is a device's, whether NVIDIA signed it, and whether the device measured what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from rlu_attestation import chain
from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence.nvidia.identity import Identity
from rlu_attestation.evidence.nvidia.report import Report
from rlu_attestation.evidence.nvidia.rim import ReferenceValue, Rim
from rlu_attestation.evidence.nvidia.roots import Root
from rlu_attestation.x509 import DIGITAL_SIGNATURE, Certificate

_COORDINATE = 48
_NVDEC0_INDEX = 35
"""NVIDIA's verifiers do not compare this reference value when NVDEC0 is disabled."""


def find(rims: Sequence[Rim], device: Identity, version: str, step: str) -> Rim:
    """The one RIM for a version of a chip's driver or firmware.

    Raises:
        Untrusted: `<step>.missing`, `.product` when there is one for this version of another chip, `.twice`.
    """
    same_version = [rim for rim in rims if rim.version == version]
    found = [rim for rim in same_version if (rim.kind, rim.product) == (device.kind, device.chip)]
    if not same_version:
        raise Untrusted(f"{step}.missing", f"no reference values for version {version} are stapled")
    if not found:
        others = ", ".join(sorted({rim.product for rim in same_version}))
        raise Untrusted(f"{step}.product", f"the reference values for {version} are of {others}")
    if len(found) > 1:
        raise Untrusted(
            f"{step}.twice", f"several sets of reference values for version {version} are stapled"
        )
    return found[0]


def verify_rim(rim: Rim, at: datetime, roots: Sequence[Root], step: str) -> tuple[Certificate, ...]:
    """NVIDIA signed the RIM: digest, signature, and a chain to a trusted root that holds at a time; returns the chain.

    Raises:
        RluError: `<step>.digest`, `.signature`, `.key`, `.root`, `.order`, `.usage` and causes of `chain.verify_chain`.
    """
    if hashlib.sha384(rim.signed).digest() != rim.digest:
        raise Untrusted(f"{step}.digest", f"the RIM for {rim.version} was changed after it was signed")
    signer, last = rim.certificates[0], rim.certificates[-1]
    if not verifies(signer, rim.signature, rim.signed_info, f"{step}.key"):
        raise Untrusted(f"{step}.signature", f"the RIM for {rim.version} is not signed by its certificate")
    if not any(root.is_of(last) for root in roots):
        raise Untrusted(f"{step}.root", f"no trusted root has the fingerprint {last.fingerprint.hex()}")
    path = chain.verify_chain(signer, rim.certificates[1:-1], (last,), at, step)
    if path != rim.certificates:
        raise Untrusted(f"{step}.order", "the certificates do not stand in the order of their chain")
    if DIGITAL_SIGNATURE not in (signer.key_usage() or ()):
        raise Untrusted(f"{step}.usage", "the signer's key is not for signatures")
    return path


def compare(report: Report, rims: Sequence[Rim], step: str) -> int:
    """Hold a report against its RIMs; returns how many values were compared.

    Raises:
        Untrusted: `<step>.conflict`, `.absent`, `.mismatch`; the message names all indexes, as RIMs count.
    """
    golden: dict[int, ReferenceValue] = {}
    for rim in rims:
        twice = [value.index for value in rim.active if value.index in golden]
        if twice:
            raise Untrusted(f"{step}.conflict", f"indexes {_list(twice)} are active in two RIMs")
        golden |= {value.index: value for value in rim.active}
    if report.opaque.nvdec0_disabled:
        golden.pop(_NVDEC0_INDEX, None)
    absent = [index for index in golden if index >= len(report.measurements)]
    if absent:
        raise Untrusted(f"{step}.absent", f"indexes {_list(absent)} were not measured")
    wrong = [
        index for index, value in golden.items() if report.measurements[index].value not in value.alternatives
    ]
    if wrong:
        raise Untrusted(
            f"{step}.mismatch", f"measurements at indexes {_list(wrong)} are not NVIDIA's reference values"
        )
    return len(golden)


def verifies(certificate: Certificate, signature: bytes, data: bytes, code: str) -> bool:
    """Whether r ‖ s, 48 bytes each, is an ECDSA signature with SHA-384 by the certificate's P-384 key; another key refuses."""
    r, s = (int.from_bytes(half, "big") for half in (signature[:_COORDINATE], signature[_COORDINATE:]))
    try:
        p384(certificate, code).verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True


def p384(certificate: Certificate, code: str) -> ec.EllipticCurvePublicKey:
    """The certificate's key, on curve P-384; another refuses with the code."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Untrusted(code, "the certificate's key is not on curve P-384")
    return key


def _list(indexes: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(indexes)))
