"""A verdict for people: a tree of steps, the claims with their sources, and in plain words what it does not prove.

Everything shown may come from a hostile server, so whatever a terminal could obey is replaced before it is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from rlu_attestation.printing import printable
from rlu_attestation.verdict import Outcome, Result, Source, Step, Verdict

_MARKS = {
    Outcome.PASSED: ("✓", "green"),
    Outcome.FAILED: ("✗", "bold red"),
    Outcome.WAIVED: ("waived", "bold yellow"),
    Outcome.NOT_APPLICABLE: ("–", "dim"),
}
_HEADLINES = {
    Result.VERIFIED: ("VERIFIED", "bold green"),
    Result.WAIVED: ("VERIFIED EXCEPT FOR WAIVERS", "bold yellow"),
    Result.REJECTED: ("REJECTED", "bold red"),
    Result.UNSUPPORTED: ("UNSUPPORTED", "bold red"),
    Result.MALFORMED: ("MALFORMED", "bold red"),
}
_BRANCHES = (
    ("Instance statement", ("statement", "evidence", "key.hardware")),
    (
        "Hardware",
        ("ek", "ak", "key", "quote", "gcp-vtpm", "azure-vtpm", "sev-snp", "tdx", "nitro", "nitrotpm"),
    ),
    ("GPUs", ("gpu", "nvidia")),
    ("Place and channel", ("endorsement", "channel")),
    ("Session", ("session",)),
    ("Receipts", ("receipt",)),
    ("Close", ("close",)),
    ("Log", ("log",)),
    ("Policy", ("policy",)),
)
_SOURCES = {
    Source.HARDWARE: "green",
    Source.MEASURED: "green",
    Source.ENDORSED: "cyan",
    Source.ASSERTED: "yellow",
}


def show(verdict: Verdict, console: Console, subject: str, further: Iterable[str] = ()) -> None:
    """Print a verdict; `further` are notes of the caller's."""
    headline, style = _HEADLINES[verdict.result]
    title = Text.assemble((headline, style), "  ", printable(subject), (f"  exit {verdict.exit_code}", "dim"))
    tree = Tree(title, guide_style="dim")
    for name, steps in _grouped(verdict.steps):
        branch = tree.add(Text(name, "bold"))
        for subject_name, own in _by_subject(steps):
            place = branch.add(Text(subject_name)) if subject_name else branch
            for step in own:
                place.add(_line(step))
    console.print(tree)
    if verdict.claims and console.is_terminal:
        console.print(_claims(verdict))
    else:  # in a file or a pipe a table would pad every row to its longest value
        for claim in verdict.claims:
            console.print(Text(f"{claim.name:<17} {claim.source.value:<9} {printable(claim.value)}"))
    for note in (*further, *notes(verdict)):
        console.print(Text(f"• {printable(note)}"))


def notes(verdict: Verdict) -> Iterator[str]:
    """What the reader must know and could overlook."""
    yield f"Covers: {', '.join(verdict.covers)}. Checked as of {_moment(verdict.at)}; time: {_time(verdict)}."
    if verdict.freshness == "asserted":
        yield "Freshness: the nonce came with the bundle, so it proves freshness only to whoever made the bundle."
    if verdict.freshness == "none" and verdict.covers == ("evidence",):
        yield "Freshness: nobody said what this evidence should be about, so it may be old, or another machine's: pass --report-data."
    elif verdict.covers == ("evidence",):
        yield "Freshness: the evidence is as fresh as the data that you expect in it. If others chose that, it may be old."
    elif verdict.freshness == "none":
        yield "Freshness: no nonce, so this could be replayed within the statement's time."
    if not verdict.policy:
        yield "No policy was given, and without one nothing is accepted: pass --policy."
    if verdict.emulated:
        yield "The TPM is an emulator: this proves the mechanism, not the machine. Whoever runs the emulator can copy its keys."
    asserted = [claim.name for claim in verdict.claims if claim.source is Source.ASSERTED]
    if asserted:
        yield f"Asserted, that is: only the server says so, signed with its key: {', '.join(asserted)}."
    if "receipts" in verdict.covers:
        yield "A receipt proves what the gateway reports it relayed, not that the engine produced it."
    for step in verdict.failures:
        if step.code.endswith(".not_checked"):
            continue
        yield f"{step.code}: {step.detail} (rlu explain {step.code})"


def _time(verdict: Verdict) -> str:
    found = verdict.witnessed
    if found is None:
        return "asserted (no witness or time stamp proves it)"
    names = ", ".join(sighting.witness for sighting in found.sightings)
    return (
        f"witnessed (session, receipts and close here were in the log by {_moment(found.by)}, as seen by {names}; how much earlier they "
        "were made is the server's word, and the instance statement is no entry of the log)"
    )


def _moment(time: int) -> str:
    return datetime.fromtimestamp(time, timezone.utc).isoformat().replace("+00:00", "Z")


def _grouped(steps: Iterable[Step]) -> Iterator[tuple[str, list[Step]]]:
    branches: dict[str, list[Step]] = {name: [] for name, _ in _BRANCHES}
    for step in steps:
        branches[_branch(step.id)].append(step)
    yield from ((name, own) for name, own in branches.items() if own)


def _branch(step: str) -> str:
    """The branch whose prefix fits first."""
    return next(
        name for name, prefixes in _BRANCHES for p in prefixes if step == p or step.startswith(p + ".")
    )


def _by_subject(steps: Iterable[Step]) -> Iterator[tuple[str, list[Step]]]:
    subjects: dict[str, list[Step]] = {}
    for step in steps:
        subjects.setdefault(step.subject, []).append(step)
    yield from subjects.items()


def _line(step: Step) -> Text:
    mark, style = _MARKS[step.outcome]
    line = Text.assemble((mark, style), " ", step.title)
    if step.outcome is Outcome.PASSED:
        line.append(f": {step.proves}", "dim")
        if step.detail:
            line.append(f" ({printable(step.detail)})", "dim")
    else:
        if step.code:
            line.append(f"  {step.code}", style)
        if step.detail:
            line.append(f"  {printable(step.detail)}")
    return line


def _claims(verdict: Verdict) -> Table:
    table = Table(title="Claims", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("claim", "source", "value"):
        table.add_column(column, header_style="dim", overflow="fold")
    for claim in verdict.claims:
        source = Text(claim.source.value, _SOURCES[claim.source])
        table.add_row(claim.name, source, Text(printable(claim.value)))
    return table
