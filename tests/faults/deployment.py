"""The deployment that is broken: `rlu serve` under its lock on a disk of its own, with a TPM that can be made slow or taken away."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from e2e.processes import descendants
from faults.command import CLOCK
from faults.tpm_proxy import TpmProxy
from rlu_server import settings as configuration
from rlu_server import swtpm
from rlu_server.selftest.image import MIB, Image, ImageError
from rlu_server.selftest.node import Node
from rlu_server.settings import Settings

COMMAND = (sys.executable, str(Path(__file__).with_name("command.py")))
DISK_BYTES = 48 * MIB
TENANTS = ("acme", "globex")
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
        (home / "m").mkdir()
        (home / "m" / "config.json").write_text('{"model_type": "qwen3"}')
        (home / "m" / "model.safetensors").write_bytes(b"weights")
        self.image = Image(home / "disk.img", home / "d", DISK_BYTES)
        self.no_disk = ""
        given = {
            "state_dir": str(home / "none"),
            "model": {"path": str(home / "m"), "signature": "unsafe-optional"},
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
        return Settings.model_validate(own)

    @property
    def log_file(self) -> Path:
        return self.state / "log" / "log.jsonl"

    def log_size(self) -> int:
        """Bytes of the log on the disk at this moment."""
        try:
            return self.log_file.stat().st_size
        except OSError:
            return 0

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
