"""Sessions and receipts: open, list, look up, close; the commitment key and the receipts go to the session's principal only."""

from __future__ import annotations

from fastapi import APIRouter, Response

from rlu_attestation.encoding import b64u
from rlu_server.core.errors import GatewayError
from rlu_server.endpoints.access import Caller, Gateway, read_nonce, read_session, read_thumbprint
from rlu_server.endpoints.context import SessionView, Signed
from rlu_server.endpoints.models import (
    CommitmentKey,
    OpenedSession,
    OpenSession,
    SessionDetail,
    SessionList,
    SessionSummary,
    SignedStatement,
)

RECEIPT_WAIT_S = 5.0
"""How long a receipt is waited for: an exchange's end and two signing times, with room for a slow TPM."""
MAX_SEQ_DIGITS = 15

router = APIRouter(prefix="/v1/rlu", tags=["sessions"])


def _signed(signed: Signed) -> SignedStatement:
    return SignedStatement(statement=b64u(signed.statement), receipt=b64u(signed.receipt))


def _summary(view: SessionView) -> dict[str, object]:
    return {
        "session": view.session,
        "created": view.created,
        "expires": view.expires,
        "state": view.state,
        "explicit": view.explicit,
        "last_seq": view.last_seq,
    }


@router.post("/sessions", status_code=201)
async def open_session(
    asked: OpenSession, caller: Caller, gateway: Gateway, response: Response
) -> OpenedSession:
    """Open a session for your nonce. Send its id as `RLU-Session` with the requests that belong to it."""
    jkt = None if asked.cnf_jkt is None else read_thumbprint(asked.cnf_jkt)
    view = await gateway.open_session(caller, read_nonce(asked.nonce), jkt, asked.ttl_s)
    response.headers["location"] = f"/v1/rlu/sessions/{view.session}"
    return OpenedSession(
        session=view.session,
        statement=b64u(view.opening.statement),
        receipt=b64u(view.opening.receipt),
        commitment_key=b64u(view.commitment_key),
        expires=view.expires,
    )


@router.get("/sessions")
async def list_sessions(caller: Caller, gateway: Gateway) -> SessionList:
    """Your sessions, newest first."""
    return SessionList(
        sessions=[SessionSummary.model_validate(_summary(view)) for view in gateway.sessions(caller)]
    )


@router.get("/sessions/{session}")
async def read(session: str, caller: Caller, gateway: Gateway) -> SessionDetail:
    """One of your sessions, with its signed statement."""
    view = gateway.session(caller, read_session(session))
    opening = _signed(view.opening)
    return SessionDetail.model_validate({**_summary(view), **opening.model_dump()})


@router.get("/sessions/{session}/commitment-key")
async def commitment_key(session: str, caller: Caller, gateway: Gateway) -> CommitmentKey:
    """The key that opens the commitments of this session's receipts. Only its principal ever gets it."""
    view = gateway.session(caller, read_session(session))
    return CommitmentKey(commitment_key=b64u(view.commitment_key))


@router.delete("/sessions/{session}")
async def close_session(session: str, caller: Caller, gateway: Gateway) -> SignedStatement:
    """Close a session; the answer is the signed close."""
    return _signed(await gateway.close_session(caller, read_session(session)))


@router.get("/receipts/{session}/{seq}")
async def receipt(session: str, seq: str, caller: Caller, gateway: Gateway) -> SignedStatement:
    """The receipt of one exchange; waits a few seconds for one that is not signed yet."""
    name = read_session(session)
    # Python's int() reads more than decimal digits, and slowly when there are many.
    if not (seq.isascii() and seq.isdigit() and len(seq) <= MAX_SEQ_DIGITS) or seq.startswith("0"):
        raise GatewayError("receipt_not_found")
    return _signed(await gateway.receipt(caller, name, int(seq), RECEIPT_WAIT_S))
