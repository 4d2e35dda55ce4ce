"""`rlu apikeys`: who may use this deployment.

The file holds digests of secrets, never a secret; a key is shown once, on standard output, when it is made. A running gateway notices
every change by itself.
"""

from __future__ import annotations

import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from rlu_attestation.cli.output import console, fail, print_json
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, RluError
from rlu_server.cli.keyfile import change, read_keys
from rlu_server.core.apikeys import (
    ID_SIZE,
    SECRET_SIZE,
    KeyFile,
    KeyRecord,
    mint,
    principal_pseudonym,
    pseudonym_under,
    tenant_key,
    tenant_pseudonym,
)
from rlu_server.settings import SettingsError, load

app = typer.Typer(
    name="apikeys", help="Create, list and revoke API keys.", no_args_is_help=True, add_completion=False
)

MAX_LIFE_S = 100 * 366 * 86400
_DURATION = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)
_UNIT_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

FileOption = Annotated[
    Path | None, typer.Option("--file", help="The key file; default: the one the configuration names.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml, for the place of the key file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]


# --- what the commands share ------------------------------------------------------------------------------------------


def parse_expiry(text: str, now: int) -> int:
    """An instant from a duration (`90d`, `12h`) or an ISO 8601 date or time; a time without zone is UTC.

    Raises:
        Unusable: `apikeys.expires`: neither, not in the future, or too far in it.
    """
    duration = _DURATION.fullmatch(text)
    if duration is not None:
        expires = now + int(duration[1]) * _UNIT_S[duration[2]]
    else:
        try:
            # Python 3.10 does not read the "Z" of RFC 3339.
            moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
        except ValueError:
            message = "--expires: give a duration such as 90d or 12h, or a date such as 2027-01-31"
            raise Unusable("apikeys.expires", message) from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        expires = int(moment.timestamp())
    if not now < expires <= now + MAX_LIFE_S:
        raise Unusable("apikeys.expires", "--expires: give a time from now to a hundred years from now")
    return expires


def _check_label(name: str, value: str) -> None:
    if not 1 <= len(value) <= 128 or not value.isprintable():
        raise Unusable("apikeys.label", f"--{name} takes 1 to 128 printable characters")


def _path(file: Path | None, config: Path | None) -> Path:
    return file if file is not None else load(config).api_keys_file


class Unusable(RluError):
    """The command line, or the configuration it names, cannot be followed."""

    exit_code = 2


class NotFound(RluError):
    """There is nobody of that pseudonym."""


class Inaccessible(RluError):
    """The key file cannot be read or written."""


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    """Turn what can go wrong into one line and the exit code of its cause."""
    try:
        try:
            yield
        except SettingsError as error:
            raise Unusable("configuration.refused", str(error)) from error
        except OSError as error:
            message = f"cannot use the key file {error.filename or ''}: {error.strerror}"
            raise Inaccessible("apikeys.file.access", message) from error
    except RluError as error:
        fail(error, as_json=as_json)
        raise typer.Exit(error.exit_code) from error


def _state(record: KeyRecord, now: int) -> str:
    if record.revoked is not None:
        return "revoked"
    return "expired" if record.expires is not None and now >= record.expires else "active"


def _time(instant: int | None) -> str:
    return (
        "" if instant is None else datetime.fromtimestamp(instant, timezone.utc).strftime("%Y-%m-%d %H:%MZ")
    )


def _public(record: KeyRecord, pseudonym_key: bytes, now: int) -> dict[str, Any]:
    """What may be shown of a record: everything but the digest."""
    return {
        "id": record.id,
        "tenant": record.tenant,
        "principal": record.principal,
        "tenant_pseudonym": tenant_pseudonym(pseudonym_key, record.tenant),
        "principal_pseudonym": principal_pseudonym(pseudonym_key, record.tenant, record.principal),
        "created": record.created,
        "expires": record.expires,
        "revoked": record.revoked,
        "state": _state(record, now),
    }


# --- the commands -----------------------------------------------------------------------------------------------------


@app.command("create")
def create(
    tenant: Annotated[
        str, typer.Option(help="Whose data this key may see; tenants are isolated from each other.")
    ],
    principal: Annotated[str, typer.Option(help="The person or agent who holds the key.")],
    expires: Annotated[
        str | None, typer.Option(help="90d, 12h, or a date such as 2027-01-31; default: never.")
    ] = None,
    file: FileOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is printed once and cannot be shown again."""
    now = int(time.time())
    id_bytes, secret = secrets.token_bytes(ID_SIZE), secrets.token_bytes(SECRET_SIZE)
    with _reported(as_json):
        _check_label("tenant", tenant)
        _check_label("principal", principal)
        until = None if expires is None else parse_expiry(expires, now)
        record, key = mint(id_bytes, secret, tenant, principal, now, until)
        change(_path(file, config), lambda keys: msgspec.structs.replace(keys, keys=[*keys.keys, record]))
    if as_json:
        print_json({"key": key, "id": record.id, "tenant": tenant, "principal": principal, "expires": until})
        return
    until_text = f", until {_time(until)}" if until else ""
    print(f"Key {record.id} for {principal} of {tenant}{until_text}. It is shown only now:", file=sys.stderr)
    print(key)


@app.command("list")
def list_keys(file: FileOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the keys, without their secrets, and the pseudonyms by which statements name their holders."""
    now = int(time.time())
    with _reported(as_json):
        keys = read_keys(_path(file, config))
    records = [] if keys is None else [_public(r, unb64u(keys.pseudonym_key), now) for r in keys.keys]
    if as_json:
        print_json({"keys": records})
        return
    table = Table(box=None)
    table.add_column("id", min_width=16)
    for name in ("tenant", "principal"):
        table.add_column(name, overflow="fold")
    table.add_column("created", min_width=10)
    table.add_column("state", min_width=24)
    for record in records:
        until = (
            f" until {_time(record['expires'])}" if record["expires"] and record["state"] == "active" else ""
        )
        cells = (record["id"], record["tenant"], record["principal"], _time(record["created"])[:10])
        # Labels are shown as they are, never read as markup.
        table.add_row(*map(Text, (*cells, record["state"] + until)))
    console().print(table)


@app.command("init")
def init(file: FileOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make the key file, without keys. It holds the secret of pseudonyms, which tokens and client certificates need too."""
    with _reported(as_json):
        path = _path(file, config)
        made = read_keys(path) is None
        if made:
            change(path, lambda keys: keys)
    if as_json:
        print_json({"file": str(path), "made": made})
    else:
        print(f"{path} {'made' if made else 'is there already'}.")


@app.command("rotate")
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key that is to be replaced.")],
    overlap: Annotated[
        str,
        typer.Option(help="How long the old key stays good: 1h, 7d; at most until it would have expired."),
    ] = "24h",
    expires: Annotated[str | None, typer.Option(help="End of the new key, as for create.")] = None,
    file: FileOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new key for the same principal, and let the old one expire. The new key is printed once."""
    now = int(time.time())
    with _reported(as_json):
        path = _path(file, config)
        until = parse_expiry(overlap, now)
        new_until = None if expires is None else parse_expiry(expires, now)
        keys = read_keys(path)
        old = next((r for r in keys.keys if r.id == key_id), None) if keys is not None else None
        if old is None or _state(old, now) != "active":
            raise Unusable(
                "apikeys.unknown", f"{path} has no active key with this id; `rlu apikeys list` shows them"
            )
        record, key = mint(
            secrets.token_bytes(ID_SIZE),
            secrets.token_bytes(SECRET_SIZE),
            old.tenant,
            old.principal,
            now,
            new_until,
        )
        ends = until if old.expires is None else min(until, old.expires)
        change(path, lambda found: _replaced(found, key_id, ends, record))
    if as_json:
        print_json(
            {"key": key, "id": record.id, "replaces": key_id, "old_expires": ends, "expires": new_until}
        )
        return
    print(
        f"Key {record.id} for {record.principal} of {record.tenant} replaces {key_id}, which stays good until {_time(ends)}. "
        "It is shown only now:",
        file=sys.stderr,
    )
    print(key)


def _replaced(keys: KeyFile, key_id: str, ends: int, record: KeyRecord) -> KeyFile:
    records = [msgspec.structs.replace(r, expires=ends) if r.id == key_id else r for r in keys.keys]
    return msgspec.structs.replace(keys, keys=[*records, record])


@app.command("tenant-key")
def show_tenant_key(
    tenant: Annotated[str, typer.Argument(help="The tenant.")],
    file: FileOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the key that this tenant's pseudonyms are made with, for its administrator. It tells nothing about other tenants."""
    with _reported(as_json):
        _check_label("tenant", tenant)
        path = _path(file, config)
        keys = read_keys(path)
        if keys is None:
            raise Unusable("apikeys.unknown", f"there is no key file {path}; `rlu apikeys init` makes one")
    key = b64u(tenant_key(unb64u(keys.pseudonym_key), tenant))
    if as_json:
        print_json({"tenant": tenant, "tenant_key": key})
    else:
        print(key)


# A pseudonym may begin with a hyphen.
@app.command("resolve", context_settings={"ignore_unknown_options": True})
def resolve(
    pseudonym: Annotated[str, typer.Argument(help="`rlu_principal` or `rlu_tenant` of a statement.")],
    tenant_key_file: Annotated[
        Path | None,
        typer.Option(
            "--tenant-key",
            help="File with a tenant's key (`rlu apikeys tenant-key`), in place of the key file.",
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            help="Names to try, one a line; with a tenant before a tab, unless --tenant-key is given. `-`: standard input."
        ),
    ] = None,
    file: FileOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whose pseudonym it is. Holders of API keys are known; whoever came with a token or certificate is found among --names.

    Exit codes: 0 found, 1 not found, 2 the command line.
    """
    with _reported(as_json):
        lines = [] if names is None else _lines(names)
        if tenant_key_file is not None:
            found = _resolve_under(tenant_key_file, pseudonym, lines)
        else:
            keys = read_keys(_path(file, config))
            if keys is None:
                raise Unusable("apikeys.unknown", "there is no key file; `rlu apikeys init` makes one")
            found = _resolve(keys, pseudonym, lines)
        if found is None:
            raise NotFound(
                "apikeys.pseudonym", "nobody who is known here has this pseudonym; give more --names"
            )
    if as_json:
        print_json(found)
    else:
        print("/".join(found.values()))


def _resolve(keys: KeyFile, pseudonym: str, lines: list[str]) -> dict[str, str] | None:
    secret = unb64u(keys.pseudonym_key)
    known = [(r.tenant, r.principal) for r in keys.keys]
    known += [(tenant, name) for tenant, tab, name in (line.partition("\t") for line in lines) if tab]
    for tenant, name in known:
        if tenant_pseudonym(secret, tenant) == pseudonym:
            return {"tenant": tenant}
        if principal_pseudonym(secret, tenant, name) == pseudonym:
            return {"tenant": tenant, "principal": name}
    return None


def _resolve_under(key_file: Path, pseudonym: str, lines: list[str]) -> dict[str, str] | None:
    try:
        key = unb64u(key_file.read_text("utf-8").strip())
    except (Malformed, UnicodeDecodeError):
        key = b""
    if len(key) != SECRET_SIZE:
        raise Unusable("apikeys.tenant_key", f"{key_file} does not hold a tenant's key")
    return next(({"principal": name} for name in lines if pseudonym_under(key, name) == pseudonym), None)


def _lines(path: Path) -> list[str]:
    text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    return [line for line in text.splitlines() if line]


@app.command("revoke")
def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The key's id, as `rlu apikeys list` shows it.")
    ],
    file: FileOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key. A running gateway refuses it from its next request on."""
    now = int(time.time())
    revoked: list[KeyRecord] = []
    with _reported(as_json):
        if key_id.startswith("rlu_"):
            # Whoever pastes the whole key has put a secret into the shell's history; say so without repeating it.
            message = (
                "give the id only, the 16 characters after `rlu_`; a secret does not belong on a command line"
            )
            raise Unusable("apikeys.id", message)
        path = _path(file, config)
        if read_keys(path) is not None:
            change(path, lambda keys: _revoked(keys, key_id, now, revoked))
        if not revoked:
            raise Unusable(
                "apikeys.unknown", f"{path} has no key with this id; `rlu apikeys list` shows them"
            )
    if as_json:
        print_json({"id": key_id, "revoked": revoked[0].revoked})
    else:
        print(f"Key {key_id} of {revoked[0].principal} ({revoked[0].tenant}) is revoked.")


def _revoked(keys: KeyFile, key_id: str, now: int, found: list[KeyRecord]) -> KeyFile:
    """The file with that key revoked; one that was revoked before keeps its time."""
    records = [
        msgspec.structs.replace(r, revoked=r.revoked or now) if r.id == key_id else r for r in keys.keys
    ]
    found.extend(r for r in records if r.id == key_id)
    return msgspec.structs.replace(keys, keys=records)
