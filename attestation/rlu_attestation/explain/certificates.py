"""Certificates: of EKs, AKs and their authorities."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from rlu_attestation import endorsement
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_attestation.evidence.tpm2 import vendor_of
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.x509 import Certificate

_PURPOSES = {
    "2.23.133.8.1": "tcg-kp-EKCertificate",
    "2.23.133.8.3": "tcg-kp-AIKCertificate",
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
}
_AUTHORITY = "certificate of an authority"
_AK = "AK certificate"
_EK = "EK certificate"
_OTHER = "certificate"


def explain_certificate(certificate: Certificate) -> Section:
    """A certificate's fields; of an AK certificate also what the registrar endorses, of an EK certificate the TPM."""
    purposes = certificate.extended_key_usage() or frozenset()
    constraints = certificate.basic_constraints()
    rows = [
        Row("serialNumber", f"{certificate.serial:x}"),
        Row("notBefore", certificate.not_before.isoformat(), "not valid before"),
        Row("notAfter", certificate.not_after.isoformat(), "not valid after"),
        Row("publicKey", _key(certificate)),
        Row("spki_sha256", b64u(certificate.spki_sha256), "digest of SubjectPublicKeyInfo"),
        Row("fingerprint", certificate.fingerprint.hex(), "SHA-256 of the certificate"),
        Row(
            "extKeyUsage",
            ", ".join(sorted(_PURPOSES.get(p, p) for p in purposes)) or "none",
            "what the key is for",
        ),
        Row("extensions", ", ".join(found.oid for found in certificate.extensions) or "none"),
    ]
    if constraints is not None and constraints[0]:
        return Section(_AUTHORITY, tuple(rows))
    if certificate.extension(endorsement.EXTENSION) is not None:
        return Section(_AK, (*rows, *_endorsed(certificate)))
    vendor = _vendor(certificate)
    return Section(_EK if vendor else _OTHER, (*rows, *vendor))


def _endorsed(certificate: Certificate) -> tuple[Row, ...]:
    try:
        endorsed = endorsement.of_certificate(certificate)
    except RluError as error:
        return (Row("endorsement", error.code, error.message),)
    return (
        Row("ak_name", endorsed.ak_name.hex(), "TPM name of the AK that the registrar challenged"),
        Row("ek_spki_sha256", b64u(endorsed.ek_spki_sha256), "EK under which the AK answered"),
        Row("region", endorsed.region, "endorsed by the registrar"),
        Row("boundary", endorsed.boundary, "endorsed by the registrar"),
        Row("site", endorsed.site, "endorsed by the registrar"),
    )


def _vendor(certificate: Certificate) -> tuple[Row, ...]:
    try:
        vendor = vendor_of(certificate)
    except RluError:
        return ()
    if not vendor.manufacturer:
        return ()
    return (
        Row("tpmManufacturer", vendor.manufacturer, vendor.vendor or "unknown vendor"),
        Row(
            "tpmModel", vendor.model, "an emulator: proves nothing about hardware" if vendor.emulator else ""
        ),
        Row("tpmVersion", vendor.version, "firmware"),
    )


def _key(certificate: Certificate) -> str:
    try:
        key = certificate.public_key()
    except RluError as error:
        return error.message
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA, {key.key_size} bits"
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return f"ECDSA, {key.curve.name}"
