"""The `rlu` command, with an engine in vLLM's place that echoes and leaks: `python command.py serve --config ...`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rlu_attestation.cli import main
from rlu_server.engine import launch

HERE = Path(__file__).resolve().parent
STAND_IN = (HERE / "stand_in", HERE.parents[2] / "benchmarks")


def stand_in() -> None:
    """Put the stand-in where vLLM's entry module is looked for."""
    plan = launch.plan

    def planned(*arguments: Any, **named: Any) -> launch.EngineStart:
        start = plan(*arguments, **named)
        return dataclasses.replace(start, search_path=(*STAND_IN, *start.search_path))

    launch.plan = planned


if __name__ == "__main__":
    stand_in()
    main()
