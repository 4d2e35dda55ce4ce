"""`rlu doctor`: what is wrong with a deployment, why, and what to do; any code explained; a bundle that support may see."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.explain import meanings
from rlu_attestation.cli.explain import show as show_meanings
from rlu_attestation.cli.output import print_json
from rlu_attestation.codes import Explanation
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_attestation.files import write_new
from rlu_attestation.printing import printable
from rlu_server import preflight
from rlu_server.attestor import journal
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.cli import api_server
from rlu_server.cli.findings import RESULTS, lines
from rlu_server.core.errors import CATALOGUE
from rlu_server.doctor import bundle as bundles
from rlu_server.doctor.judge_deployment import judge_deployment
from rlu_server.doctor.look_deployment import look
from rlu_server.doctor.pods import judge_pods, logs, look_at_pods
from rlu_server.doctor.seen import Seen
from rlu_server.doctor.telling import MAX_LINE, Told, judge_told
from rlu_server.lock import rlu_lock
from rlu_server.outreach.http import Unreachable
from rlu_server.preflight import Finding, Severity
from rlu_server.preflight import cluster as clusters
from rlu_server.settings import Settings
from rlu_server.telemetry import counters

app = typer.Typer(add_completion=False)

ROOT = Path("/")
MOST = 64 << 20
"""Bytes from the end of a file with events."""
LIBRARIES = ("cryptography", "fastapi", "httptools", "msgspec", "orjson", "pydantic", "tpm2-pytss", "uvloop")


@app.command("doctor")
def command(
    code: Annotated[
        str | None,
        typer.Argument(help="A code, an event or an exit code to explain instead.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml.", show_default=False)
    ] = None,
    events: Annotated[
        list[Path] | None,
        typer.Option(
            help="File with events of the server; - is standard input. Repeatable.", show_default=False
        ),
    ] = None,
    cluster: api_server.ClusterOption = False,
    namespace: api_server.NamespaceOption = "rlu",
    context: api_server.ContextOption = "",
    api_address: api_server.AddressOption = "",
    api_ca: api_server.CaOption = None,
    api_token: api_server.TokenOption = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Write a support bundle without content (tar); it is listed first.", show_default=False
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --bundle: do not ask before it is written.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show what is well too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Find out why a deployment refuses or does not become ready: settings, state, files, sockets, /readyz, the node, events.

    With --cluster, from RLU's pods in a namespace: states, events, claims, and the events in their logs. With a code, explain it. Changes
    nothing, and asks neither attestor nor engine.

    Exit codes: 0 nothing to do, 40 warnings, 41 errors, 2 usage.
    """
    if code is not None:
        show_meanings(tuple(_of_server_first(code.strip().lower())), as_json=as_json)
        return
    now = int(time.time())
    told, seen, settings = Told(), Seen(now=now), None
    for path in events or ():
        told.read(_lines(path))
    if cluster:
        found = _of_pods(api_server.server(context, api_address, api_ca, api_token), namespace, told)
    else:
        seen, settings = look(config, now)
        found = [*judge_deployment(seen), *_of_node(settings, whole=everything or bundle is not None)]
    found += judge_told(told)
    found.sort(key=lambda one: -list(Severity).index(one.severity))
    exit_code = preflight.exit_code(found)
    parts = () if bundle is None else _compose(now, seen, settings, found, told)
    if as_json and bundle is not None:
        write_new(bundle, bundles.pack(parts, now), private=True)
    if as_json:
        print_json(
            {
                "result": RESULTS[exit_code],
                "exit_code": exit_code,
                "findings": [one.to_json() for one in found],
                "events": told.to_json(),
                **({} if bundle is None else {"bundle": str(bundle), "parts": [part.name for part in parts]}),
            }
        )
    else:
        print("\n".join(_said(found, whole=everything)))
        if bundle is not None:
            _write(bundle, parts, now, ask=not yes and sys.stdin.isatty())
    if exit_code:
        raise typer.Exit(exit_code)


