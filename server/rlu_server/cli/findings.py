"""How `rlu preflight` and `rlu doctor` print findings, and with which exit code they end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rlu_attestation.printing import printable
from rlu_server.preflight import Finding, Severity

RESULTS = {0: "ok", 40: "warnings", 41: "errors"}
_MARKS = {Severity.OK: "ok", Severity.INFO: "info", Severity.WARNING: "WARNING", Severity.ERROR: "ERROR"}
_WIDTH = 28


def lines(found: Iterable[Finding]) -> Iterator[str]:
    """A line for each, and one for its remedy."""
    for finding in found:
        yield printable(f"{_MARKS[finding.severity]:<8}{finding.id:<{_WIDTH}}{finding.found}")
        if finding.remedy:
            yield printable(f"{'':<8}{'':<{_WIDTH}}→ {finding.remedy}")
