"""A gateway of several processes, as it runs, between the scripted engine and the fake attestor of the test's loop.

`Fleet` is a `Rig` whose gateway is a master with its hub and workers. Which worker a connection goes to is the kernel's choice, so `wires`
opens connections until each worker has one, and tells them apart by the request ids that a worker gives.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.processes import descendants, environment
from fakes.rig import Response, Rig, Wire
from ports import free_port
from rlu_server.settings import Settings
from rlu_server.supervisor import facts

START_S = 60.0


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "rlu_server.gateway", "--config", str(config)]


def alive(pid: int) -> bool:
    """Is it a process that still runs? One that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Processes:
    """The master and its children. Has what a `Rig` asks of its gateway."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = command
        self._log = log
        self._master: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._master = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                process_group=0,
            )

    async def stop(self) -> None:
        children = self.children if self.running else []
        if self.running:
            self._master.kill()
        await self.ended()
        # They end with it; then their connections to the engine do, in this loop.
        while any(alive(pid) for pid in children):
            await asyncio.sleep(0.01)

    async def ended(self) -> int:
        assert self._master is not None
        return await asyncio.to_thread(self._master.wait, 60)

    @property
    def running(self) -> bool:
        return self._master is not None and self._master.poll() is None

    @property
    def pid(self) -> int:
        assert self._master is not None
        return self._master.pid

    @property
    def port(self) -> int:
        return int(next(e["port"] for e in self.events() if e["event"] == "gateway_listening"))

    @property
    def children(self) -> list[int]:
        """The hub's process id, then the workers', in the order of their starts."""
        return list(descendants(self.pid))

    def events(self) -> list[dict[str, Any]]:
        # The last line may still be written.
        lines = self._log.read_bytes().split(b"\n")[:-1] if self._log.exists() else []
        return [json.loads(line) for line in lines if line.startswith(b'{"time"')]

    def tell(self, number: signal.Signals) -> None:
        assert self._master is not None
        self._master.send_signal(number)


@dataclass
class Fleet(Rig):
    workers: int = 2
    limits: str = ""
    """The limits file."""

    async def __aenter__(self) -> Fleet:
        try:
            await super().__aenter__()
        except BaseException:
            self.wires = []
            await self.__aexit__()
            raise
        return self

    def make_gateway(self) -> Any:
        config = self.directory / "rlu.toml"
        settings = {
            "workers": self.workers,
            "port": free_port(),
            "insecure_plain_http": not self.tls,
            **self.overrides,
        }
        (self.directory / "limits.toml").write_text(self.limits)
        document = self.settings.model_dump()
        document["gateway"].update(settings)
        config.write_text(facts.toml(Settings.model_validate(document)))
        return Processes(self.launcher(config), self.directory / "gateway.log")

    def launcher(self, config: Path) -> list[str]:
        """The command line; a test may have it locked."""
        return command(config)

    async def ready(self, timeout: float = START_S) -> None:
        """Every worker is let in, and what it asks is answered."""
        await self.eventually(self._all_ready, timeout)
        self.wires = []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while (await self.call("/readyz", None, who=None, method="GET")).status != 200:
            assert loop.time() < deadline, self.log
            await asyncio.sleep(0.05)
        for wire in await self.wire_each():
            # An engine is proven by each worker for itself.
            while (await self.ask(wire, "/v1/chat/completions", self.chat(), who="bob")).status != 200:
                assert loop.time() < deadline, self.log
                await asyncio.sleep(0.05)
            wire.abort()

    def _all_ready(self) -> bool:
        assert self.gateway.running, self.log
        return len([e for e in self.gateway.events() if e["event"] == "worker_ready"]) >= self.workers

    @property
    def log(self) -> str:
        return (self.directory / "gateway.log").read_text("utf-8", "replace")

    async def ask(self, wire: Wire, path: str, body: Any, **options: Any) -> Response:
        """One request on this connection, and its answer."""
        await wire.send(self.request(path, body, **options))
        return await wire.response()

    async def wire_each(self, each: int = 1) -> list[Wire]:
        """So many connections to each worker, alternating."""
        found: dict[str, list[Wire]] = {}
        for _ in range(64 * self.workers * each):
            wire = await self.wire()
            answer = await self.ask(wire, "/v1/models", None, method="GET")
            wires = found.setdefault(answer.headers["x-request-id"].split("_")[1], [])
            if len(wires) < each:
                wires.append(wire)
            else:
                wire.abort()
            if [len(some) for some in found.values()] == [each] * self.workers:
                return [wire for turn in zip(*found.values(), strict=True) for wire in turn]
        raise AssertionError(f"connections reached only {len(found)} workers")

    def worker_pids(self) -> list[int]:
        return self.gateway.children[1:]

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
