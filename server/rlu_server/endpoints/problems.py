"""Every refusal of our own routes, as RFC 9457 problem details.

The innermost rule: nothing the client sent is repeated. Validation errors of the framework are mapped to codes and to the names of *our*
fields; their messages and inputs are dropped.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlu_server.core.errors import Dialect, GatewayError, body, content_type

EVENTS = logging.getLogger("rlu.endpoints")
BODY_FIELDS = frozenset({"nonce", "cnf_jkt", "ttl_s", "size", "head", "cosignature"})
OUR_FIELDS = BODY_FIELDS | {"leaf_index", "old_size", "new_size", "issuer", "start", "count"}
_NOT_AN_OBJECT = frozenset({"model_attributes_type", "dict_type", "model_type"})


def request_id(scope: Scope) -> str:
    """The id the gateway gave this request (`scope["state"]["request_id"]`), empty when there is none."""
    state: Any = scope.get("state") or {}
    return str(state.get("request_id", ""))


def response(error: GatewayError, scope: Scope) -> Response:
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="rlu"'
    content = body(error, Dialect.RLU, request_id(scope))
    return Response(content, error.status, headers, content_type(Dialect.RLU))


def from_validation(errors: list[dict[str, Any]], json_body: bool) -> GatewayError:
    """The first of the framework's findings, in our words."""
    first = errors[0]
    kind = str(first.get("type", ""))
    location = [str(part) for part in first.get("loc", ())]
    param = location[-1] if location and location[-1] in OUR_FIELDS else None
    if kind == "json_invalid":
        return GatewayError("json_malformed")
    if kind == "extra_forbidden":
        known = "This route accepts only: " + ", ".join(sorted(BODY_FIELDS)) + "."
        return GatewayError("field_not_allowed", known)
    if kind == "missing" and param is not None:
        return GatewayError("field_missing", f"`{param}` is required.", param=param)
    if kind in _NOT_AN_OBJECT or (kind == "missing" and location == ["body"]):
        return GatewayError("body_not_object" if json_body else "content_type")
    bounds = first.get("ctx") or {}
    limits = " and ".join(f"{word} {bounds[key]}" for key, word in _BOUNDS if key in bounds)
    # `bounds` are our own limits; what was sent is not among them.
    wanted = f"`{param}` must be {limits}." if param and limits else None
    return GatewayError("field_type", wanted, param=param)


_BOUNDS = (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))


class Outermost:
    """Marks every answer as not to be cached, and answers what nobody caught with `internal`, logged by class and place only.

    Statements are about one moment, and a commitment key must not lie in a cache. An exception's text or a traceback's locals could
    hold what the client sent, so neither is written anywhere.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(raw=message["headers"])["cache-control"] = "no-store"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            EVENTS.error("internal_error class=%s at=%s:%s", type(error).__name__, place.name, place.lineno)
            if started:
                raise ConnectionAbortedError("internal_error") from None
            await response(GatewayError("internal"), scope)(scope, receive, watched)


def install(app: FastAPI) -> None:
    """Route every kind of refusal to the functions above."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return response(error, request.scope)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        is_json = (
            request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        )
        return response(from_validation([dict(e) for e in error.errors()], is_json), request.scope)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        # 400 is what the framework says of a body that it could not even decode.
        codes = {400: "json_malformed", 404: "route_not_found", 405: "method_not_allowed"}
        answer = response(GatewayError(codes.get(error.status_code, "http_malformed")), request.scope)
        if error.status_code == 405 and error.headers and "Allow" in error.headers:
            answer.headers["allow"] = error.headers["Allow"]
        return answer

    app.add_exception_handler(GatewayError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_middleware(Outermost)
