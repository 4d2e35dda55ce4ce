"""The server's part of `rlu selftest`: the tests an operator runs against his own node."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlu_attestation import canary as reports
from rlu_attestation import canonical
from rlu_attestation.canary import Findings
from rlu_attestation.cli.canary_summary import EXIT_CODES, summary
from rlu_attestation.cli.output import print_json
from rlu_attestation.errors import RluError
from rlu_attestation.files import read, write_private
from rlu_attestation.printing import printable
from rlu_server import keyring, swtpm
from rlu_server.cli.egress import egress
from rlu_server.settings import Settings, SettingsError, load
from rlu_server.supervisor.errors import ServeError

if TYPE_CHECKING:
    from rlu_server.selftest.canary import Outcome

ConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
FULL_S = 3600
INTERRUPTED = 130
ASK_S = 60.0


class Misconfigured(RluError):
    """The test was asked for in a way that cannot be."""

    exit_code = 2


class Unavailable(RluError):
    """The test could not be made; says nothing of what it would have found."""

    exit_code = 3


def canary(
    config: ConfigOption = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="Go on breaking things for so long; each at least once.")
    ] = 0.0,
    full: Annotated[bool, typer.Option("--full", help=f"The same as --seconds {FULL_S}.")] = False,
    gently: Annotated[
        bool, typer.Option("--gently", help="Break nothing but the end; the report is then incomplete.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Of the schedule of faults; default: any, and it is told.", show_default=False
        ),
    ] = None,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where a disk image of 512 MiB is made meanwhile.")
    ] = Path("/var/tmp"),  # noqa: S108 - a directory of its own is made there
    usual_places: Annotated[
        bool,
        typer.Option("--usual-places", help="Do not walk every file system; the report is then incomplete."),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the disk image there, to see where a finding lies.")
    ] = False,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The findings; the signed report gets .jws.")
    ] = Path("canary-report.json"),
    as_json: JsonOption = False,
) -> None:
    """Send marked prompts through a deployment of your settings, break it, and search this machine for what is left.

    A deployment of the test's own is started: your model, engine and lock, another port, a state directory on a disk image of its own, an
    emulated TPM. The node's own server, key, TPM and log are not touched; accelerators must be free. Run it as root, so that a disk can be
    mounted and everything read. The report is signed by this node's attestor, if one is running; else later: rlu selftest sign.

    Exit codes: 0 clean, 10 a leak was found, 11 clean, but something was not done or not searched (it is named), 2 configuration, 3
    something is missing here or the deployment does not start, 1 internal.
    """
    settings = _settings(config)
    if not os.access(out.parent, os.W_OK):
        raise Misconfigured("selftest.out", f"{out} cannot be written; choose another place with --out")
    options: dict[str, Any] = {"seconds": FULL_S if full else seconds, "breaking": not gently}
    options["keep"] = keep
    options["seed"] = secrets.randbelow(1 << 31) if seed is None else seed
    outcome = _tested(settings, {**options, "base": directory, "file_systems": not usual_places}, as_json)
    found = outcome.findings
    write_private(out, canonical.encode(found.to_json()) + b"\n")
    signed, unsigned = None, ""
    try:
        signed = _signed(settings, found)
        write_private(out.with_suffix(".jws"), signed.encode("ascii") + b"\n")
    except RluError as error:
        unsigned = f"{error.message} [{error.code}]"
    code = EXIT_CODES[found.result]
    if as_json:
        print_json(
            {
                "result": found.result,
                "exit_code": code,
                "leaks": outcome.leaks,
                "not_done": outcome.undone,
                "findings": json.loads(canonical.encode(found.to_json())),
                "report": signed,
                "unsigned": unsigned,
            }
        )
        raise typer.Exit(code)
    for line in summary(found):
        print(line)
    for line in outcome.undone:
        print(f"not done or not searched: {printable(line)}")
    for line in outcome.leaks:
        print(f"LEAK {printable(line)}")
    print(f"{found.result}: the findings are in {out}")
    if signed is None:
        print(f"not signed: {printable(unsigned)}")
        print(f"When this node serves: rlu selftest sign {out}")
    else:
        print(
            f"signed by this node's attestor: {out.with_suffix('.jws')}; its statements name it from now on"
        )
    raise typer.Exit(code)


def sign(
    file: Annotated[Path, typer.Argument(metavar="FINDINGS", help="What `rlu selftest canary` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The signed report; default: with .jws.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have this node's attestor take over the findings of a canary test. It composes and signs the report itself.

    Findings of another model, engine or version, or from more than a week ago, are refused.
    """
    data = read(file, reports.MAX_REPORT)
    found = Findings.read(canonical.decode(data.strip(), reports.MAX_REPORT))
    signed = _signed(_settings(config), found)
    target = out or file.with_suffix(".jws")
    write_private(target, signed.encode("ascii") + b"\n")
    if as_json:
        print_json({"report": signed, "file": str(target), "result": found.result})
    else:
        print(f"{target} is signed; this instance's statements name it from now on.")


def join(app: typer.Typer) -> None:
    """Add the commands to `rlu selftest`."""
    for command in (canary, egress, sign):
        app.command(command.__name__)(command)


def _tested(settings: Settings, options: dict[str, Any], quiet: bool) -> Outcome:
    from rlu_server.selftest.canary import CanaryTest, Options
    from rlu_server.selftest.node import NodeError

    began = time.monotonic()

    def say(text: str) -> None:
        if not quiet:
            print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    try:
        return CanaryTest(settings, Options(**options), say).run()
    except asyncio.CancelledError as error:
        raise typer.Exit(INTERRUPTED) from error
    except ServeError as error:
        kind = Misconfigured if error.exit_code == Misconfigured.exit_code else Unavailable
        raise kind(error.code, str(error)) from error
    except NodeError as error:
        raise Unavailable("selftest.deployment", str(error)) from error
    except swtpm.SwtpmError as error:
        raise Unavailable("selftest.tpm", str(error)) from error
    except OSError as error:
        raise Unavailable(
            "selftest.machine", f"{error.filename or options['base']}: {error.strerror}"
        ) from error


def _signed(settings: Settings, found: Findings) -> str:
    outcome = keyring.ask(settings, "canary", ASK_S, canonical.encode(found.to_json()).decode())
    return outcome.report or ""


def _settings(config: Path | None) -> Settings:
    try:
        return load(config)
    except SettingsError as error:
        raise Misconfigured("selftest.settings", str(error)) from error
