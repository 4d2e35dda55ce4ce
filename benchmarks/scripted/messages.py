"""Anthropic's Messages API as vLLM writes it."""

from __future__ import annotations

import json

from scripted.answer import Answer, Json, Rendered, compact, named_event


def message(answer: Answer) -> Rendered:
    """A message with its thinking, text and tool_use blocks."""
    cached = {"cache_read_input_tokens": answer.cached_tokens} if answer.cached_tokens else {}
    fresh_input = answer.input_tokens - answer.cached_tokens
    stop = "tool_use" if answer.calls else {"stop": "end_turn", "length": "max_tokens"}[answer.finish_reason]
    start: Json = {
        "id": f"chatcmpl-{answer.id}",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": answer.model,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": answer.input_tokens, "output_tokens": 0},
    }
    events = [named_event("message_start", {"type": "message_start", "message": start})]
    content = _blocks(events, answer)
    usage = {"input_tokens": fresh_input, "output_tokens": answer.output_tokens, **cached}
    delta = {"stop_reason": stop, "stop_sequence": None}
    events.append(named_event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage}))
    events.append(named_event("message_stop", {"type": "message_stop"}))
    body = {
        **start,
        "content": content or [{"type": "text", "text": ""}],
        "stop_reason": stop,
        "usage": usage,
    }
    body = {name: value for name, value in body.items() if value is not None}
    error = {"type": "error", "error": {"type": "internal_error", "message": "Internal server error"}}
    return Rendered(events, compact(body), [named_event("error", error)])


def _blocks(events: list[bytes], answer: Answer) -> list[Json]:
    content: list[Json] = []

    def block(start: Json, deltas: list[Json]) -> None:
        index = len(content)
        events.append(
            named_event(
                "content_block_start", {"type": "content_block_start", "index": index, "content_block": start}
            )
        )
        for delta in deltas:
            event = {"type": "content_block_delta", "index": index, "delta": delta}
            events.append(named_event("content_block_delta", event))
        events.append(named_event("content_block_stop", {"type": "content_block_stop", "index": index}))

    if answer.reasoning:
        deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in answer.reasoning]
        block(
            {"type": "thinking", "thinking": ""},
            [*deltas, {"type": "signature_delta", "signature": answer.id}],
        )
        content.append({"type": "thinking", "thinking": "".join(answer.reasoning), "signature": answer.id})
    if answer.deltas:
        block(
            {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in answer.deltas]
        )
        content.append({"type": "text", "text": answer.text})
    for call in answer.calls:
        pieces = [{"type": "input_json_delta", "partial_json": p} for p in answer.argument_pieces(call)]
        use: Json = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        block(use, pieces)
        content.append({**use, "input": json.loads(call.arguments)})
    return content


def count_tokens(answer: Answer) -> bytes:
    return compact({"input_tokens": answer.input_tokens})