def _of_server_first(code: str) -> Iterator[Explanation]:
    for one in sorted(meanings(code), key=lambda one: not one.looks):
        kind = CATALOGUE.get(one.code)
        yield replace(one, looks=f"HTTP {kind.status}; {one.looks}") if kind and one.looks else one


def _of_node(settings: Settings | None, *, whole: bool) -> list[Finding]:
    """Of the node; what holds the key matters where the settings name hardware of this machine."""
    node = preflight.look(ROOT, landlock=rlu_lock.landlock_abi(), is_root=os.geteuid() == 0)
    found = [one for one in preflight.judge(node) if whole or one.remedy]
    if settings is None or (
        settings.attestation.holder != "none" and settings.attestation.tcti.startswith("device:")
    ):
        return found
    return [one for one in found if not one.id.startswith(("trust.", "tpm.", "tee."))]


def _of_pods(server: clusters.Server, namespace: str, told: Told) -> list[Finding]:
    try:
        pods = look_at_pods(server, namespace)
        for container, text in logs(server, namespace, pods):
            told.read(text.splitlines(), container)
    except Unreachable as refusal:
        return [clusters.unreachable(refusal.message)]
    return judge_pods(pods)


def _lines(path: Path) -> Iterator[bytes]:
    if str(path) == "-":
        yield from iter(lambda: sys.stdin.buffer.readline(MAX_LINE), b"")
        return
    try:
        with path.open("rb") as file:
            if path.is_file() and path.stat().st_size > MOST:
                file.seek(-MOST, os.SEEK_END)
                file.readline()
            yield from iter(lambda: file.readline(MAX_LINE), b"")
    except OSError as error:
        raise typer.BadParameter(f"--events: {path}: {error.strerror}") from error


def _said(found: list[Finding], *, whole: bool) -> Iterator[str]:
    shown = [one for one in found if whole or one.severity is not Severity.OK]
    yield from lines(shown)
    well = len(found) - len(shown)
    if well or not found:
        yield f"{well} more things are well (--all)." if well else "Nothing was looked at."


def _compose(
    now: int, seen: Seen, settings: Settings | None, found: list[Finding], told: Told
) -> tuple[bundles.Part, ...]:
    return bundles.compose(
        at=now,
        versions=_versions(),
        settings=settings,
        findings=found,
        told=told,
        postures={} if seen.runtime is None else seen.runtime.postures,
        facts={} if seen.runtime is None else seen.runtime.facts,
        metrics=b"" if settings is None else _metrics(settings),
        heads=() if settings is None else tuple(_heads(settings)),
    )


def _versions() -> dict[str, str]:
    found = dict.fromkeys(LIBRARIES, "absent")
    for name in ("rlu", *LIBRARIES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        **found,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
    }


def _metrics(settings: Settings) -> bytes:
    try:
        return counters.exposed(counters.address(settings))
    except RluError:
        return b""


def _heads(settings: Settings) -> Iterator[bundles.Head]:
    """As far as the log can be read by whoever asks."""
    directory = StateFiles(settings.state_dir).log
    try:
        for past in journal.history(directory):
            yield _head(past, in_use=False)
        now = journal.at_rest(directory / journal.FILE_NAME)
    except (OSError, ValueError, RluError):
        return
    if now is not None:
        yield _head(now, in_use=True)


def _head(log: journal.Retired, *, in_use: bool) -> bundles.Head:
    return bundles.Head(log.issuer.rpartition(":")[2], log.size, in_use, b64u(log.head))


def _write(place: Path, parts: tuple[bundles.Part, ...], now: int, *, ask: bool) -> None:
    print(f"\n{printable(str(place))} holds, and nothing else:")
    for part in parts:
        print(f"  {part.name:<18}{len(part.content):>8} bytes  {part.what}")
    if ask and not typer.confirm("Write it?"):
        raise typer.Exit(2)
    write_new(place, bundles.pack(parts, now), private=True)
    print(f"Written. Read it before you hand it out: tar xf {printable(str(place))}")
