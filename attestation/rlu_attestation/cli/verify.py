"""`rlu verify`: a verdict on a running server or on a file.

The file is verified offline. A server is asked for a fresh attestation first; only when that is accepted is the API key, if there is one,
used to open a session, send the probe, and verify what comes back.
"""

from __future__ import annotations

import os
import secrets
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.bundle import Bundle
from rlu_attestation.cli.output import console, print_json
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.files import load_bundle, load_policy, read, write_private
from rlu_attestation.policy import Policy
from rlu_attestation.statements import NONCE_SIZES
from rlu_attestation.verdict import Result, Verdict
from rlu_attestation.verifier import Context, verify

NONCE_SIZE = 32
MAX_KEY_FILE = 4096

app = typer.Typer(add_completion=False)


@app.command("verify")
def command(
    target: Annotated[
        str, typer.Argument(metavar="URL|FILE", help="A server, or a bundle file.", show_default=False)
    ],
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", help="What is accepted (TOML). Without a policy nothing is.", show_default=False
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as one JSON value.")] = False,
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
    """Verify a running server or a bundle.

    Exit codes: 0 verified, 10 rejected, 11 verified except for waivers, 20 unsupported, 30 malformed, 3 unreachable, 2 usage, 1 internal.
    """
    accepted = Policy() if policy is None else load_policy(policy)
    at = None if as_of is None else _time(as_of)
    known = None if nonce is None else _nonce(nonce)
    if _is_url(target):
        key = _api_key(api_key_file)
        if probe is not None and key is None:
            raise typer.BadParameter("--probe needs an API key: --api-key-file or RLU_API_KEY")
        online = _Online(target, accepted, at, known, insecure_accept_software_key)
        bundle, verdict = online.run(key, probe)
    else:
        if probe is not None or api_key_file is not None:
            raise typer.BadParameter("--probe and --api-key-file are for a server, not for a file")
        bundle = load_bundle(Path(target))
        verdict = verify(
            Context(
                bundle=bundle,
                policy=accepted,
                at=int(time.time()) if at is None else at,
                nonce=known,
                insecure_accept_software_key=insecure_accept_software_key,
            )
        )
    _report(verdict, target, as_json=as_json, quiet=quiet)
    if save is not None:
        write_private(save, bundle.encode())
    raise typer.Exit(verdict.exit_code)


class _Online:
    """Verification of a running server."""

    def __init__(self, url: str, policy: Policy, at: int | None, nonce: bytes | None, insecure: bool) -> None:
        # Imported here: a file is verified without any of the network's modules.
        from rlu_attestation.client import Client

        self._client = Client(url)
        self._policy = policy
        self._at = at
        self._nonce = secrets.token_bytes(NONCE_SIZE) if nonce is None else nonce
        self._insecure = insecure

    def run(self, api_key: str | None, probe: str | None) -> tuple[Bundle, Verdict]:
        with self._client as client:
            bundle = client.attestation(self._nonce)
            verdict = self._verify(bundle)
            # Nothing secret, not even the key, is sent to a server that was not accepted.
            if api_key is None or verdict.result not in (Result.VERIFIED, Result.WAIVED):
                return bundle, verdict
            bundle = client.session(bundle, self._nonce, api_key, probe)
            return bundle, self._verify(bundle)

    def _verify(self, bundle: Bundle) -> Verdict:
        return verify(
            Context(
                bundle=bundle,
                policy=self._policy,
                at=int(time.time()) if self._at is None else self._at,
                nonce=self._nonce,
                channel=self._client.spki_sha256,
                plaintext=self._client.plaintext,
                insecure_accept_software_key=self._insecure,
            )
        )


def _report(verdict: Verdict, subject: str, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(verdict.to_json())
    elif not quiet:
        from rlu_attestation.render import show

        show(verdict, console(), subject)


def _is_url(target: str) -> bool:
    return target.startswith(("https://", "http://"))


def _time(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 11:
        return int(text)
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise typer.BadParameter(
            "--as-of must be like 2026-12-01T00:00:00Z, or seconds since the epoch"
        ) from error
    if moment.tzinfo is None:
        raise typer.BadParameter("--as-of needs a time zone, such as a Z at the end")
    return int(moment.timestamp())


def _nonce(text: str) -> bytes:
    try:
        nonce = unb64u(text)
    except RluError:
        nonce = b""
    if len(nonce) not in NONCE_SIZES:
        raise typer.BadParameter("--nonce must be 8 to 64 bytes in base64url without padding")
    return nonce


def _api_key(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("RLU_API_KEY") or None
    key = read(file, MAX_KEY_FILE).decode("ascii", "replace").strip()
    if not key or not key.isprintable() or len(key) > MAX_KEY_FILE:
        raise typer.BadParameter(f"{file} does not hold an API key")
    return key
