"""One function for each kind of fault: break it, wait, mend it. What cannot be broken on this machine is told, not skipped silently."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from faults.deployment import TENANTS, Faulted, stopped
from faults.schedule import Step
from faults.tpm_proxy import Mode
from faults.traffic import LEAVES, Traffic
from rlu_server.attestor import asking
from rlu_server.selftest.faults import FILLER, filled
from rlu_server.selftest.node import NodeError

AT_ONCE = 40
ASKED_S = 5.0
"""Longest wait for an attestor that is asked for something; it may be away."""
STARTED_S = 30.0
"""Longest wait for a process that has ended to be started again."""
SWITCHED_S = 60.0
"""Longest wait for another version of the model; what is broken meanwhile is waited for anyway."""
LOOK_S = 0.05


class Injectors:
    """Breaks one deployment.

    Attributes:
        done: steps that were made; `omitted`: why others could not be.
        stopped: exit statuses of supervisors that were asked to stop; None: one did not end.
        left: what outlived them.
    """

    def __init__(self, deployment: Faulted, traffic: Traffic) -> None:
        self._deployment = deployment
        self._traffic = traffic
        self.done: list[Step] = []
        self.omitted: list[str] = []
        self.stopped: list[int | None] = []
        self.left: list[str] = []

    async def make(self, step: Step) -> None:
        """Break and mend."""
        kinds: dict[str, Callable[[Step], Awaitable[None]]] = {
            "kill": self._kill,
            "terminate": self._terminate,
            "restart": self._restart,
            "stall": self._stall,
            "rotate": self._rotate,
            "switch": self._switch,
            "disk_full": self._disk_full,
            "disk_stall": self._disk_stall,
            "few_files": self._few_files,
            "engine_bad": self._engine_bad,
            "clock": self._clock,
            "flood_requests": self._flood_requests,
            "flood_leaving": self._flood_leaving,
            "flood_tls": self._flood_tls,
        }
        signer = {
            "signer_slow": Mode(delay_s=step.amount),
            "signer_fails": Mode(fails=step.amount),
            "signer_garbles": Mode(garbles=step.amount),
            "signer_hangs_up": Mode(hangs_up=step.amount),
        }
        if step.kind in signer:
            await self._signer(signer[step.kind], step)
        else:
            await kinds[step.kind](step)

    async def _kill(self, step: Step) -> None:
        deployment = self._deployment
        if step.target == "supervisor":
            await asyncio.to_thread(deployment.kill_supervisor)
            await asyncio.to_thread(deployment.start)
        elif step.target == "tpm":
            await self._kill_tpm(step)
        else:
            await self._signal(step, signal.SIGKILL)
            return
        self.done.append(step)

    async def _terminate(self, step: Step) -> None:
        """One process is asked to end, as by an operator's `kill`; it has its say, and is started again."""
        await self._signal(step, signal.SIGTERM)

    async def _signal(self, step: Step, number: signal.Signals) -> None:
        """To a process that runs, or to the next one as soon as it has been started."""
        deadline = time.monotonic() + STARTED_S
        # The launcher of the engine outlives nothing below it, and a worker is one of several.
        while not (pids := self._deployment.pids(step.target)[:1]):
            if not self._deployment.running or time.monotonic() > deadline:
                self.omitted.append(f"{step}: there was no such process")
                return
            await asyncio.sleep(LOOK_S)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[0], number)
        self.done.append(step)

    async def _restart(self, step: Step) -> None:
        """All of it is asked to stop, whatever else is broken; `mended` starts it again."""
        runtime = self._deployment.runtime
        try:
            self.stopped.append(await asyncio.to_thread(self._deployment.terminate))
        except NodeError:
            self.stopped.append(None)
            await asyncio.to_thread(self._deployment.kill_supervisor)
        if runtime.exists():
            self.left.append(str(runtime))
        self.done.append(step)

    async def mended(self) -> None:
        """Nothing is broken any more: what was stopped is started. Raises NodeError."""
        if self.stopped and not self._deployment.running:
            await asyncio.to_thread(self._deployment.start)

    async def _kill_tpm(self, step: Step) -> None:
        tpm = self._deployment.tpm
        assert tpm is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(tpm.pid, signal.SIGKILL)
        try:
            await asyncio.sleep(step.lasts)
        finally:
            tpm.stop()
            await asyncio.to_thread(tpm.start)

    async def _stall(self, step: Step) -> None:
        pids = self._deployment.pids(step.target)
        if step.target == "worker":
            pids = pids[:1]
        if not pids:
            self.omitted.append(f"{step}: there was no such process at that moment")
            return
        with stopped(pids):
            await asyncio.sleep(step.lasts)
        self.done.append(step)

    async def _disk_full(self, step: Step) -> None:
        if self._deployment.no_disk:
            self.omitted.append(f"{step}: {self._deployment.no_disk}")
            return
        filler = self._deployment.place / FILLER
        if filler.exists():
            return  # another step has filled it already
        with filled(filler):
            await asyncio.sleep(step.lasts)
        self.done.append(step)

    async def _disk_stall(self, step: Step) -> None:
        """Whatever writes to the disk waits, and whoever waits for that."""
        if self._deployment.no_disk:
            self.omitted.append(f"{step}: {self._deployment.no_disk}")
            return

        def stand_still() -> None:
            with self._deployment.standing_still():
                time.sleep(step.lasts)

        # In a thread of its own: this one may have to write to that disk.
        try:
            await asyncio.to_thread(stand_still)
        except OSError as error:
            self.omitted.append(f"{step}: {error.strerror}")
            return
        self.done.append(step)

    async def _rotate(self, step: Step) -> None:
        """The next key takes over; the sessions of the one before go on, or are ended."""
        actions: tuple[asking.Action, ...] = ("rotate", "retire") if step.target == "retire" else ("rotate",)
        for action in actions:
            try:
                taken = await asyncio.to_thread(self._deployment.ask_attestor, action)
            except OSError as error:
                self.omitted.append(f"{step}: {error.strerror}")
                return
            deadline = time.monotonic() + step.lasts + ASKED_S
            while not taken() and time.monotonic() < deadline:
                await asyncio.sleep(LOOK_S)
            await asyncio.sleep(step.lasts)
        self.done.append(step)

    async def _switch(self, step: Step) -> None:
        """Another version of the model; until it is served, or not."""
        deployment = self._deployment
        deployment.switch_model()
        deadline = time.monotonic() + SWITCHED_S
        while deployment.running and not deployment.switched and time.monotonic() < deadline:
            await asyncio.sleep(10 * LOOK_S)
        self.done.append(step)

    async def _few_files(self, step: Step) -> None:
        before: list[tuple[int, tuple[int, int]]] = []
        for pid in self._deployment.pids(step.target):
            with contextlib.suppress(OSError, ValueError):  # it has just ended, and has no files any more
                limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                used = max(int(name) for name in os.listdir(Path("/proc") / str(pid) / "fd")) + 1
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + int(step.amount), limits[1]))
                before.append((pid, limits))
        try:
            await asyncio.sleep(step.lasts)
        finally:
            for pid, limits in before:
                with contextlib.suppress(OSError):
                    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        self.done.append(step)

    async def _engine_bad(self, step: Step) -> None:
        self._traffic.bad = True
        await asyncio.sleep(step.lasts)
        self._traffic.bad = False
        self.done.append(step)

    async def _signer(self, mode: Mode, step: Step) -> None:
        self._deployment.proxy.mode = mode
        await asyncio.sleep(step.lasts)
        self._deployment.proxy.mode = Mode()
        self.done.append(step)

    async def _clock(self, step: Step) -> None:
        self._deployment.move_clock(step.amount)
        await asyncio.sleep(step.lasts)
        self._deployment.move_clock(0.0)
        self.done.append(step)

    # --- floods ---

    async def _flood_requests(self, step: Step) -> None:
        """Everybody at once, and all of them wait for their answers."""
        await self._many(step, lambda tenant: self._traffic.ask(tenant))

    async def _flood_leaving(self, step: Step) -> None:
        """Everybody at once, and nobody stays."""
        stages = itertools.cycle(LEAVES)
        await self._many(step, lambda tenant: self._traffic.ask(tenant, "long", leave=next(stages)))

    async def _flood_tls(self, step: Step) -> None:
        """Handshakes that begin and go no further, and what is no handshake at all."""
        await self._many(step, lambda _: self._half_a_handshake(step.lasts))

    async def _half_a_handshake(self, lasts: float) -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self._deployment.port)
            try:
                # The header of a ClientHello of 512 bytes, and none of these.
                writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
                await writer.drain()
                await asyncio.sleep(lasts)
            finally:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _many(self, step: Step, make: Callable[[str], Awaitable[object]]) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with room:
                await make(TENANTS[number % len(TENANTS)])

        await asyncio.gather(*(one(number) for number in range(int(step.amount))))
        self.done.append(step)
