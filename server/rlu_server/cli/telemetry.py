"""`rlu telemetry`: what a vendor would be told, shown byte for byte, and sent by a job of its own if the operator opted in."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation import policy_signature
from rlu_attestation.encoding import b64u
from rlu_attestation.files import read, write_new
from rlu_attestation.signed_json import MAX_TEXT
from rlu_server.settings import Settings, SettingsError, load
from rlu_server.telemetry import job
from rlu_server.telemetry.counters import Unset

app = typer.Typer(
    name="telemetry",
    help="Show what telemetry would send; send it, if opted in.",
    no_args_is_help=True,
    add_completion=False,
)
ConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml.", show_default=False)
]


@app.command("show")
def show(
    config: ConfigOption = None,
    decoded: Annotated[
        bool, typer.Option("--decoded", help="Print what is in it instead of the bytes that are sent.")
    ] = False,
) -> None:
    """Print exactly the bytes that `send` would send now, and send nothing. They can be kept, and sent by `send --report`."""
    text = job.compose(_settings(config), int(time.time()))
    if decoded:
        payload = text.split(".")[1]
        print(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode("ascii"))
        return
    sys.stdout.write(text)


@app.command("send")
def send(
    report: Annotated[
        Path | None, typer.Option("--report", help="Send what `show` printed, instead of a new report.")
    ] = None,
    journal: Annotated[
        bool, typer.Option(help="Note what leaves in egress.jsonl below the state directory.")
    ] = True,
    config: ConfigOption = None,
) -> None:
    """Send one report to the address in the settings. For a timer or a CronJob; what serves never sends.

    Exit codes: 0 sent, 2 off or not configured (nothing was sent), 3 the counters or the address did not answer, 10 or 30 the report is not
    one of ours (nothing was sent).
    """
    settings = _settings(config)
    given = None if report is None else read(report, MAX_TEXT).decode("ascii", "replace").strip()
    try:
        job.send(settings, given, journal, int(time.time()))
    except OSError as error:
        raise Unset("telemetry.file", f"cannot use {error.filename}: {error.strerror}") from error
    print("Sent.")


@app.command("keygen")
def keygen(config: ConfigOption = None) -> None:
    """Make the key that signs reports, where the settings say; the public one, for the vendor, beside it. It is not the instance's key."""
    path = job.key_path(_settings(config))
    private, public = policy_signature.generate(policy_signature.ED25519)
    beside = path.with_name(f"{path.stem}.pub.pem")
    write_new(path, private, private=True)
    write_new(beside, public)
    kid = b64u(policy_signature.key_id(policy_signature.load_public_key(public)))
    print(f"{path}: the key of reports. Give {beside} to the vendor; reports name it {kid}.")


def _settings(config: Path | None) -> Settings:
    try:
        return load(config)
    except SettingsError as error:
        raise Unset("telemetry.settings", str(error)) from error
