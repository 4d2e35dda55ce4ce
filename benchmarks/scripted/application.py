"""From a request to the writes that answer it: vLLM's routes, checks and error shapes. Pure; `server` does the writing."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal

import orjson

from scripted import chat, messages, responses
from scripted.answer import Answer, Json, Rendered, compact, compose
from scripted.script import Script, ScriptBook

SALT_FORBIDDEN = frozenset("@/\\\x00")
UNSALTED = frozenset({"/v1/messages/count_tokens"})
GENERATING = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
    }
)
JSON_TYPE = b"application/json"
SSE_TYPE = b"text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """`head` at once, then `writes` one by one at the script's pace, then `ending`."""

    head: bytes
    writes: list[bytes]
    ending: Literal["keep", "stall", "close"] = "keep"
    first_s: float = 0.0
    interval_s: float = 0.0
    reusable: bool = False
    """The same request may be answered with these very bytes again."""


def _head(status: int, content_type: bytes, length: int | None) -> bytes:
    framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    reason = HTTPStatus(status).phrase.encode()
    line = b"HTTP/1.1 %d %b\r\nserver: uvicorn\r\ncontent-type: %b\r\n%b\r\n\r\n"
    return line % (status, reason, content_type, framing)


def whole(status: int, body: bytes, content_type: bytes = JSON_TYPE, first_s: float = 0.0) -> Reply:
    """One answer with a known length; a delayed one says nothing, not even its head, before the delay is over."""
    head = _head(status, content_type, len(body))
    return Reply(head + body, []) if first_s == 0 else Reply(b"", [head + body], first_s=first_s)


def error(path: str, status: int, message: str, kind: str, param: str | None = None) -> Reply:
    """An error in the API's own shape."""
    body: Json = {"error": {"message": message, "type": kind, "param": param, "code": status}}
    if path.startswith("/v1/messages"):
        body = {"type": "error", "error": {"type": kind, "message": message}}
    return whole(status, compact(body))


class Application:
    """Answers requests from a book of scripts."""

    def __init__(self, book: ScriptBook) -> None:
        self.book = book
        self.running = 0
        self._serial = itertools.count(1)

    def reply(self, method: str, path: str, body: bytes) -> Reply:
        """`path` without its query."""
        if path in GENERATING and method == "POST":
            return self._generate(path, body)
        if method not in ("GET", "HEAD"):
            return error(path, 405 if path in GENERATING else 404, "Not allowed", "NotFoundError")
        if method == "HEAD":
            return whole(200, b"")
        if path == "/health":
            return whole(200, b"")
        if path == "/metrics":
            return whole(200, self._metrics(), b"text/plain; version=0.0.4; charset=utf-8")
        if path == "/v1/models":
            card = {"id": self.book.model, "object": "model", "created": 1_700_000_000, "owned_by": "vllm"}
            return whole(200, compact({"object": "list", "data": [{**card, "max_model_len": 131072}]}))
        return whole(404, compact({"detail": "Not Found"}))

    def _generate(self, path: str, body: bytes) -> Reply:
        try:
            request = orjson.loads(body)
        except ValueError:
            return error(path, 400, "JSON decode error", "Bad Request")
        if not isinstance(request, dict):
            return error(path, 400, "Input should be a valid dictionary", "Bad Request")
        salt = request.get("cache_salt")
        if path not in UNSALTED and salt is not None and not _legal_salt(salt):
            message = "Parameter 'cache_salt' must be at most 128 characters and must not contain '@', '/', '\\', or NUL."
            return error(path, 400, message, "BadRequestError", "cache_salt")
        if request.get("model") not in (self.book.model, None):
            message = f"The model `{request.get('model')}` does not exist."
            return error(path, 404, message, "NotFoundError", "model")
        script = self.book.chosen(request.get("metadata"))
        if script.fault and script.fault.kind == "status":
            return error(path, script.fault.status, "Internal server error", "InternalServerError")
        if script.fault and script.fault.kind == "reset":
            return Reply(b"", [], "close")
        if script.fault and script.fault.kind == "garbage_head":
            return Reply(b"\x00\xffnot http at all\r\n\r\n", [])
        index, turn = script.turn(_last_call(path, request))
        serial = f"{0 if not script.turns else next(self._serial):032x}"
        answer = compose(script, index, turn, self.book.model, serial, _offered(request))
        return _assemble(path, request, answer, script)

    def _metrics(self) -> bytes:
        label = f'{{engine="0",model_name="{self.book.model}"}}'
        gauges = {
            "num_requests_running": float(self.running),
            "num_requests_waiting": 0.0,
            "kv_cache_usage_perc": min(1.0, self.running / self.book.room),
        }
        lines = []
        for name, value in gauges.items():
            lines += [
                f"# HELP vllm:{name} scripted",
                f"# TYPE vllm:{name} gauge",
                f"vllm:{name}{label} {value}",
            ]
        return ("\n".join(lines) + "\n").encode()


