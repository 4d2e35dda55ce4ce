"""Stands in for vLLM's entry module: it says the marker of the request, a delta each, and misbehaves as the request asks.

A request's text is `<script> <marker>`. `leak` says the marker of another tenant's last request instead: a violation that the observer
must find.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
from dataclasses import replace
from typing import Any

from scripted import Engine, ScriptBook, serve
from scripted.application import GENERATING, Application
from scripted.script import Script, Turn, load_book

WANTED = re.compile(rb"([a-z_]+) (mk-([a-z]+)-[0-9]{8}-[0-9a-f]{8})")
BOOK: dict[str, Any] = {
    "scripts": {
        "short": {"events": 3},
        "leak": {"events": 3},
        "long": {"events": 60, "interval_ms": 25},
        "burst": {"events": 400},
        "late": {"events": 3, "first_ms": 1500},
        "split": {"events": 12, "split_bytes": 7},
        "stall": {"events": 9, "fault": {"kind": "stall", "after": 3}},
        "close": {"events": 9, "interval_ms": 20, "fault": {"kind": "close", "after": 3}},
        "error_event": {"events": 9, "interval_ms": 20, "fault": {"kind": "error_event", "after": 3}},
        "garbage_head": {"fault": {"kind": "garbage_head"}},
        "reset": {"fault": {"kind": "reset"}},
        "status": {"fault": {"kind": "status", "status": 500}},
    },
}


class Echo(Application):
    """Answers with the marker of the request."""

    def __init__(self, book: ScriptBook) -> None:
        super().__init__(book)
        self._scripts = book.named
        self._last: dict[bytes, str] = {}

    def reply(self, method: str, path: str, body: bytes) -> Any:
        if path in GENERATING:
            self.book = replace(self.book, default=self._script(body))
        return super().reply(method, path, body)

    def _script(self, body: bytes) -> Script:
        found = WANTED.search(body)
        if found is None:
            return Script(turns=(Turn(text="nothing"),))
        script, marker = self._scripts[found[1].decode()], found[2].decode()
        if found[1] == b"leak":
            others = [text for tenant, text in self._last.items() if tenant != found[3]]
            marker = others[-1] if others else marker
        self._last[found[3]] = marker
        return replace(script, turns=(Turn(text=marker * script.events),), piece=len(marker))


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uds", required=True)
    parser.add_argument("--served-model-name", required=True)
    options, _ = parser.parse_known_args()
    book = replace(load_book(BOOK), model=options.served_model_name)
    engine = Engine(book)
    engine.application = Echo(book)
    server = await serve(engine, uds=options.uds)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
