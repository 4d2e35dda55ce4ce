"""The server's part of `rlu log`: export, backup, restore."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.output import print_json
from rlu_attestation.cli.verify import read_api_key
from rlu_attestation.errors import Unreachable
from rlu_attestation.files import load_policy, read
from rlu_attestation.printing import printable
from rlu_server.export import backup as backups
from rlu_server.export.sinks import FileSink, Sink, SinkError, StreamSink

MAX_TOKEN = 4096
MIB = 1024 * 1024

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
StateOption = Annotated[
    Path, typer.Option("--state-dir", help="The server's state directory.", show_default=False)
]


def export(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server.", show_default=False)],
    to: Annotated[
        str, typer.Option("--to", metavar="stdout|FILE|otlp+URL", help="Where entries go.")
    ] = "stdout",
    cursor: Annotated[
        Path, typer.Option("--cursor", help="How far the export has come.", show_default=False)
    ] = Path("rlu-export.json"),
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="What is accepted of the instance (TOML).", show_default=False),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the exporter's API key; default: RLU_API_KEY.", show_default=False),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="How often to ask when nothing waits.")
    ] = 5,
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits.")] = False,
    max_mib: Annotated[
        int, typer.Option(min=1, help="A file is full at this size, and renamed to .1.")
    ] = 256,
    keep: Annotated[int, typer.Option(min=0, help="Full files to keep; 0: all.")] = 0,
    token_file: Annotated[
        Path | None, typer.Option(help="File with a bearer token for the collector.", show_default=False)
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(help="CA certificates for the collector (PEM).", show_default=False)
    ] = None,
    insecure_accept_software_key: Annotated[
        bool,
        typer.Option(
            "--insecure-accept-software-key", help="Go on, with a waiver, when no hardware holds the key."
        ),
    ] = False,
) -> None:
    """Export the content-free log to standard output, a file or an OTLP collector (otlp+http://collector:4318), at least once.

    What arrived is noted in the cursor's file and told to the server, which refuses sessions or notes a gap when too much waits.
    """
    from rlu_attestation.cli.observing import Observer, locked, rejected
    from rlu_attestation.log_client import LogClient
    from rlu_server.export.exporting import Export

    key = read_api_key(api_key_file)
    if key is None:
        raise typer.BadParameter("entries need the exporter's API key: --api-key-file or RLU_API_KEY")
    if policy is None:
        raise typer.BadParameter("without --policy no instance is accepted, and none gets the API key")
    accepted, sink = load_policy(policy), _sink(to, max_mib * MIB, keep, token_file, ca)
    with locked(cursor):
        while True:
            try:
                with LogClient(url, key) as client:
                    observer = Observer(client, accepted, insecure_accept_software_key, False, None)
                    verdict, claims = observer.instance()
                    if claims is None:
                        raise rejected(verdict)
                    run = Export(client, claims.issuer, sink, cursor)
                    while True:
                        while run.step():
                            pass
                        if run.lost is not None:
                            lost = (
                                f"entries from {run.lost.next} on of {run.lost.issuer} are no more to be had"
                            )
                            print(f"rlu: {lost} [export.lost]", file=sys.stderr)
                            run.lost = None
                        if once:
                            return
                        time.sleep(every)
            except (Unreachable, SinkError) as error:
                if once:
                    raise
                print(f"rlu: {printable(error.message)} [{error.code}]", file=sys.stderr)
                time.sleep(every)


def backup(
    state_dir: StateOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="The backup to write.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Back up logs, heads, revocations and continuity statements; also while the server runs. No key and no secret is in a backup."""
    manifest = backups.create(state_dir, out)
    _tell(as_json, manifest, f"{len(manifest['files'])} files are in {out}.")


def restore(
    file: Annotated[
        Path, typer.Argument(metavar="BACKUP", help="A file of `rlu log backup`.", show_default=False)
    ],
    state_dir: StateOption,
    as_json: JsonOption = False,
) -> None:
    """Put a backup where there is no log. The attestor's next start refuses one that is not the newest (log.restored)."""
    manifest = backups.restore(file, state_dir)
    _tell(
        as_json,
        manifest,
        f"{len(manifest['files'])} files are back in {state_dir}. Check them: rlu log audit {state_dir / 'log'}",
    )


def join(app: typer.Typer) -> None:
    """Add the commands to `rlu log`."""
    for command in (export, backup, restore):
        app.command(command.__name__)(command)


def _sink(to: str, max_bytes: int, keep: int, token_file: Path | None, ca: Path | None) -> Sink:
    if to == "stdout":
        return StreamSink(sys.stdout.buffer)
    if not to.startswith("otlp+"):
        return FileSink(Path(to), max_bytes, keep)
    from rlu_server.export.otlp import OtlpSink

    token = None if token_file is None else read(token_file, MAX_TOKEN).decode("ascii", "replace").strip()
    if token is not None and not token.isprintable():
        raise typer.BadParameter(f"{token_file} does not hold a token")
    return OtlpSink(to.removeprefix("otlp+"), token, None if ca is None else str(ca))


def _tell(as_json: bool, value: object, text: str) -> None:
    if as_json:
        print_json(json.loads(json.dumps(value)))
    else:
        print(text)
