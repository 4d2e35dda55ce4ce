"""`rlu log`: follow a server's log, check the attestor's files, show what is known. `rlu_server.cli.log` adds the server's own commands."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from rlu_attestation.cli import log_cosignatures, log_directory
from rlu_attestation.cli.observing import (
    Look,
    Observer,
    held_in,
    load_state,
    locked,
    save_state,
)
from rlu_attestation.cli.output import console, print_json
from rlu_attestation.cli.verify import read_api_key
from rlu_attestation.errors import Unreachable
from rlu_attestation.files import load_policy
from rlu_attestation.log.finding import FINDINGS, Finding
from rlu_attestation.log.state import State
from rlu_attestation.policy import Policy
from rlu_attestation.printing import printable
from rlu_attestation.verdict import EXIT_CODES, Result

FOUND = 10

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Follow, check, export, back up and restore a log."
)

PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", help="What is accepted of the instance (TOML).", show_default=False),
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--api-key-file", help="File with an API key; default: RLU_API_KEY.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value a look.")]
InsecureOption = Annotated[
    bool,
    typer.Option(
        "--insecure-accept-software-key", help="Go on, with a waiver, when no hardware holds the key."
    ),
]


@app.command("audit")
def audit(
    target: Annotated[
        str,
        typer.Argument(
            metavar="URL|DIR", help="A server, or the attestor's log directory.", show_default=False
        ),
    ],
    state_file: Annotated[
        Path | None,
        typer.Option("--state", help="What was seen so far; made on the first look.", show_default=False),
    ] = None,
    policy: PolicyOption = None,
    api_key_file: KeyOption = None,
    entries: Annotated[
        bool, typer.Option("--entries", help="Read every leaf hash, not only proofs about them.")
    ] = False,
    max_age: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="SECONDS", help="Oldest head accepted; default: any.", show_default=False
        ),
    ] = None,
    seen: Annotated[
        list[Path] | None,
        typer.Option(help="Bundle whose receipts must be in the log; repeatable.", show_default=False),
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(help="State of another observer; repeatable.", show_default=False),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="Look again and again, until something is found.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    insecure_accept_software_key: InsecureOption = False,
) -> None:
    """Follow a log: every head must extend the one that was seen before. Detects forks, gaps, rewritten entries, a log that stands still.

    The first look trusts what it sees of an instance that the policy accepts. Exit codes: 0 nothing found, 10 findings or a rejected
    instance, 11 nothing found and waivers, 3 unreachable, 30 malformed, 2 usage, 1 internal.
    """
    if not target.startswith(("https://", "http://")):
        if compare or seen or every is not None:
            raise typer.BadParameter("--compare, --seen and --every are for a server, not for a directory")
        raise typer.Exit(_audit_directory(Path(target), state_file, as_json))
    if state_file is None:
        raise typer.BadParameter("a server's log is followed with --state FILE")
    # Imported here: files are audited without any of the network's modules.
    from rlu_attestation.log_client import LogClient

    key = read_api_key(api_key_file)
    if key is None:
        raise typer.BadParameter("the log's routes need an API key: --api-key-file or RLU_API_KEY")
    accepted = Policy() if policy is None else load_policy(policy)
    others = [_other(path) for path in compare or ()]
    held = held_in(seen or ())
    with locked(state_file):
        while True:
            try:
                with LogClient(target, key) as client:
                    observer = Observer(client, accepted, insecure_accept_software_key, entries, max_age)
                    look = observer.look(load_state(state_file), held, others)
            except Unreachable as error:
                if every is None:
                    raise
                print(f"rlu: {printable(error.message)} [{error.code}]", file=sys.stderr)
            else:
                code = _conclude(look, state_file, as_json)
                if every is None or code not in (0, EXIT_CODES[Result.WAIVED]):
                    raise typer.Exit(code)
            time.sleep(every)


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="An auditor's or witness's state file.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show what an observer knows of a log."""
    state = _other(file)
    latest = state.latest
    value = {
        "instance": state.issuer,
        "tree_size": latest.tree_size,
        "head_time": latest.iat,
        "start_count": state.start_count,
        "reads_entries": state.frontier is not None,
        "earlier_heads": len(state.earlier),
        "past_instances": [past.issuer for past in state.past],
    }
    if as_json:
        print_json(value)
        return
    out = console()
    for name, found in value.items():
        out.print(Text(f"{name}: {printable(json.dumps(found))}"))


def _conclude(look: Look, state_file: Path, as_json: bool) -> int:
    """Keep what was learnt, tell it, and give the exit code."""
    report, verdict = look.report, look.verdict
    if report is None:
        _tell(as_json, _rejection(look), [])
        return verdict.exit_code
    if report.state is not None:
        save_state(state_file, report.state)
    code = FOUND if report.findings else verdict.exit_code
    _tell(as_json, _summary(report.state, look, code), list(report.findings))
    return code


def _summary(state: State | None, look: Look, code: int) -> dict[str, Any]:
    value: dict[str, Any] = {"exit_code": code, "at": look.at}
    if state is not None:
        latest = state.latest
        value |= {
            "instance": state.issuer,
            "tree_size": latest.tree_size,
            "head_time": latest.iat,
            "age_s": look.at - latest.iat,
            "start_count": state.start_count,
        }
    value["waivers"] = [step.code for step in look.verdict.steps if step.outcome.value == "waived"]
    return value


def _rejection(look: Look) -> dict[str, Any]:
    codes = [step.code for step in look.verdict.steps if step.outcome.value == "failed"]
    return {"exit_code": look.verdict.exit_code, "at": look.at, "instance_rejected": codes}


def _tell(as_json: bool, value: dict[str, Any], findings: list[Finding]) -> None:
    if as_json:
        print(json.dumps(value | {"findings": [finding.to_json() for finding in findings]}), flush=True)
        return
    out = console()
    for finding in findings:
        out.print(Text(f"FOUND  {finding.code}: {printable(FINDINGS[finding.code])}", "red"))
        out.print(Text(f"       {printable(finding.detail)}"))
    if "instance_rejected" in value:
        out.print(
            Text(f"REJECTED  the instance was not accepted: {', '.join(value['instance_rejected'])}", "red")
        )
    elif "tree_size" in value:
        waived = f"; waived: {', '.join(value['waivers'])}" if value.get("waivers") else ""
        word = "known" if findings else "good"
        text = (
            f"{word:<7}{value['tree_size']} entries, head {value['age_s']} s old, {value['instance']}{waived}"
        )
        out.print(Text(text, "yellow" if findings else "green"))


def _audit_directory(directory: Path, state_file: Path | None, as_json: bool) -> int:
    state = None if state_file is None else _other(state_file)
    findings, logs = log_directory.audit(directory, state)
    value: dict[str, Any] = {"exit_code": FOUND if findings else 0, "at": int(time.time()), "waivers": []}
    if logs and logs[0].head is not None:
        head = logs[0].head
        value |= {
            "instance": logs[0].issuer,
            "tree_size": head.tree_size,
            "head_time": head.iat,
            "age_s": value["at"] - head.iat,
            "read_from": logs[0].read_from,
            "earlier": [log.issuer for log in logs[1:]],
        }
    _tell(as_json, value, findings)
    return int(value["exit_code"])


def _other(path: Path) -> State:
    state = load_state(path)
    if state is None:
        raise typer.BadParameter(f"there is no {path}")
    return state


def _join() -> None:
    """The commands of the server's part of the package, where it is installed."""
    try:
        module = importlib.import_module("rlu_server.cli.log")
    except ModuleNotFoundError:
        return
    module.join(app)


app.command("cosignatures")(log_cosignatures.command)
_join()
