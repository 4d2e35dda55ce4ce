"""What is asked of an API server, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """Status of HTTP, and the object; empty where there is none."""

    status: int
    value: Mapping[str, Any] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        return 200 <= self.status < 300


class Server(Protocol):
    """All raise Unreachable: `relay.…`."""

    def get(self, path: str) -> Answer:
        """GET."""

    def text(self, path: str) -> bytes | None:
        """GET of what is no object, such as a log; None where there is none, or it may not be seen."""

    def create(self, path: str, body: Mapping[str, Any]) -> Answer:
        """POST. Only reviews are made, which the API server answers and does not keep."""
