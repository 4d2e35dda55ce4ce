"""`rlu keys`: the life of the attestation key, from its making to its revocation.

The key never leaves its hardware, so no command here sees more of it than its public half. What needs the TPM itself (`create`, `register`,
`export`, `import`) runs while no attestor holds it; `rotate`, `rehearse` and `retire` ask the attestor that is running.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from rlu_attestation import bundle as bundles
from rlu_attestation import x509
from rlu_attestation.cli.output import print_json
from rlu_attestation.client import Client
from rlu_attestation.encoding import unb64u
from rlu_attestation.files import read, write_new
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.jose import jws_parse
from rlu_server import keyring
from rlu_server.attestor import asking, enrolment
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.attestor.tpm import documents
from rlu_server.keyring import KeysError, revoking
from rlu_server.registrar.enrolling import Place
from rlu_server.settings import Settings, SettingsError, load

app = typer.Typer(
    name="keys",
    help="Create, register, rotate, retire and revoke attestation keys.",
    no_args_is_help=True,
    add_completion=False,
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="The file to write.", show_default=False)]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for the attestor.")]
NONCE_SIZE = 32


@app.command("list")
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show this machine's keys: in use, stepping down, and those before them, with the heads their logs ended at."""
    settings = _settings(config)
    found = keyring.listed(settings, int(time.time()))
    if as_json:
        print_json([one.to_json() for one in found])
        return
    if not found:
        print(f"No key has been used in {settings.state_dir} yet.")
    for one in found:
        print(one.line())


