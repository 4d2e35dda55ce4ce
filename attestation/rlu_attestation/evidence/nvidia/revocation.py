"""Whether NVIDIA revoked a certificate, by stapled OCSP responses; nothing is fetched here.

A response counts when a responder signed it that may: an authority of the certificate's own path, its issuer or one above, or a
certificate for OCSP signing that one of them issued itself. (RFC 6960 section 4.2.2.2 names the issuer; an authority above it could do
anything the issuer can.) Freshness is explicit: `thisUpdate … nextUpdate` must hold the time, and the response may not be older than the
caller says. A response without `nextUpdate` answers for no time.

Revoked, on hold and unknown are final: whatever else is stapled, one authentic response that says so refuses, whatever its age.

Not done here: revocation of the responder's certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rlu_attestation.chain import verify_chain, verify_signed_by
from rlu_attestation.errors import RluError, Untrusted
from rlu_attestation.evidence.nvidia.ocsp import Response, SingleResponse, Status
from rlu_attestation.x509 import DIGITAL_SIGNATURE, EXTENDED_KEY_USAGE, Certificate

_OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
_MAX_ANSWERS = 4
"""About one certificate, so that the cost of looking at all of them is bounded."""


def verify_good(
    path: Sequence[Certificate], responses: Sequence[Response], at: datetime, max_age: timedelta, step: str
) -> SingleResponse:
    """Check that an authentic response, fresh at a time, calls the first certificate of a path good; returns what it says.

    Args:
        path: the certificate in question, its issuer, and so on up to the root.
        responses: stapled responses, about any certificates.
        at: the time it must answer for, with a time zone.
        max_age: how long before that time it may have been made.
        step: prefix of the codes.

    Raises:
        RluError: `<step>.missing`, `.too_many`, `.revoked`, `.certificate_hold`, `.unknown`, `.signature`, `.responder`,
            `.not_yet_valid`, `.stale`, `.too_old`, or why the responder's certificate does not hold at that time (`.expired` and
            others of `chain.verify_chain`).
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    certificate, authorities = path[0], tuple(path[1:])
    about = [
        (response, single)
        for response in responses
        for single in response.singles
        if single.is_about(certificate, authorities[0])
    ]
    if len(about) > _MAX_ANSWERS:
        raise Untrusted(
            f"{step}.too_many", f"{len(about)} answers about certificate {certificate.serial:#x} are stapled"
        )
    failure: RluError = Untrusted(
        f"{step}.missing", f"no answer about certificate {certificate.serial:#x} is stapled"
    )
    good: SingleResponse | None = None
    for response, single in about:
        try:
            _verify_authentic(response, authorities, at, step)
            if single.status is not Status.GOOD:
                raise _Final(
                    f"{step}.{single.status.value}",
                    f"the responder calls certificate {certificate.serial:#x} {single.status.value}",
                )
            _verify_fresh(single, at, max_age, step)
        except _Final:
            raise
        except RluError as error:
            failure = error
        else:
            good = single
    if good is None:
        raise failure
    return good


class _Final(Untrusted):
    """Ends the search: no other response can undo it."""


def _verify_authentic(
    response: Response, authorities: tuple[Certificate, ...], at: datetime, step: str
) -> None:
    signed = _Signed(response.tbs, response.signature_algorithm, response.signature)
    failure: RluError = Untrusted(
        f"{step}.responder", "no authority of the certificate signed the answer, nor anyone it appointed"
    )
    for responder in (*response.certificates, *authorities):
        try:
            verify_signed_by(signed, responder, step)
        except RluError as error:
            if responder in response.certificates:
                failure = error
            continue
        if responder in authorities:
            return
        _verify_responder(responder, authorities, at, step)
        return
    raise failure


def _verify_responder(
    responder: Certificate, authorities: tuple[Certificate, ...], at: datetime, step: str
) -> None:
    purposes, usage = responder.extended_key_usage(), responder.key_usage()
    if (
        purposes is None
        or _OCSP_SIGNING not in purposes
        or (usage is not None and DIGITAL_SIGNATURE not in usage)
    ):
        raise Untrusted(f"{step}.responder", "the responder's certificate is not for OCSP signing")
    if all(authority.subject != responder.issuer for authority in authorities):
        raise Untrusted(f"{step}.responder", "no authority of the certificate appointed the responder")
    verify_chain(responder, (), authorities, at, step, frozenset({EXTENDED_KEY_USAGE}))


def _verify_fresh(single: SingleResponse, at: datetime, max_age: timedelta, step: str) -> None:
    if at < single.this_update:
        raise Untrusted(f"{step}.not_yet_valid", f"the answer is of {single.this_update.isoformat()}")
    if single.next_update is None or at > single.next_update:
        until = "says no end" if single.next_update is None else f"ended at {single.next_update.isoformat()}"
        raise Untrusted(f"{step}.stale", f"the validity of the answer {until}")
    if at - single.this_update > max_age:
        raise Untrusted(
            f"{step}.too_old", f"the answer is of {single.this_update.isoformat()}, older than {max_age}"
        )


@dataclass(frozen=True, slots=True)
class _Signed:
    tbs: bytes
    signature_algorithm: bytes
    signature: bytes
