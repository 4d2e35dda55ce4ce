"""`rlu broker`: keys of encrypted models, released to attested hardware only.

rlu model encrypt model/ sealed/ --vault vault/     the vendor, once a model; sealed/ goes to whoever will serve it
rlu broker serve --vault vault/ --listen :8444 …    the vendor; vault/policy.toml says which hardware and software may have keys
rlu broker ask sealed/                              the operator, to try whether this machine would get the key
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.output import print_json
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.files import load_policy
from rlu_attestation.models import Software
from rlu_attestation.printing import printable
from rlu_server.broker import asking
from rlu_server.broker import journal as journals
from rlu_server.broker.desk import Desk
from rlu_server.broker.errors import Misused
from rlu_server.broker.journal import Journal
from rlu_server.broker.sealed_files import read_header
from rlu_server.broker.serving import BrokerServer
from rlu_server.broker.vault import POLICY, Vault
from rlu_server.outreach.http import Unreachable
from rlu_server.outreach.listening import serve_until_told
from rlu_server.settings import SettingsError, load

app = typer.Typer(
    name="broker",
    help="Release keys of encrypted models to attested hardware only.",
    no_args_is_help=True,
    add_completion=False,
)
VaultOption = Annotated[
    Path, typer.Option("--vault", help="Directory of model keys and policies (`rlu model encrypt`).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]


@app.command()
def serve(
    vault: VaultOption,
    listen: Annotated[str, typer.Option("--listen", help="ADDRESS:PORT.")] = "127.0.0.1:8444",
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate to serve TLS with (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Default: journal.jsonl in the vault.")
    ] = None,
) -> None:
    """Serve keys until SIGTERM or Ctrl-C; requests that are in flight then have 20 seconds to end, or until a second one.

    Keys, policies and revocations are read anew for each request; events go to standard error.

    Exit codes: 0 stopped, 2 usage, vault or policy, 3 it cannot listen or write, 10 the journal was altered.
    """
    place = Vault(vault)
    place.check()
    _check_policy(place)
    if (tls_cert is None) != (tls_key is None):
        raise Misused("broker.tls", "--tls-cert and --tls-key belong together")
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not port.isdecimal() or not host:
        raise Misused("broker.listen", "--listen takes ADDRESS:PORT")
    certificate = None if tls_cert is None or tls_key is None else (tls_cert, tls_key)
    if certificate is None and host not in ("127.0.0.1", "::1", "localhost"):
        raise Misused("broker.tls", "without --tls-cert it listens on this machine only")
    try:
        noted = Journal(journal or place.journal)
        desk = Desk(place, noted, time.time, time.monotonic, os.urandom, _tell)
        server = BrokerServer(desk, (host, int(port)), certificate, _tell)
    except (OSError, OverflowError) as error:
        raise Unreachable("broker.unavailable", f"the broker cannot be started: {error}") from error
    serve_until_told(server)
    noted.close()


# A key's id may begin with a hyphen.
@app.command(context_settings={"ignore_unknown_options": True})
def revoke(
    kid: Annotated[str, typer.Argument(metavar="KID", help="The key's id.")],
    vault: VaultOption,
    reason: Annotated[str, typer.Option("--reason", help="Why; operators are told.")],
) -> None:
    """Release a key no more, from this moment on. Whoever has it keeps it: give the model a new one (`rlu model encrypt`).

    Exit codes: 0 revoked, 10 there is no such key, 2 usage or vault.
    """
    place = Vault(vault)
    place.check()
    place.revoke(unb64u(kid), reason, int(time.time()))
    print(f"{printable(kid)} is not released any more.")


@app.command("keys")
def keys(vault: VaultOption, as_json: JsonOption = False) -> None:
    """List the keys: id, model, whether it is revoked. No key is shown. Exit codes: 0, 2 vault."""
    place = Vault(vault)
    place.check()
    revoked = place.revoked()
    found = [
        {
            "kid": b64u(one.kid),
            "name": one.name,
            "manifest_sha256": b64u(one.manifest),
            "revoked": revoked.get(b64u(one.kid)),
        }
        for one in place.listing()
    ]
    if as_json:
        print_json({"result": "listed", "exit_code": 0, "keys": found})
        return
    for one in found:
        state = "" if one["revoked"] is None else f"  REVOKED: {printable(one['revoked'])}"
        print(f"{one['kid']}  {printable(str(one['name']))}  manifest {one['manifest_sha256']}{state}")


@app.command("journal")
def show_journal(
    vault: VaultOption,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Default: journal.jsonl in the vault.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that nothing was changed in the journal or taken out of it, and show what was released and refused.

    The digest that it ends with, kept elsewhere, shows later whether its end was cut off. Exit codes: 0 unbroken, 10 altered, 3 unreadable.
    """
    found, last = [], journals.FIRST
    try:
        for line, entry in journals.read(journal or Vault(vault).journal):
            last = journals.digest(line)
            if entry is not None:
                found.append(entry)
    except OSError as error:
        raise Unreachable("broker.unavailable", f"{error.filename}: {error.strerror}") from error
    if as_json:
        print_json({"result": "unbroken", "exit_code": 0, "last": b64u(last), "entries": found})
        return
    for entry in found:
        when = datetime.fromtimestamp(int(entry["time"]), timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        what = entry.get("hardware") or entry.get("code")
        print(
            f"{when}Z  {entry['event']:8}  {printable(str(entry.get('name', entry['kid'])))}  {printable(str(what))}"
        )
    print(f"unbroken, {len(found)} entries; it ends with {b64u(last)}")


@app.command()
def ask(
    sealed: Annotated[Path, typer.Argument(metavar="SEALED", help="The encrypted model.")],
    config: Annotated[
        Path | None, typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try whether this machine gets the key of an encrypted model: ask the broker of the settings, and forget the answer.

    Exit codes: 0 it would, 10 the broker or this hardware says no, 2 settings, 3 the broker or a device did not answer.
    """
    try:
        settings = load(config)
    except SettingsError as error:
        raise Misused("weights.settings", str(error)) from error
    try:
        header = read_header(sealed)
    except OSError as error:
        raise Misused("weights.unreadable", f"{error.filename}: {error.strerror}") from error
    asking.check(settings)
    asking.ask(
        header,
        Software("rlu", asking.version()),
        asking.evidence_of(settings),
        asking.post_to(settings, time.time),
    )
    if as_json:
        print_json({"result": "released", "exit_code": 0, "kid": b64u(header.kid)})
        return
    print(f"{settings.weights.broker} releases {b64u(header.kid)} to this machine.")


def _check_policy(vault: Vault) -> None:
    """A policy that cannot be read is told at the start, not to the first instance that asks."""
    own = sorted(vault.directory.glob("*.toml"))
    if not own:
        raise Misused(
            "broker.policy", f"{vault.directory / POLICY} is not there: `rlu policy` drafts one from evidence"
        )
    for path in own:
        try:
            load_policy(path)
        except RluError as error:
            raise Misused("broker.policy", f"{path}: {error.message} [{error.code}]") from error


def _tell(event: str, code: str) -> None:
    line = {"time": round(time.time(), 3), "event": event, **({"code": code} if code else {})}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()
