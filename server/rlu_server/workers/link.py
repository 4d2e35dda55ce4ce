"""One end of the socket pair between a worker and its hub."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import msgspec

from rlu_server.workers import frames

T = TypeVar("T")


class Link(asyncio.Protocol, Generic[T]):
    """Sends what one turn of the loop had to say in one frame; hands over what comes, message by message.

    Args:
        receive: takes one message.
        lost: called once, when the other end is gone or talks nonsense.
    """

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[list[T]],
        receive: Callable[[T], None],
        lost: Callable[[], None],
    ) -> None:
        self._reader = frames.Reader(decoder)
        self._receive = receive
        self._lost: Callable[[], None] | None = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: list[frames.Message] = []

    async def connect(self, end: socket.socket) -> None:
        """Take over this end; it is closed with the link."""
        await self._loop.create_unix_connection(lambda: self, sock=end)

    def send(self, message: frames.Message) -> None:
        """Send it with everything else of this turn; nothing happens when the other end is gone."""
        if self._lost is None:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(message)

    def send_now(self, message: frames.Message) -> None:
        """Send it, and all before it, along with what is being written to clients: they may ask about it as soon as they have that."""
        self.send(message)
        self._flush()

    def close(self) -> None:
        """End it; `lost` is called."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except frames.FrameError:
            self.close()
            return
        for message in messages:
            if self._lost is None:
                return
            self._receive(message)

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        self._transport = None
        lost, self._lost = self._lost, None
        if lost is not None:
            lost()

    def _flush(self) -> None:
        if self._transport is not None and self._out:
            out, self._out = self._out, []
            self._transport.write(frames.encode(out))
