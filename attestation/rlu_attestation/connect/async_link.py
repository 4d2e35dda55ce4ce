"""The shell for event loops: `link`, with `await`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import anyio
import httpx2

from rlu_attestation.connect import pin
from rlu_attestation.connect.errors import Misuse
from rlu_attestation.connect.link import _headers
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


class AsyncLink:
    """Connections to one server, shared by all exchanges of a run."""

    def __init__(self, target: Target, report: Callable[[Status], None]) -> None:
        self.target = target
        self.report = report
        # Not a lock: the task that ends an exchange is not always the one that began it.
        self.lock = anyio.Semaphore(1)
        self.pool: httpx2.AsyncHTTPTransport | None = None
        self._spki: bytes | None = None
        self._old: list[httpx2.AsyncHTTPTransport] = []

    async def perform(self, talk: Talk[Any]) -> AsyncGenerator[Begin | Emit, None]:
        """Run a talk; what it gives the client is yielded. Closing the generator ends the talk."""
        work = _Work(self)
        try:
            command = next(talk)
            while True:
                if isinstance(command, (Begin, Emit)):
                    yield command
                    command = talk.send(None)
                    continue
                try:
                    result = await work.do(command)
                except RluError as error:
                    command = talk.throw(error)
                else:
                    command = talk.send(result)
        except StopIteration:
            return
        finally:
            talk.close()
            with anyio.CancelScope(shield=True):
                await work.end()

    async def run(self, talk: Talk[Any]) -> None:
        """Run a talk that gives the client nothing."""
        async with aclosing(self.perform(talk)) as outputs:
            async for _ in outputs:
                raise AssertionError("this talk has no client")

    async def meet(self, command: Meet) -> Told:
        """Ask on a connection of its own, and see whose it is."""
        seen: list[bytes] = []
        async with _transport(pin.recording(seen.append)) as transport:
            return await _told(transport, self.target.request(command), seen)

    async def ask(self, command: Ask) -> Told:
        return await _told(self.bound(), self.target.request(command), [])

    def bound(self) -> httpx2.AsyncHTTPTransport:
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

    async def close(self) -> None:
        for pool in (*self._old, self.pool):
            if pool is not None:
                await pool.aclose()
        self._old.clear()
        self.pool = None


class _Work:
    """The commands of one talk."""

    def __init__(self, link: AsyncLink) -> None:
        self._link = link
        self._locked = False
        self._response: httpx2.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def do(self, command: Command) -> object:
        link = self._link
        match command:
            case Look():
                return link.target.moment()
            case Meet():
                return await link.meet(command)
            case Adopt():
                link.adopt(command.spki_sha256)
            case Ask():
                return await link.ask(command)
            case Send():
                return await self._send(command)
            case Read():
                return await self._read()
            case Pause():
                await anyio.sleep(command.seconds)
            case Report():
                link.report(command.status)
            case Lock():
                await link.lock.acquire()
                self._locked = True
            case Unlock():
                self._unlock()
        return None

    async def end(self) -> None:
        self._unlock()
        await self._drop()

    async def _send(self, command: Send) -> Head:
        await self._drop()
        with failures():
            response = await self._link.bound().handle_async_request(self._link.target.request(command))
        self._response = response
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        self._pieces = aiter(stream)
        return Head(response.status_code, _headers(response))

    async def _read(self) -> bytes:
        if self._pieces is not None:
            with failures():
                async for piece in self._pieces:
                    if piece:
                        return piece
        await self._drop()
        return b""

    def _unlock(self) -> None:
        if self._locked:
            self._locked = False
            self._link.lock.release()

    async def _drop(self) -> None:
        response, self._response = self._response, None
        self._pieces = None
        if response is not None:
            await response.aclose()


def _transport(verify: Any) -> httpx2.AsyncHTTPTransport:
    # No proxy of the environment: it would see nothing, but it would be one more party.
    return httpx2.AsyncHTTPTransport(verify=verify, trust_env=False, limits=LIMITS)


async def _told(transport: httpx2.AsyncHTTPTransport, request: httpx2.Request, seen: list[bytes]) -> Told:
    content = bytearray()
    with failures():
        response = await transport.handle_async_request(request)
        try:
            stream = response.stream
            assert isinstance(stream, httpx2.AsyncByteStream)
            async for piece in stream:
                take(content, piece)
        finally:
            await response.aclose()
    return Told(response.status_code, _headers(response), bytes(content), seen[-1] if seen else None)
