"""When an engine may serve: it answers `/health`, and it gives the known answer.

vLLM in GPU confidential mode has returned garbage without an error, so a model directory may carry `rlu-canary.json`:
`{"prompt": ..., "expect": ...}`, the exact answer at temperature 0. It is part of the model's manifest.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CANARY_FILE = "rlu-canary.json"
MAX_CANARY_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 1 << 20
POLL_S = 0.1
ANSWER_TIMEOUT_S = 300.0


class EngineUnfit(Exception):
    """The engine runs but must not serve; the message says why, without quoting what it generated."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A known answer."""

    prompt: str
    expect: str
    max_tokens: int


def load_canary(model: Path) -> Canary | None:
    """The model's known answer, or None when its directory carries none.

    Raises:
        EngineUnfit: the file is there but not of the form above.
    """
    file = model / CANARY_FILE
    if not file.exists():
        return None
    try:
        data = file.read_bytes()
        if len(data) > MAX_CANARY_BYTES:
            raise ValueError("too long")
        document = json.loads(data)
        prompt, expect = document.pop("prompt"), document.pop("expect")
        max_tokens = document.pop("max_tokens", 512)
        if document or not all(isinstance(text, str) and text for text in (prompt, expect)):
            raise ValueError("unknown or empty members")
        if type(max_tokens) is not int or not 1 <= max_tokens <= 4096:
            raise ValueError("max_tokens out of range")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = f"{file} is not a known answer ({error}); expected"
        raise EngineUnfit(f'{reason} {{"prompt": ..., "expect": ...}}') from error
    return Canary(prompt, expect, max_tokens)


async def wait_healthy(socket: Path) -> None:
    """Return when the engine's `/health` says 200; bounded by the caller."""
    while True:
        try:
            status, _ = await asyncio.wait_for(_request(socket, "GET", "/health", None), 10.0)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError):
            status = 0
        if status == 200:
            return
        await asyncio.sleep(POLL_S)


async def check_canary(socket: Path, name: str, canary: Canary) -> None:
    """Generate the known answer.

    Raises:
        EngineUnfit: the answer differs, or there was none.
    """
    body = {
        "model": name,
        "messages": [{"role": "user", "content": canary.prompt}],
        "temperature": 0,
        "max_tokens": canary.max_tokens,
    }
    try:
        call = _request(socket, "POST", "/v1/chat/completions", json.dumps(body).encode())
        status, answer = await asyncio.wait_for(call, ANSWER_TIMEOUT_S)
        text: Any = json.loads(answer)["choices"][0]["message"]["content"] if status == 200 else None
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        asyncio.TimeoutError,
        asyncio.IncompleteReadError,
    ) as error:
        raise EngineUnfit(f"the engine did not answer the known prompt ({type(error).__name__})") from error
    if status != 200:
        raise EngineUnfit(f"the engine answered the known prompt with status {status}")
    if text != canary.expect:
        raise EngineUnfit(
            f"the engine's answer to the known prompt is not the one in {CANARY_FILE}: the weights, the numerics of this hardware or the "
            "engine's version differ from those it was made with; do not serve with it, or make the file anew with this engine"
        )


async def _request(socket: Path, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
    """One HTTP/1.1 exchange on a connection of its own."""
    reader, writer = await asyncio.open_unix_connection(str(socket), limit=64 * 1024)
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + (body or b""))
        await writer.drain()
        answer_head = await reader.readuntil(b"\r\n\r\n")
        status = int(answer_head.split(b" ", 2)[1])
        lowered = answer_head.lower()
        if b"content-length:" in lowered:
            length = int(lowered.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            if length > MAX_ANSWER_BYTES:
                raise ValueError("answer too long")
            return status, await reader.readexactly(length)
        return status, await reader.read(MAX_ANSWER_BYTES)
    except asyncio.LimitOverrunError as error:
        raise ValueError("answer head too long") from error
    finally:
        writer.close()
