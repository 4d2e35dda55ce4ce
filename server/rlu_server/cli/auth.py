"""`rlu auth`: what authentication needs from outside, brought in by hand or by a schedule."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.output import fail, print_json
from rlu_attestation.errors import RluError
from rlu_server.core.auth import jwks
from rlu_server.outreach import key_sets
from rlu_server.outreach.http import BadAddress, trust

app = typer.Typer(
    name="auth",
    help="Bring in what authentication needs from outside.",
    no_args_is_help=True,
    add_completion=False,
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]


@app.callback()
def _group() -> None:
    pass


@app.command("fetch-jwks")
def fetch_jwks(
    url: Annotated[str, typer.Argument(help="The issuer's `jwks_uri`, https://…")],
    out: Annotated[Path, typer.Option("--out", help="The file that [[auth.issuers]] jwks_file names.")],
    ca: Annotated[Path | None, typer.Option(help="CA of the issuer (PEM); default: the system's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch an issuer's key set, check it, and put it in place whole. A running gateway notices the change.

    Exit codes: 0 in place, 2 the command line, 3 the issuer did not answer well (run it again), 30 the answer is not to be used. In the
    last two cases the file is as it was.
    """
    try:
        try:
            data, count = key_sets.fetch(url, trust(ca))
            changed = key_sets.put(out, data)
        except OSError as error:
            raise BadAddress("auth.file", f"cannot use {error.filename}: {error.strerror}") from error
    except RluError as error:
        fail(error, as_json=as_json)
        raise typer.Exit(error.exit_code) from error
    if as_json:
        print_json({"file": str(out), "keys": count, "changed": changed})
    else:
        print(f"{out}: {count} keys{'' if changed else ', as before'}.", file=sys.stderr)


@app.command("check-jwks")
def check_jwks(file: Annotated[Path, typer.Argument(help="A key set.")], as_json: JsonOption = False) -> None:
    """Check a key set as the gateway does."""
    try:
        try:
            count = len(jwks.parse(file.read_bytes()))
        except OSError as error:
            raise BadAddress("auth.file", f"cannot use {error.filename}: {error.strerror}") from error
    except RluError as error:
        fail(error, as_json=as_json)
        raise typer.Exit(error.exit_code) from error
    if as_json:
        print_json({"keys": count})
    else:
        print(f"{count} keys.")
