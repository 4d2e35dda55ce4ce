"""Boundary reports (FORMATS section 18), field by field. Neither signature nor figures are looked at."""

from __future__ import annotations

from rlu_attestation import cose
from rlu_attestation.boundary.figures import TITLES
from rlu_attestation.boundary.report import Figure, InstanceLog, Report
from rlu_attestation.errors import RluError
from rlu_attestation.explain.section import Row, Section, broken


def explain_boundary(text: str) -> Section:
    """A report. Raises Malformed."""
    report = Report.peek(text)
    rows = (
        Row("from, to", f"{report.begin}, {report.end}", "the period, in seconds since the epoch"),
        Row("iat", str(report.issued_at), "when it was made"),
        Row("instances", str(len(report.instances)), "keys, oldest first, each with its log's tallies"),
    )
    logs = tuple(_log(one) for one in report.instances)
    figures = Section("Figures", tuple(_figure(figure) for figure in report.figures))
    return Section("Boundary report: verify it with rlu verify --report-key", rows, (figures, *logs))


def _figure(figure: Figure) -> Row:
    of = ", ".join(f"{name} {value}" for name, value in figure.of)
    title = TITLES.get(figure.name, "not a figure that is known")
    return Row(f"{figure.name}{f' ({of})' if of else ''}", str(figure.value), f"{figure.source}: {title}")


def _log(instance: InstanceLog) -> Section:
    try:
        head = cose.parse_head(instance.head)
    except RluError as error:
        return broken("Instance", error)
    rows = (
        Row("head", f"{head.tree_size} entries, signed at {head.iat}", "everything here is under it"),
        Row("tallies", str(len(instance.tallies)), "each with its path to that head"),
    )
    return Section(head.issuer, rows)
