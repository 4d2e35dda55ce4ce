"""Everything the gateway refuses, by stable code: HTTP status, whose fault, and the body in the shape of the API that was called.

A message says what to do next. It is composed here from fixed text and, at most, a field's *name* or a number; nothing of a request's
content is ever repeated, because messages reach logs on the client's side.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import orjson


class Dialect(enum.Enum):
    """Whose error shape a route speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    RLU = "rlu"
    """Our own routes: RFC 9457 problem details."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One refusal: its HTTP status and default message."""

    status: int
    message: str
    retry_after_s: int | None = None
    anthropic_status: int | None = None
    """Where Anthropic's API has a status of its own for it."""


CATALOGUE: dict[str, Kind] = {
    # the request as HTTP
    "http_malformed": Kind(400, "The request is not valid HTTP/1.1."),
    "http_upgrade": Kind(400, "Protocol upgrades are not offered; use plain HTTP/1.1."),
    "header_too_large": Kind(431, "The request's header section is too large."),
    "body_too_large": Kind(413, "The request body is larger than this server accepts."),
    "length_required": Kind(411, "Send the request body with Content-Length or chunked."),
    "content_encoding": Kind(
        415,
        "This content coding is not accepted here; send the body as it is, or with gzip, deflate or zstd.",
    ),
    "coding_malformed": Kind(
        400, "The compressed request body is damaged, cut short or followed by something."
    ),
    "coding_ratio": Kind(413, "The compressed request body becomes too large for what was sent."),
    "content_type": Kind(415, "Send the request body as application/json."),
    "expectation": Kind(417, "Only `Expect: 100-continue` is understood."),
    "request_timeout": Kind(408, "The request did not arrive in time."),
    "route_not_found": Kind(
        404, "There is no such route here; GET /v1/models lists the models that are served."
    ),
    "method_not_allowed": Kind(405, "This route exists, but not with this method."),
    # who
    "key_missing": Kind(401, "No API key: send `Authorization: Bearer rlu_...` or `x-api-key: rlu_...`."),
    "key_invalid": Kind(401, "The API key is not valid here."),
    "key_expired": Kind(401, "The API key has expired; ask your administrator for a new one."),
    "key_revoked": Kind(401, "The API key was revoked; ask your administrator for a new one."),
    "credentials_conflict": Kind(
        401, "The client certificate and the key or token belong to different tenants; send one of them."
    ),
    "token_malformed": Kind(401, "The bearer token is neither an API key nor a JSON Web Token."),
    "token_header": Kind(401, "The token's header is not accepted here."),
    "token_issuer": Kind(401, "Tokens of this issuer are not accepted here."),
    "token_algorithm": Kind(401, "The token's signature algorithm is not accepted from this issuer."),
    "token_key_unknown": Kind(
        401,
        "The token names a key that is not in the issuer's key set here; get a new token, or see the operator.",
    ),
    "token_signature": Kind(401, "The token's signature is not valid."),
    "token_expired": Kind(401, "The token has expired; get a new one."),
    "token_not_yet": Kind(401, "The token is not valid yet; compare the clocks."),
    "token_audience": Kind(401, "The token was made for another audience."),
    "token_claims": Kind(401, "The token's claims do not give access here."),
    "token_refused": Kind(401, "The cluster does not accept this token, or not for this audience."),
    "token_unverifiable": Kind(503, "Tokens of this issuer cannot be verified now; try again.", 5),
    "certificate_unknown": Kind(401, "The client certificate names nobody who is known here."),
    "certificate_expired": Kind(401, "The client certificate has expired; get a new one and connect again."),
    "certificate_revoked": Kind(401, "The client certificate was revoked."),
    "certificate_unverifiable": Kind(
        503, "Whether the client certificate was revoked cannot be told now; see the operator.", 30
    ),
    "locked_out": Kind(
        429, "Too many credentials from this address were refused; wait before trying another.", 2
    ),
    "not_administrator": Kind(
        403, "Only administrators of the tenant, whom the server's settings name, may see this."
    ),
    "pseudonym_not_found": Kind(
        404,
        "No principal of your tenant with this pseudonym has been seen here since the start, or has a key.",
    ),
    # the body
    "json_malformed": Kind(400, "The request body is not valid JSON in UTF-8."),
    "json_too_deep": Kind(400, "The request body is nested too deeply."),
    "body_not_object": Kind(400, "The request body must be a JSON object."),
    "field_missing": Kind(400, "A required field is missing."),
    "field_type": Kind(400, "A field has the wrong type."),
    "field_not_allowed": Kind(400, "This field is not accepted by this server."),
    "remote_media": Kind(400, "Remote media are not fetched; send images, audio and video as data: URLs."),
    "background_unsupported": Kind(400, "`background` is not supported; leave it out and stream instead."),
    "state_unsupported": Kind(
        400, "This server keeps no state for that; send the whole conversation as `input`."
    ),
    "cancel_unsupported": Kind(
        400, "Only background responses can be cancelled, and there are none; close the connection instead."
    ),
    "query_invalid": Kind(400, "The query of this request is not understood."),
    "previous_response_not_found": Kind(
        400, "There is no such previous response, or no longer; send the whole conversation as `input`."
    ),
    "item_not_found": Kind(
        404, "`input` refers to an item that is not stored here, or no longer; send the item itself."
    ),
    "response_not_found": Kind(404, "There is no such response."),
    "response_not_stored": Kind(
        507,
        "This response was larger than the room there was, and was not stored; send the conversation as `input`.",
    ),
    "scratch_full": Kind(
        507,
        "There is no room to store another response; delete some, close the session, or send `store: false`.",
    ),
    "model_not_found": Kind(404, "This model is not served here; GET /v1/models lists those that are."),
    # sessions
    "session_not_found": Kind(404, "There is no such session."),
    "session_expired": Kind(410, "The session has expired; open a new one."),
    "session_closed": Kind(410, "The session is closed; open a new one."),
    "receipt_not_found": Kind(404, "There is no such receipt in this session, or it is no longer kept."),
    "receipt_pending": Kind(503, "The receipt is not signed yet; ask again.", 1),
    "not_in_log": Kind(404, "The log has no such entry, or no signed head covers it yet."),
    "not_exporter": Kind(
        403, "Only the exporter that the server's settings name may read and acknowledge entries."
    ),
    "cosignature_refused": Kind(
        400, "Not a cosignature by a witness of this server's settings on a head of its log."
    ),
    "nonce_size": Kind(400, "The nonce must be 8 to 64 bytes in base64url without padding."),
    "sessions_full": Kind(503, "No more sessions can be opened here; close some or try later.", 30),
    # limits, and the line in front of the engine
    "limit_requests": Kind(429, "More requests a minute than are allowed; try again later.", 1),
    "limit_tokens": Kind(429, "More tokens a minute than are allowed; try again later.", 1),
    "limit_concurrent": Kind(429, "More concurrent requests than are allowed; let some of them finish.", 1),
    "limit_scratch": Kind(429, "More content in memory than is allowed; let some requests finish.", 1),
    "queue_full": Kind(
        503, "The engine is busy and the line in front of it is full; try again later.", 5, 529
    ),
    "queue_timeout": Kind(
        503, "The engine is busy, and no place came free in time; try again later.", 5, 529
    ),
    # our side
    "signer_unavailable": Kind(
        503, "Nothing is served unsigned, and the signer is not available; try again.", 5
    ),
    "drift": Kind(
        503, "The server is not in the state that its operator's policy demands; no session is opened.", 30
    ),
    "export_behind": Kind(
        503, "Too much of the log waits to be exported, so no session can be opened; see the operator.", 10
    ),
    "licence_expired": Kind(
        403, "The server's licence has expired, so no session can be opened; see the operator."
    ),
    "licence_not_yet": Kind(
        403, "The server's licence is not in force yet, so no session can be opened; see the operator."
    ),
    "licence_invalid": Kind(
        403, "The server has no valid licence, so no session can be opened; see the operator."
    ),
    "engine_unavailable": Kind(503, "The inference engine is not available; try again.", 5),
    "engine_timeout": Kind(504, "The inference engine stopped answering."),
    "engine_protocol": Kind(502, "The inference engine's answer was not valid HTTP."),
    "engine_lost": Kind(502, "The inference engine went away before its answer was complete; try again."),
    "salt_unproven": Kind(
        503, "The engine does not honour cache salts, so tenants would not be isolated; see the operator.", 30
    ),
    "not_ready": Kind(503, "The server is starting; try again.", 5),
    "draining": Kind(503, "The server is shutting down; try again elsewhere.", 5),
    "overloaded": Kind(503, "Too much is in flight; try again.", 2),
    "internal": Kind(500, "Internal error; it was recorded under this request id."),
}

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class GatewayError(Exception):
    """A refusal to be answered.

    Attributes:
        code: a key of `CATALOGUE`; stable.
        param: name of the offending field or header, if one is to blame. A name of *ours*, never the client's text.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        kind = CATALOGUE[code]
        self.code = code
        self.status = kind.status
        self.message = message or kind.message
        self.retry_after_s = kind.retry_after_s if retry_after_s is None else retry_after_s
        self.param = param
        super().__init__(code)

    def status_in(self, dialect: Dialect) -> int:
        """The HTTP status in the API that was called."""
        kind = CATALOGUE[self.code]
        return (dialect is Dialect.ANTHROPIC and kind.anthropic_status) or self.status


def body(error: GatewayError, dialect: Dialect, request_id: str) -> bytes:
    """The error as JSON content in the shape the caller's SDK understands."""
    if dialect is Dialect.ANTHROPIC:
        return orjson.dumps(
            {
                "type": "error",
                "error": {
                    "type": anthropic_type(error.status),
                    "message": error.message,
                    "code": error.code,
                },
                "request_id": request_id,
            }
        )
    if dialect is Dialect.OPENAI:
        return orjson.dumps(
            {
                "error": {
                    "message": error.message,
                    "type": _openai_type(error.status),
                    "param": error.param,
                    "code": error.code,
                },
                "request_id": request_id,
            }
        )
    problem = {
        "type": f"urn:rlu:error:{error.code}",
        "title": CATALOGUE[error.code].message,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "param": error.param,
        "request_id": request_id,
    }
    return orjson.dumps({name: value for name, value in problem.items() if value is not None})


def content_type(dialect: Dialect) -> str:
    """The media type of `body`."""
    return "application/problem+json" if dialect is Dialect.RLU else "application/json"


def stream_event(error: GatewayError, dialect: Dialect, request_id: str, *, responses: bool = False) -> bytes:
    """The error as a server-sent event, for a stream whose head is already on the wire.

    Args:
        responses: the OpenAI Responses API, whose error event has its own form.
    """
    if dialect is Dialect.ANTHROPIC:
        return b"event: error\ndata: " + body(error, dialect, request_id) + b"\n\n"
    if responses:
        event = {"type": "error", "code": error.code, "message": error.message, "param": None}
        return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"
    return b"data: " + body(error, dialect, request_id) + b"\n\n"


def _openai_type(status: int) -> str:
    return _OPENAI_TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")


def anthropic_type(status: int) -> str:
    """The type that Anthropic's API has for a status."""
    return _ANTHROPIC_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
