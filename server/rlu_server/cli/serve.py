"""`rlu serve`: attestor, engine and gateway on this machine, supervised."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rlu_server import settings as configuration
from rlu_server.supervisor import run
from rlu_server.supervisor.alone import Role
from rlu_server.supervisor.errors import ServeError
from rlu_server.supervisor.progress import JsonLines, Steps

app = typer.Typer(add_completion=False)

USAGE = 2


@app.command("serve")
def command(
    model: Annotated[
        str, typer.Option("--model", help="Directory of the model, or its hub id (owner/name).")
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings file, see rlu.example.toml.", envvar="RLU_CONFIG"),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="Model name that clients use; default: the directory's.")
    ] = "",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "",
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 takes a free one.")] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option("--state-dir", help="Where the wrapped key, its certificates and the log are kept."),
    ] = None,
    role: Annotated[
        Role | None,
        typer.Option(
            "--role",
            help="Run only this one of the three processes, as in a container of a pod; all share runtime_dir.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line per event, also on a terminal.")
    ] = False,
) -> None:
    """Serve a model: every session signed by a hardware-bound key, nothing of it stored.

    Ends on SIGTERM or Ctrl-C after draining. Exit codes: 0 stopped, 1 internal, 2 configuration, 3 something is missing on this
    machine, 4 a process did not start, 10 a model is not signed as it must be, or its key is not released, 77 the kernel granted less of
    the lock than is required.
    """
    terminal = sys.stdout.isatty() and not as_json
    errors = Console(stderr=True)
    shown = Steps(Console()) if terminal else JsonLines()
    try:
        settings = configuration.load(config, overrides=_overrides(model, name, host, port, state_dir))
        _run(settings, shown, role)
    except configuration.SettingsError as error:
        _refused(shown, "serve.settings")
        errors.print(f"rlu serve: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(USAGE) from error
    except ServeError as error:
        _refused(shown, error.code)
        errors.print(f"rlu serve: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error


def _refused(shown: Steps | JsonLines, code: str) -> None:
    if isinstance(shown, JsonLines):
        shown.event("refused", {"code": code})


def _run(settings: configuration.Settings, shown: Steps | JsonLines, role: Role | None) -> None:
    async def meanwhile(deployment: Any, place: Any) -> None:
        gateway = deployment.settings.gateway
        if role not in (None, "gateway"):
            pass  # nothing that a client could use is here
        elif isinstance(shown, Steps):
            scheme = "http" if gateway.insecure_plain_http else "https"
            shown.say(
                f"serving [bold]{deployment.settings.model.name}[/bold] at {scheme}://{gateway.host}:{gateway.port}/v1",
                style="green",
            )
            if scheme == "https":
                shown.say(f"certificate for clients: {place.path / 'gateway' / 'gateway.crt'}")
        else:
            shown.event("serving", {"port": gateway.port})
        await run.forever(deployment, place)

    if role in (None, "engine"):
        shown.event("measuring", {})
    asyncio.run(run.serve(settings, os.environ, shown.event, meanwhile=meanwhile, role=role))


def _overrides(model: str, name: str, host: str, port: int | None, state_dir: Path | None) -> dict[str, Any]:
    """Command-line arguments as settings; only those that were given."""
    found: dict[str, Any] = {}
    if model:
        found.setdefault("model", {})["path"] = model
    if name:
        found.setdefault("model", {})["name"] = name
    if host:
        found.setdefault("gateway", {})["host"] = host
    if port is not None:
        found.setdefault("gateway", {})["port"] = port
    if state_dir is not None:
        found["state_dir"] = str(state_dir)
    return found
