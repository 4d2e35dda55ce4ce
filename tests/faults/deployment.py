"""The deployment that is broken: `rlu serve` under its lock on a disk of its own, with a TPM that can be made slow or taken away."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from e2e.processes import descendants
from faults.command import CLOCK
from faults.tpm_proxy import TpmProxy
from rlu_server import settings as configuration
from rlu_server import swtpm
from rlu_server.attestor import asking
from rlu_server.selftest.image import MIB, Image, ImageError
from rlu_server.selftest.node import Node
from rlu_server.settings import Settings
from rlu_server.updates.store import CURRENT, Store

COMMAND = (sys.executable, str(Path(__file__).with_name("command.py")))
DISK_BYTES = 48 * MIB
TENANTS = ("acme", "globex")
VERSIONS = ("000001-0000000000000001", "000002-0000000000000002")
"""Of the model; both are served alike."""
SWITCHES = ("model.switching", "model.switched", "model.switch_failed", "model.refused")
FREEZE, THAW = 0xC0045877, 0xC0045878
"""FIFREEZE and FITHAW of linux/fs.h."""
RESPONSE_TIMEOUT_S = 4.0
"""Longest silence of the engine; the stand-in's `stall` takes so long."""


class Faulted(Node):
    """Everything of one schedule, below one directory.

    Attributes:
        api_keys: of each tenant.
        proxy: what stands before the TPM.
        disk: None where no disk of its own could be mounted, and why in `no_disk`.
    """

    def __init__(self, home: Path, manufactured: Path, workers: int, seed: int) -> None:
        self._home = home
        self._workers = workers
        for part in ("tpm", "ca"):
            shutil.copytree(manufactured / part, home / "t" / part)
        self.proxy = TpmProxy(home / "p", home / "t" / "swtpm.sock", seed)
        self._offset = home / "c" / "offset"
        self._offset.parent.mkdir()
        self._offset.write_bytes(bytes(8))
        self._store = Store(home / "m")
        for number, version in enumerate(VERSIONS):
            directory = self._store.directory(version)
            directory.mkdir(parents=True)
            (directory / "config.json").write_text('{"model_type": "qwen3"}')
            (directory / "model.safetensors").write_bytes(b"weights %d" % number)
        self._store.switch(VERSIONS[0])
        self._served = self._store.current()
        self.image = Image(home / "disk.img", home / "d", DISK_BYTES)
        self.no_disk = ""
        given = {
            "state_dir": str(home / "none"),
            "model": {"path": str(home / "m"), "name": "m", "signature": "unsafe-optional"},
        }
        super().__init__(home / "d", configuration.load(None, {}, given), COMMAND)
        self.environment[CLOCK] = str(self._offset)
        self.api_keys: Mapping[str, str] = {}

    def prepare(self) -> None:
        try:
            self.image.make()
        except ImageError as error:
            self.no_disk = str(error)
            self.image.mount.mkdir(mode=0o711, exist_ok=True)
        super().prepare()
        self.api_keys = {tenant: self.mint(tenant, "agent") for tenant in TENANTS}
        self.proxy.start()

    def abandon(self) -> None:
        super().abandon()
        self.proxy.stop()
        self.image.abandon()

    def _own(self, given: Settings) -> Settings:
        own: dict[str, Any] = super()._own(given).model_dump()
        self.tpm = swtpm.SoftwareTpm(self._home / "t")
        own["attestation"]["tcti"] = self.proxy.tcti
        own["gateway"].update(workers=self._workers, response_timeout_s=RESPONSE_TIMEOUT_S)
        own["lock"].update(scratch_bytes=32 * MIB)
        own["model"]["path"] = str(self._store.root / CURRENT)
        return Settings.model_validate(own)

    @property
    def log_directory(self) -> Path:
        return self.state / "log"

    def logged(self) -> dict[int, int]:
        """Bytes of each log on the disk at this moment, by the file's number: its name changes when another key takes over."""
        found = {}
        for path in self._logs():
            with suppress(OSError):
                status = path.stat()
                found[status.st_ino] = status.st_size
        return found

    def logs(self) -> dict[int, bytes]:
        """Every instance's log."""
        found = {}
        for path in self._logs():
            with suppress(OSError), path.open("rb") as file:
                found[os.fstat(file.fileno()).st_ino] = file.read()
        return found

    def _logs(self) -> Iterator[Path]:
        # In this order: a log that steps down gets its second name before another takes the first.
        yield self.log_directory / "log.jsonl"
        with suppress(OSError):
            yield from self.log_directory.glob("[!.]*.jsonl")

    def switch_model(self) -> None:
        """To the other version, as `rlu update apply` would."""
        current = self._store.current()
        self._store.switch(next(version for version in VERSIONS if version != current))

    def start(self) -> None:
        self._served = self._store.current()
        super().start()

    @property
    def switched(self) -> bool:
        """Is the version that is to be served, by this supervisor's events, or was it refused?"""
        told = [event for event in self.events() if event["event"] in SWITCHES]
        if not told or told[-1]["event"] == "model.switched":
            return bool((told[-1]["version"] if told else self._served) == self._store.current())
        return bool(told[-1]["event"] != "model.switching")

    def ask_attestor(self, action: asking.Action) -> Callable[[], bool]:
        """As `rlu keys` would. Gives whether it was answered. Blocks while the disk stands still. Raises OSError."""
        directory, asked = self.state / "attestation", asking.Asked(action, os.urandom(8).hex())
        asking.ask(directory, asked)
        return lambda: asking.answered(directory, asked) is not None

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Whoever writes to the disk waits. Raises OSError: it cannot be, or does already."""
        handle = os.open(self.image.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, FREEZE, 0)
            try:
                yield
            finally:
                fcntl.ioctl(handle, THAW, 0)
        finally:
            os.close(handle)

    def pids(self, target: str) -> list[int]:
        """Processes by the name that a schedule has for them, each with everything below it."""
        if target == "tpm":
            return [] if self.tpm is None else [self.tpm.pid]
        if target == "supervisor":
            return [self.pid]
        if target in ("hub", "worker"):
            # The master forks the hub first, and /proc lists children in the order of their birth.
            forked = [list(descendants(master)) for master in self.role("gateway")]
            return [pid for each in forked for pid in (each[:1] if target == "hub" else each[1:])]
        tops = self.role(target)
        return [*tops, *(below for top in tops for below in descendants(top))]

    def resident(self) -> dict[str, int]:
        """Bytes of memory that each kind of process has, the largest of its kind."""
        found: dict[str, int] = {}
        if not self.running:
            return found
        for role in ("supervisor", "attestor", "gateway", "filter", "engine"):
            for pid in self.pids(role):
                with suppress(OSError, ValueError, IndexError):
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                    found[role] = max(found.get(role, 0), pages * os.sysconf("SC_PAGE_SIZE"))
        return found

    def move_clock(self, seconds: float) -> None:
        """Of attestor and gateway."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("<d", seconds))


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Processes that are stopped, and go on."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
