"""chat/completions, completions and embeddings as vLLM writes them."""

from __future__ import annotations

from scripted.answer import Answer, Json, Rendered, compact, data_event

DONE = b"data: [DONE]\n\n"
STREAM_ERROR = {
    "error": {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}
}


def _usage(answer: Answer) -> Json:
    usage: Json = {
        "prompt_tokens": answer.input_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "completion_tokens": answer.output_tokens,
    }
    if answer.cached_tokens:
        usage["prompt_tokens_details"] = {"cached_tokens": answer.cached_tokens}
    return usage


def chat(answer: Answer, include_usage: bool) -> Rendered:
    """A chat completion; the final usage event is sent only when `stream_options.include_usage` asked for it."""
    base: Json = {
        "id": f"chatcmpl-{answer.id}",
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
    }

    def chunk(delta: Json, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        if finish:
            choice["stop_reason"] = None
        return data_event({**base, "choices": [choice]})

    finish = "tool_calls" if answer.calls else answer.finish_reason
    events = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"reasoning": piece}) for piece in answer.reasoning]
    events += [chunk({"content": piece}) for piece in answer.deltas]
    for index, call in enumerate(answer.calls):
        first = {
            "id": call.id,
            "type": "function",
            "index": index,
            "function": {"name": call.name, "arguments": ""},
        }
        events.append(chunk({"tool_calls": [first]}))
        events += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            for piece in answer.argument_pieces(call)
        ]
    events.append(chunk({"content": ""}, finish))
    if include_usage:
        events.append(data_event({**base, "choices": [], "usage": _usage(answer)}))
    events.append(DONE)
    message: Json = {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": None,
        "tool_calls": [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in answer.calls
        ],
        "reasoning": "".join(answer.reasoning) or None,
    }
    body = {
        **base,
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        ],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": _usage(answer),
    }
    return Rendered(events, compact(body), [data_event(STREAM_ERROR), DONE])


def completion(answer: Answer, include_usage: bool) -> Rendered:
    """A text completion."""
    base: Json = {
        "id": f"cmpl-{answer.id}",
        "object": "text_completion",
        "created": answer.created,
        "model": answer.model,
    }

    def choice(text: str, finish: str | None) -> Json:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None}

    last = len(answer.deltas) - 1
    events = [
        data_event({**base, "choices": [choice(piece, answer.finish_reason if i == last else None)]})
        for i, piece in enumerate(answer.deltas)
    ]
    if include_usage:
        events.append(data_event({**base, "choices": [], "usage": _usage(answer)}))
    events.append(DONE)
    body = {**base, "choices": [choice(answer.text, answer.finish_reason)], "usage": _usage(answer)}
    return Rendered(events, compact(body), [data_event(STREAM_ERROR), DONE])


def embeddings(answer: Answer, inputs: int) -> bytes:
    """Eight-dimensional embeddings, one per input."""
    data = [
        {"index": i, "object": "embedding", "embedding": [round(0.1 * (i + d), 3) for d in range(8)]}
        for i in range(inputs)
    ]
    usage = {
        "prompt_tokens": answer.input_tokens,
        "total_tokens": answer.input_tokens,
        "completion_tokens": 0,
    }
    head = {"id": f"embd-{answer.id}", "object": "list", "created": answer.created, "model": answer.model}
    return compact({**head, "data": data, "usage": usage})
