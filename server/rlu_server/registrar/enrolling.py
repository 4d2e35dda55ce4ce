"""Challenge and issue: the registrar's two steps of an enrolment (documents: `attestor/tpm/documents.py`).

A challenge is good for one answer within its time. It is remembered by the digest of the proof that would answer it, so that reading the
registrar's directory does not help to forge one; it is forgotten before the certificate is made, so that it cannot serve twice.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Annotated

import msgspec
from msgspec import Meta

from rlu_attestation import endorsement, x509
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.endorsement import Endorsement
from rlu_attestation.errors import Malformed, Refused, Untrusted
from rlu_attestation.evidence.tpm2.credential import make_credential
from rlu_attestation.evidence.tpm2.steps import verify_ek_certificate
from rlu_attestation.tpm.checks import check_ak
from rlu_attestation.tpm.public import name_of, parse_public
from rlu_server.attestor.secret import write_private
from rlu_server.attestor.tpm import documents
from rlu_server.attestor.tpm.documents import (
    Enrolment,
    EnrolmentChallenge,
    EnrolmentRequest,
    EnrolmentResponse,
)
from rlu_server.registrar.authority import Registrar

CREDENTIAL_SIZE = 32
SERIAL_SIZE = 16
DEFAULT_CHALLENGE_S = 7 * 86400
"""Files may travel by hand."""
DEFAULT_VALID_DAYS = 825
Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Place:
    """What the registrar endorses besides the key: it has seen, or been told by someone it trusts, that the machine is there."""

    region: str
    boundary: str
    site: str


class _Open(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A challenge that waits for its answer."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    expires: int
    proof_sha256: str
    ak_public: str
    ek_certificate: str
    ek_chain: list[str]


def challenge(
    registrar: Registrar,
    request: EnrolmentRequest,
    ek_roots: Sequence[x509.Certificate],
    now: datetime,
    random: Random,
    lifetime_s: int = DEFAULT_CHALLENGE_S,
) -> EnrolmentChallenge:
    """Check a request and make its challenge.

    Raises:
        Untrusted: the EK certificate does not lead to one of `ek_roots`, or the AK is not a restricted key fixed to its TPM.
        Malformed, Unsupported: certificate or public area cannot be read.
    """
    if not ek_roots:
        raise Refused("registrar.no_roots", "no EK root certificate was given, so no TPM is trusted")
    leaf = x509.parse(unb64u(request.ek_certificate))
    chain = [x509.parse(unb64u(der)) for der in request.ek_chain]
    verify_ek_certificate(leaf, chain, ek_roots, now)
    ak = parse_public(unb64u(request.ak_public))
    check_ak(ak)
    name, credential = name_of(ak), random(CREDENTIAL_SIZE)
    made = make_credential(leaf.public_key(), name, credential, random)
    challenge_id = b64u(random(documents.ID_SIZE))
    expires = int(now.timestamp()) + lifetime_s
    answer = documents.proof(credential, challenge_id, name)
    waiting = _Open(
        expires=expires,
        proof_sha256=b64u(hashlib.sha256(answer).digest()),
        ak_public=request.ak_public,
        ek_certificate=request.ek_certificate,
        ek_chain=request.ek_chain,
    )
    registrar.challenges.mkdir(mode=0o700, exist_ok=True)
    write_private(registrar.challenges / f"{challenge_id}.json", msgspec.json.encode(waiting))
    return EnrolmentChallenge(
        id=challenge_id,
        ak_name=b64u(name),
        credential_blob=b64u(made.credential_blob),
        secret=b64u(made.secret),
        expires=expires,
    )


def issue(
    registrar: Registrar,
    response: EnrolmentResponse,
    place: Place,
    now: datetime,
    random: Random,
    valid_days: int = DEFAULT_VALID_DAYS,
) -> Enrolment:
    """Check the answer to a challenge and issue the AK certificate. The challenge is used up by a wrong answer too.

    Raises:
        Refused: the challenge is unknown, used already, or expired.
        Untrusted: the answer is wrong.
    """
    waiting = _take(registrar, response.id)
    if int(now.timestamp()) >= waiting.expires:
        raise Refused("enrolment.challenge_expired", "the challenge has expired: make another one")
    ak = parse_public(unb64u(waiting.ak_public))
    given = hashlib.sha256(unb64u(response.proof)).digest()
    if not hmac.compare_digest(given, unb64u(waiting.proof_sha256)) or unb64u(response.ak_name) != name_of(
        ak
    ):
        raise Untrusted("enrolment.proof", "the response does not show that this TPM opened the challenge")
    ek = x509.parse(unb64u(waiting.ek_certificate))
    start = now.astimezone(timezone.utc).replace(microsecond=0)
    serial = int.from_bytes(random(SERIAL_SIZE), "big") >> 1 | 1
    endorsed = Endorsement(name_of(ak), ek.spki_sha256, place.region, place.boundary, place.site)
    der = endorsement.issue(
        endorsed,
        ak.public_key(),
        issuer=registrar.certificate,
        issuer_key=registrar.key,
        serial=serial,
        not_before=start,
        not_after=start + timedelta(days=valid_days),
    )
    registrar.record(
        {
            "ak_name": b64u(endorsed.ak_name),
            "boundary": place.boundary,
            "ek_spki_sha256": b64u(endorsed.ek_spki_sha256),
            "issued": int(start.timestamp()),
            "region": place.region,
            "serial": f"{serial:x}",
            "site": place.site,
        }
    )
    return Enrolment(
        ak_certificate=b64u(der),
        ak_chain=[],
        ek_certificate=waiting.ek_certificate,
        ek_chain=waiting.ek_chain,
    )


def _take(registrar: Registrar, challenge_id: str) -> _Open:
    path = registrar.challenges / f"{challenge_id}.json"
    taken = path.with_suffix(".taken")
    try:
        path.rename(taken)  # of two who answer at once, one wins
    except FileNotFoundError as error:
        raise Refused("enrolment.challenge_unknown", "no such challenge is open; each serves once") from error
    data = taken.read_bytes()
    taken.unlink()
    try:
        return msgspec.json.decode(data, type=_Open)
    except msgspec.MsgspecError as error:
        raise Malformed("enrolment.challenge_damaged", "the record of the challenge is damaged") from error
