"""Marked requests that carry content elsewhere than in a prompt, or are wrong in some way: refused by the gateway, or by vLLM, which may
repeat what it did not like. Pure, as `scenarios` is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from rlu_server.selftest.caller import Shot

if TYPE_CHECKING:
    from rlu_server.selftest.scenarios import Composer

CHAT = "/v1/chat/completions"


def headers(composer: Composer, kind: str) -> Shot:
    text, markers = composer.text(kind)
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
        name: json.dumps({"note": composer.one(kind)}) if name.startswith("x-codex") else composer.one(kind)
        for name in named
    }
    body = {"model": composer.model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
    return composer.shot(kind, CHAT, body, markers, headers=headers)


def path(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    return Shot(kind, f"/v1/{wanted}", b"{}", markers=(wanted,))


def query(composer: Composer, kind: str) -> Shot:
    text, markers = composer.text(kind)
    wanted = composer.one(kind)
    body = {"model": composer.model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
    return composer.shot(kind, f"{CHAT}?note={wanted}", body, (*markers, wanted))


def method(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    return Shot(kind, CHAT, f"{wanted}".encode(), method="PATCH", markers=(wanted,))


def api_key(composer: Composer, kind: str) -> Shot:
    text, markers = composer.text(kind)
    wanted = composer.one(kind)
    return composer.shot(
        kind,
        CHAT,
        {"model": composer.model, "messages": text},
        markers,
        headers={"Authorization": f"Bearer {wanted}"},
    )


def model_name(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    return composer.shot(
        kind, CHAT, {"model": wanted, "messages": [{"role": "user", "content": wanted}]}, (wanted,)
    )


def session_fields(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    headers = {"RLU-Session": composer.one(kind)}
    return composer.shot(
        kind, "/v1/rlu/sessions", {"nonce": wanted, "note": wanted}, (wanted,), headers=headers
    )


def bad_json(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    return Shot(
        kind,
        CHAT,
        f'{{"model": "{composer.model}", "messages": [{{"content": "{wanted}", }}'.encode(),
        markers=(wanted,),
    )


def bad_utf8(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    body = (
        f'{{"model": "{composer.model}", "messages": [{{"role": "user", "content": "{wanted}'.encode()
        + b'\xff\xfe"}]}'
    )
    return Shot(kind, CHAT, body, markers=(wanted,))


def bad_field(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    return composer.chatting(
        kind, wanted, (wanted,), temperature=wanted, top_p={wanted: wanted}, stop=[[wanted]]
    )


def bad_role(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    return composer.chatting(
        kind, "", (wanted,), messages=[{"role": wanted, "content": {"type": wanted, "text": wanted}}]
    )


def bad_tool(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    tool = {
        "type": wanted,
        "function": {"name": f"{wanted} {wanted}", "parameters": {"type": wanted, "$ref": wanted}},
    }
    return composer.chatting(
        kind,
        wanted,
        (wanted,),
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": wanted}},
    )


def refused_field(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    return composer.chatting(kind, wanted, (wanted,), chat_template=wanted, vllm_xargs={wanted: wanted})


def media_url(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    image = {"type": "image_url", "image_url": {"url": f"http://example.invalid/{wanted}.png"}}
    return composer.chatting(kind, "", (wanted,), messages=[{"role": "user", "content": [image]}])


def too_long(composer: Composer, kind: str) -> Shot:
    text, markers = composer.text(kind)
    return composer.chatting(
        kind, text * max(1, min(composer.limit // 2, 600_000) // len(text.encode())), markers
    )


def oversize_declared(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    return Shot(kind, CHAT, wanted.encode(), declared=composer.limit + 1, markers=(wanted,))


def oversize_chunked(composer: Composer, kind: str) -> Shot:
    wanted = composer.one(kind)
    filler = (f" {wanted}" * 1024).encode()
    body = b'{"messages": "' + filler * (composer.limit // len(filler) + 2)
    return Shot(kind, CHAT, body, chunked=True, markers=(wanted,))


MAKERS: dict[str, Callable[[Composer, str], Shot]] = {
    "headers": headers,
    "path": path,
    "query": query,
    "method": method,
    "api_key": api_key,
    "model_name": model_name,
    "session_fields": session_fields,
    "bad_json": bad_json,
    "bad_utf8": bad_utf8,
    "bad_field": bad_field,
    "bad_role": bad_role,
    "bad_tool": bad_tool,
    "refused_field": refused_field,
    "media_url": media_url,
    "too_long": too_long,
    "oversize_declared": oversize_declared,
    "oversize_chunked": oversize_chunked,
}
