"""`rlu registrar`: endorse machines whose TPM was checked.

    rlu registrar init DIR                                   once, where the registrar lives
    python -m rlu_server.attestor request -o REQUEST         on the machine
    rlu registrar challenge REQUEST -o CHALLENGE …           at the registrar
    python -m rlu_server.attestor activate CHALLENGE -o RESPONSE
    rlu registrar issue RESPONSE -o ENROLMENT --region … --boundary … --site …
    python -m rlu_server.attestor import ENROLMENT

Every step is a file that can be carried by hand, so none of it needs a network.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation import x509
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_server.attestor.tpm import documents
from rlu_server.attestor.tpm.documents import EnrolmentRequest, EnrolmentResponse
from rlu_server.registrar import authority, enrolling

app = typer.Typer(
    name="registrar",
    help="Endorse machines whose TPM was checked.",
    no_args_is_help=True,
    add_completion=False,
)

DirectoryOption = Annotated[
    Path,
    typer.Option("--registrar", envvar="RLU_REGISTRAR_DIR", help="The registrar's directory."),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="The file to write.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
DEFAULT_DIRECTORY = Path("registrar")


@app.command("init")
def init(
    directory: Annotated[Path, typer.Argument(help="A directory that only the registrar can read.")],
    name: Annotated[str, typer.Option(help="Common name of its certificate.")] = "rlu registrar",
    as_json: JsonOption = False,
) -> None:
    """Make a registrar: its key, and the certificate that policies name."""
    with _reported(as_json):
        made = authority.create(directory, name, datetime.now(timezone.utc), secrets.randbits(120) | 1)
    path = authority.certificate_path(directory)
    fingerprint = b64u(x509.parse(made.certificate).fingerprint)
    _tell(
        as_json,
        {"certificate": str(path), "sha256": fingerprint},
        f"Registrar made. Name {path} in policies; keep {directory} to yourself: whoever has it can endorse any machine.",
    )


@app.command("challenge")
def challenge(
    request: Annotated[Path, typer.Argument(help="The machine's enrolment request.")],
    out: OutOption,
    ek_root: Annotated[
        list[Path],
        typer.Option("--ek-root", help="Root certificate of a TPM vendor (PEM or DER); repeatable."),
    ],
    ek_intermediate: Annotated[
        list[Path] | None,
        typer.Option("--ek-intermediate", help="Intermediate that the request lacks; repeatable."),
    ] = None,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    days: Annotated[int, typer.Option(min=1, max=90, help="How long an answer is accepted.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Check a request against the vendors' roots and make its challenge."""
    with _reported(as_json):
        registrar = authority.load(directory)
        parsed = documents.parse(_read(request), EnrolmentRequest)
        further = [b64u(c.raw) for path in ek_intermediate or [] for c in x509.parse_many(_read(path))]
        parsed = EnrolmentRequest(
            ak_public=parsed.ak_public,
            ek_certificate=parsed.ek_certificate,
            ek_chain=[*parsed.ek_chain, *further],
        )
        roots = [c for path in ek_root for c in x509.parse_many(_read(path))]
        made = enrolling.challenge(
            registrar, parsed, roots, datetime.now(timezone.utc), secrets.token_bytes, days * 86400
        )
        _write(out, documents.encode(made))
    _tell(
        as_json,
        {"challenge": made.id, "expires": made.expires, "file": str(out)},
        f"The EK certificate is genuine. Carry {out} to the machine; its answer is accepted for {days} days.",
    )


@app.command("issue")
def issue(
    response: Annotated[Path, typer.Argument(help="The machine's answer to the challenge.")],
    out: OutOption,
    region: Annotated[str, typer.Option(help="Region to endorse, as policies name it.")],
    boundary: Annotated[str, typer.Option(help="Boundary to endorse.")],
    site: Annotated[str, typer.Option(help="Site to endorse.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    valid_days: Annotated[int, typer.Option(min=1, max=3650, help="Validity of the certificate.")] = 825,
    as_json: JsonOption = False,
) -> None:
    """Check the answer and issue the AK certificate, endorsing where the machine stands."""
    with _reported(as_json):
        registrar = authority.load(directory)
        parsed = documents.parse(_read(response), EnrolmentResponse)
        place = enrolling.Place(region, boundary, site)
        issued = enrolling.issue(
            registrar, parsed, place, datetime.now(timezone.utc), secrets.token_bytes, valid_days
        )
        _write(out, documents.encode(issued))
    _tell(
        as_json,
        {"ak_name": parsed.ak_name, "file": str(out), "valid_days": valid_days},
        f"Issued for {region}, {boundary}, {site}. Carry {out} to the machine and import it there.",
    )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(documents.MAX_DOCUMENT + 1)


def _write(path: Path, data: bytes) -> None:
    # Never over an older one: a challenge or certificate that was carried away must stay what it was.
    with path.open("xb") as file:
        file.write(data)


def _tell(as_json: bool, value: dict[str, str | int], sentence: str) -> None:
    print(json.dumps(value) if as_json else sentence)


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    """Turn what can go wrong into one line and the exit code of its cause."""
    try:
        yield
    except RluError as error:
        raise _fail(error.code, error.message, error.exit_code, as_json) from error
    except OSError as error:
        message = f"cannot use {error.filename or 'a file'}: {error.strerror}"
        raise _fail("registrar.file", message, 2, as_json) from error


def _fail(code: str, message: str, exit_code: int, as_json: bool) -> typer.Exit:
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message}}))
    else:
        print(f"rlu registrar: {message} ({code})", file=sys.stderr)
    return typer.Exit(exit_code)
