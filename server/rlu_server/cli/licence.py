"""`rlu licence`: a vendor's licence, shown, checked, installed, asked about; and issued, which is the vendor's side.

    rlu policy keygen -o vendor.pem                                       the vendor's key, once
    rlu licence issue --key vendor.pem --id A-17 --organisation ACME --vendor Example --days 365 --nodes 8 -o licence.jws
    rlu licence install licence.jws                                       on every node, or as a Secret

Nothing here needs a network but `validate`, which sends the licence's id and the instance statement to the address in the settings.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from rlu_attestation import bundle as bundles
from rlu_attestation.cli.arguments import moment
from rlu_attestation.cli.output import print_json
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Refused
from rlu_attestation.files import read, write_new
from rlu_attestation.jose import MAX_JWS
from rlu_attestation.policy_signature import MAX_KEY, load_private_key, load_public_key
from rlu_attestation.printing import printable
from rlu_server.licence import counting, online, standing
from rlu_server.licence.document import Licence, digest
from rlu_server.licence.place import Place, Unusable, place_of, read_text
from rlu_server.licence.standing import DAY_S, Standing
from rlu_server.outreach.key_sets import put
from rlu_server.outreach.letters import JOURNAL, Mailbox
from rlu_server.settings import Settings, SettingsError, load

app = typer.Typer(
    name="licence",
    help="Show, check, install and issue licences.",
    no_args_is_help=True,
    add_completion=False,
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
KeysOption = Annotated[
    list[Path] | None,
    typer.Option("--vendor-key", help="The vendor's public key (PEM); default: those of the settings."),
]
FileArgument = Annotated[
    Path, typer.Argument(metavar="LICENCE", help="The licence file.", show_default=False)
]
AsOfOption = Annotated[str | None, typer.Option("--as-of", help="Judge as of this time; default: now.")]


class NotInForce(Refused):
    """Genuine, and not in force."""


@app.command("show")
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the licence that the settings name, and how it stands now.

    By this machine's clock and the vendor's last answer; a running server also counts the latest time it has seen.

    Exit codes: 0 in force or in its grace period, 2 there is none, 10 it is not in force or not by a known vendor, 30 it is damaged.
    """
    place = _configured(_settings(config))
    found = place.find()
    _tell(found.licence, found.digest, standing.judge(found.licence, found.answer, int(time.time())), as_json)


