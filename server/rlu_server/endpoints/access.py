"""The parts that routes share: the context, the authenticated principal, and the readers of identifiers and nonces."""

from __future__ import annotations

import re
from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Malformed
from rlu_server.core.apikeys import Principal
from rlu_server.core.auth.credentials import NOWHERE, Credentials
from rlu_server.core.errors import GatewayError
from rlu_server.endpoints.context import Context

NONCE_MIN, NONCE_MAX = 8, 64
_SESSION = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
_BEARER = HTTPBearer(auto_error=False, description="an API key, `rlu_…`, or a token of a configured issuer")
_KEY = APIKeyHeader(name="x-api-key", auto_error=False, description="an API key, `rlu_…`")


def context_of(request: Request) -> Context:
    return cast(Context, request.app.state.context)


Gateway = Annotated[Context, Depends(context_of)]


async def authenticated(
    request: Request,
    context: Gateway,
    _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    _key: Annotated[str | None, Security(_KEY)],
) -> Principal:
    # The two parameters document the schemes; the check is the gateway's own, on the headers as they came.
    peer = (request.scope.get("state") or {}).get("peer", NOWHERE)
    return await context.authenticate(
        Credentials(request.headers.get("authorization"), request.headers.get("x-api-key"), peer)
    )


Caller = Annotated[Principal, Depends(authenticated)]


def read_nonce(text: str) -> bytes:
    """A client's nonce.

    Raises:
        GatewayError: `nonce_size`, also for what is not base64url.
    """
    # The length is bounded before anything is decoded.
    if len(text) <= NONCE_MAX * 2:
        try:
            nonce = unb64u(text)
        except Malformed:
            nonce = b""
        if NONCE_MIN <= len(nonce) <= NONCE_MAX:
            return nonce
    raise GatewayError("nonce_size", param="nonce")


def read_thumbprint(text: str) -> bytes:
    """A key thumbprint: 32 bytes in base64url."""
    try:
        thumbprint = unb64u(text) if len(text) == 43 else b""
    except Malformed:
        thumbprint = b""
    if len(thumbprint) != 32:
        raise GatewayError(
            "field_type", "`cnf_jkt` must be a SHA-256 thumbprint in base64url.", param="cnf_jkt"
        )
    return thumbprint


def read_session(text: str) -> str:
    """A session id; what cannot be one does not exist."""
    if _SESSION.fullmatch(text) is None:
        raise GatewayError("session_not_found")
    return text
