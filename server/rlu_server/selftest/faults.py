"""What is broken while marked requests are under way. Delays come from a seed, so that a schedule can be made again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from rlu_attestation.encoding import b64u
from rlu_server.selftest.caller import Caller, Shot
from rlu_server.selftest.node import STOP_S, Node
from rlu_server.selftest.scenarios import Composer

LOAD = 3
"""Requests that are under way when something is broken."""
DURING = ("chat", "chat_stream", "bad_field")
"""Kinds that are sent while it is broken."""
LONGEST_DELAY_S = 0.6
MOST_SCRATCH = 8 << 30
"""Bytes of memory that filling the scratch may take."""
FILLER = ".rlu-canary-fill"
RECOVER_S = 600.0
Send = Callable[[Shot], Coroutine[Any, Any, None]]


class Faults:
    """Breaks one deployment.

    Args:
        send: makes a request and counts it.
        own_disk: the deployment's files are on a disk of the test's own, which may be filled.

    Attributes:
        made: how often each fault was; what is not here could not be, for the reason in `omitted`.
    """

    def __init__(self, node: Node, composer: Composer, send: Send, seed: int, own_disk: bool) -> None:
        self._node = node
        self._composer = composer
        self._send = send
        self._random = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        self._own_disk = own_disk
        self.made: dict[str, int] = {}
        self.omitted: dict[str, str] = {}

    async def round(self) -> None:
        """Every fault that leaves the supervisor alive, in an order of the seed's."""
        steps = [
            self.kill_engine,
            self.kill_gateway,
            self.kill_attestor,
            self.tpm_lost,
            self.scratch_full,
            self.disk_full,
            self.engine_memory,
        ]
        self._random.shuffle(steps)
        for step in steps:
            await step()

    async def kill_engine(self) -> None:
        await self._kill("engine")

    async def kill_gateway(self) -> None:
        await self._kill("gateway")

    async def kill_attestor(self) -> None:
        await self._kill("attestor")

    async def tpm_lost(self) -> None:
        tpm = self._node.tpm
        if tpm is None:
            self.omitted["tpm_lost"] = "no emulated TPM (swtpm) to take away"
            return
        async with self._load():
            os.kill(tpm.pid, signal.SIGKILL)
            await self._during()
        tpm.stop()
        tpm.start()
        # The keys that were loaded are gone with it; a new attestor loads them again.
        await self._killed("attestor")
        await self._recovered("tpm_lost")

    async def scratch_full(self) -> None:
        scratch = self._node.runtime / "engine"
        if not os.path.ismount(scratch):
            self.omitted["scratch_full"] = "scratch is no file system of its own here"
            return
        free = os.statvfs(scratch).f_bavail * os.statvfs(scratch).f_frsize
        if free > min(MOST_SCRATCH, _available_memory() // 2):
            self.omitted["scratch_full"] = f"filling {free >> 20} MiB of memory might harm this machine"
            return
        with filled(scratch / FILLER):
            async with self._load():
                await self._during()
        await self._recovered("scratch_full")

    async def disk_full(self) -> None:
        if not self._own_disk:
            self.omitted["disk_full"] = "the state is on no disk of its own here"
            return
        with filled(self._node.place / FILLER):
            async with self._load():
                await self._during()
        await self._recovered("disk_full")

    async def engine_memory(self) -> None:
        """Allocations fail, and then the kernel's own end of it: SIGKILL."""
        pid = next(iter(self._node.role("engine")), None)
        if pid is None:
            self.omitted["engine_memory"] = "the engine was not there"
            return
        async with self._load():
            with contextlib.suppress(OSError, ValueError):
                used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
                resource.prlimit(pid, resource.RLIMIT_AS, (used, used))
            await self._during()
            await self._killed("engine")
        await self._recovered("engine_memory")

    async def kill_supervisor(self) -> None:
        """All of it at once; then it starts again and wipes what was left."""
        async with self._load():
            await self._delay()
            await asyncio.to_thread(self._node.kill_supervisor)
        await asyncio.to_thread(self._node.start)
        await self._recovered("kill_supervisor")

    async def terminate(self) -> int:
        """SIGTERM under load; gives the exit status."""
        async with self._load():
            await self._delay()
            status = await asyncio.to_thread(self._node.terminate)
        self._count("terminate")
        return status

    # --- what they share ---

    async def _kill(self, role: str) -> None:
        async with self._load():
            await self._delay()
            if not self._node.kill(role, self._random.randrange(64)):
                return
            await self._during()
        await self._recovered(f"kill_{role}")

    async def _killed(self, role: str) -> None:
        """Kill it and wait for its end: until then what follows would be told that it is ready."""
        before = set(self._node.role(role))
        if self._node.kill(role):
            await asyncio.to_thread(
                self._node.until,
                lambda: not before <= set(self._node.role(role)),
                STOP_S,
                f"the {role}'s end",
            )

    @contextlib.asynccontextmanager
    async def _load(self) -> AsyncIterator[None]:
        """Long answers under way; whatever is left of them at the end is broken off."""
        tasks = [asyncio.create_task(self._send(self._composer.load())) for _ in range(LOAD)]
        await asyncio.sleep(0.2)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _during(self) -> None:
        await asyncio.gather(*(self._send(self._composer.kind(kind)) for kind in DURING))

    async def _delay(self) -> None:
        await asyncio.sleep(self._random.uniform(0, LONGEST_DELAY_S))

    async def _recovered(self, fault: str) -> None:
        await wait_ready(self._node, RECOVER_S)
        self._count(fault)

    def _count(self, fault: str) -> None:
        self.made[fault] = self.made.get(fault, 0) + 1


async def wait_ready(node: Node, timeout_s: float) -> None:
    """Until an answer to a request is signed again. Raises NodeError."""

    def answered(path: str) -> bool:
        caller = Caller(node.port, node.certificate, node.keys.asking)
        return asyncio.run(caller.send(Shot("", path, method="GET"))).status == 200

    def ready() -> bool:
        # Who has just lost the attestor may not know it yet: only a fresh signature shows that there is one.
        return answered("/readyz") and answered(f"/v1/rlu/attestation?nonce={b64u(os.urandom(32))}")

    await asyncio.to_thread(node.until, ready, timeout_s, "readiness")


@contextlib.contextmanager
def filled(path: Path):  # type: ignore[no-untyped-def]
    """Take all room of a file system; without writing, so that what was deleted there stays to be found."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        status = os.statvfs(path.parent)
        at, step = 0, status.f_bfree * status.f_frsize
        while step >= 4096:
            try:
                os.posix_fallocate(descriptor, at, step)
                at += step
            except OSError:
                step //= 2
        yield
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
