"""Revocation lists and issuers' certificates, where certificates say that they are (RFC 5280 sections 4.2.1.13 and 4.2.2.1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime

from rlu_attestation import crl, der, x509
from rlu_attestation.chain import verify_signed_by
from rlu_attestation.collateral.want import CERTIFICATES, Ask, Checked, Want
from rlu_attestation.crl import CRL_DISTRIBUTION_POINTS, CRL_SIGN, CertificateList
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.names import common_name
from rlu_attestation.x509 import Certificate

CRL = "x509-crl"
CRL_TYPES = (
    "application/pkix-crl",
    "application/x-pkcs7-crl",
    "application/octet-stream",
    "binary/octet-stream",
)
CERTIFICATE_TYPES = (
    "application/pkix-cert",
    "application/x-x509-ca-cert",
    "application/x-pem-file",
    "application/octet-stream",
    "binary/octet-stream",
)
AUTHORITY_INFORMATION_ACCESS, CA_ISSUERS = "1.3.6.1.5.5.7.1.1", "1.3.6.1.5.5.7.48.2"
_URI = 0x86
_MAX_URL = 1024
_MAX_PATH = 8
_CODE = "collateral.url"


def check_list(data: bytes, issuer: Certificate, about: Sequence[Certificate], at: datetime) -> Checked:
    """The list is its issuer's and in force.

    Raises:
        RluError: `crl.encoding`, `collateral.crl.issuer`, `.signature`, `.not_a_crl_issuer`, `.not_yet_valid`, `.stale`.
    """
    found = crl.parse(data)
    if found.issuer != issuer.subject:
        raise Untrusted("collateral.crl.issuer", "this is another authority's revocation list")
    verify_signed_by(found, issuer, "collateral.crl")
    usage = issuer.key_usage()
    if usage is not None and CRL_SIGN not in usage:
        raise Untrusted("collateral.crl.not_a_crl_issuer", "the authority may not sign revocation lists")
    _in_force(found, at)
    revoked = [name_of(one) for one in about if one.serial in found.revoked]
    warning = f"REVOKED: {', '.join(revoked)}" if revoked else ""
    return Checked(f"revocation list of {name_of(issuer)}", found.this_update, found.next_update, warning)


def want_list(url: str, issuer: Certificate, about: Sequence[Certificate], at: datetime) -> Want:
    """The list at a URL."""
    return Want(
        name=f"revocation list of {name_of(issuer)}",
        kind=CRL,
        ask=lambda ask: ask.get(url, CRL_TYPES).content,
        check=lambda data: check_list(data, issuer, about, at),
    )


def want_lists(chain: Sequence[Certificate], at: datetime) -> tuple[Want, ...]:
    """The lists that the certificates of a path name; the path is leaf first."""
    found = []
    for subject, issuer in itertools.pairwise(chain):
        for url in distribution_points(subject)[:1]:
            found.append(want_list(url, issuer, (subject,), at))
    return tuple(found)


def want_issuer(subject: Certificate, at: datetime, depth: int = 0) -> tuple[Want, ...]:
    """Who issued a certificate, and so on up to the root. Nothing here trusts that root: its fingerprint is for a person to compare."""
    urls = issuers(subject)
    if subject.issuer == subject.subject or not urls or depth >= _MAX_PATH:
        return ()

    def check(data: bytes) -> Checked:
        issuer = _one(data)
        if issuer.subject != subject.issuer:
            raise Untrusted("collateral.issuer.name", "this is another authority's certificate")
        verify_signed_by(subject, issuer, "collateral.issuer")
        if not issuer.not_before <= at <= issuer.not_after:
            raise Untrusted("collateral.issuer.expired", "the authority's certificate is not in force")
        root = issuer.issuer == issuer.subject
        warning = f"a root: trust it only if you know its sha256, {issuer.fingerprint.hex()}" if root else ""
        return Checked(f"certificate of {name_of(issuer)}", issuer.not_before, issuer.not_after, warning)

    def then(data: bytes) -> tuple[Want, ...]:
        issuer = _one(data)
        return (*want_lists((subject, issuer), at), *want_issuer(issuer, at, depth + 1))

    return (
        Want(
            name=f"certificate of the issuer of {name_of(subject)}",
            kind=CERTIFICATES,
            ask=lambda ask: _certificate(ask, urls[0]),
            check=check,
            then=then,
        ),
    )


def distribution_points(certificate: Certificate) -> tuple[str, ...]:
    """URLs at which a certificate's revocation list is.

    Raises:
        Malformed: `collateral.url`.
    """
    found = certificate.extension(CRL_DISTRIBUTION_POINTS)
    if found is None:
        return ()
    points = x509.reader(found.value, _CODE).inside(der.SEQUENCE, "cRLDistributionPoints")
    urls: list[str] = []
    while points.remaining:
        point = points.inside(der.SEQUENCE, "DistributionPoint")
        if point.next_is(der.context(0)):
            name = point.inside(der.context(0), "distributionPoint")
            if name.next_is(der.context(0)):
                urls += _uris(name.inside(der.context(0), "fullName"))
    return tuple(urls)


def issuers(certificate: Certificate) -> tuple[str, ...]:
    """URLs at which the certificate of its issuer is.

    Raises:
        Malformed: `collateral.url`.
    """
    found = certificate.extension(AUTHORITY_INFORMATION_ACCESS)
    if found is None:
        return ()
    entries = x509.reader(found.value, _CODE).inside(der.SEQUENCE, "AuthorityInfoAccessSyntax")
    urls: list[str] = []
    while entries.remaining:
        entry = entries.inside(der.SEQUENCE, "AccessDescription")
        if entry.oid("accessMethod") == CA_ISSUERS:
            urls += _uris(entry)
    return tuple(urls)


def name_of(certificate: Certificate) -> str:
    """Its common name, or its serial number where it has none."""
    try:
        return common_name(certificate.subject, _CODE)
    except RluError:
        return f"certificate {certificate.serial:#x}"


def _uris(names: der.Reader) -> Iterable[str]:
    while names.remaining:
        name = names.any("GeneralName")
        if name.tag == _URI:
            text = name.content.decode("ascii", "replace")
            if not text.isascii() or not text.isprintable() or " " in text or len(text) > _MAX_URL:
                raise Malformed(_CODE, "a certificate names a URL that is none")
            if text.startswith(("http://", "https://")):
                yield text


def _in_force(found: CertificateList, at: datetime) -> None:
    if at < found.this_update:
        raise Untrusted("collateral.crl.not_yet_valid", f"the list is of {found.this_update.isoformat()}")
    if found.next_update is None or at > found.next_update:
        raise Untrusted("collateral.crl.stale", "the list is no longer in force")


def _certificate(ask: Ask, url: str) -> bytes:
    return x509.to_pem(_one(ask.get(url, CERTIFICATE_TYPES).content))


def _one(data: bytes) -> Certificate:
    found = x509.parse_many(data)
    if len(found) != 1:
        raise Malformed("x509.encoding", "one certificate is expected")
    return found[0]
