"""Stands in for vLLM's entry module: it says what it was asked, and leaks whatever it gets wherever its lock lets it.

Every request goes to standard output and error, to scratch, to shared memory and into a deleted file that stays open. Fields
that it does not like are repeated in the error, as vLLM does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripted import Engine, ScriptBook, serve
from scripted.application import GENERATING, Application, error
from scripted.script import Call, Script, Turn
from scripted.script import ScriptBook as Book

MOST = 20_000
KEPT: list[Any] = []


class Echo(Application):
    """Answers with the request itself."""

    def reply(self, method: str, path: str, body: bytes) -> Any:
        if path in GENERATING and body:
            leak(body)
            refused = disliked(path, body)
            if refused is not None:
                return refused
            self.book = self._said(body)
        return super().reply(method, path, body)

    def _said(self, body: bytes) -> Book:
        try:
            request = json.loads(body)
        except ValueError:
            return self.book
        long = request.get("min_tokens", 0) > 1000
        text = json.dumps(request, ensure_ascii=False)[:MOST]
        choice = request.get("tool_choice")
        calls: tuple[Call, ...] = ()
        if isinstance(choice, dict):
            calls = (Call((("look", json.dumps(request["tools"][0], ensure_ascii=False)),)),)
        script = Script(
            turns=(Turn(text=text * (50 if long else 1), calls=calls),), piece=7, interval_ms=5 if long else 0
        )
        return replace(self.book, default=script)


def disliked(path: str, body: bytes) -> Any:
    """An error that repeats the field, as a validation error of vLLM's does."""
    try:
        request = json.loads(body)
    except ValueError:
        return error(path, 400, f"cannot parse {body.decode('utf-8', 'replace')[:500]}", "Bad Request")
    for name in ("temperature", "top_p", "stop"):
        if isinstance(request.get(name), (str, dict, list)):
            return error(
                path, 400, f"1 validation error: {name}: input {request[name]!r}", "Bad Request", name
            )
    return None


def leak(body: bytes) -> None:
    """Everywhere at once."""
    print(body.decode("utf-8", "replace")[:MOST], flush=True)
    print(body.decode("utf-8", "replace")[:MOST], file=sys.stderr, flush=True)
    for directory in (
        tempfile.gettempdir(),
        os.environ.get("HOME", "/"),
        "/dev/shm",
        "/tmp",
        "/var/tmp",
        "/",
        ".",
    ):
        with suppress(OSError):
            Path(directory, f"leak-{os.getpid()}").write_bytes(body[:MOST])
    with suppress(OSError):
        KEPT[:] = [tempfile.TemporaryFile()]  # noqa: SIM115 - kept open on purpose
        KEPT[0].write(body[:MOST])


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uds", required=True)
    parser.add_argument("--served-model-name", required=True)
    options, _ = parser.parse_known_args()
    book = replace(
        ScriptBook(), default=Script(turns=(Turn(text="I echo."),)), model=options.served_model_name
    )
    engine = Engine(book)
    engine.application = Echo(book)
    server = await serve(engine, uds=options.uds)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
