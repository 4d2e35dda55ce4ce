"""Certificate revocation lists (RFC 5280 section 5), stapled to what they speak about; nothing is fetched here.

Freshness is explicit: a list answers for a time inside `thisUpdate … nextUpdate`, and a list without `nextUpdate` answers for none. A
certificate that any authentic list names is revoked, whatever that list's age, because revocation is not undone.

Not done here: delta and indirect lists, and lists for some reasons only; all of them refuse.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rlu_attestation import der
from rlu_attestation.chain import verify_signed_by
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.x509 import Certificate, Extension

CODE = "crl.encoding"
MAX_CRL = 1024 * 1024
CRL_SIGN = 6
"""Bit of keyUsage (RFC 5280 section 4.2.1.3)."""

ISSUING_DISTRIBUTION_POINT, CRL_DISTRIBUTION_POINTS = "2.5.29.28", "2.5.29.31"


@dataclass(frozen=True, slots=True)
class CertificateList:
    """A revocation list taken apart. Nothing about it is verified; `issuer` is DER."""

    raw: bytes
    tbs: bytes
    issuer: bytes
    this_update: datetime
    next_update: datetime | None
    revoked: frozenset[int]
    extensions: tuple[Extension, ...]
    signature_algorithm: bytes
    signature: bytes


def parse(data: bytes) -> CertificateList:
    """Take a DER revocation list apart.

    Raises:
        Malformed: not exactly one list of version 2, an entry given twice or with a critical extension, or more than 1 MiB
            (`crl.encoding`).
    """
    outer = der.Reader(data, CODE, MAX_CRL)
    body = outer.inside(der.SEQUENCE, "CertificateList")
    outer.end()
    tbs = body.element(der.SEQUENCE, "tbsCertList")
    algorithm = body.element(der.SEQUENCE, "signatureAlgorithm")
    signature, unused = body.bit_string("signatureValue")
    body.end()
    fields = der.Reader(tbs.content, CODE, MAX_CRL)
    if fields.integer("version") != 1:
        raise Malformed(CODE, "a revocation list has version 2")
    if fields.element(der.SEQUENCE, "signature").raw != algorithm.raw or unused:
        raise Malformed(CODE, "the signed and the outer signature algorithm differ")
    issuer = fields.element(der.SEQUENCE, "issuer").raw
    this_update = fields.time("thisUpdate")
    timed = fields.next_is(der.UTC_TIME) or fields.next_is(der.GENERALIZED_TIME)
    next_update = fields.time("nextUpdate") if timed else None
    revoked = (
        _revoked(fields.inside(der.SEQUENCE, "revokedCertificates")) if fields.next_is(der.SEQUENCE) else ()
    )
    extensions: tuple[Extension, ...] = ()
    if fields.remaining:
        wrapper = fields.inside(der.context(0), "crlExtensions")
        extensions = _extensions(wrapper.inside(der.SEQUENCE, "crlExtensions"))
        wrapper.end()
    fields.end()
    if len(set(revoked)) != len(revoked):
        raise Malformed(CODE, "a certificate is listed twice")
    return CertificateList(
        data,
        tbs.raw,
        issuer,
        this_update,
        next_update,
        frozenset(revoked),
        extensions,
        algorithm.raw,
        signature,
    )


def verify_not_revoked(
    certificate: Certificate,
    issuer: Certificate,
    lists: Sequence[CertificateList],
    at: datetime,
    step: str,
) -> CertificateList:
    """Check that an authentic list of the issuer, current at a time, does not name a certificate; returns that list.

    Args:
        certificate: the one in question.
        issuer: who issued it, already verified to have done so.
        lists: stapled lists, of any issuers; those of others are passed over.
        at: the time the list must answer for, with a time zone.
        step: prefix of the codes.

    Raises:
        Untrusted: `<step>.missing`, `.signature`, `.not_a_crl_issuer`, `.not_yet_valid`, `.stale`, `.scope`, `.revoked`.
        Unsupported: `<step>.algorithm`.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    failure: RluError = Untrusted(
        f"{step}.missing", "no revocation list of the certificate's issuer is stapled"
    )
    current: CertificateList | None = None
    for found in lists:
        if found.issuer != issuer.subject:
            continue
        try:
            _verify_authentic(found, issuer, step)
            if certificate.serial in found.revoked:
                raise _Revoked(
                    f"{step}.revoked", f"certificate {certificate.serial:#x} is revoked by its issuer"
                )
            _verify_scope(found, certificate, step)
            _verify_fresh(found, at, step)
        except _Revoked:
            raise
        except RluError as error:
            failure = error
        else:
            current = found
    if current is None:
        raise failure
    return current


