"""Tables of documents, as tests hold them against what runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

OBSERVABILITY = Path(__file__).resolve().parents[2] / "docs" / "observability.md"
_ROW = re.compile(r"\| ((?:`rlu_[a-z_]+`(?:, )?)+) \| (counter|gauge|histogram) \| ([a-z, ]*) ?\| ")


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    kind: str
    labels: frozenset[str]


def families() -> list[Family]:
    """The metrics that docs/observability.md lists."""
    found = []
    for line in OBSERVABILITY.read_text("utf-8").splitlines():
        row = _ROW.match(line)
        if row is not None:
            labels = frozenset(label for label in row[3].replace(" ", "").split(",") if label)
            found += [Family(name, row[2], labels) for name in re.findall(r"`([a-z_]+)`", row[1])]
    return found
