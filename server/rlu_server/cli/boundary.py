"""`rlu boundary report`: make a report from the state directory, and sign it.

rlu policy keygen -o report.pem                                     the key of whoever answers for reports, once
rlu boundary report --from 2026-11-01 --to 2026-12-01 --key report.pem -o november.jws --page november.html
rlu verify november.jws --report-key report.pub.pem --instance UEID
"""

from __future__ import annotations

import hashlib
import time
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.boundary.check import check
from rlu_attestation.boundary.page import page
from rlu_attestation.cli.arguments import moment
from rlu_attestation.cli.boundary import show
from rlu_attestation.files import read, write_new
from rlu_attestation.policy_signature import MAX_KEY, key_id, load_private_key
from rlu_server.boundary import egress
from rlu_server.boundary.kept import Unusable
from rlu_server.boundary.making import make
from rlu_server.outreach.letters import JOURNAL
from rlu_server.settings import SettingsError, load


def report(
    begin: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="Beginning: a day (UTC), ISO 8601, or seconds.", show_default=False
        ),
    ],
    end: Annotated[
        str, typer.Option("--to", metavar="TIME", help="End, not part of it.", show_default=False)
    ],
    key: Annotated[
        Path, typer.Option("--key", help="Private key (PEM) that signs reports.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The report to write.", show_default=False)],
    page_file: Annotated[
        Path | None, typer.Option("--page", help="Write it as a page to print too.", show_default=False)
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", help="Default: that of the settings.", show_default=False)
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--egress", help="Journal of what left; default: egress.jsonl there.", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")] = False,
) -> None:
    """Report what crossed the boundary in a period: sessions, keys, re-attestations, refusals, policies, egress, canary tests.

    Reads files of the state directory; nothing is asked of a running server, and nothing is signed by an instance key. A server that runs
    counts its log every hour, so a report is complete when an hour has passed since the period's end.

    Exit codes: 0 complete, 11 something is left open, 10 the log does not show what it must, 2 a file is missing.
    """
    begins, ends, now = _moment(begin), _moment(end), int(time.time())
    if not begins < ends:
        raise typer.BadParameter("--to must be after --from")
    state = _state(config) if state_dir is None else state_dir
    signer = load_private_key(read(key, MAX_KEY))
    left = egress.figures(state / JOURNAL if journal is None else journal, begins, ends)
    made = make(state / "log", begins, ends, now, left)
    text = made.report.sign(signer)
    write_new(out, text.encode("ascii") + b"\n")
    if page_file is not None:
        # As whoever reads the file sees it: this machine cannot vouch for its own keys.
        seen = check(made.report, (), now)
        digest = hashlib.sha256(text.encode("ascii")).digest()
        write_new(page_file, page(seen, digest, key_id(signer.public_key()), now).encode("utf-8"))
    show(made, as_json=as_json)
    raise typer.Exit(made.exit_code)


def _moment(text: str) -> int:
    try:
        day = date.fromisoformat(text) if len(text) == len("2026-12-01") and "-" in text else None
    except ValueError as error:
        raise typer.BadParameter(f"{text} is no day") from error
    if day is None:
        return moment(text)
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())


def _state(config: Path | None) -> Path:
    try:
        return load(config).state_dir
    except SettingsError as error:
        raise Unusable("boundary.settings", str(error)) from error


def join(app: typer.Typer) -> None:
    """Add it to `rlu boundary`."""
    app.command("report")(report)
