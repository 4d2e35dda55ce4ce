"""Put load on a server and report what it did: `python benchmarks/load.py unix:/run/engine.sock --stream --pid 123`.

Prints one JSON object. `generator_cpu` near 1.0 means that the generator, not the target, was the limit.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

import uvloop

from loadgen import Plan, drive, parse_target


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Closed-loop load on an OpenAI- or Anthropic-compatible server."
    )
    parser.add_argument("target", help="unix:PATH, http://host:port or https://host:port")
    parser.add_argument("--ca", type=Path, help="certificate authority to trust for https")
    parser.add_argument("--api", choices=["chat", "completions", "responses", "messages"], default="chat")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--duration-s", type=float, default=3.0)
    parser.add_argument("--settle-s", type=float, default=0.5)
    parser.add_argument("--spread-s", type=float, default=0.0, help="open the connections over this time")
    parser.add_argument(
        "--think-s", type=float, default=0.0, help="mean pause between an answer and the next request"
    )
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--script", help="name of the scripted engine's script")
    parser.add_argument("--prompt-bytes", type=int, default=64)
    parser.add_argument("--key", help="API key")
    parser.add_argument(
        "--pid", dest="pids", type=int, action="append", default=[], help="attribute its CPU time"
    )
    parser.add_argument(
        "--beside", type=int, action="append", default=[], metavar="PID", help="count it with the generator"
    )
    parser.set_defaults(extra={})
    return parser.parse_args(argv)


def main() -> None:
    options = arguments()
    given = {field.name: getattr(options, field.name) for field in fields(Plan)}
    plan = Plan(**{**given, "pids": tuple(options.pids), "beside": tuple(options.beside)})
    try:
        result = uvloop.run(drive(parse_target(options.target, options.ca), plan))
    except (OSError, ValueError) as problem:
        sys.exit(f"load: {problem}")
    print(json.dumps(result.as_json()))


if __name__ == "__main__":
    main()