@app.command("create")
def create(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make the instance key and the AK in the TPM, if they are not there yet. The attestor must not be running."""
    made = _alone(lambda settings: keyring.create(settings), config)
    _tell(
        as_json, {"ueid": made}, f"Key {made} is in the TPM. Register it next: rlu keys register, or export"
    )


@app.command("register")
def register(
    region: Annotated[str, typer.Option(help="Region to endorse, as policies name it.")],
    boundary: Annotated[str, typer.Option(help="Boundary to endorse.")],
    site: Annotated[str, typer.Option(help="Site to endorse.")],
    ek_root: Annotated[list[Path], typer.Option("--ek-root", help="Root of a TPM vendor; repeatable.")],
    ek_intermediate: Annotated[
        list[Path] | None,
        typer.Option("--ek-intermediate", help="Intermediate that the TPM lacks; repeatable."),
    ] = None,
    registrar: Annotated[
        Path, typer.Option("--registrar", envvar="RLU_REGISTRAR_DIR", help="The registrar's directory.")
    ] = Path("registrar"),
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register this TPM's AK with a registrar on this machine: challenge, activation and certificate in one step.

    Where the registrar is elsewhere, carry files: rlu keys export, rlu registrar challenge, rlu keys import, rlu registrar issue, rlu keys
    import.
    """

    def run(settings: Settings) -> Path:
        from rlu_server.registrar.demo import enrol

        return enrol(
            registrar,
            settings.state_dir,
            settings.attestation.tcti,
            Place(region, boundary, site),
            datetime.now(timezone.utc),
            ek_root,
            ek_intermediate or [],
        )

    certificate = _alone(run, config)
    _tell(
        as_json, {"certificate": str(certificate)}, f"Registered. Policies name {certificate} as registrar."
    )


@app.command("export")
def export(
    out: OutOption,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="Write a registration bundle of a running server instead.")
    ] = False,
    url: Annotated[str, typer.Option("--url", help="With --bundle: the server.")] = "https://localhost:8443",
    nonce: Annotated[
        str | None,
        typer.Option("--nonce", help="With --bundle: the recipient's nonce, base64url.", show_default=False),
    ] = None,
    ek_chain: Annotated[
        list[Path] | None,
        typer.Option("--ek-chain", help="Intermediates of the EK certificate; repeatable."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the request that a registrar elsewhere makes its challenge for.

    With --bundle: public keys, certificates, evidence, the instance's claims and the words of earlier keys, for a vendor or an auditor.
    There is nothing of any session in it. `rlu verify` and `rlu inspect` read it.
    """
    if bundle:
        made = _registration(url, nonce, _settings(config))
        write_new(out, made.encode())
        ueid = InstanceClaims.parse(jws_parse(made.statement).payload).ueid
        _tell(
            as_json,
            {"file": str(out), "ueid": ueid},
            f"{out} is about key {ueid}: rlu verify {out} --policy …",
        )
        return

    def run(settings: Settings) -> bytes:
        chain = tuple(c.raw for path in ek_chain or [] for c in x509.parse_many(path.read_bytes()))
        files = StateFiles(settings.state_dir)
        return documents.encode(enrolment.request(settings.attestation.tcti, files, chain))

    write_new(out, _alone(run, config))
    _tell(as_json, {"file": str(out)}, f"Carry {out} to the registrar: rlu registrar challenge {out}")


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="The registrar's challenge, or what it issued.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The answer to a challenge.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take what a registrar sent: open its challenge in the TPM and write the answer, or keep the certificate it issued."""
    data = read(file, documents.MAX_DOCUMENT)
    kind = keyring.kind_of(data)
    if kind is documents.EnrolmentChallenge:
        if out is None:
            raise typer.BadParameter("a challenge has an answer: --out FILE")
        answer = _alone(lambda settings: keyring.activate(settings, data), config)
        write_new(out, answer)
        _tell(as_json, {"file": str(out)}, f"Carry {out} to the registrar: rlu registrar issue {out}")
        return
    _alone(lambda settings: keyring.accept(settings, data), config)
    _tell(as_json, {"registered": True}, "Registered. The attestor uses it from its next start on.")


@app.command("rotate")
def rotate(
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Do everything with a key that is thrown away; change nothing.")
    ] = False,
    timeout: TimeoutOption = 120.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the next key take over from the one in use. No request is lost: open sessions go on under the old key."""
    if rehearse:
        rehearsal(timeout, config, as_json)
        return
    outcome = _ask(config, "rotate", timeout)
    _tell(
        as_json,
        {"issuer": outcome.issuer},
        f"{outcome.issuer} opens sessions now. The old key goes when its last session has ended.",
    )


@app.command("rehearse")
def rehearsal(
    timeout: TimeoutOption = 120.0, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Rehearse a rotation: a key is made, certified, attested and named by the one in use, then thrown away."""
    _ask(config, "rehearse", timeout)
    _tell(as_json, {"rehearsed": True}, "A rotation would succeed. Nothing has changed.")


@app.command("retire")
def retire(timeout: TimeoutOption = 120.0, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End the sessions of a key that has stepped down, without waiting for them; their closes say key_retired."""
    outcome = _ask(config, "retire", timeout)
    _tell(
        as_json, {"sessions": outcome.sessions}, f"{outcome.sessions} sessions are closed; the old key goes."
    )


@app.command("revoke")
def revoke(
    ueid: Annotated[
        str, typer.Argument(help="The key: the ueid that `rlu keys list` and `rlu verify` show.")
    ],
    key: Annotated[
        Path,
        typer.Option("--key", help="Private key that signs lists (rlu policy keygen).", show_default=False),
    ],
    reason: Annotated[str, typer.Option(help="compromise, lost, retired or superseded.")],
    file: Annotated[Path, typer.Option("--list", help="The list; made if it is not there.")] = Path(
        "revocations.jws"
    ),
    last_good: Annotated[
        Path | None,
        typer.Option(
            "--last-good",
            help="Last head to believe: a file with it in base64url, or an auditor's state. None: nothing is believed.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key: add it to a signed list with the next number. Policies name the list; it needs no network."""
    head = None if last_good is None else revoking.read_head(read(last_good, revoking.MAX_HEAD_FILE))
    made = revoking.revoke(file, read(key, 16 * 1024), ueid, reason, int(time.time()), head)
    _tell(
        as_json,
        {"list": str(file), "number": made.number, "revoked": len(made.entries)},
        f"List {made.number} revokes {len(made.entries)} keys. Hand {file} to whoever verifies, and have policies set "
        f"trust.revocation_minimum = {made.number}.",
    )


def _registration(url: str, nonce: str | None, settings: Settings) -> bundles.Bundle:
    """Instance statement, evidence and continuity; checked to hold nothing else."""
    with Client(url) as client:
        found = client.attestation(secrets.token_bytes(NONCE_SIZE) if nonce is None else unb64u(nonce))
    ueid = InstanceClaims.parse(jws_parse(found.statement).payload).ueid
    return replace(found, continuity=keyring.continuity_chain(settings, ueid))


def _ask(config: Path | None, action: asking.Action, timeout: float) -> asking.Outcome:
    return keyring.ask(_settings(config), action, timeout)


def _alone(work: Callable[[Settings], Any], config: Path | None) -> Any:
    """Use the TPM while no attestor does."""
    settings = _settings(config)
    if keyring.running(settings):
        raise KeysError("keys.running", "an attestor is running and holds the TPM: stop the server first")
    try:
        return work(settings)
    except OSError as error:
        raise KeysError("keys.file", f"cannot use {error.filename or 'a file'}: {error.strerror}") from error


def _settings(config: Path | None) -> Settings:
    try:
        return load(config)
    except SettingsError as error:
        raise KeysError("keys.settings", str(error)) from error


def _tell(as_json: bool, value: dict[str, Any], sentence: str) -> None:
    if as_json:
        print_json(value)
    else:
        print(sentence)
