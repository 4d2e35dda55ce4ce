"""Signatures on certificates, and paths to trust anchors, with the time as an argument (RFC 5280 section 6).

Names are compared as DER bytes. SHA-1 and RSA below 2048 bits are not accepted. An unknown critical extension refuses, on the leaf unless
the caller says that it handles it.

Not done here: revocation (stapled CRLs are a step of their own), name constraints and policy mapping (critical ones refuse).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from rlu_attestation import der
from rlu_attestation.errors import Malformed, RluError, Unsupported, Untrusted
from rlu_attestation.x509 import (
    BASIC_CONSTRAINTS,
    CERTIFICATE_POLICIES,
    EXTENDED_KEY_USAGE,
    KEY_CERT_SIGN,
    KEY_USAGE,
    Certificate,
    algorithm_identifier,
    reader,
)

MAX_PATH = 8
_MAX_SIGNATURES = 64
"""Signature checks one search may cost, so that many certificates of one name cannot make it exponential."""

_PROCESSED = frozenset({BASIC_CONSTRAINTS, KEY_USAGE})
# Critical on a CA, these narrow what it is for; the leaf's own usage is what callers check.
_TOLERATED = frozenset({EXTENDED_KEY_USAGE, CERTIFICATE_POLICIES})

_RSA: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
_RSA_PSS = "1.2.840.113549.1.1.10"
_MGF1 = "1.2.840.113549.1.1.8"
_ECDSA: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}
_HASH: dict[str, hashes.HashAlgorithm] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
_DEFAULT_SALT, _MAX_SALT, _TRAILER_BC = 20, 512, 1
_MIN_RSA_BITS = 2048


class Signed(Protocol):
    """What an authority signs: a certificate, or a revocation list."""

    @property
    def tbs(self) -> bytes: ...

    @property
    def signature_algorithm(self) -> bytes: ...

    @property
    def signature(self) -> bytes: ...


def verify_signed_by(certificate: Signed, issuer: Certificate, step: str) -> None:
    """Check the issuer's signature on a certificate or a revocation list; nothing else.

    Raises:
        Untrusted: `<step>.signature`, or `<step>.weak_key`.
        Unsupported: `<step>.algorithm`, `<step>.key`.
        Malformed: `<step>.key`, `<step>.algorithm`.
    """
    try:
        key = issuer.public_key()
    except RluError as error:
        raise type(error)(f"{step}.key", error.message) from error
    oid, parameters = algorithm_identifier(certificate.signature_algorithm)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < _MIN_RSA_BITS:
                raise Untrusted(f"{step}.weak_key", f"the issuer's RSA key has {key.key_size} bits")
            if oid in _RSA:
                key.verify(certificate.signature, certificate.tbs, padding.PKCS1v15(), _RSA[oid])
                return
            if oid == _RSA_PSS:
                digest, salt = _pss(parameters, step)
                key.verify(
                    certificate.signature, certificate.tbs, padding.PSS(padding.MGF1(digest), salt), digest
                )
                return
        elif oid in _ECDSA:
            key.verify(certificate.signature, certificate.tbs, ec.ECDSA(_ECDSA[oid]))
            return
    except InvalidSignature as error:
        raise Untrusted(
            f"{step}.signature", "a certificate is not signed by the key of its issuer"
        ) from error
    raise Unsupported(
        f"{step}.algorithm", f"signature algorithm {oid} does not fit the issuer's key or is not accepted"
    )


def verify_chain(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    anchors: Sequence[Certificate],
    at: datetime,
    step: str,
    handled: frozenset[str] = frozenset(),
) -> tuple[Certificate, ...]:
    """Find a path from a certificate to a trust anchor that holds at a time.

    Args:
        leaf: the end entity; its usage is for the caller to check.
        intermediates: further certificates, in any order; not trusted.
        anchors: trusted certificates, self-signed or not; their own signature is not looked at, their validity is.
        at: the time of every validity check, with a time zone.
        step: prefix of the codes.
        handled: extensions of the leaf that the caller processes itself, should they be critical.

    Returns:
        The path, leaf first, anchor last.

    Raises:
        RluError: why the most promising path failed: `<step>.unknown_issuer`, `.signature`, `.expired`, `.not_yet_valid`, `.not_a_ca`,
            `.path_length`, `.critical_extension`, `.weak_key`, `.key`, `.algorithm`, `.too_long`.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    _check_validity(leaf, at, step)
    _check_critical(leaf, handled | _PROCESSED, step)
    search = _Search(tuple(intermediates), tuple(anchors), at, step)
    path = search.extend((leaf,))
    if path is None:
        raise search.failure
    return path


