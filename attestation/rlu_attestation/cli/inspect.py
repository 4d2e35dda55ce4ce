"""`rlu inspect`: what a file is and what its fields mean. Nothing is verified."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text
from rich.tree import Tree

from rlu_attestation.bundle import MAX_BUNDLE
from rlu_attestation.cli.output import console, print_json
from rlu_attestation.explain import Section, explain
from rlu_attestation.files import read
from rlu_attestation.printing import printable

app = typer.Typer(add_completion=False)


@app.command("inspect")
def command(
    file: Annotated[Path, typer.Argument(help="A file, or - for standard input.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Explain a bundle, statement, JWS, signed head or receipt, evidence item, TPM structure or certificate, field by field.

    Nothing is verified: use `rlu verify` for that.
    """
    data = sys.stdin.buffer.read(MAX_BUNDLE + 1) if str(file) == "-" else read(file, MAX_BUNDLE)
    section = explain(data)
    if as_json:
        print_json(section.to_json())
        return
    tree = Tree(_title(section.title), guide_style="dim")
    _grow(tree, section)
    out = console()
    out.print(tree)
    out.print(Text("Nothing was verified."))


def _grow(tree: Tree, section: Section) -> None:
    width = max((len(row.name) for row in section.rows), default=0)
    for row in section.rows:
        line = Text.assemble((f"{printable(row.name):<{width}}  ", "cyan"), printable(row.value))
        if row.meaning:
            line.append(f"  {printable(row.meaning)}", "dim")
        tree.add(line)
    for part in section.parts:
        _grow(tree.add(_title(part.title)), part)


def _title(title: str) -> Text:
    return Text(printable(title), "bold")
