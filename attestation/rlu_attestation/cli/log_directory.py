"""The attestor's log directory, for `rlu log audit DIR`: the log in use, those of earlier instances, and that they follow each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

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
    named = {path: _issuer(path) for path in (active, *former)}
    of_state = next(
        (p for p, issuer in named.items() if state is not None and issuer == state.issuer), active
    )
    findings: list[Finding] = []
    summaries: list[Summary] = []
    for path, issuer in named.items():
        leaves = directory / (issuer.rpartition(":")[2] or "none")
        report = check(_segments(path, leaves), _sealed(leaves), state if path == of_state else None)
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


def _issuer(path: Path) -> str:
    """What the first line calls the instance; empty if that cannot be the name of a directory."""
    try:
        with path.open("rb") as file:
            name = json.loads(file.readline(MAX_LINE))["iss"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if not isinstance(name, str) or not name.replace(":", "").replace("-", "").replace("_", "").isalnum():
        return ""
    return name
