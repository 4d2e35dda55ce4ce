"""What is sent: marked requests of every kind, to every API. Pure: markers in, requests out.

An answer must hold a marker too. A model cannot be told what to say, so it is made to: an answer that must be one of a given choice, which
is the marker; and completions that repeat their prompt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from rlu_server.selftest.caller import Shot, Stage
from rlu_server.selftest.markers import STYLES, marker

CHAT, COMPLETIONS, RESPONSES, MESSAGES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
)
COUNT, EMBEDDINGS = "/v1/messages/count_tokens", "/v1/embeddings"
SHORT = 48
"""Tokens of an answer that is waited for."""
LONG = 4096
"""Tokens of an answer that is left, or under way when something is broken."""


class Composer:
    """Makes requests with markers that were not used before.

    Args:
        secret: that markers are made from.
        model: name that the server knows the model by.
        limit: largest body that the gateway takes, in bytes.
    """

    def __init__(self, secret: bytes, model: str, limit: int) -> None:
        self._secret = secret
        self._model = model
        self._limit = limit
        self._number = 0
        self.markers: dict[str, str] = {}
        """Every marker that was sent: its text, and the kind of exchange."""

    def all(self) -> Iterator[Shot]:
        """Every kind once, but the load."""
        for kind in _MAKERS:
            yield self.kind(kind)

    def kind(self, kind: str) -> Shot:
        """One request of a kind."""
        return _MAKERS[kind](self, kind)

    def load(self) -> Shot:
        """A long streamed answer, for something to be broken meanwhile."""
        text, markers = self.text("load")
        return self._chat("load", text, markers, stream=True, max_tokens=LONG, min_tokens=LONG // 2)

    def text(self, kind: str) -> tuple[str, tuple[str, ...]]:
        """A prompt with a marker of each style."""
        self._number += 1
        made = tuple(marker(self._secret, kind, self._number, style).text for style in STYLES)
        self.markers.update(dict.fromkeys(made, kind))
        return f"Keep this in mind: {made[0]} and {made[1]} and {made[2]}, please.", made

    def one(self, kind: str) -> str:
        """One marker of letters and digits."""
        self._number += 1
        made = marker(self._secret, kind, self._number, "random").text
        self.markers[made] = kind
        return made

    def shot(self, kind: str, path: str, value: Any, markers: tuple[str, ...], **more: Any) -> Shot:
        return Shot(kind, path, json.dumps(value, ensure_ascii=False).encode(), markers=markers, **more)

    def _chat(
        self, kind: str, text: str, markers: tuple[str, ...], leave: Stage | None = None, **more: Any
    ) -> Shot:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": SHORT,
            **more,
        }
        return self.shot(kind, CHAT, body, markers, leave=leave)

    # --- the kinds ---

    def chat(self, kind: str) -> Shot:
        return self._chat(kind, *self.text(kind), stream=kind == "chat_stream")

    def chat_system(self, kind: str) -> Shot:
        (system, first), (text, second) = self.text(kind), self.text(kind)
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": [{"type": "text", "text": text}]},
        ]
        return self._chat(
            kind,
            "",
            first + second,
            messages=messages,
            user=self.one(kind),
            metadata={"note": self.one(kind)},
        )

    def chat_tools(self, kind: str) -> Shot:
        (text, first), (result, second) = self.text(kind), self.text(kind)
        call = {
            "id": "call_1_0_x",
            "type": "function",
            "function": {"name": "look", "arguments": json.dumps({"at": self.one(kind)})},
        }
        messages = [
            {"role": "user", "content": text},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1_0_x", "content": result},
        ]
        return self._chat(kind, "", first + second, messages=messages, tools=[self._tool(self.one(kind))])

    def chat_returned(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        wanted = self.one(kind)
        # vLLM's own field: a schema would let a model put white space in for ever.
        more: dict[str, Any] = {
            "max_tokens": 400,
            "temperature": 0,
            "structured_outputs": {"choice": [wanted]},
        }
        return self._chat(
            kind, f"{text} Say {wanted}", (*markers, wanted), stream=kind.endswith("stream"), **more
        )

    def chat_tool_returned(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        wanted = self.one(kind)
        tool = {"type": "function", "function": {"name": "look", "parameters": _only(wanted)}}
        choice = {"type": "function", "function": {"name": "look"}}
        return self._chat(
            kind, text, (*markers, wanted), tools=[tool], tool_choice=choice, max_tokens=400, temperature=0
        )

    def completions(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        body = {"model": self._model, "prompt": text, "max_tokens": SHORT}
        body.update({"echo": True} if kind.endswith("echo") else {"stream": kind.endswith("stream")})
        return self.shot(kind, COMPLETIONS, body, markers)

    def responses(self, kind: str) -> Shot:
        (text, first), (system, second) = self.text(kind), self.text(kind)
        body = {
            "model": self._model,
            "instructions": system,
            "input": text,
            "max_output_tokens": SHORT,
        }
        if kind == "responses":
            body["store"] = False  # the streamed one is kept, in the gateway's memory
        return self.shot(kind, RESPONSES, {**body, "stream": kind.endswith("stream")}, first + second)

    def responses_tools(self, kind: str) -> Shot:
        (text, first), (result, second) = self.text(kind), self.text(kind)
        items = [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]},
            {
                "type": "function_call",
                "call_id": "call_1_0_x",
                "name": "look",
                "arguments": json.dumps({"at": self.one(kind)}),
            },
            {"type": "function_call_output", "call_id": "call_1_0_x", "output": result},
        ]
        tool = {
            "type": "function",
            "name": "look",
            "description": self.one(kind),
            "parameters": {"type": "object", "properties": {}},
        }
        body = {
            "model": self._model,
            "input": items,
            "tools": [tool],
            "max_output_tokens": SHORT,
            "store": False,
        }
        return self.shot(kind, RESPONSES, body, first + second)

    def messages(self, kind: str) -> Shot:
        (text, first), (system, second) = self.text(kind), self.text(kind)
        body = {
            "model": self._model,
            "system": system,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": SHORT,
        }
        return self.shot(kind, MESSAGES, {**body, "stream": kind.endswith("stream")}, first + second)

    def messages_tools(self, kind: str) -> Shot:
        (text, first), (result, second) = self.text(kind), self.text(kind)
        turns = [
            {"role": "user", "content": text},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": self.one(kind)}}
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": result}]},
        ]
        tool = {
            "name": "look",
            "description": self.one(kind),
            "input_schema": {"type": "object", "properties": {}},
        }
        body = {"model": self._model, "messages": turns, "tools": [tool], "max_tokens": SHORT}
        return self.shot(kind, MESSAGES, body, first + second)

    def count_tokens(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        return self.shot(
            kind, COUNT, {"model": self._model, "messages": [{"role": "user", "content": text}]}, markers
        )

    def embeddings(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        return self.shot(kind, EMBEDDINGS, {"model": self._model, "input": [text]}, markers)

    def headers(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        named = (
            "x-codex-turn-metadata",
            "User-Agent",
            "X-Request-Id",
            "traceparent",
            "baggage",
            "Cookie",
            "Referer",
        )
        headers = {
            name: json.dumps({"note": self.one(kind)}) if name.startswith("x-codex") else self.one(kind)
            for name in named
        }
        body = {"model": self._model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
        return self.shot(kind, CHAT, body, markers, headers=headers)

    def path(self, kind: str) -> Shot:
        wanted = self.one(kind)
        return Shot(kind, f"/v1/{wanted}", b"{}", markers=(wanted,))

    def query(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        wanted = self.one(kind)
        body = {"model": self._model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
        return self.shot(kind, f"{CHAT}?note={wanted}", body, (*markers, wanted))

    def method(self, kind: str) -> Shot:
        wanted = self.one(kind)
        return Shot(kind, CHAT, f"{wanted}".encode(), method="PATCH", markers=(wanted,))

    def api_key(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        wanted = self.one(kind)
        return self.shot(
            kind,
            CHAT,
            {"model": self._model, "messages": text},
            markers,
            headers={"Authorization": f"Bearer {wanted}"},
        )

    def model_name(self, kind: str) -> Shot:
        wanted = self.one(kind)
        return self.shot(
            kind, CHAT, {"model": wanted, "messages": [{"role": "user", "content": wanted}]}, (wanted,)
        )

    def session_fields(self, kind: str) -> Shot:
        wanted = self.one(kind)
        headers = {"RLU-Session": self.one(kind)}
        return self.shot(
            kind, "/v1/rlu/sessions", {"nonce": wanted, "note": wanted}, (wanted,), headers=headers
        )

    def bad_json(self, kind: str) -> Shot:
        wanted = self.one(kind)
        return Shot(
            kind,
            CHAT,
            f'{{"model": "{self._model}", "messages": [{{"content": "{wanted}", }}'.encode(),
            markers=(wanted,),
        )

    def bad_utf8(self, kind: str) -> Shot:
        wanted = self.one(kind)
        body = (
            f'{{"model": "{self._model}", "messages": [{{"role": "user", "content": "{wanted}'.encode()
            + b'\xff\xfe"}]}'
        )
        return Shot(kind, CHAT, body, markers=(wanted,))

    def bad_field(self, kind: str) -> Shot:
        wanted = self.one(kind)
        return self._chat(
            kind, wanted, (wanted,), temperature=wanted, top_p={wanted: wanted}, stop=[[wanted]]
        )

    def bad_role(self, kind: str) -> Shot:
        wanted = self.one(kind)
        return self._chat(
            kind, "", (wanted,), messages=[{"role": wanted, "content": {"type": wanted, "text": wanted}}]
        )

    def bad_tool(self, kind: str) -> Shot:
        wanted = self.one(kind)
        tool = {
            "type": wanted,
            "function": {"name": f"{wanted} {wanted}", "parameters": {"type": wanted, "$ref": wanted}},
        }
        return self._chat(
            kind,
            wanted,
            (wanted,),
            tools=[tool],
            tool_choice={"type": "function", "function": {"name": wanted}},
        )

    def refused_field(self, kind: str) -> Shot:
        wanted = self.one(kind)
        return self._chat(kind, wanted, (wanted,), chat_template=wanted, vllm_xargs={wanted: wanted})

    def media_url(self, kind: str) -> Shot:
        wanted = self.one(kind)
        image = {"type": "image_url", "image_url": {"url": f"http://example.invalid/{wanted}.png"}}
        return self._chat(kind, "", (wanted,), messages=[{"role": "user", "content": [image]}])

    def too_long(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        return self._chat(kind, text * max(1, min(self._limit // 2, 600_000) // len(text.encode())), markers)

    def oversize_declared(self, kind: str) -> Shot:
        wanted = self.one(kind)
        return Shot(kind, CHAT, wanted.encode(), declared=self._limit + 1, markers=(wanted,))

    def oversize_chunked(self, kind: str) -> Shot:
        wanted = self.one(kind)
        filler = (f" {wanted}" * 1024).encode()
        body = b'{"messages": "' + filler * (self._limit // len(filler) + 2)
        return Shot(kind, CHAT, body, chunked=True, markers=(wanted,))

    def abort(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        leave: dict[str, Stage] = {
            "abort_headers": "headers",
            "abort_upload": "upload",
            "abort_waiting": "waiting",
        }
        if kind in leave:
            headers = {"x-codex-turn-metadata": self.one(kind)}
            body = {
                "model": self._model,
                "messages": [{"role": "user", "content": text * 200}],
                "max_tokens": LONG,
            }
            return self.shot(kind, CHAT, body, markers, leave=leave[kind], headers=headers)
        return self._chat(
            kind, text, markers, leave="stream", stream=True, max_tokens=LONG, min_tokens=LONG // 2
        )

    def _tool(self, note: str) -> dict[str, Any]:
        return {
            "type": "function",
            "function": {
                "name": "look",
                "description": note,
                "parameters": {"type": "object", "properties": {}},
            },
        }


def _only(wanted: str) -> dict[str, Any]:
    """A schema that one object only fits."""
    properties = {"answer": {"type": "string", "enum": [wanted]}}
    return {"type": "object", "properties": properties, "required": ["answer"], "additionalProperties": False}


_MAKERS: dict[str, Callable[[Composer, str], Shot]] = {
    "chat": Composer.chat,
    "chat_stream": Composer.chat,
    "chat_system": Composer.chat_system,
    "chat_tools": Composer.chat_tools,
    "chat_returned": Composer.chat_returned,
    "chat_returned_stream": Composer.chat_returned,
    "chat_tool_returned": Composer.chat_tool_returned,
    "completions": Composer.completions,
    "completions_stream": Composer.completions,
    "completions_echo": Composer.completions,
    "responses": Composer.responses,
    "responses_stream": Composer.responses,
    "responses_tools": Composer.responses_tools,
    "messages": Composer.messages,
    "messages_stream": Composer.messages,
    "messages_tools": Composer.messages_tools,
    "count_tokens": Composer.count_tokens,
    "embeddings": Composer.embeddings,
    "headers": Composer.headers,
    "path": Composer.path,
    "query": Composer.query,
    "method": Composer.method,
    "api_key": Composer.api_key,
    "model_name": Composer.model_name,
    "session_fields": Composer.session_fields,
    "bad_json": Composer.bad_json,
    "bad_utf8": Composer.bad_utf8,
    "bad_field": Composer.bad_field,
    "bad_role": Composer.bad_role,
    "bad_tool": Composer.bad_tool,
    "refused_field": Composer.refused_field,
    "media_url": Composer.media_url,
    "too_long": Composer.too_long,
    "oversize_declared": Composer.oversize_declared,
    "oversize_chunked": Composer.oversize_chunked,
    "abort_headers": Composer.abort,
    "abort_upload": Composer.abort,
    "abort_waiting": Composer.abort,
    "abort_stream": Composer.abort,
}
