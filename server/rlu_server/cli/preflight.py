"""`rlu preflight`: whether this node can serve, and what to do where it cannot. Changes nothing, needs no GPU and no root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.output import fail, print_json
from rlu_attestation.errors import RluError
from rlu_attestation.printing import printable
from rlu_attestation.profiles import BUILT_IN
from rlu_server import preflight
from rlu_server.lock import rlu_lock
from rlu_server.preflight import Finding, Severity

app = typer.Typer(add_completion=False)

ROOT = Path("/")
_RESULTS = {0: "ok", 40: "warnings", 41: "errors"}
_MARKS = {Severity.OK: "ok", Severity.INFO: "info", Severity.WARNING: "WARNING", Severity.ERROR: "ERROR"}


class Unusable(RluError):
    """The command line cannot be followed."""

    exit_code = 2


@app.command("preflight")
def command(
    profile: Annotated[
        str | None, typer.Option(help=f"Hardware profile to satisfy: {', '.join(BUILT_IN)}.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="File or directory of weights: measure how fast it reads (10 s, 2 GiB at most)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Check this node: GPUs, processor, memory, kernel, TPM and TEE, storage. The answer names no host, serial number or path.

    Exit codes: 0 nothing to do, 40 warnings, 41 errors, 2 usage.
    """
    if profile is not None and profile not in BUILT_IN:
        refusal = Unusable(
            "preflight.profile", f"--profile: {profile!r} is not known; known are {', '.join(BUILT_IN)}"
        )
        fail(refusal, as_json=as_json)
        raise typer.Exit(refusal.exit_code)
    node = preflight.look(ROOT, landlock=rlu_lock.landlock_abi(), is_root=os.geteuid() == 0, weights=weights)
    found = preflight.judge(node, None if profile is None else (profile, BUILT_IN[profile]))
    code = preflight.exit_code(found)
    if as_json:
        print_json(
            {
                "result": _RESULTS[code],
                "exit_code": code,
                "profile": profile,
                "findings": [finding.to_json() for finding in found],
            }
        )
    else:
        print("\n".join(printable(line) for line in _lines(found)))
    if code:
        raise typer.Exit(code)


def _lines(found: list[Finding]) -> list[str]:
    made = []
    for finding in found:
        made.append(f"{_MARKS[finding.severity]:<8}{finding.id:<24}{finding.found}")
        if finding.remedy:
            made.append(f"{'':<8}{'':<24}→ {finding.remedy}")
    return made