def _legal_salt(salt: object) -> bool:
    return isinstance(salt, str) and 0 < len(salt) <= 128 and not SALT_FORBIDDEN.intersection(salt)


def _assemble(path: str, request: Json, answer: Answer, script: Script) -> Reply:
    first_s = script.first_ms / 1000
    if path == "/v1/messages/count_tokens":
        return whole(200, messages.count_tokens(answer), first_s=first_s)
    if path == "/v1/embeddings":
        given = request.get("input")
        return whole(
            200, chat.embeddings(answer, len(given) if isinstance(given, list) else 1), first_s=first_s
        )
    options = request.get("stream_options")
    include_usage = isinstance(options, dict) and options.get("include_usage") is True
    if path == "/v1/chat/completions":
        rendered = chat.chat(answer, include_usage)
    elif path == "/v1/completions":
        rendered = chat.completion(answer, include_usage)
    elif path == "/v1/responses":
        rendered = responses.response(answer)
    else:
        rendered = messages.message(answer)
    if request.get("stream") is True:
        return _streamed(rendered, script)
    if script.fault:
        reply = whole(200, rendered.body)
        cut = len(reply.head) // 2
        return Reply(reply.head[:cut], [], "stall" if script.fault.kind == "stall" else "close")
    return replace(whole(200, rendered.body, first_s=first_s), reusable=not script.turns)


def _streamed(rendered: Rendered, script: Script) -> Reply:
    events, ending = rendered.events, "keep"
    fault = script.fault
    if fault:
        events = events[: fault.after]
        if fault.kind == "error_event":
            events = events + rendered.error_event
        else:
            ending = "stall" if fault.kind == "stall" else "close"
    if script.join_events > 1:
        step = script.join_events
        events = [b"".join(events[i : i + step]) for i in range(0, len(events), step)]
    if script.split_bytes:
        step = script.split_bytes
        events = [event[i : i + step] for event in events for i in range(0, len(event), step)]
    writes = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    if ending == "keep":
        writes.append(b"0\r\n\r\n")
    return Reply(
        _head(200, SSE_TYPE, None),
        writes,
        ending,  # type: ignore[arg-type]
        script.first_ms / 1000,
        script.interval_ms / 1000,
        reusable=not script.turns,
    )


def _offered(request: Json) -> dict[str, str]:
    """Names of the tools that the request offers, in any of the three APIs' shapes, each with its namespace or nothing."""
    names: dict[str, str] = {}
    for tool in request.get("tools") or ():
        if not isinstance(tool, dict):
            continue
        function, namespace = tool.get("function"), tool.get("name")
        if tool.get("type") == "namespace" and isinstance(namespace, str):
            inner = [one.get("name") for one in tool.get("tools") or () if isinstance(one, dict)]
            names |= {f"{namespace}__{name}": namespace for name in inner}
            continue
        name = function.get("name") if isinstance(function, dict) else tool.get("name")
        if isinstance(name, str):
            names[name] = ""
    return names


def _last_call(path: str, request: Json) -> int | None:
    """The turn that made the tool call whose result ends the conversation; None when a user message ends it."""
    conversation = request.get("input" if path == "/v1/responses" else "messages")
    if not isinstance(conversation, list):
        return None
    for item in reversed(conversation):
        if not isinstance(item, dict):
            return None
        identifier = (
            item.get("call_id") if str(item.get("type", "")).endswith("_output") else item.get("tool_call_id")
        )
        content = item.get("content")
        if identifier is None and item.get("role") == "user" and isinstance(content, list):
            results = [b for b in content if isinstance(b, dict) and b.get("type") == "tool_result"]
            identifier = results[-1].get("tool_use_id") if results else None
        if isinstance(identifier, str):
            parts = identifier.split("_")
            return int(parts[1]) if len(parts) > 2 and parts[0] == "call" and parts[1].isdigit() else None
        if item.get("role") == "user":
            return None
    return None
