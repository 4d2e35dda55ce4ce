"""`rlu boundary`: reports of what crossed the boundary. `rlu_server.cli.boundary` adds the command that makes them."""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from rlu_attestation.boundary.check import Examined, check
from rlu_attestation.boundary.figures import TITLES
from rlu_attestation.boundary.report import MAX_REPORT, Report
from rlu_attestation.cli.arguments import moment
from rlu_attestation.cli.output import print_json
from rlu_attestation.errors import Untrusted
from rlu_attestation.files import Unreadable, read, write_new
from rlu_attestation.policy_signature import MAX_KEY, key_id, load_public_key
from rlu_attestation.printing import printable

PREFIX = "urn:rlu:instance:"
MAX_LINE = 8192

app = typer.Typer(
    name="boundary", help="Report what crossed the boundary.", no_args_is_help=True, add_completion=False
)

KeyOption = Annotated[
    Path, typer.Option("--report-key", help="Public key (PEM) of whoever signs reports.", show_default=False)
]
InstanceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--instance",
        metavar="UEID",
        help="An instance whose evidence you verified, as `rlu verify` names it; may be repeated.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Read:
    """A report that was read and looked at; `digest` is of its characters, `key` the thumbprint of who signed it."""

    examined: Examined
    digest: bytes
    key: bytes
    at: int


@app.callback()
def _root() -> None:
    pass


@app.command("page")
def page_command(
    file: Annotated[Path, typer.Argument(metavar="REPORT", help="A report.", show_default=False)],
    report_key: KeyOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.", show_default=False)],
    instance: InstanceOption = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="TIME", help="Verify as of this time; default: now.", show_default=False
        ),
    ] = None,
) -> None:
    """Verify a report and write it as a page to print.

    Exit codes: 0 verified, 11 verified except for what it leaves open, 10 rejected and nothing written, 30 malformed.
    """
    from rlu_attestation.boundary.page import page

    found = examine(file, report_key, instance or [], None if as_of is None else moment(as_of))
    if found.examined.false:
        point = found.examined.false[0]
        raise Untrusted(point.code, f"{point.detail}; no page was written")
    write_new(out, page(found.examined, found.digest, found.key, found.at).encode("utf-8"))
    print(f"{out}: {found.examined.result.replace('_', ' ')}")
    raise typer.Exit(found.examined.exit_code)


@app.command("recount")
def recount(
    file: Annotated[Path, typer.Argument(metavar="REPORT", help="A report.", show_default=False)],
    entries: Annotated[
        list[Path],
        typer.Argument(metavar="ENTRIES...", help="Files of `rlu log export`.", show_default=False),
    ],
    report_key: KeyOption,
    instance: InstanceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")] = False,
) -> None:
    """Verify a report, and count its tallies again from entries that were exported while they were made.

    Exit codes: 0 verified and all entries agree, 11 some are not among those given, or something else is open, 10 rejected, 30 malformed.
    """
    from rlu_attestation.boundary.recount import Recount

    counting = Recount(examine(file, report_key, instance or [], None).examined)
    for path in entries:
        try:
            with path.open("rb") as lines:
                while line := lines.readline(MAX_LINE + 1):
                    counting.take(_entry(line))
        except OSError as error:
            raise Unreadable("file.unreadable", f"cannot read {path}: {error.strerror}") from error
    found = counting.examined()
    show(found, as_json=as_json)
    raise typer.Exit(found.exit_code)


def _entry(line: bytes) -> object:
    try:
        return json.loads(line) if len(line) <= MAX_LINE else None
    except (ValueError, RecursionError):
        return None


def examine(file: Path, key_file: Path, instances: list[str], at: int | None) -> Read:
    """Read a report and look at it.

    Raises:
        RluError: it cannot be read, or its signature is not by this key.
    """
    key = load_public_key(read(key_file, MAX_KEY))
    text = read(file, MAX_REPORT).decode("ascii", "replace").removesuffix("\n")
    known = {name if name.startswith(PREFIX) else f"{PREFIX}{name}" for name in instances}
    at = int(time.time()) if at is None else at
    examined = check(Report.verify(text, [key]), known, at)
    return Read(examined, hashlib.sha256(text.encode("ascii", "replace")).digest(), key_id(key), at)


def show(examined: Examined, *, as_json: bool) -> None:
    """Print what was found: figures, what is false, what is open."""
    report = examined.report
    if as_json:
        since, until = examined.covered
        value: dict[str, Any] = {
            "result": examined.result,
            "exit_code": examined.exit_code,
            "from": report.begin,
            "to": report.end,
            "covered": {"from": since, "to": until},
            "instances": [
                {"iss": log.issuer, "tree_size": log.head.tree_size, "tallies": len(log.tallies)}
                for log in examined.logs
            ],
            "figures": [figure.to_json() for figure in report.figures],
            "false": [point.to_json() for point in examined.false],
            "open": [point.to_json() for point in examined.open],
        }
        print_json(value)
        return
    print(
        f"Boundary report, {_time(report.begin)} to {_time(report.end)}: {examined.result.replace('_', ' ')}."
    )
    for figure in report.figures:
        of = ", ".join(f"{name} {printable(value)}" for name, value in figure.of)
        title = TITLES.get(figure.name) or printable(figure.name)
        print(f"  {figure.value:>12,}  {figure.source:<8}  {title}{f' ({of})' if of else ''}")
    for heading, points in (("FALSE", examined.false), ("open", examined.open)):
        for point in points:
            print(f"  {heading}: {printable(point.detail)} [{point.code}]")


def _time(at: int) -> str:
    try:
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(at)


def _join() -> None:
    """The command that makes reports, where the server's part of the package is installed."""
    try:
        module = importlib.import_module("rlu_server.cli.boundary")
    except ModuleNotFoundError:
        return
    module.join(app)


_join()
