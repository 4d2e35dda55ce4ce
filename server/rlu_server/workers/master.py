"""The process that is not for serving: it has the listening sockets, forks hub and workers, and replaces workers that die.

No event loop and no thread, so that a fork here is a whole process. A worker's listening socket stays open here: what is in its queue when
it dies is for the next one. The kernel spreads connections over the sockets (SO_REUSEPORT); one socket for all would give bursts to one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlu_server.adapters.events import Events

BACKLOG = 2048
AGAIN_FIRST_S, AGAIN_LAST_S = 0.1, 10.0
LIVED_S = 30.0
"""A worker that lived so long is replaced at once."""
LOOK_S = 0.2
"""A signal for all of us is seen after so long at most."""
KILLED = 128
"""Plus the signal's number: the exit code of a hub that was ended by one."""
_TOLD = {signal.SIGTERM, signal.SIGINT}
_SIGNALS = (signal.SIGCHLD, *_TOLD)
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class _Place:
    """Where one worker is, or will be."""

    pid: int | None = None
    began: float = 0.0
    due: float = 0.0
    wait_s: float = AGAIN_FIRST_S


def listen(host: str, port: int, count: int) -> list[list[socket.socket]]:
    """For each of `count` workers the sockets to listen on, one for every address of the host.

    Raises:
        OSError: as for one socket that is listened on; another gateway on the port is one, although the kernel would let us share it.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    of_workers: list[list[socket.socket]] = [[] for _ in range(count)]
    for family, _, _, _, address in dict.fromkeys(found):
        with _bound(family, (address[0], port, *address[2:]), shared=False) as alone:
            port = port or int(alone.getsockname()[1])
        for sockets in of_workers:
            bound = _bound(family, (address[0], port, *address[2:]), shared=True)
            sockets.append(bound)
            bound.listen(BACKLOG)
    return of_workers


def _bound(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made


class Master:
    """Runs one hub and `len(listeners)` workers.

    Args:
        hub: what the hub runs; returns the exit code. Its socket brings the workers' ends (`receive`), and takes the numbers of workers
            that are to be killed, a byte each.
        worker: what a worker runs, given its number, its listening sockets, and its end of the socket pair.
    """

    def __init__(
        self,
        listeners: Sequence[Sequence[socket.socket]],
        hub: Callable[[socket.socket], int],
        worker: Callable[[int, Sequence[socket.socket], socket.socket], int],
        events: Events,
    ) -> None:
        self._listeners = listeners
        self._hub = hub
        self._worker = worker
        self._events = events
        self._places = [_Place() for _ in listeners]
        self._mask: set[signal.Signals] = set()
        self._hub_pid = 0
        self._stopping = False

    def run(self) -> int:
        """Until the hub has ended; returns its exit code."""
        self._mask = set(map(signal.Signals, signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)))
        # Whole messages, each with a descriptor; the other end's end is seen.
        self._control, hubs_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._hub_pid = self._fork(lambda: self._become_hub(hubs_end))
        hubs_end.close()
        try:
            while True:
                self._start_due()
                self._wait()
                ended = self._reap()
                if ended is not None:
                    return ended
        finally:
            self._end_workers()
            self._control.close()

    def _become_hub(self, hubs_end: socket.socket) -> int:
        self._control.close()
        for sockets in self._listeners:
            for one in sockets:
                one.close()
        return self._hub(hubs_end)

    def _become_worker(self, number: int, end: socket.socket, hubs_end: socket.socket) -> int:
        hubs_end.close()  # with it open, the worker would not see the hub's end
        self._control.close()
        for other, sockets in enumerate(self._listeners):
            if other != number:
                for one in sockets:
                    one.close()
        return self._worker(number, self._listeners[number], end)

    def _start_due(self) -> None:
        now = time.monotonic()
        for number, place in enumerate(self._places):
            if place.pid is None and place.due <= now and not self._stopping:
                self._start(number, place)

    def _start(self, number: int, place: _Place) -> None:
        hubs_end, workers_end = socket.socketpair()
        with hubs_end, workers_end:
            place.pid = self._fork(lambda: self._become_worker(number, workers_end, hubs_end))
            place.began = time.monotonic()
            with contextlib.suppress(OSError):  # the hub has just ended
                socket.send_fds(self._control, [bytes([number])], [hubs_end.fileno()])

    def _wait(self) -> None:
        """For a child's end, a signal for all of us, or the time to start a worker."""
        due = [place.due for place in self._places if place.pid is None]
        left = min((max(at - time.monotonic(), 0.0) for at in due), default=LOOK_S)
        # What it returns is not looked at: when the time runs out while we are stopped (SIGSTOP, a frozen cgroup), it is garbage, for
        # CPython does not notice that nothing was filled in. What is pending is certain.
        signal.sigtimedwait((signal.SIGCHLD,), min(left, LOOK_S))
        if told := signal.sigpending() & _TOLD:
            signal.sigwait(told)
            self._stopping = True
            os.kill(self._hub_pid, signal.SIGTERM)
        with contextlib.suppress(OSError):
            for number in self._control.recv(len(self._places), socket.MSG_DONTWAIT):
                self._kill(self._places[number])

    def _reap(self) -> int | None:
        """Take leave of the dead. Returns the hub's exit code if it is among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if not pid:
                return None
            code = os.waitstatus_to_exitcode(status)
            if pid == self._hub_pid:
                return code if code >= 0 else KILLED - code
            for number, place in enumerate(self._places):
                if place.pid == pid:
                    self._lost(number, place, code)

    def _lost(self, number: int, place: _Place, code: int) -> None:
        now = time.monotonic()
        place.wait_s = (
            0.0 if now > place.began + LIVED_S else min(2 * place.wait_s or AGAIN_FIRST_S, AGAIN_LAST_S)
        )
        place.pid, place.due = None, now + place.wait_s
        if not self._stopping:
            self._events.emit("worker_lost", worker=number, status=code)

    def _end_workers(self) -> None:
        for place in self._places:
            if place.pid is not None:
                self._kill(place)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(place.pid, 0)

    @staticmethod
    def _kill(place: _Place) -> None:
        # It was not reaped yet, so its number is still its own.
        if place.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(place.pid, signal.SIGKILL)

    def _fork(self, role: Callable[[], int]) -> int:
        us = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            _end_with(us)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            code = role()
        except BaseException as error:
            self._events.internal(error)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def receive(control: socket.socket) -> tuple[int, socket.socket] | None:
    """The hub's end for a new worker, with the worker's number; None: the master is gone."""
    try:
        number, handles, _, _ = socket.recv_fds(control, 1, 1, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    return (number[0], socket.socket(fileno=handles[0])) if handles else None


def _end_with(parent: int) -> None:
    """Nobody outlives the master: it has the lock's promise to end with the supervisor, and a fork does not inherit that."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
