"""The `rlu` command with a scripted engine in vLLM's place, and a clock that the test moves: `python command.py serve --config ...`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from rlu_attestation.cli import main
from rlu_server.engine import launch
from rlu_server.supervisor import plan
from rlu_server.supervisor.plan import Program

HERE = Path(__file__).resolve().parent
STAND_IN = (HERE / "stand_in", HERE.parents[1] / "benchmarks")
CLOCK = "FAULTS_CLOCK"
"""Variable with the file that moves the clock of attestor and gateway; its directory holds nothing else."""


def stand_in() -> None:
    """Put the stand-in where vLLM's entry module is looked for."""
    planned = launch.plan

    def with_stand_in(*arguments: Any, **named: Any) -> launch.EngineStart:
        start = planned(*arguments, **named)
        return dataclasses.replace(start, search_path=(*STAND_IN, *start.search_path))

    launch.plan = with_stand_in


def moved(program: Program, offset: Path) -> Program:
    """The same program, under a clock that can be moved. Its lock lets it read the offset, and nothing else beside."""
    additions = program.additions
    places = {**additions.places, "readable": [*additions.places.get("readable", []), offset.parent]}
    return dataclasses.replace(
        program,
        module="rlu_faults_clock",
        arguments=(program.module, str(offset), *program.arguments),
        additions=dataclasses.replace(additions, places=places),
        search_path=(*program.search_path, HERE / "clock"),
    )


def move_clocks(offset: Path) -> None:
    """Attestor and gateway read the clock of the file."""
    for role in ("attestor", "gateway"):
        composed = getattr(plan, role)
        setattr(plan, role, lambda *given, composed=composed: moved(composed(*given), offset))


if __name__ == "__main__":
    stand_in()
    if CLOCK in os.environ:
        move_clocks(Path(os.environ[CLOCK]))
    main()
