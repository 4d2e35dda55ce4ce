"""The attestor's Unix socket: peers checked by the kernel's word, frames bounded, answers of one loop turn in one write."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import cast

from rlu_attestation.errors import Malformed
from rlu_server.attestor import frames, messages
from rlu_server.attestor.events import Event
from rlu_server.attestor.roster import Attestor, Roster
from rlu_server.attestor.service import Gateway

MAX_CONNECTIONS = 16
HIGH_WATER = 8 * 1024 * 1024
"""Unread answers beyond which no more requests are read from a gateway."""
LINGER_S = 5.0
DRIFT_CHECK_S = 10.0
EXPIRY_CHECK_S = 1.0
UCRED = struct.Struct("3i")


class Server:
    """Listens, and does what is due by the clock: expiry of sessions, drift of the instance, renewal of its statement.

    Args:
        allowed: user ids that may connect.
    """

    def __init__(self, roster: Roster, path: Path, allowed: frozenset[int]) -> None:
        self.roster = roster
        self.allowed = allowed
        self.connections: set[Connection] = set()
        self.draining = False
        self._path = path
        self._server: asyncio.Server | None = None

    @property
    def attestor(self) -> Attestor:
        """The current instance."""
        return self.roster.current

    @property
    def gateways(self) -> list[Gateway]:
        """Those that are connected."""
        return [connection.gateway for connection in self.connections]

    async def start(self) -> None:
        """Bind the socket, replacing one that a killed predecessor left."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Under another name first: whoever finds the socket under its own can connect at once.
        new = self._path.with_name(f".{self._path.name}.new")
        new.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self), str(new))
        # Who may connect is decided by the directory's permissions and, for certain, by the peer's credentials.
        os.chmod(new, 0o666 if self.allowed - {os.getuid()} else 0o600)
        os.replace(new, self._path)

    async def run_clock(self) -> None:
        """Close expired sessions and those of an instance that changed, renew statements and heads; runs until cancelled."""
        until_drift = DRIFT_CHECK_S
        while True:
            await asyncio.sleep(EXPIRY_CHECK_S)
            for instance in self.roster:
                expired = instance.committer.ledger.expire(instance.clock())
                if expired:
                    instance.committer.submit(expired)
                instance.count()
                instance.committer.beat(instance.head_interval_s)
            committer = self.attestor.committer
            gap = self.attestor.exporting.due(committer.ledger.signed_size)
            if gap is not None:
                committer.submit([gap])
            until_drift -= EXPIRY_CHECK_S
            if until_drift <= 0:
                until_drift = DRIFT_CHECK_S
                for connection in list(self.connections):
                    connection.gateway.tend()

    def stop_listening(self) -> None:
        """No new connections and no new requests; sessions stay as they are, for the attestor's next start."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def close_connections(self) -> None:
        """End the connections, after their last answers were read; not waiting long for who does not read."""
        for connection in list(self.connections):
            connection.finish()
        deadline = asyncio.get_running_loop().time() + LINGER_S
        while self.connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)


class Connection(asyncio.Protocol):
    """One peer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader = frames.RequestReader()
        self._out: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.gateway = Gateway(server.roster, self._send, self.finish)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if peer_uid(transport.get_extra_info("socket")) not in self._server.allowed:
            self._refuse("peer.uid")
        elif self._server.draining or len(self._server.connections) >= MAX_CONNECTIONS:
            self._refuse("peer.too_many")
        else:
            self._transport.set_write_buffer_limits(high=HIGH_WATER)
            self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._server.draining or self.gateway.gone:
            return
        try:
            requests = self._reader.feed(data)
        except Malformed as error:
            self._server.attestor.events.emit(Event.FRAME_REFUSED, error.code)
            self.gateway.fail(0, error)
            self.gateway.lost("gateway_lost")
            self.finish()
            return
        for request in requests:
            self.gateway.request(request)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        if not self._server.draining:
            self.gateway.lost("gateway_lost")

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def finish(self) -> None:
        """Write what there is, then close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _refuse(self, code: str) -> None:
        self._server.attestor.events.emit(Event.PEER_REFUSED, code)
        self.gateway.gone = True
        assert self._transport is not None
        self._transport.abort()

    def _send(self, answer: messages.Answer) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frames.encode(answer))

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()


def peer_uid(connection: socket.socket) -> int:
    """User id of the process at the other end, as the kernel recorded it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    return int(UCRED.unpack(credentials)[1])
