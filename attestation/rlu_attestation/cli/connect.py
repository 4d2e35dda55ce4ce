"""`rlu connect`: a command, or everything on this machine, talks to a server that was verified and proves every answer."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.policies import Choice
from rlu_attestation.cli.verify import read_api_key
from rlu_attestation.connect.errors import Misuse
from rlu_attestation.connect.guard import Guard
from rlu_attestation.connect.launch import Local
from rlu_attestation.connect.run import Place, Run, run_command, wait_for_signal
from rlu_attestation.connect.status import Status
from rlu_attestation.connect.target import Target
from rlu_attestation.errors import RluError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10 only
    import tomli as tomllib

UNPROVEN = 10

app = typer.Typer(add_completion=False)


@app.command("connect")
def command(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server.", show_default=False)],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND...]",
            help="Run this, connected; without it, serve until Ctrl-C.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", help="What is accepted (TOML). Without a policy nothing is.", show_default=False
        ),
    ] = None,
    policy_sha256: Annotated[
        str | None,
        typer.Option(
            "--policy-sha256",
            metavar="HEX",
            help="Refuse another policy than the one with this digest.",
            show_default=False,
        ),
    ] = None,
    policy_key: Annotated[
        Path | None,
        typer.Option(
            "--policy-key",
            help="Refuse a policy that this key (PEM) did not sign (POLICY.sig).",
            show_default=False,
        ),
    ] = None,
    roots: Annotated[
        Path | None,
        typer.Option("--roots", help="Directory of further roots, as for `rlu verify`.", show_default=False),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file", help="File with the server's API key; default: RLU_API_KEY.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", help="Port of the loopback interface; 0: any free one.", min=0, max=65535)
    ] = 0,
    unix: Annotated[
        Path | None,
        typer.Option("--socket", help="Listen on this Unix socket instead of a port.", show_default=False),
    ] = None,
    pass_key: Annotated[
        bool, typer.Option("--pass-key", help="Give the command the server's API key too, as RLU_API_KEY.")
    ] = False,
    accept_instance_change: Annotated[
        bool,
        typer.Option(
            "--accept-instance-change",
            help="Go on, after verification, when the server is another instance than at the start.",
        ),
    ] = False,
    insecure_accept_software_key: Annotated[
        bool,
        typer.Option(
            "--insecure-accept-software-key", help="Go on, with a waiver, when no hardware holds the key."
        ),
    ] = False,
    locked: Annotated[
        bool,
        typer.Option(
            "--locked",
            help="Under a lock of the kernel's (Linux; not with a command): no files, no programs, no other server.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Status lines as JSON objects, one a line.")
    ] = False,
) -> None:
    """Connect OpenAI and Anthropic clients to a server through a local proxy that verifies it.

    Nothing is sent before the server is verified with a fresh nonce; every connection must show the attested TLS key; every answer
    must have a receipt over exactly its bytes. The end of an answer and completed tool calls wait for that receipt.

    Exit codes: the command's own; 10 when the server was rejected or an answer could not be proven, 20 unsupported, 30 malformed,
    3 unreachable, 2 usage, 1 internal.
    """
    real_key = read_api_key(api_key_file)
    if real_key is None:
        raise typer.BadParameter("an API key is needed: --api-key-file or RLU_API_KEY")
    if unix is not None and (words or port):
        raise typer.BadParameter("--socket is for serving without a command and without --port")
    if locked:
        _lock(url, words, port, unix, [path for path in (policy, policy_key, roots, api_key_file) if path])
    choice = Choice(file=policy, digest=policy_sha256, key=policy_key, roots=roots)
    choice.check()
    tell = _Teller(as_json, to_errors=bool(words))
    target = Target(url, real_key, time.time)
    guard = Guard(
        choice.load().policy,
        plaintext=target.plaintext,
        insecure_accept_software_key=insecure_accept_software_key,
        accept_instance_change=accept_instance_change,
    )
    status = 0
    try:
        with Run(target, guard, Place(port=port, unix=unix), tell.status) as local:
            if words:
                environment = local.environment(os.environ, real_key, program=words[0], pass_key=pass_key)
                status = run_command(local.command(words), environment)
            else:
                tell.listening(local, unix)
                wait_for_signal()
    except Misuse:
        raise
    except RluError as error:  # what is wrong with the server was told already
        raise typer.Exit(error.exit_code) from error
    raise typer.Exit(UNPROVEN if guard.failures else status)


def _lock(url: str, words: list[str] | None, port: int, unix: Path | None, files: list[Path]) -> None:
    """Start again under the lock, which is in the server's part of the package."""
    if words or unix is not None:
        raise typer.BadParameter("--locked serves on a port: without --socket, and without a command")
    try:
        connecting = importlib.import_module("rlu_server.lock.connecting")
    except ModuleNotFoundError as error:
        raise typer.BadParameter(
            "--locked needs the package rlu_server, which is not installed here"
        ) from error
    # Directories, because what belongs to a file lies beside it (a signature, a renewed key); and what the policy names elsewhere.
    readable = [path.parent if path.is_file() else path for path in map(Path.absolute, files)]
    readable += [path for file in files if file.suffix == ".toml" for path in _named(file)]
    connecting.become(url, port, readable, [word for word in sys.argv[1:] if word != "--locked"])


def _named(policy: Path) -> list[Path]:
    """Every file that a policy names. One that cannot be read names none; it is refused in its own words later."""
    try:
        pending: list[object] = [tomllib.loads(policy.read_text("utf-8"))]
    except (OSError, ValueError):
        return []
    found = []
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and "/" in value and (path := policy.absolute().parent / value).exists():
            found.append(path)
    return found


class _Teller:
    """Writes status lines: on standard output, or beside the output of a command."""

    def __init__(self, as_json: bool, *, to_errors: bool) -> None:
        self._as_json = as_json
        self._out = sys.stderr if to_errors else sys.stdout

    def status(self, status: Status) -> None:
        self._print(json.dumps(status.to_json()) if self._as_json else status.line())

    def listening(self, local: Local, unix: Path | None) -> None:
        """What to paste."""
        if self._as_json:
            event = {"event": "listening", "url": local.url, "key": local.key, "model": local.model}
            self._print(json.dumps(event if unix is None else {**event, "socket": str(unix)}))
            return
        if unix is not None:
            self._print(f"Listening on {unix}; API key {local.key}")
            return
        for name, value in local.variables().items():
            self._print(f"export {name}={shlex.quote(value)}")
        self._print("codex " + shlex.join(local.codex_options()))
        self._print("Until Ctrl-C; the key is for this run only.")

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)
