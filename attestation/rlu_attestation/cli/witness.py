"""`rlu witness`: a second party that follows a server's log and cosigns its heads, if and only if they extend what it cosigned before.

    rlu witness key NAME -o FILE        once; prints the verifier key for the server's settings and for those who verify
    rlu witness serve URL …             look, check, cosign, bring the cosignature back; again and again

The witness asks the server, never the other way round: a locked gateway has no way out. Its state is on the disk before a cosignature
leaves, so that not even a crash makes it cosign two histories.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from rlu_attestation import cose
from rlu_attestation.cli.observing import Observer, load_state, locked, rejected, save_state
from rlu_attestation.cli.output import print_json
from rlu_attestation.cli.verify import read_api_key
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError, Unreachable
from rlu_attestation.files import load_policy, read, write_private
from rlu_attestation.log.cosignature import Cosignature, WitnessKey, cosign
from rlu_attestation.log.state import State
from rlu_attestation.log_client import LogClient
from rlu_attestation.printing import printable

FOUND = 10
MAX_KEY_FILE = 16 * 1024
DEFAULT_EVERY_S = 60

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Follow a log and cosign its heads.")

NameOption = Annotated[str, typer.Option("--name", help="The witness's name, such as witness.example.")]


class KeyFile(RluError):
    """The witness's key cannot be used."""

    exit_code = 2


@app.command("key")
def key(
    name: Annotated[
        str, typer.Argument(help="The witness's name, such as witness.example.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The key file to write.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Make a witness's key and print its verifier key."""
    if out.exists():
        raise KeyFile("witness.key_file", f"{out} is already there: a witness keeps its key")
    made = ed25519.Ed25519PrivateKey.generate()
    public = _witness(name, made)
    write_private(out, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    if as_json:
        print_json({"verifier_key": public.text})
    else:
        print(public.text)


@app.command("serve")
def serve(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server.", show_default=False)],
    name: NameOption,
    key_file: Annotated[Path, typer.Option("--key", help="The witness's key file.", show_default=False)],
    state_file: Annotated[
        Path,
        typer.Option("--state", help="What was cosigned so far; made on the first look.", show_default=False),
    ],
    policy: Annotated[
        Path, typer.Option("--policy", help="What is accepted of the instance (TOML).", show_default=False)
    ],
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file", help="File with an API key; default: RLU_API_KEY.", show_default=False
        ),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="How often to look.")
    ] = DEFAULT_EVERY_S,
    once: Annotated[
        bool, typer.Option("--once", help="One look, for a timer of the operator's own.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value a look.")] = False,
    insecure_accept_software_key: Annotated[
        bool,
        typer.Option(
            "--insecure-accept-software-key", help="Go on, with a waiver, when no hardware holds the key."
        ),
    ] = False,
) -> None:
    """Follow a server's log, cosign every head that extends what was cosigned before, and bring the cosignature to the server.

    After a rotation the log of the former key is cosigned, too, up to its final head. Ends as soon as a head does not extend what was
    seen. Exit codes: 0 cosigned (--once), 10 findings or a rejected instance, 3 unreachable, 2 usage.
    """
    secret = _load(key_file)
    witness = _witness(name, secret)
    accepted = load_policy(policy)
    api_key = read_api_key(api_key_file)
    if api_key is None:
        raise typer.BadParameter("the log's routes need an API key: --api-key-file or RLU_API_KEY")
    with locked(state_file):
        while True:
            try:
                with LogClient(url, api_key) as client:
                    observer = Observer(client, accepted, insecure_accept_software_key, False, None)
                    state = _seen(observer, state_file)
                    made = [_bring(client, state, witness, secret)]
                    if state.former is not None and not _brought(client, state.former, witness):
                        made.append(_bring(client, state.former, witness, secret))
                _tell(made, as_json)
            except Unreachable as error:
                if once:
                    raise
                print(f"rlu: {printable(error.message)} [{error.code}]", file=sys.stderr)
            if once:
                return
            time.sleep(every)


def _seen(observer: Observer, state_file: Path) -> State:
    """One look; what is known after it is on the disk, so that it may be cosigned."""
    look = observer.look(load_state(state_file), (), ())
    if look.report is None:
        raise rejected(look.verdict)
    for finding in look.report.findings:
        print(f"rlu: {finding.code}: {printable(finding.detail)}", file=sys.stderr)
    state = look.report.state
    if look.report.findings or state is None:
        raise typer.Exit(FOUND)
    save_state(state_file, state)
    return state


def _bring(
    client: LogClient, state: State, witness: WitnessKey, secret: ed25519.Ed25519PrivateKey
) -> tuple[Cosignature, State]:
    made = cosign(state.latest, int(time.time()), witness, secret.sign)
    client.cosign(state.head, made.line)
    return made, state


def _brought(client: LogClient, former: State, witness: WitnessKey) -> bool:
    """Has the server what we have to say of a former log? It is asked, so that what got lost is brought again."""
    for one in client.cosignatures(former.issuer):
        try:
            line, head = Cosignature.parse(one.line), cose.parse_head(one.head)
        except RluError:
            continue
        ours = (line.name, line.key_hash) == (witness.name, witness.hash)
        if ours and head.issuer == former.issuer and head.tree_size >= former.latest.tree_size:
            return True
    return False


def _tell(made: list[tuple[Cosignature, State]], as_json: bool) -> None:
    if not as_json:
        for _, state in made:
            print(f"cosigned {state.latest.tree_size} entries of {state.issuer}", flush=True)
        return
    told = [
        {
            "instance": state.issuer,
            "tree_size": state.latest.tree_size,
            "head": b64u(state.head),
            "cosignature": cosignature.line,
            "time": cosignature.time,
        }
        for cosignature, state in made
    ]
    print(json.dumps(told[0] | ({"former": told[1]} if len(told) > 1 else {})), flush=True)


def _witness(name: str, secret: ed25519.Ed25519PrivateKey) -> WitnessKey:
    public = secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    try:
        return WitnessKey.parse(WitnessKey(name, public).text)
    except (RluError, UnicodeEncodeError) as error:
        raise typer.BadParameter("a witness's name is printable ASCII without space and plus") from error


def _load(path: Path) -> ed25519.Ed25519PrivateKey:
    try:
        found = load_pem_private_key(read(path, MAX_KEY_FILE), None)
    except (ValueError, TypeError) as error:
        raise KeyFile("witness.key_file", f"{path} is not a key file of `rlu witness key`") from error
    if not isinstance(found, ed25519.Ed25519PrivateKey):
        raise KeyFile("witness.key_file", f"{path} does not hold an Ed25519 key")
    return found
