"""`rlu clients`: the exact configuration of an agent or SDK for a server, printed or written."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace as replace_fields
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from rlu_attestation.cli.output import print_json
from rlu_attestation.clients import CLIENTS, Client, Kind, Server, Setup, codex
from rlu_attestation.clients.errors import Unusable
from rlu_attestation.clients.roles import Effort
from rlu_attestation.clients.served import models
from rlu_attestation.clients.setup import check_url, check_variable, root_of
from rlu_attestation.clients.writing import plan, write

Name = Literal["codex", "claude", "opencode", "python", "javascript", "agents"]

app = typer.Typer(add_completion=False)


@app.command("clients")
def command(
    client: Annotated[
        Name, typer.Argument(help="The agent or SDK; `agents` is OpenAI's Agents SDK.", show_default=False)
    ],
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="The server, or what `rlu connect` serves.", show_default=False),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", help="Model to ask for; default: the server is asked.", show_default=False),
    ] = None,
    small_model: Annotated[
        str | None,
        typer.Option("--small-model", help="Model for quick tasks; default: the same.", show_default=False),
    ] = None,
    context_window: Annotated[
        int | None,
        typer.Option("--context-window", help="Tokens that the model takes.", min=1024, show_default=False),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option("--ca-file", help="Certificate to trust (PEM): the server's own.", show_default=False),
    ] = None,
    key_variable: Annotated[
        str, typer.Option("--key-variable", help="Variable that holds the API key. Files never do.")
    ] = "RLU_API_KEY",
    highest_effort: Annotated[
        Effort, typer.Option("--highest-effort", help="The most reasoning that the model takes (codex).")
    ] = "high",
    roles: Annotated[bool, typer.Option("--roles/--no-roles", help="Agent roles (codex).")] = True,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory", help="Where the files belong; default: the client's own.", show_default=False
        ),
    ] = None,
    writes: Annotated[bool, typer.Option("--write", help="Write the files, after asking.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write new files without asking.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="With --yes: replace files too. A backup is always kept.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Set up Codex, Claude Code, opencode or an SDK for a server.

    Prints each file, the variables to export and the command to run; --write writes the files. They lie beside the client's own
    configuration, which stays as it is.

    Exit codes: 0, 2 usage or not agreed to, 3 the server does not answer, 30 its answer is malformed.
    """
    kind = CLIENTS[client]
    root = root_of(url)
    check_url(root)
    check_variable(key_variable)
    trusted = None if ca_file is None else ca_file.absolute()
    if trusted is not None and not trusted.is_file():
        raise Unusable("clients.ca_file", f"--ca-file {trusted} does not exist")
    large, small = (model, model) if model else _asked(kind, root, key_variable, trusted)
    server = Server(root, key_variable, large, small_model or small, trusted, context_window)
    make: Client = kind.setup
    if client == "codex":
        make = partial(codex.setup, highest=highest_effort, roles=roles)
    setup = make(server)
    if client == "codex" and directory is not None:
        # The one client that finds its profile by itself.
        setup = replace_fields(setup, environment={"CODEX_HOME": "{directory}", **setup.environment})
    place = Path(directory or kind.directory(os.environ, Path.home(), Path.cwd())).absolute()
    told = [] if not writes else _write(place, setup, yes=yes, replace=replace)
    if as_json:
        print_json(_as_json(place, setup, key_variable, told))
    else:
        _print(place, setup, key_variable, told if writes else None)


def _asked(kind: Kind, url: str, key_variable: str, ca_file: Path | None) -> tuple[str, str]:
    key = os.environ.get(key_variable, "")
    if not key or not key.isascii() or not key.isprintable():
        raise Unusable(
            "clients.key", f"{key_variable} holds no API key to ask the server with; set it, or give --model"
        )
    return kind.models(models(url, key, ca_file))


def _write(place: Path, setup: Setup, *, yes: bool, replace: bool) -> list[str]:
    """What was done, a line each."""
    planned = plan(place, setup.files)
    asked = [one for one in planned if not yes or (one.replaces and not replace)]
    if asked:
        for one in planned:
            what = "replace, keeping a backup:" if one.replaces else "write:"
            print(f"{what} {one.path}", file=sys.stderr)
        if not sys.stdin.isatty() or not typer.confirm("Go on?", err=True):
            raise Unusable(
                "clients.consent",
                "nothing was written; answer yes, or give --yes (and --replace for files that are there)",
            )
    kept = write(planned)
    lines = [f"wrote {one.path}" for one in planned] or ["everything was there already"]
    return lines + [f"kept {path}" for path in kept]


def _filled(place: Path, text: str) -> str:
    return text.replace("{directory}", str(place))


def _as_json(place: Path, setup: Setup, key_variable: str, told: list[str]) -> dict[str, object]:
    return {
        "files": [{"path": str(place / file.name), "text": file.text} for file in setup.files],
        "environment": {name: _filled(place, value) for name, value in setup.environment.items()},
        "unset": [name for name in setup.unset if name != key_variable],
        "key_variable": key_variable,
        "command": [_filled(place, word) for word in setup.command],
        "install": setup.install,
        "done": told,
    }


def _print(place: Path, setup: Setup, key_variable: str, told: list[str] | None) -> None:
    """Everything to paste; after writing, what was done instead of the files."""
    if told is None:
        for file in setup.files:
            print(f"# --- {place / file.name}\n{file.text}")
        print("# --- in a shell (to have the files written: --write)")
    else:
        print("\n".join(f"# {line}" for line in told))
    print(f"# {setup.install}")
    if not os.environ.get(key_variable):
        print(f"# export {key_variable}=...   the API key")
    for name in setup.unset:
        if name in os.environ and name != key_variable:
            print(f"unset {name}")
    for name, value in setup.environment.items():
        print(f"export {name}={shlex.quote(_filled(place, value))}")
    print(shlex.join(_filled(place, word) for word in setup.command))
