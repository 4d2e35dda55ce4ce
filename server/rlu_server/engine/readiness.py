"""When an engine may serve: it answers `/health`, and it gives the known answer.

vLLM in GPU confidential mode has returned garbage without an error, so a model directory may carry `rlu-canary.json`, whose forms are in
`engine.canary`. It is part of the model's manifest.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from rlu_server.engine import canary
from rlu_server.engine.canary import KnownAnswer
from rlu_server.waiting import at_most

CANARY_FILE = "rlu-canary.json"
MAX_ANSWER_BYTES = 1 << 20
POLL_S = 0.1
ANSWER_TIMEOUT_S = 300.0


class EngineUnfit(Exception):
    """The engine runs but must not serve; the message says why, without quoting what it generated."""


class WrongAnswer(EngineUnfit):
    """It answers, and not what it is known to answer."""


def load_canary(model: Path) -> KnownAnswer | None:
    """The model's known answer, or None when its directory carries none.

    Raises:
        EngineUnfit: the file is there but has no form of `engine.canary`.
    """
    file = model / CANARY_FILE
    if not file.exists():
        return None
    try:
        return canary.parse(file.read_bytes())
    except (OSError, ValueError) as error:
        reason = f"{file} is not a known answer ({error}); expected"
        raise EngineUnfit(f'{reason} {{"prompt": ..., "expect": ...}}') from error


async def wait_healthy(socket: Path) -> None:
    """Return when the engine's `/health` says 200; bounded by the caller."""
    while True:
        try:
            status, _ = await at_most(10.0, _request(socket, "GET", "/health", None))
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError):
            status = 0
        if status == 200:
            return
        await asyncio.sleep(POLL_S)


async def check_canary(socket: Path, name: str, known: KnownAnswer) -> None:
    """Ask for the known answer.

    Raises:
        WrongAnswer: the answer differs.
        EngineUnfit: there was none.
    """
    path, body = canary.request(known, name)
    try:
        call = _request(socket, "POST", path, json.dumps(body).encode())
        status, answer = await at_most(ANSWER_TIMEOUT_S, call)
        as_known = status == 200 and canary.right(known, json.loads(answer))
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
    if not as_known:
        raise WrongAnswer(
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
