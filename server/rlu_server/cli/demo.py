"""`rlu demo`: a locked, attested deployment of a demo model on this machine, from nothing to a verified answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rlu_server import settings as configuration
from rlu_server.supervisor.demo import run
from rlu_server.supervisor.errors import ServeError

app = typer.Typer(add_completion=False)

USAGE = 2


@app.command("demo")
def command(
    once: Annotated[
        bool, typer.Option("--once", help="Do everything, then stop instead of serving on.")
    ] = False,
    directory: Annotated[Path, typer.Option("--dir", help="Where the demo keeps its things.")] = Path(
        ".demo"
    ),
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port of the gateway; 0 takes a free one.", show_default="8443"),
    ] = None,
) -> None:
    """Serve a demo model behind an emulated TPM, ask it something, and verify the server from outside.

    Exit codes: 0 done, 10 the verifier rejects, otherwise as `rlu serve`.
    """
    errors = Console(stderr=True)
    try:
        code = run.demo(directory, once=once, port=port, console=Console(), variables=os.environ)
    except configuration.SettingsError as error:
        errors.print(f"rlu demo: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(USAGE) from error
    except ServeError as error:
        errors.print(f"rlu demo: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    raise typer.Exit(code)
