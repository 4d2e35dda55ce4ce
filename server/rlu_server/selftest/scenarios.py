"""What is sent: marked requests of every kind, to every API. Pure: markers in, requests out.

An answer must hold a marker too. A model cannot be told what to say, so it is made to: an answer that must be one of a given choice, which
is the marker; and completions that repeat their prompt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from rlu_server.selftest import oddities
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
        self.model = model
        self.limit = limit
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
        return self.chatting("load", text, markers, stream=True, max_tokens=LONG, min_tokens=LONG // 2)

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

    def chatting(
        self, kind: str, text: str, markers: tuple[str, ...], leave: Stage | None = None, **more: Any
    ) -> Shot:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": SHORT,
            **more,
        }
        return self.shot(kind, CHAT, body, markers, leave=leave)

    # --- the kinds ---

    def chat(self, kind: str) -> Shot:
        return self.chatting(kind, *self.text(kind), stream=kind == "chat_stream")

    def chat_system(self, kind: str) -> Shot:
        (system, first), (text, second) = self.text(kind), self.text(kind)
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": [{"type": "text", "text": text}]},
        ]
        return self.chatting(
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
        return self.chatting(kind, "", first + second, messages=messages, tools=[self._tool(self.one(kind))])

    def chat_returned(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        wanted = self.one(kind)
        # vLLM's own field: a schema would let a model put white space in for ever.
        more: dict[str, Any] = {
            "max_tokens": 400,
            "temperature": 0,
            "structured_outputs": {"choice": [wanted]},
        }
        return self.chatting(
            kind, f"{text} Say {wanted}", (*markers, wanted), stream=kind.endswith("stream"), **more
        )

    def chat_tool_returned(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        wanted = self.one(kind)
        tool = {"type": "function", "function": {"name": "look", "parameters": _only(wanted)}}
        choice = {"type": "function", "function": {"name": "look"}}
        return self.chatting(
            kind, text, (*markers, wanted), tools=[tool], tool_choice=choice, max_tokens=400, temperature=0
        )

    def completions(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        body = {"model": self.model, "prompt": text, "max_tokens": SHORT}
        body.update({"echo": True} if kind.endswith("echo") else {"stream": kind.endswith("stream")})
        return self.shot(kind, COMPLETIONS, body, markers)

    def responses(self, kind: str) -> Shot:
        (text, first), (system, second) = self.text(kind), self.text(kind)
        body = {
            "model": self.model,
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
            "model": self.model,
            "input": items,
            "tools": [tool],
            "max_output_tokens": SHORT,
            "store": False,
        }
        return self.shot(kind, RESPONSES, body, first + second)

    def messages(self, kind: str) -> Shot:
        (text, first), (system, second) = self.text(kind), self.text(kind)
        body = {
            "model": self.model,
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
        body = {"model": self.model, "messages": turns, "tools": [tool], "max_tokens": SHORT}
        return self.shot(kind, MESSAGES, body, first + second)

    def count_tokens(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        return self.shot(
            kind, COUNT, {"model": self.model, "messages": [{"role": "user", "content": text}]}, markers
        )

    def embeddings(self, kind: str) -> Shot:
        text, markers = self.text(kind)
        return self.shot(kind, EMBEDDINGS, {"model": self.model, "input": [text]}, markers)

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
                "model": self.model,
                "messages": [{"role": "user", "content": text * 200}],
                "max_tokens": LONG,
            }
            return self.shot(kind, CHAT, body, markers, leave=leave[kind], headers=headers)
        return self.chatting(
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
    **oddities.MAKERS,
    "abort_headers": Composer.abort,
    "abort_upload": Composer.abort,
    "abort_waiting": Composer.abort,
    "abort_stream": Composer.abort,
}
