"""One supervised process: started through the lock, measured, waited for, restarted when it dies.

The first start must succeed, or the server does not start. After that a process is started again for ever, with a growing pause: the
engine takes a minute to load, and the attestor may wait for a TPM that was unplugged.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlu_server.lock import profiles
from rlu_server.lock.rlu_lock import EXIT_REFUSED
from rlu_server.supervisor import facts
from rlu_server.supervisor.child import Child
from rlu_server.supervisor.errors import LockRefused, ServeError, StartFailed
from rlu_server.supervisor.plan import Program
from rlu_server.supervisor.streams import Event, Output, read_posture
from rlu_server.waiting import at_most

POSTURE_TIMEOUT_S = 60.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
HEALTHY_S = 60.0
"""A process that ran this long gets the first, short pause again."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A process under the lock."""

    child: Child
    posture: dict[str, Any]


async def launch(
    program: Program,
    facts_dir: Path,
    output: int,
    *,
    stdin: int | None = None,
    keep_fds: tuple[int, ...] = (),
) -> Launched:
    """Start a program through the lock and wait for what the lock measured.

    Raises:
        LockRefused: the kernel granted less than the profile requires.
        StartFailed: the process ended before the lock was closed.
    """
    profile = facts_dir / f"{program.label or program.role}-profile.json"
    facts.write_json(profile, profiles.compose(program.role, program.additions))
    reading, writing = os.pipe()
    command = profiles.command(
        program.python,
        profile,
        program.additions,
        program.module,
        program.arguments,
        posture_fd=writing,
        keep_fds=keep_fds if stdin is None else (0, *keep_fds),
        search_path=program.search_path,
    )
    try:
        child = Child(
            command,
            program.environment,
            pass_fds=(writing, *keep_fds),
            output=output,
            **({} if stdin is None else {"stdin": stdin}),
        )
    except OSError as error:
        os.close(reading)
        raise StartFailed(f"{program.role}: cannot execute {program.python}: {error.strerror}") from error
    finally:
        os.close(writing)
    try:
        posture = await at_most(POSTURE_TIMEOUT_S, read_posture(reading))
    except asyncio.TimeoutError:
        posture = {}
    except asyncio.CancelledError:
        child.kill()
        raise
    if "refused" in posture or not posture:
        child.kill()
        status = await child.ended()
        reasons = posture.get("refused", [])
        if status == EXIT_REFUSED or reasons:
            raise LockRefused(
                f"the lock of the {program.role} is not what is configured:\n  " + "\n  ".join(reasons)
            )
        raise StartFailed(f"{program.role}: ended with status {status} before it was locked")
    return Launched(child, posture)


class Service:
    """A process that is kept running.

    Args:
        start: launches it, and returns once it is ready; raises ServeError.
        on_event: told what happens.
        prefix: put before the names of the process's own events.
        title: what messages call it, if that is not its role.
    """

    def __init__(
        self,
        role: str,
        start: Callable[[Output, Callable[[Child], None]], Awaitable[None]],
        on_event: Event,
        prefix: str = "",
        title: str = "",
    ) -> None:
        self.role = role
        self.title = title or role
        self._prefix = prefix
        self.child: Child | None = None
        self._start = start
        self._on_event = on_event
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The first start.

        Raises:
            ServeError: it failed; the message carries the last lines that the process wrote.
        """
        await self._start_once()
        self._task = asyncio.create_task(self._keep())

    async def stop(self, timeout_s: float) -> None:
        """End it, and keep it ended."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if self.child is not None and not self.child.exited.done():
            status = await self.child.stop(timeout_s)
            self._on_event(f"{self.role}.stopped", {"status": status})

    async def _start_once(self) -> None:
        began = time.monotonic()
        self.child = None
        output = Output(lambda name, values: self._on_event(self._prefix + name, values))
        self._on_event(f"{self.role}.starting", {})
        starting = asyncio.ensure_future(self._start(output, self._note))
        try:
            await self._or_death(starting)
        except BaseException as error:
            # To its end, whether or not we are cancelled meanwhile.
            await asyncio.shield(self._give_up(starting))
            if isinstance(error, StartFailed) and output.lines:
                raise StartFailed(f"{error}\n  " + "\n  ".join(output.lines)) from error
            raise
        output.forget()
        self._on_event(f"{self.role}.ready", {"seconds": round(time.monotonic() - began)})

    async def _give_up(self, starting: asyncio.Future[None]) -> None:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        if self.child is not None:
            self.child.kill()
            await self.child.ended()
        # What the process had to say is in the pipe by now.
        await asyncio.sleep(0.1)

    def _note(self, child: Child) -> None:
        self.child = child

    async def _or_death(self, starting: asyncio.Future[None]) -> None:
        """Until ready; StartFailed if the process ends before."""
        while not starting.done():
            waiting: list[asyncio.Future[Any]] = [starting]
            if self.child is not None:
                waiting.append(self.child.exited)
            # The child appears while the start is under way, hence the short turns.
            await asyncio.wait(waiting, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
            if self.child is not None and self.child.exited.done() and not starting.done():
                raise StartFailed(
                    f"{self.title}: ended with status {self.child.exited.result()} while starting"
                )
        await starting

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._stopping:
            assert self.child is not None
            began = time.monotonic()
            status = await asyncio.shield(self.child.exited)
            self._on_event(f"{self.role}.exited", {"status": status})
            pause = FIRST_PAUSE_S if time.monotonic() - began > HEALTHY_S else pause
            while not self._stopping:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
                try:
                    await self._start_once()
                    break
                except (ServeError, OSError) as error:
                    self._on_event(f"{self.role}.start_failed", {"reason": type(error).__name__})
