"""Client certificates: from a certificate whose chain TLS has verified to a tenant and principal, and revocation.

TLS checks chain, times and purpose once, when a connection begins; connections live long. So end of validity and revocation are asked
here again for every request. Revocation lists are looked at for the client's own certificate, not for intermediates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from rlu_attestation.errors import Malformed
from rlu_server.core.errors import GatewayError

Source = Literal["uri", "dns", "email", "subject"]
MAX_FILE = 16 * 1024 * 1024
MAX_NAMES = 64
_PLACES = re.compile(r"(\{tenant\}|\{principal\})")
_PART = r"[A-Za-z0-9._@:-]{1,128}"
_PEM_LIST = b"-----BEGIN X509 CRL-----"


@dataclass(frozen=True, slots=True)
class Rule:
    """Which names make whom: everything outside `{tenant}` and `{principal}` must be there as it is written.

    Attributes:
        source: the kind of alternative name, or the subject in RFC 4514's form.
        tenant: the tenant, when the pattern does not say it.
    """

    source: Source
    pattern: re.Pattern[str]
    tenant: str


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What counts of a client certificate."""

    names: tuple[tuple[Source, str], ...]
    issuer: bytes
    serial: int
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Revoked:
    """Revocation lists that were verified: serial numbers by issuer (DER of its name)."""

    serials: frozenset[tuple[bytes, int]] = frozenset()
    issuers: frozenset[bytes] = frozenset()
    """Issuers that have a list."""
    until: float = float("inf")
    """When the first of the lists is out of date. Older ones refuse: an attacker who can withhold a list must not win."""


def rule(source: Source, pattern: str, tenant: str) -> Rule:
    """Compile a rule.

    Raises:
        ValueError: no principal, a tenant said twice or not at all.
    """
    pieces = _PLACES.split(pattern)
    if pieces.count("{principal}") != 1:
        raise ValueError("a pattern takes {principal} once")
    if pieces.count("{tenant}") != (0 if tenant else 1):
        raise ValueError("the tenant is said once: by `tenant` or by {tenant} in the pattern")
    parts = [f"(?P<{p[1:-1]}>{_PART})" if p in ("{tenant}", "{principal}") else re.escape(p) for p in pieces]
    return Rule(source, re.compile("".join(parts), re.ASCII), tenant)


def read(der: bytes) -> ClientCertificate:
    """Read a certificate.

    Raises:
        GatewayError: `certificate_unknown`, when it cannot be read.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        names: list[tuple[Source, str]] = []
        try:
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            found = x509.SubjectAlternativeName([])
        names += [("uri", name) for name in found.get_values_for_type(x509.UniformResourceIdentifier)]
        names += [("dns", name) for name in found.get_values_for_type(x509.DNSName)]
        names += [("email", name) for name in found.get_values_for_type(x509.RFC822Name)]
        names.append(("subject", certificate.subject.rfc4514_string()))
        return ClientCertificate(
            tuple(names[:MAX_NAMES]),
            certificate.issuer.public_bytes(),
            certificate.serial_number,
            certificate.not_valid_before_utc.timestamp(),
            certificate.not_valid_after_utc.timestamp(),
        )
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
    ) as error:
        raise GatewayError("certificate_unknown") from error


def name(certificate: ClientCertificate, rules: Sequence[Rule]) -> tuple[str, str]:
    """Tenant and principal: of the first rule that fits any name. Names that fit it differently contradict each other, and refuse.

    Raises:
        GatewayError: `certificate_unknown`.
    """
    for one in rules:
        made = {
            (one.tenant or fits["tenant"], fits["principal"])
            for source, text in certificate.names
            if source == one.source and (fits := one.pattern.fullmatch(text)) is not None
        }
        if len(made) == 1:
            return made.pop()
        if made:
            break
    raise GatewayError("certificate_unknown")


def check(certificate: ClientCertificate, revoked: Revoked | None, now: float) -> None:
    """Is it still good?

    Args:
        revoked: None, when no list is configured.

    Raises:
        GatewayError: `certificate_expired`, `certificate_revoked`, `certificate_unverifiable`.
    """
    if not certificate.not_before - 60 <= now < certificate.not_after:
        raise GatewayError("certificate_expired")
    if revoked is None:
        return
    if (certificate.issuer, certificate.serial) in revoked.serials:
        raise GatewayError("certificate_revoked")
    if certificate.issuer not in revoked.issuers or now >= revoked.until:
        raise GatewayError("certificate_unverifiable")


def authorities(data: bytes) -> list[x509.Certificate]:
    """Read a bundle of CA certificates (PEM).

    Raises:
        Malformed: `auth.ca`.
    """
    try:
        found = x509.load_pem_x509_certificates(data) if len(data) <= MAX_FILE else []
        for certificate in found:
            if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                raise ValueError("not a CA")
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise Malformed("auth.ca", "not a PEM file of CA certificates") from error
    if not found:
        raise Malformed("auth.ca", "the file has no CA certificate, or is too long")
    return found


def lists(data: bytes, issuers: Sequence[x509.Certificate], now: datetime) -> Revoked:
    """Read revocation lists (PEM, any number; or one in DER) and verify each with its issuer's certificate.

    Raises:
        Malformed: `auth.crl`: unreadable, of an unknown issuer, wrongly signed, out of date, or a delta.
    """
    try:
        if len(data) > MAX_FILE:
            raise ValueError("too long")
        found = [_verified(one, issuers, now) for one in _split(data)]
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
    ) as error:
        raise Malformed("auth.crl", "not a current list of revocations by one of the CAs") from error
    serials = frozenset((one.issuer.public_bytes(), entry.serial_number) for one in found for entry in one)
    ends = [one.next_update_utc.timestamp() for one in found if one.next_update_utc is not None]
    return Revoked(serials, frozenset(one.issuer.public_bytes() for one in found), min(ends))


def _split(data: bytes) -> list[x509.CertificateRevocationList]:
    if _PEM_LIST not in data:
        return [x509.load_der_x509_crl(data)]
    return [x509.load_pem_x509_crl(_PEM_LIST + part) for part in data.split(_PEM_LIST)[1:]]


def _verified(
    one: x509.CertificateRevocationList, issuers: Sequence[x509.Certificate], now: datetime
) -> x509.CertificateRevocationList:
    delta = any(extension.critical for extension in one.extensions)
    current = one.next_update_utc is not None and one.last_update_utc <= now < one.next_update_utc
    signed = any(
        certificate.subject == one.issuer and one.is_signature_valid(certificate.public_key())  # type: ignore[arg-type]
        for certificate in issuers
    )
    if delta or not current or not signed:
        raise ValueError("not to be believed")
    return one


def pem(certificates: Sequence[x509.Certificate]) -> str:
    """The bundle for TLS, of what was parsed and nothing else of the file."""
    return "".join(one.public_bytes(Encoding.PEM).decode("ascii") for one in certificates)
