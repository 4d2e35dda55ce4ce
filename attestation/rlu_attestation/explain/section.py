"""What an explanation is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from rlu_attestation.errors import RluError


class Row(NamedTuple):
    """A field: its name in the specification, its value, and what it means."""

    name: str
    value: str
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Something with fields, and parts that have fields of their own."""

    title: str
    rows: tuple[Row, ...] = ()
    parts: tuple[Section, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "fields": [row._asdict() for row in self.rows],
            "parts": [part.to_json() for part in self.parts],
        }


def broken(title: str, error: RluError) -> Section:
    """Stands for a part that could not be read."""
    return Section(title, (Row("unreadable", error.code, error.message),))
