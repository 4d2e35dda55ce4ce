"""What the scripted engine answers: turns, pace and faults, read strictly from JSON.

A *turn* is one model answer: optional reasoning, text, and tool calls. Which turn of a script a request gets is read from the request
itself: the identifier of a tool call names the turn that made it (`call_<turn>_<index>_…`), so the answer to a tool result is the turn
after it, and a new user message starts at turn 0. The engine therefore keeps no state between requests and any number of
conversations can run at once.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

FaultKind = Literal["status", "stall", "close", "error_event", "garbage_head", "reset"]
FAULTS: tuple[FaultKind, ...] = ("status", "stall", "close", "error_event", "garbage_head", "reset")
ROOM = 256


class ScriptError(ValueError):
    """The script file is wrong; the message says where."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. `any_of` maps tool name to arguments; the first name that the request offers is called.

    A tool in a namespace has the name that vLLM gives it for the model: `<namespace>__<name>`.
    """

    any_of: tuple[tuple[str, str], ...]

    def chosen(self, offered: Container[str]) -> tuple[str, str]:
        """Name and JSON arguments; the first entry when the request offers none of them."""
        for name, arguments in self.any_of:
            if name in offered:
                return name, arguments
        return self.any_of[0]


@dataclass(frozen=True, slots=True)
class Turn:
    text: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    finish_reason: Literal["stop", "length"] = "stop"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong.

    `status`: an error answer with `status`; `garbage_head`: bytes that are not HTTP; `reset`: the connection ends before any answer;
    the others happen after `after` events: `stall` sends no more and keeps the connection, `close` ends it, `error_event` sends vLLM's
    in-stream error and then ends the stream properly.
    """

    kind: FaultKind
    after: int = 0
    status: int = 500


@dataclass(frozen=True, slots=True)
class Script:
    turns: tuple[Turn, ...] = ()
    events: int = 8
    """Text deltas per answer when there are no `turns` (load tests)."""
    payload_bytes: int = 16
    """Characters of each such delta."""
    piece: int = 8
    """Characters per delta when there are `turns`."""
    first_ms: float = 0.0
    interval_ms: float = 0.0
    """Pause before each further event; 0 sends as fast as the connection takes it."""
    split_bytes: int = 0
    """Cut every event into HTTP chunks of this size, each written on its own."""
    join_events: int = 1
    """Events that share one HTTP chunk."""
    input_tokens: int = 11
    cached_tokens: int = 0
    fault: Fault | None = None

    def pieces(self, text: str) -> list[str]:
        return [text[i : i + self.piece] for i in range(0, len(text), self.piece)]

    def turn(self, made_by: int | None) -> tuple[int, Turn]:
        """The turn after `made_by` (the turn of the last tool call that was answered), the last one when the script is over."""
        if not self.turns:
            return 0, Turn()
        index = 0 if made_by is None else min(made_by + 1, len(self.turns) - 1)
        return index, self.turns[index]


@dataclass(frozen=True, slots=True)
class ScriptBook:
    """All scripts of an engine; a request names one in `metadata.script`, else `default` is used."""

    default: Script = field(default_factory=Script)
    named: Mapping[str, Script] = field(default_factory=dict)
    model: str = "scripted"
    room: int = ROOM
    """Requests at once that fill its KV cache, as its metrics tell."""

    def chosen(self, metadata: object) -> Script:
        if isinstance(metadata, dict):
            name = metadata.get("script")
            if isinstance(name, str):
                return self.named.get(name, self.default)
        return self.default


def load_book(source: Path | str | Mapping[str, Any]) -> ScriptBook:
    """Read `{"model": …, "default": {…}, "scripts": {name: {…}}}` from a file or a mapping.

    Raises:
        ScriptError: unreadable, or any key unknown or of the wrong type.
    """
    if isinstance(source, Mapping):
        raw: Any = source
    else:
        try:
            raw = json.loads(Path(source).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ScriptError(f"{source}: {error}") from error
    known = _known(raw, "the book", {"model", "default", "scripts", "room"})
    named = known.get("scripts", {})
    if not isinstance(named, dict):
        raise ScriptError("scripts: an object is needed")
    return ScriptBook(
        default=script_from(known.get("default", {}), "default"),
        named={str(name): script_from(value, f"scripts.{name}") for name, value in named.items()},
        model=str(known.get("model", "scripted")),
        room=_room(known.get("room", ROOM)),
    )


def _room(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ScriptError("room: a positive number is needed")
    return value


def script_from(raw: object, where: str) -> Script:
    """One script from its JSON object."""
    known = dict(_known(raw, where, {f.name for f in fields(Script)}))
    turns = known.pop("turns", [])
    if not isinstance(turns, list):
        raise ScriptError(f"{where}.turns: an array is needed")
    fault = known.pop("fault", None)
    for name, value in known.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ScriptError(f"{where}.{name}: a non-negative number is needed")
    if known.get("piece") == 0 or known.get("join_events") == 0:
        raise ScriptError(f"{where}: piece and join_events are at least 1")
    return Script(
        turns=tuple(_turn(value, f"{where}.turns[{i}]") for i, value in enumerate(turns)),
        fault=None if fault is None else _fault(fault, f"{where}.fault"),
        **known,
    )


def _turn(raw: object, where: str) -> Turn:
    known = _known(raw, where, {"text", "reasoning", "calls", "finish_reason"})
    finish = known.get("finish_reason", "stop")
    if finish not in ("stop", "length"):
        raise ScriptError(f"{where}.finish_reason: stop or length")
    calls = tuple(_call(value, f"{where}.calls[{i}]") for i, value in enumerate(known.get("calls", [])))
    return Turn(str(known.get("text", "")), str(known.get("reasoning", "")), calls, finish)


def _call(raw: object, where: str) -> Call:
    known = _known(raw, where, {"any_of", "name", "arguments"})
    any_of = known.get("any_of") or {known.get("name"): known.get("arguments", {})}
    if not isinstance(any_of, dict) or not all(isinstance(name, str) and name for name in any_of):
        raise ScriptError(f"{where}: give a name and arguments, or any_of with arguments for each name")
    return Call(tuple((name, json.dumps(arguments)) for name, arguments in any_of.items()))


def _fault(raw: object, where: str) -> Fault:
    known = _known(raw, where, {f.name for f in fields(Fault)})
    if known.get("kind") not in FAULTS:
        raise ScriptError(f"{where}.kind: one of {', '.join(FAULTS)}")
    return Fault(**known)


def _known(raw: object, where: str, names: set[str]) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise ScriptError(f"{where}: an object is needed")
    unknown = sorted(set(raw) - names)
    if unknown:
        raise ScriptError(f"{where}: unknown keys {', '.join(map(str, unknown))}")
    return dict(raw)