@app.command("verify")
def verify(
    file: FileArgument,
    vendor_key: KeysOption = None,
    as_of: AsOfOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a licence file: the vendor's signature, and whether it is in force. Nothing is changed. Exit codes as for `show`."""
    at = int(time.time()) if as_of is None else moment(as_of)
    licence, text = _verified(file, vendor_key, config)
    _tell(licence, digest(text), standing.judge(licence, None, at), as_json)


@app.command("install")
def install(
    file: FileArgument,
    vendor_key: KeysOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a licence and put it where the settings say. A running server takes it over within seconds. One that is over is refused."""
    target = _configured(_settings(config)).file
    licence, text = _verified(file, vendor_key, config)
    stands = standing.judge(licence, None, int(time.time()))
    if stands.state == "expired":
        raise NotInForce("licence.expired", "this licence is over; nothing was changed")
    try:
        put(target, text.encode("ascii") + b"\n")
    except OSError as error:
        raise Unusable("licence.file", f"cannot write {target}: {error.strerror}") from error
    _tell(licence, digest(text), stands, as_json)


@app.command("issue")
def issue(
    key: Annotated[Path, typer.Option("--key", help="The vendor's private key (PEM).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The licence to write.")],
    licence_id: Annotated[str, typer.Option("--id", help="Its id: letters, digits, - and _.")],
    organisation: Annotated[str, typer.Option("--organisation", help="Whom it is for.")],
    vendor: Annotated[str, typer.Option("--vendor", help="Who gives it.")],
    days: Annotated[int, typer.Option("--days", min=1, help="For so many days.")],
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Instances that may serve at the same time.")],
    grace_days: Annotated[
        int, typer.Option("--grace-days", min=0, max=366, help="Sessions are still opened for so many days.")
    ] = 14,
    feature: Annotated[list[str] | None, typer.Option("--feature", help="A feature; repeatable.")] = None,
    begins: Annotated[str | None, typer.Option("--begins", help="When it begins; default: now.")] = None,
) -> None:
    """Make and sign a licence: the vendor's side."""
    now = int(time.time())
    start = now if begins is None else moment(begins)
    licence = Licence(
        id=licence_id,
        vendor=vendor,
        organisation=organisation,
        features=tuple(sorted(set(feature or ()))),
        nodes=nodes,
        issued_at=now,
        not_before=start,
        expires_at=start + days * DAY_S,
        grace_s=grace_days * DAY_S,
    )
    text = licence.sign(load_private_key(read(key, MAX_KEY)))
    write_new(out, text.encode("ascii") + b"\n")
    print(f"{out}: licence {licence.id} for {printable(organisation)}, until {_date(licence.expires_at)}.")


@app.command("validate")
def validate(
    statement: Annotated[
        Path | None, typer.Option("--statement", help="The instance statement, or a bundle that holds it.")
    ] = None,
    server: Annotated[
        str,
        typer.Option("--server", help="Ask this server for its statement, such as https://localhost:8443."),
    ] = "",
    journal: Annotated[
        bool, typer.Option(help="Note what leaves in egress.jsonl below the state directory.")
    ] = True,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the vendor whether the licence is good. Sends its id and the instance statement, and nothing else.

    A job of its own: never needed, and what fails here changes nothing.

    Exit codes: 0 good, 2 not configured, 3 no answer, 10 withdrawn or not the vendor's answer.
    """
    settings = _settings(config)
    place = _configured(settings)
    if not settings.licence.validation_url:
        raise Unusable("licence.validation_url", "set [licence] validation_url; nothing was sent")
    if (statement is None) == (not server):
        raise typer.BadParameter("give --statement or --server")
    text = _from_server(server) if statement is None else _statement(statement)
    mailbox = Mailbox(
        "licence",
        settings.licence.validation_url,
        settings.licence.proxy,
        settings.licence.ca_file,
        settings.state_dir / JOURNAL if journal else None,
    )
    now = int(time.time())
    try:
        answer = online.validate(place, text, lambda data: mailbox.post(data, "application/json", now), now)
    except OSError as error:
        raise Unusable("licence.file", f"cannot use {error.filename}: {error.strerror}") from error
    if as_json:
        kept = read_text(place.answer)
        print_json(
            {"licence": answer.licence, "status": answer.status, "iat": answer.issued_at, "answer": kept}
        )
    else:
        print(f"The vendor says of licence {answer.licence}: {answer.status}.")
    if answer.status != "good":
        raise typer.Exit(NotInForce.exit_code)


@app.command("nodes")
def nodes(
    statements: Annotated[
        list[Path], typer.Argument(metavar="STATEMENT...", help="Instance statements, or bundles.")
    ],
    licence: Annotated[Path | None, typer.Option("--licence", help="Default: that of the settings.")] = None,
    vendor_key: KeysOption = None,
    as_of: AsOfOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count the instances of collected statements that serve under the licence. Exit code 10: more than it allows."""
    file = licence if licence is not None else _configured(_settings(config)).file
    known, text = _verified(file, vendor_key, config)
    at = int(time.time()) if as_of is None else moment(as_of)
    found = counting.serving((_statement(path) for path in statements), digest(text), at)
    if as_json:
        print_json({"licence": known.id, "nodes": known.nodes, "serving": sorted(found)})
    else:
        print(f"{len(found)} of {known.nodes} instances serve under licence {known.id}.")
    if len(found) > known.nodes:
        raise typer.Exit(NotInForce.exit_code)


def _settings(config: Path | None) -> Settings:
    try:
        return load(config)
    except SettingsError as error:
        raise Unusable("licence.settings", str(error)) from error


def _configured(settings: Settings) -> Place:
    place = place_of(settings)
    if place is None:
        raise Unusable(
            "licence.none", "no licence is configured ([licence] file), and nothing depends on one"
        )
    return place


def _verified(file: Path, vendor_keys: list[Path] | None, config: Path | None) -> tuple[Licence, str]:
    if vendor_keys:
        keys = [load_public_key(read(path, MAX_KEY)) for path in vendor_keys]
    else:
        settings = _settings(config)
        keys = Place(file, settings.licence.vendor_keys, file).keys()
    text = read_text(file)
    return Licence.verify(text, keys), text


def _statement(path: Path) -> str:
    data = read(path, bundles.MAX_BUNDLE)
    if data.lstrip().startswith(b"{"):
        return bundles.parse(data).statement
    return data[: MAX_JWS + 1].decode("ascii", "replace").strip()


def _from_server(url: str) -> str:
    import secrets

    from rlu_attestation.client import Client

    with Client(url) as client:
        return client.attestation(secrets.token_bytes(32)).statement


def _tell(licence: Licence, name: bytes, stands: Standing, as_json: bool) -> None:
    if as_json:
        found: dict[str, Any] = {
            "id": licence.id,
            "vendor": licence.vendor,
            "organisation": licence.organisation,
            "features": list(licence.features),
            "nodes": licence.nodes,
            "begins": licence.not_before,
            "ends": stands.ends_at,
            "refuses": stands.refuses_at,
            "state": stands.state,
            "digest": b64u(name),
        }
        print_json(found)
    else:
        print(
            f"Licence {licence.id} of {printable(licence.vendor)} for {printable(licence.organisation)}: {stands.state}.\n"
            f"From {_date(licence.not_before)} to {_date(stands.ends_at)}; no session is opened after {_date(stands.refuses_at)}.\n"
            f"Instances: {licence.nodes}. Features: {', '.join(licence.features) or 'none'}.\n"
            f"Statements name it by {b64u(name)}."
        )
    if stands.refusal is not None:
        raise typer.Exit(NotInForce.exit_code)


def _date(at: int) -> str:
    try:
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return str(at)
