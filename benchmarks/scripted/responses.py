"""The Responses API as vLLM writes it: numbered, named events; no `[DONE]`."""

from __future__ import annotations

from scripted.answer import Answer, Json, Rendered, ToolCall, compact, named_event


class _Events:
    """Collects events, numbering them from 0."""

    def __init__(self) -> None:
        self.bytes: list[bytes] = []

    def add(self, kind: str, **members: object) -> None:
        self.bytes.append(named_event(kind, {**members, "sequence_number": len(self.bytes), "type": kind}))


def response(answer: Answer) -> Rendered:
    """A response with its reasoning item, message and function calls, in vLLM's order."""
    events = _Events()
    started = _object(answer, "in_progress", [], None)
    events.add("response.created", response=started)
    events.add("response.in_progress", response=started)
    output: list[Json] = []
    if answer.reasoning:
        output.append(_reasoning(events, answer, len(output)))
    if answer.deltas:
        output.append(_message(events, answer, len(output)))
    for call in answer.calls:
        output.append(_call(events, answer, call, len(output)))
    usage = {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached_tokens},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": len(answer.reasoning), "tool_output_tokens": 0},
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    status = "incomplete" if answer.finish_reason == "length" else "completed"
    finished = _object(answer, status, output, usage)
    # vLLM 0.32 ends even an incomplete response with response.completed; its status tells.
    events.add("response.completed", response=finished)
    failed = {
        "error": {
            "message": "Internal server error",
            "type": "InternalServerError",
            "param": None,
            "code": 500,
        }
    }
    return Rendered(events.bytes, compact(finished), [named_event("error", {"type": "error", **failed})])


def _object(answer: Answer, status: str, output: list[Json], usage: Json | None) -> Json:
    return {
        "id": f"resp_{answer.id}",
        "created_at": answer.created,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": None,
        "model": answer.model,
        "object": "response",
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "background": False,
        "max_output_tokens": 4096,
        "previous_response_id": None,
        "reasoning": None,
        "service_tier": "auto",
        "status": status,
        "text": None,
        "truncation": "disabled",
        "usage": usage,
        "user": None,
    }


def _reasoning(events: _Events, answer: Answer, index: int) -> Json:
    item_id = f"rs_{answer.id}"
    item: Json = {
        "id": item_id,
        "summary": [],
        "type": "reasoning",
        "content": None,
        "encrypted_content": None,
    }
    events.add("response.output_item.added", item={**item, "status": "in_progress"}, output_index=index)
    where = {"content_index": 0, "item_id": item_id, "output_index": index}
    events.add("response.content_part.added", part={"text": "", "type": "reasoning_text"}, **where)
    for piece in answer.reasoning:
        events.add("response.reasoning_text.delta", delta=piece, **where)
    text = "".join(answer.reasoning)
    part = {"text": text, "type": "reasoning_text"}
    events.add("response.reasoning_text.done", text=text, **where)
    events.add("response.content_part.done", part=part, **where)
    done = {**item, "content": [part], "status": "completed"}
    events.add("response.output_item.done", item=done, output_index=index)
    return done


def _message(events: _Events, answer: Answer, index: int) -> Json:
    item_id = f"msg_{answer.id}"
    item: Json = {
        "id": item_id,
        "content": [],
        "role": "assistant",
        "status": "in_progress",
        "type": "message",
    }
    events.add("response.output_item.added", item=item, output_index=index)
    where = {"content_index": 0, "item_id": item_id, "output_index": index}
    empty = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
    events.add("response.content_part.added", part=empty, **where)
    for piece in answer.deltas:
        events.add("response.output_text.delta", delta=piece, logprobs=[], **where)
    events.add("response.output_text.done", text=answer.text, logprobs=[], **where)
    part: Json = {"annotations": [], "text": answer.text, "type": "output_text", "logprobs": None}
    events.add("response.content_part.done", part=part, **where)
    done = {**item, "content": [part], "status": "completed"}
    events.add("response.output_item.done", item=done, output_index=index)
    return done


def _call(events: _Events, answer: Answer, call: ToolCall, index: int) -> Json:
    item_id = f"fc_{call.id}"
    item: Json = {
        "arguments": "",
        "call_id": call.id,
        "name": call.name,
        "type": "function_call",
        "id": item_id,
    }
    if call.namespace:
        item["namespace"] = call.namespace
    events.add("response.output_item.added", item={**item, "status": "in_progress"}, output_index=index)
    where = {"item_id": item_id, "output_index": index}
    for piece in answer.argument_pieces(call):
        events.add("response.function_call_arguments.delta", delta=piece, **where)
    events.add("response.function_call_arguments.done", arguments=call.arguments, name=call.name, **where)
    done = {**item, "arguments": call.arguments, "status": "completed"}
    events.add("response.output_item.done", item=done, output_index=index)
    return done
