"""The settings of `[group]`: several machines that run one engine together, by vLLM's own parallelism. A part of `settings.py`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from rlu_server.sections import Section


class Group(Section):
    """One machine leads: it has gateway and attestor, and its engine listens. The others have an engine only."""

    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Machines. With more than one, what they say to each other crosses their network in the clear, and evidence is of the leader only."""
    rank: Annotated[int, Field(ge=0, le=63)] = 0
    """Which of them this is; 0 leads."""
    leader: Annotated[str, Field(max_length=253)] = ""
    """Name or address of the leader, as all of them reach it."""
    port: Annotated[int, Field(ge=1024, le=65535)] = 29500
    """Where its engine waits for the others."""

    @model_validator(mode="after")
    def _check(self) -> Group:
        if self.rank >= self.nodes:
            raise ValueError(f"rank {self.rank} of {self.nodes} nodes; ranks begin with 0")
        if self.nodes > 1 and not self.leader:
            raise ValueError("several nodes need leader, the name or address that all of them reach it by")
        return self
