"""The shell for threads: does what the core asks for, one command after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import httpx2

from rlu_attestation.connect import pin
from rlu_attestation.connect.errors import Misuse
from rlu_attestation.connect.status import Status
from rlu_attestation.connect.steps import (
    Adopt,
    Ask,
    Begin,
    Command,
    Emit,
    Head,
    Lock,
    Look,
    Meet,
    Pause,
    Read,
    Report,
    Send,
    Talk,
    Told,
    Unlock,
)
from rlu_attestation.connect.target import LIMITS, Target, failures, take
from rlu_attestation.errors import RluError


class Link:
    """Connections to one server, shared by all exchanges of a run."""

    def __init__(self, target: Target, report: Callable[[Status], None]) -> None:
        self.target = target
        self.report = report
        self.lock = threading.Lock()
        self.pool: httpx2.HTTPTransport | None = None
        self._spki: bytes | None = None
        self._old: list[httpx2.HTTPTransport] = []

    def perform(self, talk: Talk[Any]) -> Generator[Begin | Emit, None, None]:
        """Run a talk; what it gives the client is yielded. Ending the iterator ends the talk."""
        work = _Work(self)
        try:
            command = next(talk)
            while True:
                if isinstance(command, (Begin, Emit)):
                    yield command
                    command = talk.send(None)
                    continue
                try:
                    result = work.do(command)
                except RluError as error:
                    command = talk.throw(error)
                else:
                    command = talk.send(result)
        except StopIteration:
            return
        finally:
            talk.close()
            work.end()

    def run(self, talk: Talk[Any]) -> None:
        """Run a talk that gives the client nothing."""
        for _ in self.perform(talk):
            raise AssertionError("this talk has no client")

    def meet(self, command: Meet) -> Told:
        """Ask on a connection of its own, and see whose it is."""
        seen: list[bytes] = []
        with closing(_transport(pin.recording(seen.append))) as transport:
            return _told(transport, self.target.request(command), seen)

    def ask(self, command: Ask) -> Told:
        return _told(self.bound(), self.target.request(command), [])

    def bound(self) -> httpx2.HTTPTransport:
        """Connections to the adopted key. There is none before a server was verified."""
        if self.pool is None:
            raise Misuse("connect.order", "nothing may be sent before the server was verified", 500)
        return self.pool

    def adopt(self, spki_sha256: bytes | None) -> None:
        """Bind all further connections to this key."""
        if self.pool is not None and spki_sha256 == self._spki:
            return
        if self.pool is not None:
            self._old.append(self.pool)  # exchanges may still be running on it
        self._spki = spki_sha256
        self.pool = _transport(True if spki_sha256 is None else pin.bound_to(spki_sha256))

    def close(self) -> None:
        for pool in (*self._old, self.pool):
            if pool is not None:
                pool.close()
        self._old.clear()
        self.pool = None


class _Work:
    """The commands of one talk."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._locked = False
        self._response: httpx2.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def do(self, command: Command) -> object:
        link = self._link
        match command:
            case Look():
                return link.target.moment()
            case Meet():
                return link.meet(command)
            case Adopt():
                link.adopt(command.spki_sha256)
            case Ask():
                return link.ask(command)
            case Send():
                return self._send(command)
            case Read():
                return self._read()
            case Pause():
                time.sleep(command.seconds)
            case Report():
                link.report(command.status)
            case Lock():
                link.lock.acquire()
                self._locked = True
            case Unlock():
                self._unlock()
        return None

    def end(self) -> None:
        self._unlock()
        self._drop()

    def _send(self, command: Send) -> Head:
        self._drop()
        with failures():
            response = self._link.bound().handle_request(self._link.target.request(command))
        self._response = response
        stream = response.stream
        assert isinstance(stream, httpx2.SyncByteStream)
        self._pieces = iter(stream)
        return Head(response.status_code, _headers(response))

    def _read(self) -> bytes:
        with failures():
            for piece in self._pieces:
                if piece:
                    return piece
        self._drop()
        return b""

    def _unlock(self) -> None:
        if self._locked:
            self._locked = False
            self._link.lock.release()

    def _drop(self) -> None:
        response, self._response = self._response, None
        self._pieces = iter(())
        if response is not None:
            response.close()


def _transport(verify: Any) -> httpx2.HTTPTransport:
    # No proxy of the environment: it would see nothing, but it would be one more party.
    return httpx2.HTTPTransport(verify=verify, trust_env=False, limits=LIMITS)


def _told(transport: httpx2.HTTPTransport, request: httpx2.Request, seen: list[bytes]) -> Told:
    content = bytearray()
    with failures(), closing(transport.handle_request(request)) as response:
        stream = response.stream
        assert isinstance(stream, httpx2.SyncByteStream)
        for piece in stream:
            take(content, piece)
    return Told(response.status_code, _headers(response), bytes(content), seen[-1] if seen else None)


def _headers(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
