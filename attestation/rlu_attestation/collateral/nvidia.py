"""NVIDIA's reference values (RIM service, version 1) and OCSP responder."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from rlu_attestation.collateral.lists import name_of
from rlu_attestation.collateral.want import Ask, Checked, Services, Want
from rlu_attestation.errors import Malformed, Unsupported, Untrusted
from rlu_attestation.evidence import nvidia
from rlu_attestation.evidence.nvidia import Device, DeviceKind, Identity, NvidiaEvidence, Roots
from rlu_attestation.evidence.nvidia.opaque import CHIP_INFO
from rlu_attestation.evidence.nvidia.references import verify_rim
from rlu_attestation.evidence.nvidia.revocation import verify_good
from rlu_attestation.x509 import Certificate

RIM, OCSP = "nvidia-rim", "ocsp-response"
_SWITCH = "5612_0002_890"
"""Project, SKU and chip SKU of LS10: its reports do not name them."""
_FINAL = (".revoked", ".certificate_hold", ".unknown")
_BROM = 1


def of_evidence(
    evidence: NvidiaEvidence, roots: Roots, at: datetime, max_age: timedelta, services: Services
) -> tuple[Want, ...]:
    """What is published about the devices of a node.

    Raises:
        RluError: the devices' certificates are not NVIDIA's.
    """
    nvidia.verify_root(evidence, roots)
    nvidia.verify_chain(evidence, at)
    identities = nvidia.verify_identity(evidence)
    wants: dict[str, Want] = {}
    for device, identity in zip(evidence.devices, identities, strict=True):
        for rim_id, version in _rims(device, identity):
            wants.setdefault(rim_id, _rim(rim_id, version, identity, roots, at, max_age, services))
        for position in range(_BROM, len(device.chain) - 1):
            path = device.chain[position:]
            wants.setdefault(path[0].raw.hex(), _ocsp(path, at, max_age, services))
    return tuple(wants.values())


def request(certificate: Certificate, issuer: Certificate) -> bytes:
    """An OCSP request (RFC 6960 section 4.1) that names the certificate by SHA-384, as NVIDIA's responder wants it."""
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Unsupported("x509.key", "NVIDIA's authorities have keys on elliptic curves")
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        hashlib.sha384(issuer.subject).digest(), hashlib.sha384(point).digest(), certificate.serial, SHA384()
    )
    return builder.build().public_bytes(Encoding.DER)


def _rims(device: Device, identity: Identity) -> tuple[tuple[str, str], ...]:
    """Identifiers and versions of a device's reference values, as NVIDIA's service files them."""
    opaque = device.report.opaque
    vbios = opaque.vbios.replace(".", "").upper()
    if device.kind is DeviceKind.SWITCH:
        return ((f"NV_SWITCH_BIOS_{_SWITCH}_{vbios}", opaque.vbios),)
    found = []
    if opaque.driver is not None:
        chip = dict(opaque.fields).get(CHIP_INFO, b"").partition(b"\0")[0].decode("ascii", "replace")
        blackwell = f"NV_GPU_CC_DRIVER_{chip if chip.isalnum() else identity.chip}_{opaque.driver}"
        hopper = f"NV_GPU_DRIVER_{identity.chip}_{opaque.driver}"
        found.append((hopper if identity.architecture == "Hopper" else blackwell, opaque.driver))
    if opaque.project and opaque.project_sku and opaque.chip_sku:
        name = f"NV_GPU_VBIOS_{opaque.project}_{opaque.project_sku}_{opaque.chip_sku}_{vbios}"
        found.append((name, opaque.vbios))
    return tuple(found)


def _rim(
    rim_id: str,
    version: str,
    identity: Identity,
    roots: Roots,
    at: datetime,
    max_age: timedelta,
    services: Services,
) -> Want:
    def check(data: bytes) -> Checked:
        found = nvidia.parse_rim(data)
        if (found.kind, found.product, found.version) != (identity.kind, identity.chip, version):
            raise Untrusted(
                "collateral.rim.version",
                f"asked for {identity.chip} {version}, got {found.product} {found.version}",
            )
        path = verify_rim(found, at, roots.rim, "collateral.rim")
        until = min(certificate.not_after for certificate in path)
        return Checked(
            f"reference values of {found.product} {found.version}",
            max(certificate.not_before for certificate in path),
            until,
        )

    def then(data: bytes) -> tuple[Want, ...]:
        path = nvidia.parse_rim(data).certificates
        return tuple(_ocsp(path[at_:], at, max_age, services) for at_ in range(len(path) - 1))

    return Want(f"reference values {rim_id}", RIM, lambda ask: _document(ask, rim_id, services), check, then)


def _document(ask: Ask, rim_id: str, services: Services) -> bytes:
    answer = ask.get(f"{services.nvidia_rim}/v1/rim/{rim_id}", ("application/json",))
    try:
        value = json.loads(answer.content)
        data = base64.b64decode(value["rim"], validate=True)
        digest = value.get("sha256", hashlib.sha256(data).hexdigest())
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError, binascii.Error) as error:
        raise Malformed("fetch.answer", f"{answer.url}: no `rim` in base64 in a JSON object") from error
    if digest != hashlib.sha256(data).hexdigest():
        raise Malformed("fetch.answer", f"{answer.url}: the document is not the one that its sha256 names")
    return data


def _ocsp(path: Sequence[Certificate], at: datetime, max_age: timedelta, services: Services) -> Want:
    certificate, issuer = path[0], path[1]
    name = f"OCSP answer about {name_of(certificate)} ({certificate.serial:#x})"

    def check(data: bytes) -> Checked:
        response = nvidia.parse_ocsp(data)
        warning = ""
        try:
            verify_good(path, (response,), at, max_age, "collateral.ocsp")
        except Untrusted as error:
            if not error.code.endswith(_FINAL):
                raise
            warning = f"REVOKED: {error.message}"
        single = next(one for one in response.singles if one.is_about(certificate, issuer))
        ends = [single.this_update + max_age, *([single.next_update] if single.next_update else [])]
        return Checked(name, single.this_update, min(ends), warning)

    def ask(network: Ask) -> bytes:
        answer = network.post(
            f"{services.nvidia_ocsp}/",
            request(certificate, issuer),
            "application/ocsp-request",
            ("application/ocsp-response",),
        )
        return answer.content

    return Want(name, OCSP, ask, check)
