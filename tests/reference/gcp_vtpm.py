"""A second verifier of evidence from Compute Engine, written naively on the X.509 of `cryptography`.

It exists to disagree with the real one. It shares no code with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA1

from reference import tpm
from reference.tpm import Rejected, need

IDENTITY = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.1.21")
KNOWN = {"2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"}


def take(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Content of the next element, which has this tag, and the rest; lengths below 256."""
    need(len(data) > 1 and data[0] == tag, "tag")
    size, start = data[1], 2
    if size == 0x81:
        need(len(data) > 2 and data[2] >= 0x80, "length")
        size, start = data[2], 3
    need(size < 0x80 or start == 3, "length")
    need(len(data) >= start + size, "short")
    return data[start : start + size], data[start + size :]


def number(content: bytes) -> int:
    need(bool(content) and (len(content) == 1 or content[0] != 0 or content[1] > 127), "integer")
    value = int.from_bytes(content, "big", signed=True)
    need(0 <= value < 2**64, "integer")
    return value


def text(content: bytes) -> str:
    need(content.isascii() and 0 < len(content) <= 128 and content.decode().isprintable(), "text")
    return content.decode()


def identity(value: bytes) -> dict[str, Any]:
    body, rest = take(value, 0x30)
    need(not rest, "left over")
    found: dict[str, Any] = {}
    for field, tag in (
        ("zone", 12),
        ("project_number", 2),
        ("project_id", 12),
        ("instance_id", 2),
        ("instance_name", 12),
    ):
        content, body = take(body, tag)
        found[field] = text(content) if tag == 12 else number(content)
    words = found["zone"].split("-")
    need(
        len(words) > 2 and words[-2][-1:].isdigit() and words[-1].isalnum() and found["zone"].islower(),
        "zone",
    )
    need(words[-2].rstrip("0123456789").isalpha() and all(word.isalpha() for word in words[:-2]), "zone")
    found["properties"] = [0, False, False, False, False, False]
    if body:
        wrapped, body = take(body, 0xA0)
        inner, rest = take(wrapped, 0x30)
        need(not rest, "left over")
        for n in range(6):
            if inner[:1] == bytes([0xA0 + n]):
                tagged, inner = take(inner, 0xA0 + n)
                content, rest = take(tagged, 2 if n == 0 else 1)
                need(not rest and (n == 0 or content in (b"\0", b"\xff")), "property")
                found["properties"][n] = number(content) if n == 0 else content == b"\xff"
        need(not inner, "left over")
    need(not body, "left over")
    return found


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return not isinstance(certificate.signature_hash_algorithm, SHA1)


def extension(certificate: x509.Certificate, kind: Any) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def issues(issuer: x509.Certificate, below: int) -> bool:
    constraints, usage = extension(issuer, x509.BasicConstraints), extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        return False
    return constraints.path_length is None or below <= constraints.path_length


def leads(
    path: list[x509.Certificate], others: Sequence[x509.Certificate], root: x509.Certificate, at: datetime
) -> bool:
    for issuer in (root, *others):
        if issuer in path or issuer.subject != path[-1].issuer or not signed_by(path[-1], issuer):
            continue
        valid = issuer.not_valid_before_utc <= at <= issuer.not_valid_after_utc
        if (
            valid
            and issues(issuer, len(path) - 1)
            and (issuer == root or leads([*path, issuer], others, root, at))
        ):
            return True
    return False


def verify(parts: Any, binding_root: bytes, at: datetime, roots: Sequence[bytes]) -> dict[str, Any]:
    """All but revocation; what the instance is and what the TPM said."""
    try:
        return _verify(parts, binding_root, at, roots)
    except (
        ValueError,
        x509.InvalidVersion,
    ) as error:  # what `cryptography` raises, late, for certificates that it cannot read
        raise Rejected("certificate") from error


def _verify(parts: Any, binding_root: bytes, at: datetime, roots: Sequence[bytes]) -> dict[str, Any]:
    leaf = x509.load_der_x509_certificate(parts.ak_certificate)
    others = [x509.load_der_x509_certificate(der) for der in parts.ak_chain]
    root = x509.load_der_x509_certificate(parts.root_certificate)
    need(hashlib.sha256(parts.root_certificate).digest() in roots and signed_by(root, root), "root")
    need(leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc, "validity")
    need(all(e.oid.dotted_string in KNOWN for e in leaf.extensions if e.critical), "critical")
    need(leads([leaf], others, root, at), "chain")
    usage, constraints = extension(leaf, x509.KeyUsage), extension(leaf, x509.BasicConstraints)
    need(usage is not None and usage.digital_signature and not usage.key_cert_sign, "usage")
    need(not usage.key_encipherment and not usage.key_agreement, "usage")
    need(constraints is not None and not constraints.ca, "authority")
    purposes = extension(leaf, x509.ExtendedKeyUsage)
    need(
        purposes is None
        or any(found.dotted_string in ("2.23.133.8.1", "2.23.133.8.3") for found in purposes),
        "purpose",
    )
    named = [found for found in leaf.extensions if found.oid == IDENTITY]
    need(len(named) == 1, "instance")
    value = named[0].value
    assert isinstance(value, x509.UnrecognizedExtension)
    instance = identity(value.value)
    need(instance["properties"][1], "production")
    proved = tpm.verify(parts, binding_root)
    need(proved["ak"] == leaf.public_key(), "AK")
    return instance
