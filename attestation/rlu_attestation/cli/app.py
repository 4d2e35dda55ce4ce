"""The one `rlu` command, and the table of its subcommands.

A subcommand is a Typer app named `app` in the module that the table names. Help and completion of names need only the table; the module is
imported when its command is called. Commands of the server are in the package `rlu_server`, which the verifier does not depend on.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from rlu_attestation.cli.output import fail
from rlu_attestation.errors import RluError

INTERNAL = 1
USAGE = 2


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is, and what the list of commands says of it. `extra` is the optional part of the package that it needs."""

    module: str
    help: str
    extra: str = ""


COMMANDS = {
    "serve": Place("rlu_server.cli.serve", "Serve a model: attestor, engine and gateway, locked.", "server"),
    "demo": Place("rlu_server.cli.demo", "Serve a demo model and prove it, start to end.", "server"),
    "verify": Place("rlu_attestation.cli.verify", "Verify a running server, a bundle, or bare evidence."),
    "connect": Place(
        "rlu_attestation.cli.connect",
        "Connect clients through a proxy that verifies every answer.",
        "connect",
    ),
    "clients": Place("rlu_attestation.cli.clients", "Set up Codex, Claude Code, opencode or an SDK."),
    "inspect": Place(
        "rlu_attestation.cli.inspect", "Explain any file of RLU's, field by field. Trusts nothing."
    ),
    "policy": Place("rlu_attestation.cli.policy", "Draft, check and sign appraisal policies."),
    "collateral": Place(
        "rlu_attestation.cli.collateral", "Fetch what vendors publish, and make bundles that verify offline."
    ),
    "log": Place("rlu_attestation.cli.log", "Follow, check, export, back up and restore a log."),
    "witness": Place("rlu_attestation.cli.witness", "Follow a log and cosign its heads."),
    "explain": Place("rlu_attestation.cli.explain", "Explain a code: why a check fails, and what to do."),
    "apikeys": Place("rlu_server.cli.apikeys", "Create, list and revoke API keys.", "server"),
    "limits": Place("rlu_server.cli.limits", "Show and check what each tenant may use.", "server"),
    "auth": Place("rlu_server.cli.auth", "Bring in what authentication needs from outside.", "server"),
    "relay": Place("rlu_server.cli.relay", "Ask outside for a serving pod that cannot.", "server"),
    "keys": Place(
        "rlu_server.cli.keys", "Create, register, rotate, retire and revoke attestation keys.", "server"
    ),
    "model": Place("rlu_server.cli.model", "Sign, verify, encrypt, inspect and compare models.", "server"),
    "update": Place(
        "rlu_server.cli.update", "Fetch, verify, apply and roll back versions of the model.", "server"
    ),
    "broker": Place(
        "rlu_server.cli.broker", "Release keys of encrypted models to attested hardware only.", "server"
    ),
    "registrar": Place("rlu_server.cli.registrar", "Endorse machines whose TPM was checked.", "server"),
    "size": Place("rlu_server.cli.size", "Find room for a model: GPUs, parallelism, throughput.", "server"),
    "preflight": Place("rlu_server.cli.preflight", "Check whether this node can serve.", "server"),
    "cluster": Place("rlu_server.cli.cluster", "Label nodes and publish collateral, in a cluster.", "server"),
    "doctor": Place("rlu_server.cli.doctor", "Find out what is wrong; explain any code.", "server"),
    "licence": Place("rlu_server.cli.licence", "Show, check, install and issue licences.", "server"),
    "telemetry": Place(
        "rlu_server.cli.telemetry", "Show what telemetry would send; send it, if opted in.", "server"
    ),
    "boundary": Place("rlu_attestation.cli.boundary", "Report what crossed the boundary; pages to print."),
    "selftest": Place("rlu_attestation.cli.selftest", "Test what this node promises; verify such reports."),
    "version": Place("rlu_attestation.cli.version", "Show the version."),
}


class MissingExtra(RluError):
    """The command is in a part of the package that is not installed."""

    exit_code = USAGE


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they are called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # What the list of commands shows; `resolve_command` gives the real ones.
        self.commands = {name: TyperCommand(name, help=place.help) for name, place in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None:
            command = load(name)
        return name, command, rest


def load(name: str) -> Any:
    """Import a command.

    Raises:
        MissingExtra: `command.missing_extra`.
    """
    place = COMMANDS[name]
    try:
        module = importlib.import_module(place.module)
    except ModuleNotFoundError as error:
        if not place.extra or not error.name:
            raise
        raise MissingExtra(
            "command.missing_extra",
            f"`rlu {name}` needs the part of the package called {place.extra!r}, which is not installed "
            f"({error.name} is missing): pip install 'rlu[{place.extra}]'",
        ) from error
    return get_command(module.app)


app = typer.Typer(
    name="rlu",
    cls=LazyGroup,
    help="Remote Locked Use: serve a model in a locked, attested deployment, and verify one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    pass


def _for_machines(arguments: Sequence[str]) -> bool:
    """Whether whoever called reads JSON, so that an error is JSON too."""
    text = f" {' '.join(arguments)} "
    forms = ("--json", "--format json", "--format=json", "--format ear", "--format=ear")
    return any(f" {form} " in text for form in forms)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with one of the exit codes of `verdict`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own = given[: given.index("--")] if "--" in given else given  # what follows is another program's
    try:
        app(given, prog_name="rlu")
    except RluError as error:
        fail(error, as_json=_for_machines(own))
        sys.exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        print("rlu: internal error; this is a bug, please report the lines above", file=sys.stderr)
        sys.exit(INTERNAL)
