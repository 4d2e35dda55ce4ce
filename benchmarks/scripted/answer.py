"""An answer before it has the shape of one API: ids, deltas, tool calls and usage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scripted.script import Script, Turn

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said, with everything chosen; `deltas` and `reasoning` are the pieces that a stream sends one by one."""

    id: str
    model: str
    reasoning: list[str]
    deltas: list[str]
    calls: list[ToolCall]
    finish_reason: str
    input_tokens: int
    cached_tokens: int
    piece: int
    created: int = 1_700_000_000

    @property
    def text(self) -> str:
        return "".join(self.deltas)

    @property
    def output_tokens(self) -> int:
        """One token per delta, tool calls included, at least 1."""
        arguments = sum(1 + len(call.arguments) // self.piece for call in self.calls)
        return max(1, len(self.reasoning) + len(self.deltas) + arguments)

    def argument_pieces(self, call: ToolCall) -> list[str]:
        return [call.arguments[i : i + self.piece] for i in range(0, len(call.arguments), self.piece)]


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer as one API writes it: `events` for a stream, `body` otherwise."""

    events: list[bytes]
    body: bytes
    error_event: list[bytes]
    """What vLLM sends in the stream when generation fails."""


def compose(
    script: Script, turn_index: int, turn: Turn, model: str, serial: str, offered: Mapping[str, str]
) -> Answer:
    """Choose everything an answer says. `serial` (hex) makes its ids unique; `offered` maps the tools' names to their namespaces."""
    if script.turns:
        deltas, reasoning = script.pieces(turn.text), script.pieces(turn.reasoning)
    else:
        deltas, reasoning = (
            [("lorem ipsum dolor sit amet " * (1 + script.payload_bytes // 27))[: script.payload_bytes]]
            * script.events,
            [],
        )
    calls = []
    for index, call in enumerate(turn.calls):
        name, arguments = call.chosen(offered)
        namespace = offered.get(name, "")
        identifier = f"call_{turn_index}_{index}_{serial}"
        calls.append(ToolCall(identifier, name.removeprefix(f"{namespace}__"), arguments, namespace))
    return Answer(
        id=serial,
        model=model,
        reasoning=reasoning,
        deltas=deltas,
        calls=calls,
        finish_reason=turn.finish_reason,
        input_tokens=script.input_tokens,
        cached_tokens=script.cached_tokens,
        piece=script.piece,
    )


def compact(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def data_event(value: Json) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


def named_event(name: str, value: Json) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + compact(value) + b"\n\n"
