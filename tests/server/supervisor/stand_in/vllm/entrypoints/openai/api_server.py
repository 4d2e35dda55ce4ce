"""Stands in for vLLM's entry module: the scripted engine of the benchmarks, started with vLLM's arguments.

It also prints, as a careless engine would, what must not get out.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from dataclasses import replace

from scripted import Engine, ScriptBook, serve
from scripted.script import Script, Turn

ANSWER = "This is what the stand-in always says."


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uds", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name", required=True)
    options, _ = parser.parse_known_args()
    if os.environ.get("OMP_NUM_THREADS") == "13":  # how a test asks for a failing start
        print("RuntimeError: this model cannot be loaded", file=sys.stderr)
        sys.exit(9)
    print("SECRET-IN-ENGINE-OUTPUT", flush=True)
    if os.environ.get("OMP_NUM_THREADS") == "14":  # how a test asks for a start without end
        await asyncio.Event().wait()
    # How a test asks for an engine that answers otherwise than it did.
    # An empty signature is the sign: the only file that may come and go without making it another model.
    sign = os.path.join(options.model, "model.sig")
    answer = "Garbage." if os.path.exists(sign) and os.path.getsize(sign) == 0 else ANSWER
    book = replace(ScriptBook(), default=Script(turns=(Turn(text=answer),)), model=options.served_model_name)
    server = await serve(Engine(book), uds=options.uds)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