def verify_path_not_revoked(
    path: Sequence[Certificate], lists: Sequence[CertificateList], at: datetime, step: str
) -> tuple[CertificateList, ...]:
    """Check every certificate of a verified path that names a revocation list, leaf first, root last; returns the lists that cleared them.

    One that names none needs none, but a list of its issuer that is here and revokes it counts.

    Raises:
        RluError: as `verify_not_revoked`.
    """
    current = []
    for subject, issuer in itertools.pairwise(path):
        if subject.extension(CRL_DISTRIBUTION_POINTS) is not None:
            current.append(verify_not_revoked(subject, issuer, lists, at, step))
        else:
            _verify_not_listed(subject, issuer, lists, step)
    return tuple(current)


def _verify_not_listed(
    certificate: Certificate, issuer: Certificate, lists: Sequence[CertificateList], step: str
) -> None:
    for found in lists:
        if found.issuer == issuer.subject and certificate.serial in found.revoked:
            try:
                _verify_authentic(found, issuer, step)
            except RluError:
                continue  # somebody else's, and of no weight where no list is needed
            raise _Revoked(f"{step}.revoked", f"certificate {certificate.serial:#x} is revoked by its issuer")


class _Revoked(Untrusted):
    """Ends the search: no other list can undo it."""


def _verify_authentic(found: CertificateList, issuer: Certificate, step: str) -> None:
    verify_signed_by(found, issuer, step)
    usage = issuer.key_usage()
    if usage is not None and CRL_SIGN not in usage:
        raise Untrusted(f"{step}.not_a_crl_issuer", "the issuer may not sign revocation lists")


def _verify_fresh(found: CertificateList, at: datetime, step: str) -> None:
    if at < found.this_update:
        raise Untrusted(f"{step}.not_yet_valid", f"the list is of {found.this_update.isoformat()}")
    if found.next_update is None or at > found.next_update:
        until = "says no end" if found.next_update is None else f"ended at {found.next_update.isoformat()}"
        raise Untrusted(f"{step}.stale", f"the validity of the revocation list {until}")


def _verify_scope(found: CertificateList, certificate: Certificate, step: str) -> None:
    """The list covers the certificate: no critical extension, or only a distribution point that the certificate names."""
    for extension in found.extensions:
        if not extension.critical:
            continue
        if extension.oid != ISSUING_DISTRIBUTION_POINT or not _names_common(extension, certificate):
            raise Untrusted(
                f"{step}.scope", f"critical extension {extension.oid} limits the list to other certificates"
            )


def _names_common(point: Extension, certificate: Certificate) -> bool:
    body = der.Reader(point.value, CODE, MAX_CRL).inside(der.SEQUENCE, "issuingDistributionPoint")
    if not body.next_is(der.context(0)):
        return False
    ours = _full_names(body.inside(der.context(0), "distributionPoint"))
    named = certificate.extension(CRL_DISTRIBUTION_POINTS)
    if body.remaining or named is None:
        return False
    points = der.Reader(named.value, CODE, MAX_CRL).inside(der.SEQUENCE, "cRLDistributionPoints")
    theirs: set[bytes] = set()
    while points.remaining:
        entry = points.inside(der.SEQUENCE, "DistributionPoint")
        if entry.next_is(der.context(0)):
            theirs |= _full_names(entry.inside(der.context(0), "distributionPoint"))
    return bool(ours & theirs)


def _full_names(name: der.Reader) -> set[bytes]:
    found: set[bytes] = set()
    if name.next_is(der.context(0)):
        names = name.inside(der.context(0), "fullName")
        while names.remaining:
            found.add(names.any("GeneralName").raw)
    return found


def _revoked(entries: der.Reader) -> tuple[int, ...]:
    found = []
    while entries.remaining:
        entry = entries.inside(der.SEQUENCE, "revokedCertificate")
        found.append(entry.integer("userCertificate"))
        entry.time("revocationDate")
        if entry.remaining:
            for extension in _extensions(entry.inside(der.SEQUENCE, "crlEntryExtensions")):
                if extension.critical:
                    raise Malformed(CODE, f"critical entry extension {extension.oid} is not understood")
        entry.end()
    return tuple(found)


def _extensions(body: der.Reader) -> tuple[Extension, ...]:
    found: dict[str, Extension] = {}
    while body.remaining:
        item = body.inside(der.SEQUENCE, "Extension")
        oid = item.oid("extnID")
        critical = item.next_is(der.BOOLEAN) and item.boolean("critical")
        value = item.element(der.OCTET_STRING, "extnValue").content
        item.end()
        if oid in found:
            raise Malformed(CODE, f"extension {oid} occurs twice")
        found[oid] = Extension(oid, critical, value)
    return tuple(found.values())
