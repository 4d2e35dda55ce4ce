"""Run the scripted engine: `python benchmarks/scripted_engine.py --uds PATH [--script FILE]`, or on TCP with `--port`, or both.

It prints one JSON line, `{"uds": …, "tcp": …}`, when it accepts connections.
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
    parser.add_argument("--uds", type=Path, help="listen on this Unix socket")
    parser.add_argument("--port", type=int, help="listen on this TCP port (0: any)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--script", type=Path, help="JSON file of scripts")
    parser.add_argument("--model", help="name of the model that is served")
    parser.add_argument("--events", type=int, help="text deltas per answer")
    parser.add_argument("--payload-bytes", type=int, help="characters per delta")
    parser.add_argument("--interval-ms", type=float, help="pause between events")
    parser.add_argument("--first-ms", type=float, help="pause before the first event")
    parser.add_argument("--inspect", action="store_true", help="keep requests in memory and serve /_scripted")
    options = parser.parse_args(argv)
    if options.uds is None and options.port is None:
        parser.error("give --uds, --port or both")
    return options


def book(options: argparse.Namespace) -> ScriptBook:
    """The file's book with the command line's changes to its default script."""
    loaded = load_book(options.script) if options.script else ScriptBook()
    given = {name: getattr(options, name) for name in ("events", "payload_bytes", "interval_ms", "first_ms")}
    default = replace(loaded.default, **{name: value for name, value in given.items() if value is not None})
    return replace(loaded, default=default, model=options.model or loaded.model)


async def main(options: argparse.Namespace) -> None:
    engine = Engine(book(options), inspect=options.inspect)
    servers: list[asyncio.Server] = []
    listening: dict[str, object] = {"uds": None, "tcp": None}
    if options.uds is not None:
        servers.append(await serve(engine, uds=options.uds))
        listening["uds"] = str(options.uds)
    if options.port is not None:
        servers.append(await serve(engine, host=options.host, port=options.port))
        listening["tcp"] = servers[-1].sockets[0].getsockname()[:2]
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    print(json.dumps(listening), flush=True)
    await stopped.wait()
    for server in servers:
        server.close()


if __name__ == "__main__":
    try:
        uvloop.run(main(arguments()))
    except ScriptError as problem:
        sys.exit(f"scripted_engine: {problem}")
