"""What a server answers to a verifier's questions, taken apart. Nothing in it is verified, and everything else in it refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass

from rlu_attestation import bundle as bundles
from rlu_attestation.bundle import Bundle, Cosigned, Logged
from rlu_attestation.claims import Members
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.merkle import MAX_PATH
from rlu_attestation.statements import session_id

CODE = "server.answer"


@dataclass(frozen=True, slots=True)
class Opened:
    """A session as the server says it opened it."""

    session: str
    logged: Logged
    commitment_key: bytes


def parse_json(content: bytes, what: str) -> object:
    """Raises Malformed: `server.answer`."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Malformed(CODE, f"the answer to {what} is not JSON") from error


def attested(content: bytes, nonce: bytes, spki_sha256: bytes | None) -> Bundle:
    """A bundle with the statement and evidence of the answer, the nonce that was sent and the channel as it was seen.

    Raises:
        Malformed: `bundle.encoding`.
    """
    given = bundles.parse(content)
    return Bundle(statement=given.statement, evidence=given.evidence, channel=spki_sha256, nonce=nonce)


def opened(value: object) -> Opened:
    """Raises Malformed."""
    with Members(value, "opened session") as members:
        logged = Logged(members.binary("statement"), members.binary("receipt"))
        key, name = members.binary("commitment_key", 32), session_id(members.text("session"))
        members.optional(members.count, "expires")
    return Opened(name, logged, key)


def logged(value: object) -> Logged:
    """A statement with its COSE Receipt. Raises Malformed."""
    with Members(value, "logged statement") as members:
        return Logged(members.binary("statement"), members.binary("receipt"))


def cosignatures(value: object) -> tuple[Cosigned, ...]:
    """Cosigned heads. Raises Malformed."""
    with Members(value, "cosignatures") as members:
        given = members.value("cosignatures")
    if not isinstance(given, list) or len(given) > bundles.MAX_COSIGNATURES:
        raise Malformed(CODE, f"cosignatures must be an array of at most {bundles.MAX_COSIGNATURES}")
    return tuple(map(bundles.cosigned, given))


def path(value: object) -> tuple[bytes, ...]:
    """The hashes that lead from one tree to a larger one. Raises Malformed."""
    with Members(value, "path") as members:
        return tuple(map(unb64u, members.texts("path", MAX_PATH)))


def problem(content: bytes) -> str:
    """Code and detail of an error answer, as far as there are any, to follow `the server answered 503`; shown, never acted upon."""
    try:
        value = json.loads(content[:65536])
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    error = value.get("error")
    found = error if isinstance(error, dict) else value
    code, detail = found.get("code"), found.get("detail") or found.get("message")
    shown = f" ({code[:64]})" if isinstance(code, str) else ""
    return shown + (f": {detail[:500]}" if isinstance(detail, str) else "")
