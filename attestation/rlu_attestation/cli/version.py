"""`rlu version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from rlu_attestation.cli.output import print_json

app = typer.Typer(add_completion=False)


@app.command("version", help="Show the version.")
def show(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False) -> None:
    try:
        own = version("rlu")
    except PackageNotFoundError:
        own = "unknown"
    if as_json:
        print_json({"rlu": own, "python": platform.python_version()})
    else:
        print(f"rlu {own} (Python {platform.python_version()})")
