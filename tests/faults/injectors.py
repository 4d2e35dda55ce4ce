"""One function for each kind of fault: break it, wait, mend it. What cannot be broken on this machine is told, not skipped silently."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from faults.deployment import TENANTS, Faulted, stopped
from faults.schedule import Step
from faults.tpm_proxy import Mode
from faults.traffic import LEAVES, Traffic
from rlu_server.selftest.faults import FILLER, filled

AT_ONCE = 40


class Injectors:
    """Breaks one deployment.

    Attributes:
        done: steps that were made; `omitted`: why others could not be.
    """

    def __init__(self, deployment: Faulted, traffic: Traffic) -> None:
        self._deployment = deployment
        self._traffic = traffic
        self.done: list[Step] = []
        self.omitted: list[str] = []

    async def make(self, step: Step) -> None:
        """Break and mend."""
        kinds: dict[str, Callable[[Step], Awaitable[None]]] = {
            "kill": self._kill,
            "stall": self._stall,
            "disk_full": self._disk_full,
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
            # The launcher of the engine outlives nothing below it, and a worker is one of several.
            pids = deployment.pids(step.target)[:1]
            if not pids:
                self.omitted.append(f"{step}: there was no such process at that moment")
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.done.append(step)

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

    async def _few_files(self, step: Step) -> None:
        before: list[tuple[int, tuple[int, int]]] = []
        for pid in self._deployment.pids(step.target):
            with contextlib.suppress(OSError):
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
