"""What of an answer may be passed on before its receipt is verified.

What was delivered cannot be recalled, so whatever lets a client *act* waits: the end of the answer, and a tool call that is complete.
Of a stream, an event is let through only if it is recognised as a piece of text, of reasoning or of a tool call's arguments, or as
something that announces such a piece. The first event that is anything else is held, and with it everything after it, so that the order
of the bytes never changes. There is thus no list of dangerous events that could be incomplete: an event of a kind nobody has heard of
waits too. An answer that is no stream waits as a whole.

A JSON object with a member twice, or an event whose `event` line contradicts its data, is not recognised as anything: two readers could
take it for two different things.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from rlu_attestation.connect.apis import Api
from rlu_attestation.connect.errors import Unproven
from rlu_attestation.connect.sse import Block, Splitter
from rlu_attestation.strict_json import unique

MAX_HELD = 64 * 1024 * 1024
Event = dict[str, Any]


class Screen(Protocol):
    """Passes on what may pass, and holds the rest."""

    def feed(self, data: bytes) -> bytes:
        """What may be passed on now."""

    def held(self) -> bytes:
        """What has not been passed on."""

    def error(self) -> bytes:
        """The event of an error, if what is held begins with one; else empty."""


class WholeScreen:
    """For an answer that is no stream: nothing passes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._size > MAX_HELD:
            raise Unproven("response.too_large", f"the answer is longer than {MAX_HELD} bytes")
        self._parts.append(data)
        return b""

    def held(self) -> bytes:
        return b"".join(self._parts)

    def error(self) -> bytes:
        return b""


class StreamScreen:
    """For server-sent events of one API."""

    def __init__(self, api: Api | None) -> None:
        self._splitter = Splitter()
        self._harmless = _JUDGES[api]()
        self._held: list[bytes] = []
        self._size = 0
        self._error = b""

    def feed(self, data: bytes) -> bytes:
        if self._held:
            return self._hold(data)
        passed: list[bytes] = []
        blocks = self._splitter.feed(data)
        for index, block in enumerate(blocks):
            event = _read(block)
            if event is not None and (block.data is None or self._harmless(block.event, event)):
                passed.append(block.raw)
                continue
            if event is not None and _is_error(event):
                self._error = block.raw
            for later in blocks[index:]:
                self._hold(later.raw)
            self._hold(self._splitter.rest)
            break
        return b"".join(passed)

    def held(self) -> bytes:
        return b"".join(self._held) if self._held else self._splitter.rest

    def error(self) -> bytes:
        return self._error

    def _hold(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._size > MAX_HELD:
            raise Unproven(
                "response.too_large", f"more than {MAX_HELD} bytes of the answer wait for its receipt"
            )
        self._held.append(data)
        return b""


def screen(api: Api | None, status: int, content_type: str) -> Screen:
    """The screen for an answer with this head."""
    if (
        status == 200
        and api in _JUDGES
        and content_type.partition(";")[0].strip().lower() == "text/event-stream"
    ):
        return StreamScreen(api)
    return WholeScreen()


# --- events -----------------------------------------------------------------------------------------------------------


def _read(block: Block) -> Event | None:
    """The event as an object, empty for a comment; `None` if it is not one that all readers read alike."""
    if block.odd:
        return None
    if block.data is None:
        return {} if not block.event else None
    try:
        value = json.loads(block.data, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_error(event: Event) -> bool:
    return event.get("error") is not None or event.get("type") in ("error", "response.failed")


class _Chat:
    """Pieces of chat completions. A tool call counts as complete when the next one begins."""

    def __init__(self) -> None:
        self._calls: dict[object, set[object]] = {}

    def __call__(self, name: str, event: Event) -> bool:
        choices = event.get("choices")
        if name or event.get("error") is not None or not isinstance(choices, list) or not choices:
            return False
        return all(isinstance(choice, dict) and self._piece(choice) for choice in choices)

    def _piece(self, choice: Event) -> bool:
        delta = choice.get("delta")
        if choice.get("finish_reason") is not None or not isinstance(delta, dict):
            return False
        calls = delta.get("tool_calls")
        if calls is None:
            return True
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            return False
        indexes = [choice.get("index"), *(call.get("index") for call in calls)]
        if not all(type(index) is int for index in indexes):
            return False
        begun = self._calls.setdefault(indexes[0], set())
        begun.update(indexes[1:])
        return len(begun) <= 1


class _Completions:
    """Pieces of text completions."""

    def __call__(self, name: str, event: Event) -> bool:
        choices = event.get("choices")
        if name or event.get("error") is not None or not isinstance(choices, list) or not choices:
            return False
        return all(isinstance(choice, dict) and choice.get("finish_reason") is None for choice in choices)


class _Responses:
    """Events of the Responses API."""

    _PIECES = frozenset(
        {
            "response.content_part.added",
            "response.content_part.done",
            "response.custom_tool_call_input.delta",
            "response.function_call_arguments.delta",
            "response.output_text.annotation.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.reasoning_part.added",
            "response.reasoning_part.done",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_part.done",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_text.delta",
            "response.reasoning_text.done",
            "response.refusal.delta",
            "response.refusal.done",
        }
    )
    _BEGINNINGS = frozenset({"response.created", "response.in_progress", "response.queued"})
    _TALK = frozenset({"message", "reasoning"})

    def __call__(self, name: str, event: Event) -> bool:
        kind = event.get("type")
        if not isinstance(kind, str) or name not in ("", kind) or event.get("error") is not None:
            return False
        if kind in self._PIECES:
            return True
        if kind in self._BEGINNINGS:
            response = event.get("response")
            return (
                isinstance(response, dict)
                and response.get("status") in ("in_progress", "queued")
                and not response.get("output")
            )
        item = event.get("item")
        if not isinstance(item, dict):
            return False
        if kind == "response.output_item.added":
            calls = ("function_call", "custom_tool_call")
            empty = not item.get("arguments") and not item.get("input")
            return item.get("type") in self._TALK or (item.get("type") in calls and empty)
        return kind == "response.output_item.done" and item.get("type") in self._TALK


class _Messages:
    """Events of the Messages API."""

    def __init__(self) -> None:
        self._kinds: dict[int, str] = {}

    def __call__(self, name: str, event: Event) -> bool:
        kind = event.get("type")
        if not isinstance(kind, str) or name != kind or event.get("error") is not None:
            return False
        if kind in ("ping", "content_block_delta"):
            return True
        if kind == "message_start":
            message = event.get("message")
            return (
                isinstance(message, dict)
                and message.get("stop_reason") is None
                and not message.get("content")
            )
        if kind == "content_block_start":
            return self._begin(event.get("index"), event.get("content_block"))
        index = event.get("index")
        return kind == "content_block_stop" and type(index) is int and self._kinds.get(index) in _SPOKEN

    def _begin(self, index: object, block: object) -> bool:
        if type(index) is not int or index in self._kinds or not isinstance(block, dict):
            return False
        kind = block.get("type")
        if kind not in _SPOKEN and (kind != "tool_use" or block.get("input")):
            return False
        self._kinds[index] = kind
        return True


_SPOKEN = frozenset({"text", "thinking", "redacted_thinking"})
_JUDGES: dict[Api | None, Callable[[], Callable[[str, Event], bool]]] = {
    Api.CHAT: _Chat,
    Api.COMPLETIONS: _Completions,
    Api.RESPONSES: _Responses,
    Api.MESSAGES: _Messages,
}
