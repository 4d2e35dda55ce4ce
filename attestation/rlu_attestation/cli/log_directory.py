"""The attestor's log directory, for `rlu log audit DIR`: the log in use, those of earlier instances, and that they follow each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.files import Unreadable
from rlu_attestation.log.files import MAX_LINE, Summary, check, follows
from rlu_attestation.log.finding import Finding
from rlu_attestation.log.state import State

LOG_FILE = "log.jsonl"
PIECE = 1 << 20


def audit(directory: Path, state: State | None) -> tuple[list[Finding], list[Summary]]:
    """Findings, and what the logs say that have none; the one in use comes first.

    Raises:
        Unreadable: `file.unreadable`.
    """
    try:
        return _audit(directory, state)
    except OSError as error:
        reason = error.strerror or "not readable"
        raise Unreadable("file.unreadable", f"cannot read {error.filename or directory}: {reason}") from error


def _audit(directory: Path, state: State | None) -> tuple[list[Finding], list[Summary]]:
    active = directory / LOG_FILE
    # A name with a dot in it is that of a finished segment.
    former = sorted(p for p in directory.glob("*.jsonl") if p != active and "." not in p.stem)
    begun = {path: _first(path) for path in (active, *former)}
    issuers = {path: _issuer(first) for path, first in begun.items()}
    named = [head for head in map(_predecessor, begun.values()) if head is not None]
    of_state = next(
        (p for p, issuer in issuers.items() if state is not None and issuer == state.issuer), active
    )
    findings: list[Finding] = []
    summaries: list[Summary] = []
    for path, issuer in issuers.items():
        leaves = directory / (issuer.rpartition(":")[2] or "none")
        report = check(_segments(path, leaves), _sealed(leaves), state if path == of_state else None, named)
        findings += report.findings
        if report.log is not None:
            summaries.append(report.log)
    return findings + follows(summaries), summaries


def _segments(last: Path, leaves: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    for path in (*sorted(last.parent.glob(f"{leaves.name}.[0-9]*.jsonl")), last):
        if path.is_file():
            yield path.name, _lines(path)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE + 1):
            yield line


def _sealed(leaves: Path) -> Iterator[bytes]:
    path = leaves / "leaves.bin"
    if path.is_file():
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


def _first(path: Path) -> dict[str, Any]:
    """The first line; empty if it is none."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.readline(MAX_LINE))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _predecessor(first: dict[str, Any]) -> bytes | None:
    """The head that it names of the instance before."""
    value = first.get("predecessor")
    try:
        return unb64u(value["head"]) if isinstance(value, dict) else None
    except (RluError, KeyError, TypeError):
        return None


def _issuer(first: dict[str, Any]) -> str:
    """What it calls the instance; empty if that cannot be the name of a directory."""
    name = first.get("iss")
    if not isinstance(name, str) or not name.replace(":", "").replace("-", "").replace("_", "").isalnum():
        return ""
    return name
