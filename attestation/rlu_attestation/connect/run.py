"""A run: the proxy in a thread of its own, from its verification to the close of its session, and the command it is for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import uvicorn

from rlu_attestation.connect.async_link import AsyncLink
from rlu_attestation.connect.closing import close
from rlu_attestation.connect.errors import Misuse
from rlu_attestation.connect.guard import Guard
from rlu_attestation.connect.launch import Local
from rlu_attestation.connect.proxy import Proxy
from rlu_attestation.connect.status import Status
from rlu_attestation.connect.steps import Talk
from rlu_attestation.connect.target import Target

HOST = "127.0.0.1"
BACKLOG = 128
KEEP_ALIVE_S = 120
"""Longer than clients keep a connection they do not use, so that they end it and not we."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to listen: a port of the loopback interface (0: any free one), or a Unix socket."""

    port: int = 0
    unix: Path | None = None


class Run:
    """Verifies when entered, serves until left, and then ends the session.

    Args:
        report: called with every `Status`, from the proxy's thread.

    Raises:
        RluError: on entering: the server was not accepted, or not reached.
    """

    def __init__(
        self,
        target: Target,
        guard: Guard,
        place: Place,
        report: Callable[[Status], None],
    ) -> None:
        self.guard = guard
        self._target = target
        self._place = place
        self._report = report
        self._ready: Future[Local] = Future()
        self._thread = threading.Thread(target=self._main, name="rlu-connect", daemon=True)
        self._server: uvicorn.Server | None = None
        self._ending = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Local:
        self._thread.start()
        try:
            return self._ready.result()
        except BaseException:
            self._stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._ending.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._end)
        self._thread.join()

    def _end(self) -> None:
        """In the thread: serve no longer, or go no further towards it."""
        if self._server is not None:
            self._server.should_exit = True
        elif self._task is not None:
            self._task.cancel()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._ending.is_set():
            return  # said before there was a loop to say it to
        link = AsyncLink(self._target, self._report)
        try:
            with _listen(self._place) as listener, _named(self._place):
                await link.run(_first(self.guard))
                await self._accept(link, listener)
        finally:
            if self._ready.done():
                await link.run(close(self.guard))
            await link.close()

    async def _accept(self, link: AsyncLink, listener: socket.socket) -> None:
        key = "rlu_local_" + secrets.token_urlsafe(32)
        hosts, url = None, "http://localhost"
        if self._place.unix is None:
            port = listener.getsockname()[1]
            hosts, url = frozenset({f"{HOST}:{port}", f"localhost:{port}"}), f"http://{HOST}:{port}"
        session = self.guard.session
        assert session is not None
        server = self._server = uvicorn.Server(
            uvicorn.Config(
                Proxy(link, self.guard, key, hosts),
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=2,
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self._ready.set_result(Local(url, key, session.signed.claims.model_name))
        await server.serve(sockets=[listener])


def run_command(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, in the foreground; returns its exit status, 128 + n if signal n ended it.

    A Ctrl-C is the command's to answer; SIGTERM and SIGHUP are passed on.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    # Before there is a child, so that no signal ends us and leaves it. Functions: a command would inherit that Ctrl-C is ignored.
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        try:
            child = subprocess.Popen(list(words), env=dict(environment))
        except OSError as error:
            raise Misuse("connect.command", f"{words[0]}: {error.strerror}") from error
        for number in early:
            child.send_signal(number)
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def wait_for_signal() -> None:
    """Until Ctrl-C or SIGTERM."""
    asked = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        while not asked.wait(1.0):
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first(guard: Guard) -> Talk[None]:
    yield from guard.ready()


@contextlib.contextmanager
def _named(place: Place) -> Iterator[None]:
    """A socket of ours goes with us; where we could not listen, it is somebody else's."""
    try:
        yield
    finally:
        if place.unix is not None:
            place.unix.unlink(missing_ok=True)


def _listen(place: Place) -> socket.socket:
    """A listening socket that only this user reaches, as far as the system can tell users apart."""
    if place.unix is None:
        # The protocol by name: asyncio turns Nagle's algorithm off only for sockets that say they are TCP.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    else:
        listener = socket.socket(socket.AF_UNIX)
    try:
        _bind(listener, place)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Misuse("connect.listen", f"cannot listen there: {error.strerror}") from error
    return listener


def _bind(listener: socket.socket, place: Place) -> None:
    if place.unix is None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, place.port))
        return
    before = os.umask(0o177)
    try:
        try:
            listener.bind(str(place.unix))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_left(place.unix):
                raise
            place.unix.unlink(missing_ok=True)
            listener.bind(str(place.unix))
    finally:
        os.umask(before)


def _is_left(path: Path) -> bool:
    """Is it the socket of a run that was killed?"""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return path.is_socket()
        except OSError:
            return False
    return False
