"""Settings of the gate in front of the engines: limits by tenant, and the line while an engine is busy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from rlu_server.sections import Section


class Admission(Section):
    limits_file: Path | None = None
    """TOML file of what each tenant may use (`rlu limits`), read again when it changes. None: below the state directory."""
    max_in_flight: Annotated[int, Field(ge=0)] = 0
    """Requests of one model that may be at its engines at once; 0: as many as the engines themselves say they can use."""
    engine_backlog: Annotated[int, Field(ge=0, le=4096)] = 8
    """Requests that may wait in the engines' own line, which is not fair, so that they never idle between two looks."""
    queue_size: Annotated[int, Field(ge=0, le=1 << 20)] = 1024
    """Requests of one model that may wait here; beyond that, whoever holds most of the line is refused (`queue_full`)."""
    queue_wait_s: Annotated[float, Field(gt=0)] = 30.0
    """Longest wait in line (`queue_timeout`)."""
    batch_share: Annotated[float, Field(ge=0.01, le=0.5)] = 0.1
    """Share of a busy engine that batch requests have while interactive ones wait."""
