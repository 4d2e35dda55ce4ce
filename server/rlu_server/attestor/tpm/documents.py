"""The four files of an enrolment, carried by hand between a machine and its registrar where there is no network.

    request     machine → registrar   the AK's public area, the EK certificate and its intermediates
    challenge   registrar → machine   a credential that only this TPM, with this AK loaded, can open (TPM2_MakeCredential)
    response    machine → registrar   proof that it was opened: HMAC-SHA256(credential, "rlu/enrolment/v1" ‖ 0x00 ‖ id ‖ AK name)
    enrolment   registrar → machine   the AK certificate (FORMATS section 8)

JSON, one object, versioned by its first key; unknown keys, other versions and over-long values refuse. Reading them takes no TPM library.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Malformed

MAX_DOCUMENT = 128 * 1024
ID_SIZE = 16
Binary = Annotated[str, Meta(min_length=1, max_length=12_000, pattern="^[A-Za-z0-9_-]+$")]
Chain = Annotated[list[Binary], Meta(max_length=8)]
Instant = Annotated[int, Meta(ge=0, lt=2**53)]


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class EnrolmentRequest(_Document, frozen=True, kw_only=True):
    rlu_enrolment_request: Literal["1"] = "1"
    ak_public: Binary
    ek_certificate: Binary
    ek_chain: Chain


class EnrolmentChallenge(_Document, frozen=True, kw_only=True):
    rlu_enrolment_challenge: Literal["1"] = "1"
    id: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{22}$")]
    ak_name: Binary
    credential_blob: Binary
    secret: Binary
    expires: Instant


class EnrolmentResponse(_Document, frozen=True, kw_only=True):
    rlu_enrolment_response: Literal["1"] = "1"
    id: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{22}$")]
    ak_name: Binary
    proof: Binary


class Enrolment(_Document, frozen=True, kw_only=True):
    rlu_enrolment: Literal["1"] = "1"
    ak_certificate: Binary
    ak_chain: Chain
    ek_certificate: Binary
    ek_chain: Chain


D = TypeVar("D", bound=_Document)


def encode(document: _Document) -> bytes:
    """A document's file; every key is written, the version too."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def parse(data: bytes, form: type[D]) -> D:
    """Read a document.

    Raises:
        Malformed: `enrolment.document`.
    """
    name = form.__name__
    if len(data) > MAX_DOCUMENT:
        raise Malformed("enrolment.document", f"longer than {MAX_DOCUMENT} bytes")
    version = form.__struct_fields__[0]
    try:
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if version not in members:
            raise Malformed("enrolment.document", f"not an {name}: it has no {version}")
        return msgspec.json.decode(data, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("enrolment.document", f"not an {name}: {error}") from error


def proof(credential: bytes, challenge_id: str, ak_name: bytes) -> bytes:
    """What shows that the credential was opened, without showing it."""
    message = b"rlu/enrolment/v1\0" + unb64u(challenge_id) + ak_name
    return hmac.digest(credential, message, "sha256")