class _Search:
    """Depth-first search for a path; keeps the failure of the path that came furthest."""

    def __init__(
        self,
        intermediates: tuple[Certificate, ...],
        anchors: tuple[Certificate, ...],
        at: datetime,
        step: str,
    ) -> None:
        self._candidates = [(c, True) for c in anchors] + [(c, False) for c in intermediates]
        self._at = at
        self._step = step
        self._budget = _MAX_SIGNATURES
        self._depth = 0
        self.failure: RluError = Untrusted(
            f"{step}.unknown_issuer", "the chain does not lead to a trust anchor"
        )

    def extend(self, path: tuple[Certificate, ...]) -> tuple[Certificate, ...] | None:
        for issuer, anchor in self._candidates:
            if issuer.subject != path[-1].issuer or issuer in path:
                continue
            try:
                self._accept(path, issuer)
            except RluError as error:
                if len(path) > self._depth:
                    self._depth, self.failure = len(path), error
                continue
            found = (*path, issuer) if anchor else self.extend((*path, issuer))
            if found is not None:
                return found
        return None

    def _accept(self, path: tuple[Certificate, ...], issuer: Certificate) -> None:
        if len(path) >= MAX_PATH or self._budget == 0:
            raise Untrusted(f"{self._step}.too_long", f"a chain has at most {MAX_PATH} certificates")
        self._budget -= 1
        verify_signed_by(path[-1], issuer, self._step)
        _check_validity(issuer, self._at, self._step)
        _check_critical(issuer, _PROCESSED | _TOLERATED, self._step)
        _check_authority(issuer, path, self._step)


def _check_validity(certificate: Certificate, at: datetime, step: str) -> None:
    if at < certificate.not_before:
        raise Untrusted(
            f"{step}.not_yet_valid", f"a certificate is valid only from {certificate.not_before.isoformat()}"
        )
    if at > certificate.not_after:
        raise Untrusted(f"{step}.expired", f"a certificate expired at {certificate.not_after.isoformat()}")


def _check_critical(certificate: Certificate, known: frozenset[str], step: str) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in known:
            raise Untrusted(
                f"{step}.critical_extension", f"critical extension {extension.oid} is not understood"
            )


def _check_authority(issuer: Certificate, path: tuple[Certificate, ...], step: str) -> None:
    constraints = issuer.basic_constraints()
    usage = issuer.key_usage()
    if constraints is None or not constraints[0] or (usage is not None and KEY_CERT_SIGN not in usage):
        raise Untrusted(f"{step}.not_a_ca", "an issuer is not a certificate authority")
    below = sum(1 for certificate in path[1:] if certificate.subject != certificate.issuer)
    if constraints[1] is not None and below > constraints[1]:
        raise Untrusted(
            f"{step}.path_length", f"an issuer allows {constraints[1]} intermediates, {below} follow it"
        )


def _pss(parameters: bytes, step: str) -> tuple[hashes.HashAlgorithm, int]:
    try:
        found = _pss_parameters(parameters)
    except Malformed as error:
        raise Malformed(f"{step}.algorithm", error.message) from error
    if found is None:
        raise Unsupported(f"{step}.algorithm", "RSASSA-PSS with SHA-1 or with two hashes is not accepted")
    return found


def _pss_parameters(parameters: bytes) -> tuple[hashes.HashAlgorithm, int] | None:
    """RSASSA-PSS-params (RFC 4055 section 3.1) with one hash for message and MGF1; None for others, as the SHA-1 defaults."""
    outer = reader(parameters)
    body = outer.inside(der.SEQUENCE, "RSASSA-PSS-params")
    outer.end()
    if not body.next_is(der.context(0)):
        return None
    oid, _ = algorithm_identifier(body.element(der.context(0), "hashAlgorithm").content)
    if not body.next_is(der.context(1)):
        return None
    mask, mask_parameters = algorithm_identifier(body.element(der.context(1), "maskGenAlgorithm").content)
    if oid not in _HASH or mask != _MGF1 or algorithm_identifier(mask_parameters)[0] != oid:
        return None
    salt = _DEFAULT_SALT
    if body.next_is(der.context(2)):
        wrapper = body.inside(der.context(2), "saltLength")
        salt = wrapper.integer("saltLength")
        wrapper.end()
    if body.next_is(der.context(3)):  # AMD writes the default out
        wrapper = body.inside(der.context(3), "trailerField")
        trailer = wrapper.integer("trailerField")
        wrapper.end()
        if trailer != _TRAILER_BC:
            return None
    body.end()
    return (_HASH[oid], salt) if 0 <= salt <= _MAX_SALT else None
