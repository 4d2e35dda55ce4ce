"""`rlu log cosignatures`: what witnesses have seen since a bundle was saved, put into it, so that `rlu verify FILE` can tell its time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation import cose
from rlu_attestation.bundle import Bundle
from rlu_attestation.cli.observing import Observer, rejected
from rlu_attestation.cli.output import print_json
from rlu_attestation.cli.verify import read_api_key
from rlu_attestation.errors import Unreachable
from rlu_attestation.files import load_bundle, load_policy, write_private
from rlu_attestation.log.cosignature import Cosignature
from rlu_attestation.log_client import LogClient
from rlu_attestation.policy import Policy


def command(
    bundle: Annotated[Path, typer.Argument(help="A saved bundle with a session.", show_default=False)],
    url: Annotated[str, typer.Argument(metavar="URL", help="The server it is of.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Where the bundle goes; it may be the same file.", show_default=False
        ),
    ],
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="What is accepted of the instance (TOML).", show_default=False),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file", help="File with an API key; default: RLU_API_KEY.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
    insecure_accept_software_key: Annotated[
        bool,
        typer.Option(
            "--insecure-accept-software-key", help="Go on, with a waiver, when no hardware holds the key."
        ),
    ] = False,
) -> None:
    """Fetch witnesses' cosignatures for a saved bundle, with proofs that its entries are under the cosigned heads.

    The bundle may be of an instance that the server was earlier, before a rotation or a new start. The instance that answers is verified
    before the API key is sent; what comes back is verified by `rlu verify` on the bundle. Exit codes: 0 written,
    3 unreachable, or no witness has looked since; 10 a rejected instance, 30 malformed, 2 usage, 1 internal.
    """
    given = load_bundle(bundle)
    if given.session is None:
        raise typer.BadParameter(f"{bundle} holds no session: nothing in it is an entry of the log")
    issuer = cose.parse_inclusion(given.session.receipt).issuer
    key = read_api_key(api_key_file)
    if key is None:
        raise typer.BadParameter("the log is shown to whoever has an API key: --api-key-file or RLU_API_KEY")
    accepted = Policy() if policy is None else load_policy(policy)
    with LogClient(url, key) as client:
        verdict, claims = Observer(client, accepted, insecure_accept_software_key, False, None).instance()
        if claims is None:
            raise rejected(verdict)
        former = None if claims.issuer == issuer else issuer
        if former is not None and client.head_of(former) is None:
            raise typer.BadParameter(
                f"{bundle} is of {issuer}, and the server is {claims.issuer} and has no log of the other"
            )
        found = client.cosigned(given, key, former)
    told = _told(found)
    if not told:
        raise Unreachable(
            "cosignature.none",
            "no witness is known to have looked since the last entry that the bundle holds",
        )
    write_private(out, found.encode())
    if as_json:
        print_json({"result": "written", "exit_code": 0, "cosignatures": told})
        return
    for one in told:
        print(f"{one['witness']} saw {one['tree_size']} entries; verify it: rlu verify {out}")


def _told(bundle: Bundle) -> list[dict[str, object]]:
    """The cosignatures on heads that could hold every statement here, by their size; nothing is verified."""
    logged = [bundle.session, *(exchange.logged for exchange in bundle.exchanges), bundle.close]
    largest = max(cose.parse_inclusion(item.receipt).tree_size for item in logged if item is not None)
    found: list[dict[str, object]] = []
    for one in bundle.cosignatures:
        line, size = Cosignature.parse(one.line), cose.parse_head(one.head).tree_size
        if size >= largest:
            found.append({"witness": line.name, "time": line.time, "tree_size": size})
    return found
