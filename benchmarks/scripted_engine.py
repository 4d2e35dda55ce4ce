"""Run the scripted engine: `python benchmarks/scripted_engine.py --uds PATH [--script FILE]`.

It prints one JSON line, `{"listening": …}`, when it accepts connections.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import uvloop

from scripted import Engine, ScriptBook, ScriptError, load_book, serve


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A scripted stand-in for vLLM's HTTP interface.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--uds", type=Path, help="listen on this Unix socket")
    where.add_argument("--port", type=int, help="listen on this TCP port (0: any)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--script", type=Path, help="JSON file of scripts")
    parser.add_argument("--model", help="name of the model that is served")
    parser.add_argument("--events", type=int, help="text deltas per answer")
    parser.add_argument("--payload-bytes", type=int, help="characters per delta")
    parser.add_argument("--interval-ms", type=float, help="pause between events")
    parser.add_argument("--first-ms", type=float, help="pause before the first event")
    parser.add_argument("--inspect", action="store_true", help="keep requests in memory and serve /_scripted")
    return parser.parse_args(argv)


def book(options: argparse.Namespace) -> ScriptBook:
    """The file's book with the command line's changes to its default script."""
    loaded = load_book(options.script) if options.script else ScriptBook()
    given = {name: getattr(options, name) for name in ("events", "payload_bytes", "interval_ms", "first_ms")}
    default = replace(loaded.default, **{name: value for name, value in given.items() if value is not None})
    return replace(loaded, default=default, model=options.model or loaded.model)


async def main(options: argparse.Namespace) -> None:
    engine = Engine(book(options), inspect=options.inspect)
    server = await serve(engine, uds=options.uds, host=options.host, port=options.port or 0)
    address = str(options.uds) if options.uds else server.sockets[0].getsockname()[:2]
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    print(json.dumps({"listening": address}), flush=True)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    try:
        uvloop.run(main(arguments()))
    except ScriptError as problem:
        sys.exit(f"scripted_engine: {problem}")
