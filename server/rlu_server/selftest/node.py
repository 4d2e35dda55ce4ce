"""A deployment of the test's own: the operator's model, engine and lock, on another port, with state, key and TPM that are thrown away.

The node's TPM is left alone: a start there raises its counter of starts, and the node's own log would take that for a restored copy. An
emulator takes its place (`swtpm`), and where there is none a key in memory. Everything the deployment may write to a disk is on `place`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from rlu_server import swtpm, terminal
from rlu_server.cli.keyfile import change
from rlu_server.core import apikeys
from rlu_server.registrar import demo as registrar
from rlu_server.registrar.enrolling import Place
from rlu_server.selftest.traces import Traces
from rlu_server.settings import Settings
from rlu_server.supervisor import facts, models

RLU = (sys.executable, "-c", "from rlu_attestation.cli import main; main()")
ROLES = ("engine", "gateway", "attestor")
DRAIN_S = 3.0
STOP_S = 120.0
LOOK_S = 0.1


class NodeError(Exception):
    """The deployment does not do what the test needs; the message says what, and its log is kept."""


@dataclass(frozen=True, slots=True)
class Keys:
    """API keys: of a tenant that asks, and of whoever exports the log."""

    asking: str
    exporting: str


class Node:
    """`rlu serve` as a child.

    Args:
        place: directory of everything it may write.
        settings: the operator's.
        command: how `rlu` is started.

    Attributes:
        port: that the gateway listens on, and `runtime`, its runtime directory: of the last start.
    """

    def __init__(self, place: Path, settings: Settings, command: Sequence[str] = RLU) -> None:
        self.place = place
        self.log = place / "server.log"
        self.state = place / "state"
        self.config = place / "rlu.toml"
        self._command = tuple(command)
        self.environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(place / "home"),
            "TMPDIR": str(place / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.tpm: swtpm.SoftwareTpm | None = None
        self.traces = Traces(place / "relay", self._command)
        self.settings = self._own(settings)
        self.keys = Keys("", "")
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._given_up = False
        self.port = 0
        self.runtime = place

    def prepare(self) -> None:
        """Directories, TPM, registration, relay, keys.

        Raises:
            SwtpmError, RluError: the emulated TPM refused.
        """
        for name in ("state", "home", "tmp", "cwd"):
            (self.place / name).mkdir(mode=0o700)
        if self.tpm is not None:
            self.tpm.start()
            self._register(self.tpm)
        uids = self.settings.lock.uids
        self.traces.start(self.environment, self.log, None if uids is None else uids.gateway)
        self.keys = Keys(self.mint("canary", "asks"), self.mint("canary", "exports"))
        if uids is not None:
            for path in (self.state, *self.state.rglob("*")):
                os.chown(path, uids.attestor, uids.attestor)
        self.config.write_text(facts.toml(self.settings), "utf-8")

    # --- running it ---

    def start(self) -> None:
        """Start it and wait until it serves.

        Raises:
            NodeError: it ended instead.
        """
        self._read = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [*self._command, "serve", "--config", str(self.config), "--port", "0", "--json"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environment,
                cwd=self.place / "cwd",
                **terminal.apart(),
            )
        self.until(lambda: self.said("serving") > 0, self.settings.engine.ready_timeout_s + 60, "serving")
        self.port = int(next(event["port"] for event in self.events() if event["event"] == "serving"))
        self.runtime = self._runtime()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise NodeError("the deployment was not started")
        return self._process.pid

    @property
    def certificate(self) -> Path:
        return self.runtime / "gateway" / "gateway.crt"

    def events(self) -> list[dict[str, Any]]:
        """What it said since its last start. Other lines, such as those of an error that ended it, are none."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            lines = file.read().split(b"\n")
        found = []
        for line in lines[:-1]:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                found += [event] if isinstance(event, dict) and "event" in event else []
        return found

    def said(self, name: str) -> int:
        return sum(event["event"] == name for event in self.events())

    def until(self, what: Callable[[], bool], timeout_s: float, name: str) -> None:
        """Wait for something. Raises NodeError when it does not happen, or the deployment ends."""
        deadline = time.monotonic() + timeout_s
        while not what():
            if not self.running:
                raise NodeError(f"the deployment ended while {name} was waited for: {self.tail()}")
            if self._given_up:
                raise NodeError(f"{name} is not waited for any longer")
            if time.monotonic() > deadline:
                raise NodeError(f"{name}: not within {timeout_s:.0f} s: {self.tail()}")
            time.sleep(LOOK_S)

    def tail(self) -> str:
        """The end of its log, which is content-free, or it would be a finding."""
        return " | ".join(self.log.read_text("utf-8", "replace").splitlines()[-8:])

    # --- breaking it ---

    def processes(self) -> list[int]:
        """All processes below the supervisor."""
        return list(_descendants(self.pid)) if self.running else []

    def role(self, role: str) -> list[int]:
        """The processes of a role; there may be several engines and gateways, with labels of their own."""
        named = re.compile(rf".*/{role}[^/]*-profile\.json")
        return [pid for pid in _children(self.pid) if any(map(named.fullmatch, _command_line(pid)))]

    def kill(self, role: str, which: int = 0) -> bool:
        """SIGKILL to one of them; whether there was something to kill.

        Args:
            which: any number; it is counted around.
        """
        pids = sorted(self.role(role))
        if not pids:
            return False
        try:
            os.kill(pids[which % len(pids)], signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def kill_supervisor(self) -> None:
        """SIGKILL to `rlu serve` itself; its processes must follow it.

        Raises:
            NodeError: they did not.
        """
        below = self.processes()
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + STOP_S
        while any(_alive(pid) for pid in below):
            if time.monotonic() > deadline:
                raise NodeError("processes outlived the supervisor that was killed")
            time.sleep(LOOK_S)

    def terminate(self) -> int:
        """SIGTERM, and wait. Gives the exit status.

        Raises:
            NodeError: it did not end.
        """
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            raise NodeError(f"it did not end within {STOP_S:.0f} s of SIGTERM") from error

    def give_up(self) -> None:
        """Whoever waits for something gets a NodeError."""
        self._given_up = True

    def abandon(self) -> None:
        """End everything of it, however it stands."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.traces.stop()
        if self.tpm is not None:
            self.tpm.stop()

    def _runtime(self) -> Path:
        """As the command lines of the supervisor's children name it."""
        for child in self.processes():
            for word in _command_line(child):
                if word.endswith("-profile.json"):
                    return Path(word).parents[1]
        raise NodeError("the deployment has no processes")

    # --- making it ---

    def _own(self, given: Settings) -> Settings:
        """The operator's settings, with whatever would touch the node itself replaced."""
        changes: dict[str, Any] = given.model_dump()
        changes.update(state_dir=self.state, runtime_dir=None)
        # Who may come in, and how much, is for keys of its own. Every request is traced, to a collector of its own.
        del changes["admission"], changes["metrics"]
        changes["auth"] = {"relay": self.traces.relay}
        changes["tracing"]["sample"] = 1.0
        fetched = given.state_dir.expanduser().resolve()
        for engine in (changes["model"], *changes["further_engines"]):
            engine["path"] = str(models.directory(engine["path"], fetched))
        if not given.model.name and models.HUB_ID.fullmatch(given.model.path):
            changes["model"]["name"] = given.model.path
        changes["gateway"].update(
            host="127.0.0.1",
            port=0,
            insecure_plain_http=False,
            hostnames=("localhost", "127.0.0.1"),
            api_keys_file=None,
            drain_timeout_s=DRAIN_S,
            access_log=True,
        )
        attestation: dict[str, Any] = {
            "rotate_days": 0,
            "gpu": {**changes["attestation"]["gpu"], "evidence": "none"},
        }
        if all(shutil.which(tool) for tool in swtpm.TOOLS):
            uids = given.lock.uids
            self.tpm = swtpm.SoftwareTpm(self.place / "tpm", None if uids is None else uids.attestor)
            attestation["tcti"] = self.tpm.tcti
        else:
            attestation["insecure_software_key"] = True
        changes["attestation"] = attestation
        changes["log"].update(exporter="canary/exports", witnesses=(), export_limit=0)
        return Settings.model_validate(changes)

    def _register(self, tpm: swtpm.SoftwareTpm) -> None:
        stated = self.settings.deployment
        registrar.enrol(
            self.place / "registrar",
            self.state,
            tpm.tcti,
            Place(stated.region, stated.boundary, stated.site),
            datetime.now(timezone.utc),
            [swtpm.root_certificate(tpm.directory)],
            [swtpm.issuer_certificate(tpm.directory)],
        )

    def mint(self, tenant: str, principal: str) -> str:
        """A new API key."""
        record, key = apikeys.mint(
            os.urandom(apikeys.ID_SIZE),
            os.urandom(apikeys.SECRET_SIZE),
            tenant,
            principal,
            int(time.time()),
            None,
        )
        file = self.state / "apikeys.json"
        change(file, lambda keys: msgspec.structs.replace(keys, keys=[*keys.keys, record]))
        return key


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return found


def _descendants(pid: int) -> list[int]:
    found = []
    for child in _children(pid):
        found += [child, *_descendants(child)]
    return found


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def _alive(pid: int) -> bool:
    """Not gone, and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False
