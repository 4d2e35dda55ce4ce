"""`rlu selftest`: verify what a self-test reported. `rlu_server.cli.selftest` adds the tests themselves."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation import bundle as bundles
from rlu_attestation import canary, jose
from rlu_attestation.cli.canary_summary import EXIT_CODES, summary
from rlu_attestation.cli.output import print_json
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Untrusted
from rlu_attestation.files import read
from rlu_attestation.instance import InstanceClaims

MAX_BUNDLE = 16 << 20

app = typer.Typer(
    name="selftest", help="Test what this node promises.", no_args_is_help=True, add_completion=False
)


@app.callback()
def _root() -> None:
    pass


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(metavar="REPORT", help="A signed report.", show_default=False)],
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            help="A bundle of the instance: its statement must name this very report. Judge the bundle itself with rlu verify.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")] = False,
) -> None:
    """Verify the report of a canary test: its form, its signature, its result, and which instance took it over.

    Exit codes: 0 clean, 10 a leak was found or the report is not to be believed, 11 clean but incomplete, 30 malformed.
    """
    text = read(file, canary.MAX_REPORT + 1).decode("ascii", "replace").strip()
    report = canary.verify(text)
    if bundle is not None:
        statement = jose.jws_parse(bundles.parse(read(bundle, MAX_BUNDLE)).statement)
        claims = InstanceClaims.parse(statement.payload)
        jose.verify_es256(jose.public_key(claims.jwk), statement.signing_input, statement.signature)
        if claims.canary is None or claims.canary.digest != canary.digest(text):
            raise Untrusted(
                "canary.not_named", "the instance statement of this bundle does not name this report"
            )
    found = report.findings
    if as_json:
        value = {
            **found.to_json(),
            "iss": report.issuer,
            "iat": report.issued_at,
            "digest": b64u(canary.digest(text)),
        }
        print_json({"result": found.result, "exit_code": EXIT_CODES[found.result], "report": value})
    else:
        print(f"{found.result}: taken over by {report.issuer} at {report.issued_at}")
        for line in summary(found):
            print(f"  {line}")
    raise typer.Exit(EXIT_CODES[found.result])


def _join() -> None:
    """The tests themselves, where the server's part of the package is installed."""
    try:
        module = importlib.import_module("rlu_server.cli.selftest")
    except ModuleNotFoundError:
        return
    module.join(app)


_join()
