"""`rlu verify`: a verdict on a running server, on a bundle, or on bare evidence as the hardware gave it.

Files are verified offline. A server is asked for a fresh attestation first; only when that is accepted is the API key, if there is one,
used to open a session, send the probe, and verify what comes back.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from rlu_attestation.cli import arguments
from rlu_attestation.cli.asked import Asked
from rlu_attestation.cli.policies import Choice
from rlu_attestation.cli.report import Format, report
from rlu_attestation.files import read, write_private

MAX_KEY_FILE = 4096
MAX_REPORT_DATA = 64

app = typer.Typer(add_completion=False)


@app.command("verify")
def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="URL|FILE",
            help="A server, a bundle, or evidence as the hardware gave it.",
            show_default=False,
        ),
    ],
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", help="What is accepted (TOML). Without a policy nothing is.", show_default=False
        ),
    ] = None,
    policy_sha256: Annotated[
        str | None,
        typer.Option(
            "--policy-sha256",
            metavar="HEX",
            help="Refuse another policy than the one with this digest.",
            show_default=False,
        ),
    ] = None,
    policy_key: Annotated[
        Path | None,
        typer.Option(
            "--policy-key",
            help="Refuse a policy that this key (PEM) did not sign (POLICY.sig).",
            show_default=False,
        ),
    ] = None,
    bundled_policy: Annotated[
        str | None,
        typer.Option(
            "--bundled-policy",
            metavar="HEX",
            help="Use the policy inside the bundle, if this is its SHA-256 digest.",
            show_default=False,
        ),
    ] = None,
    roots: Annotated[
        Path | None,
        typer.Option(
            "--roots",
            help="Directory of further roots: KIND.pem, or KIND/*.pem; kinds as in the policy, and tpm, registrar.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="FILE is bare evidence: sev-snp, tdx, nitro, nitrotpm, nvidia, tpm2, gcp-vtpm or azure-vtpm.",
            show_default=False,
        ),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="FILE",
            help="Certificates, revocation lists, collateral, reference values, event log; may be repeated.",
            show_default=False,
        ),
    ] = None,
    report_data: Annotated[
        str | None,
        typer.Option(
            "--report-data",
            metavar="HEX",
            help="What bare evidence must be about: report data, qualifying data or nonce.",
            show_default=False,
        ),
    ] = None,
    report_key: Annotated[
        Path | None,
        typer.Option(
            "--report-key",
            metavar="KEY",
            help="FILE is a boundary report, to be signed by this key (PEM).",
            show_default=False,
        ),
    ] = None,
    instance: Annotated[
        list[str] | None,
        typer.Option(
            "--instance",
            metavar="UEID",
            help="With --report-key: an instance whose evidence you verified; may be repeated.",
            show_default=False,
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="TIME",
            help="Time of every check, ISO 8601 or seconds; default: now.",
            show_default=False,
        ),
    ] = None,
    nonce: Annotated[
        str | None,
        typer.Option(
            "--nonce",
            metavar="BASE64URL",
            help="The nonce you sent; for a server, the one to send.",
            show_default=False,
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            help="File with an API key, to verify a session too; default: RLU_API_KEY.",
            show_default=False,
        ),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(
            "--probe",
            metavar="PROMPT",
            help="Send one small request in the session and verify its receipt.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", help="Write everything that was verified to a bundle file.", show_default=False
        ),
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="Text, JSON, or an attestation result (EAR, draft-04).")
    ] = Format.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    ear_key: Annotated[
        Path | None,
        typer.Option(
            "--ear-key", help="Sign the EAR with this P-256 key (PEM), as a JWS.", show_default=False
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing; the exit code says it.")
    ] = False,
    insecure_accept_software_key: Annotated[
        bool,
        typer.Option(
            "--insecure-accept-software-key", help="Go on, with a waiver, when no hardware holds the key."
        ),
    ] = False,
) -> None:
    """Verify a running server, a bundle, or bare evidence.

    Exit codes: 0 verified, 10 rejected, 11 verified except for waivers, 20 unsupported, 30 malformed, 3 unreachable, 2 usage, 1 internal.
    `rlu explain CODE` says what a finding means and what to do.
    """
    if as_json:
        form = Format.JSON
    if report_key is not None:
        _boundary(target, report_key, instance or [], as_of, form, quiet=quiet)
    if instance:
        raise typer.BadParameter("--instance is for a boundary report: add --report-key")
    if ear_key is not None and form is not Format.EAR:
        raise typer.BadParameter("--ear-key signs an EAR: add --format ear")
    choice = Choice(file=policy, digest=policy_sha256, key=policy_key, bundled=bundled_policy, roots=roots)
    choice.check()
    asked = Asked(
        target=target,
        choice=choice,
        at=None if as_of is None else arguments.moment(as_of),
        nonce=None if nonce is None else arguments.nonce(nonce),
        insecure=insecure_accept_software_key,
        kind=kind,
        beside=tuple(beside or ()),
        expected=None if report_data is None else _report_data(report_data),
    )
    if arguments.is_url(target):
        found = asked.server(read_api_key(api_key_file), probe)
    else:
        if probe is not None or api_key_file is not None:
            raise typer.BadParameter("--probe and --api-key-file are for a server, not for a file")
        found = asked.file()
    if save is not None and found.bundle is None:
        raise typer.BadParameter("--save writes a bundle, and bare evidence is none")
    report(found, form, quiet=quiet, ear_key=ear_key)
    if save is not None and found.bundle is not None:
        write_private(save, found.bundle.encode())
    raise typer.Exit(found.verdict.exit_code)


def _boundary(
    target: str, key: Path, instances: list[str], as_of: str | None, form: Format, *, quiet: bool
) -> NoReturn:
    """A boundary report needs no policy: what it says of instances is for their own evidence to show."""
    from rlu_attestation.cli.boundary import examine, show

    if form is Format.EAR:
        raise typer.BadParameter("a boundary report is no evidence: there is no EAR about it")
    found = examine(Path(target), key, instances, None if as_of is None else arguments.moment(as_of))
    if not quiet:
        show(found.examined, as_json=form is Format.JSON)
    raise typer.Exit(found.examined.exit_code)


def _report_data(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if not 0 < len(data) <= MAX_REPORT_DATA or data.hex() != text.lower():
        raise typer.BadParameter(f"--report-data must be 1 to {MAX_REPORT_DATA} bytes in hexadecimal")
    return data


def read_api_key(file: Path | None) -> str | None:
    """The server's API key, from a file or from RLU_API_KEY; `None` if there is none."""
    if file is None:
        return os.environ.get("RLU_API_KEY") or None
    key = read(file, MAX_KEY_FILE).decode("ascii", "replace").strip()
    if not key or not key.isprintable() or len(key) > MAX_KEY_FILE:
        raise typer.BadParameter(f"{file} does not hold an API key")
    return key
