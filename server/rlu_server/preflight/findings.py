"""What `rlu preflight` says: findings, each with what was found and what to do. Nothing in one names a host, a serial number or a path.

Exit codes, which no other command has: 0 nothing to do, 40 warnings, 41 errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

WARNINGS, ERRORS = 40, 41


class Severity(Enum):
    """How much a finding matters.

    `OK` is as wanted; `INFO` is worth knowing; `WARNING` serves, but less well or less safely; `ERROR` will not serve.
    """

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        id: stable, such as `kernel.landlock`.
        found: what is there, in words.
        remedy: what to do; empty where there is nothing to.
    """

    id: str
    severity: Severity
    found: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if (self.severity in (Severity.WARNING, Severity.ERROR)) != bool(self.remedy):
            raise ValueError(f"{self.id}: warnings and errors have a remedy, and only they")

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "severity": self.severity.value,
            "found": self.found,
            "remedy": self.remedy or None,
        }


def ok(id: str, found: str) -> Finding:
    return Finding(id, Severity.OK, found)


def info(id: str, found: str) -> Finding:
    return Finding(id, Severity.INFO, found)


def warning(id: str, found: str, remedy: str) -> Finding:
    return Finding(id, Severity.WARNING, found, remedy)


def error(id: str, found: str, remedy: str) -> Finding:
    return Finding(id, Severity.ERROR, found, remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """By the worst finding."""
    severities = {finding.severity for finding in findings}
    if Severity.ERROR in severities:
        return ERRORS
    return WARNINGS if Severity.WARNING in severities else 0
