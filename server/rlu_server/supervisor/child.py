"""A child process that is always the one we mean.

A process id may be taken by another process as soon as its owner was reaped. So signals go through a pidfd, and the whole group (the
engine has workers) is killed while its dead leader is still unreaped, which keeps the number taken.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from rlu_server import terminal


class Child:
    """A running process that leads a group of its own and has no terminal. Make it inside a running event loop.

    Attributes:
        pid: for people to read, not for signals.
        exited: resolves to the exit status (negative: the signal that ended it) once the process and its group are gone.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        pass_fds: Sequence[int] = (),
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        output: int | IO[bytes] = subprocess.DEVNULL,
    ) -> None:
        self._process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=stdin,
            stdout=output,
            stderr=output,
            pass_fds=tuple(pass_fds),
            cwd="/",
            **terminal.apart(),
        )
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._on_exit)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; does nothing once it has ended."""
        if not self.exited.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def stop(self, timeout_s: float) -> int:
        """SIGTERM, then SIGKILL to the whole group after the timeout. Returns the exit status."""
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait((self.exited,), timeout=timeout_s)
        if not done:
            self._kill_group()
        return await self.ended()

    async def ended(self) -> int:
        """The exit status, once there is one. Whoever is cancelled here leaves `exited` as it is for others."""
        return await asyncio.shield(self.exited)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if not self.exited.done():
            self._kill_group()

    def _kill_group(self) -> None:
        # Safe: the leader is not reaped before `_on_exit`, so the group's number is still its own.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._kill_group()
        status = self._process.wait()
        os.close(self._pidfd)
        if not self.exited.done():
            self.exited.set_result(status)
