"""The gateway's side of the attestor protocol: one connection, pipelined, reconnecting.

Requests of one event-loop turn leave in one write. Answers come in any order and are handed to the callback of their request;
`None` stands for "the connection ended first, nobody knows whether it was done". Each connection that was welcomed, and whose
instance statement verified, is an *epoch*: sequence numbers of one epoch mean nothing in the next until the ledger has settled them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from rlu_attestation.channel import Channel
from rlu_attestation.errors import RluError
from rlu_server.adapters import frames
from rlu_server.adapters.events import Events
from rlu_server.attestor import messages
from rlu_server.attestor.messages import Answer, Failure, Message
from rlu_server.core.cosignatures import taken_apart
from rlu_server.core.errors import GatewayError
from rlu_server.core.proof import Instance, SessionVerifier, verify_instance
from rlu_server.waiting import within

OnAnswer = Callable[[Answer | None], None]
RECONNECT_FIRST_S, RECONNECT_LAST_S = 0.05, 1.0
ANSWER_TIMEOUT_S = 30.0
"""An attestor that keeps a request longer is treated as gone; even a slow TPM signs two batches in far less."""
SEEN_BY_CLIENTS = (
    "not_in_log", "cosignature_refused", "session_expired", "overloaded", "export_behind", "drift",
    "licence_expired", "licence_not_yet", "licence_invalid",
)  # fmt: skip
"""Failures of the attestor that are told as they are."""
A = TypeVar("A", bound=Message)


class AttestorClient:
    """Keeps a verified connection to the attestor, as long as `run` runs.

    Args:
        on_welcome: called at the start of every epoch.
        on_lost: called when one ends.
        on_rotated: called when the attestor's key was rotated within an epoch: open sessions go on.
    """

    def __init__(
        self,
        socket: Path,
        version: str,
        channel: Channel,
        posture: messages.Posture,
        events: Events,
        on_welcome: Callable[[], None],
        on_lost: Callable[[], None],
        on_rotated: Callable[[], None] = lambda: None,
    ) -> None:
        self.welcome: messages.Welcome | None = None
        self.verifier: SessionVerifier | None = None
        self.former: SessionVerifier | None = None
        """Of the key before this one: sessions it was asked for may still come."""
        self.epoch = 0
        self._socket = socket
        self._hello = (version, channel, posture)
        self._events = events
        self._on_welcome = on_welcome
        self._on_lost = on_lost
        self._on_rotated = on_rotated
        self._link: _Link | None = None
        self._last_id = 0

    @property
    def ready(self) -> bool:
        return self.welcome is not None

    @property
    def key_created(self) -> int | None:
        """When the current key was made; None while there is no connection."""
        return None if self.verifier is None else self.verifier.instance.key_created

    def next_id(self) -> int:
        self._last_id = self._last_id % (2**32 - 1) + 1  # 0 is what nobody asked for
        return self._last_id

    def send(self, request: Message, on_answer: OnAnswer) -> None:
        """Send a request; the callback is always called, never from within this call."""
        if self._link is None or self.welcome is None:
            asyncio.get_running_loop().call_soon(on_answer, None)
        else:
            self._link.send(request, on_answer)

    async def call(self, request: Message, answer: type[A]) -> A:
        """Send a request and wait for one kind of answer.

        Raises:
            GatewayError: the failure's own code if clients may see it, else `signer_unavailable`.
        """
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self.send(request, lambda found: None if future.done() else future.set_result(found))
        found = await future
        if isinstance(found, answer):
            return found
        raise refusal(found)

    async def attest(self, nonce: bytes | None) -> messages.Attestation:
        return await self.call(messages.Attest(id=self.next_id(), nonce=nonce), messages.Attestation)

    async def prove(self, leaf_index: int, issuer: str | None = None) -> bytes:
        request = messages.Prove(id=self.next_id(), leaf_index=leaf_index, issuer=issuer)
        return (await self.call(request, messages.Proof)).receipt

    async def prove_consistency(self, old_size: int, issuer: str | None = None) -> bytes:
        request = messages.ProveConsistency(id=self.next_id(), old_size=old_size, issuer=issuer)
        return (await self.call(request, messages.Proof)).receipt

    async def prove_path(self, old_size: int, new_size: int, issuer: str | None = None) -> list[bytes]:
        request = messages.ProvePath(id=self.next_id(), old_size=old_size, new_size=new_size, issuer=issuer)
        return (await self.call(request, messages.Path)).path

    async def leaves(self, start: int, count: int) -> bytes:
        request = messages.ReadLeaves(id=self.next_id(), start=start, count=count)
        return (await self.call(request, messages.Leaves)).leaves

    async def entries(self, start: int, count: int, issuer: str | None) -> messages.Entries:
        request = messages.ReadEntries(id=self.next_id(), start=start, count=count, issuer=issuer)
        return await self.call(request, messages.Entries)

    async def exported(self, size: int) -> int:
        request = messages.AckExport(id=self.next_id(), size=size)
        return (await self.call(request, messages.Exported)).exported

    async def history(self) -> list[messages.Instance]:
        return (await self.call(messages.History(id=self.next_id()), messages.Instances)).instances

    async def latest_head(self, issuer: str | None = None) -> messages.Head:
        return await self.call(messages.LatestHead(id=self.next_id(), issuer=issuer), messages.Head)

    async def cosignatures(self, issuer: str | None = None) -> list[messages.CosignedHead]:
        request = messages.ReadCosignatures(id=self.next_id(), issuer=issuer)
        return (await self.call(request, messages.Cosignatures)).cosignatures

    async def cosign(self, head: bytes, line: str) -> None:
        await self.call(taken_apart(self.next_id(), head, line), messages.Cosignatures)

    async def condition(self) -> messages.Condition:
        return await self.call(messages.ReadCondition(id=self.next_id()), messages.Condition)

    async def run(self) -> None:
        """Connect, introduce ourselves, verify the answer; again whenever the connection ends. Runs until cancelled."""
        delay = RECONNECT_FIRST_S
        loop = asyncio.get_running_loop()
        while True:
            link = _Link(self._rotated)
            try:
                await loop.create_unix_connection(lambda link=link: link, str(self._socket))  # type: ignore[misc]
                if await self._introduce(link):
                    delay = RECONNECT_FIRST_S
                    await self._watch(link)
            except (OSError, frames.FrameError) as error:
                if delay == RECONNECT_FIRST_S:  # once for each time it is away
                    self._events.emit(
                        "attestor_refused", "unreachable", errno=getattr(error, "errno", None) or 0
                    )
            finally:
                self._leave(link)
            await asyncio.sleep(delay)
            delay = min(delay * 2, RECONNECT_LAST_S)

    def distrust(self, error: RluError) -> None:
        """An answer did not verify: this attestor must not be believed, so the connection ends."""
        self._events.emit("attestor_untrusted", error.code)
        if self._link is not None:
            self._link.close()

    async def _introduce(self, link: _Link) -> bool:
        version, channel, posture = self._hello
        request = messages.Hello(
            id=self.next_id(),
            gateway_version=version,
            tls_origin=cast(messages.TlsOrigin, channel.origin),
            tls_spki_sha256=channel.spki_sha256,
            posture=posture,
        )
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        link.send(request, lambda found: None if future.done() else future.set_result(found))
        found = await within(future, ANSWER_TIMEOUT_S)
        if not isinstance(found, messages.Welcome):
            self._events.emit("attestor_refused", found.code if isinstance(found, Failure) else "no_answer")
            return False
        try:
            instance = self._verified(found)
        except RluError as error:
            self._events.emit("attestor_untrusted", error.code)
            return False
        self._link, self.welcome, self.verifier, self.former = link, found, SessionVerifier(instance), None
        self.epoch += 1
        self._events.emit("attestor_connected")
        self._on_welcome()
        return True

    def verifier_of(self, issuer: str) -> SessionVerifier | None:
        """For sessions of this instance; the current one's for an unknown one, which it then refuses."""
        if self.former is not None and self.former.instance.issuer == issuer:
            return self.former
        return self.verifier

    def _verified(self, welcome: messages.Welcome) -> Instance:
        channel = self._hello[1]
        return verify_instance(
            welcome.statement, welcome.jwk, welcome.issuer, welcome.profile_digest, channel
        )

    def _rotated(self, welcome: messages.Welcome) -> None:
        """A welcome that nobody asked for: the next key has taken over."""
        if self.welcome is None:
            return  # the one that is on its way is of the new key
        try:
            instance = self._verified(welcome)
        except RluError as error:
            self.distrust(error)
            return
        self.welcome, self.former, self.verifier = welcome, self.verifier, SessionVerifier(instance)
        self._events.emit("attestor_rotated")
        self._on_rotated()

    async def _watch(self, link: _Link) -> None:
        loop = asyncio.get_running_loop()
        while not link.ended.done():
            await asyncio.wait((link.ended,), timeout=ANSWER_TIMEOUT_S / 4)
            if link.stalled(loop.time() - ANSWER_TIMEOUT_S):
                self._events.emit("attestor_refused", "no_answer")
                return

    def _leave(self, link: _Link) -> None:
        link.close()
        if self._link is link:
            self._link = self.welcome = self.verifier = self.former = None
            self._events.emit("attestor_lost")
            self._on_lost()
        link.abandon()


class _Link(asyncio.Protocol):
    """One connection: coalesces writes, pairs answers with callbacks."""

    def __init__(self, on_rotated: Callable[[messages.Welcome], None]) -> None:
        self._on_rotated = on_rotated
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._reader = frames.FrameReader()
        self._waiting: dict[int, tuple[OnAnswer, float]] = {}
        self._out: list[bytes] = []

    def send(self, request: Message, on_answer: OnAnswer) -> None:
        if self.ended.done():
            self._loop.call_soon(on_answer, None)
            return
        self._waiting[request.id] = (on_answer, self._loop.time())
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frames.encode(request))

    def stalled(self, since: float) -> bool:
        """Has the oldest request waited from before `since`?"""
        return next((sent < since for _, sent in self._waiting.values()), False)

    def close(self) -> None:
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def abandon(self) -> None:
        """Tell everyone who still waits."""
        waiting, self._waiting = self._waiting, {}
        for on_answer, _ in waiting.values():
            on_answer(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            answers = self._reader.feed(data)
        except frames.FrameError:
            self.close()
            return
        for answer in answers:
            on_answer, _ = self._waiting.pop(answer.id, (None, 0.0))
            if on_answer is not None:
                on_answer(answer)
            elif isinstance(answer, messages.Welcome) and answer.id == 0:
                self._on_rotated(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None  # what was asked in this turn of the loop is not written any more
        self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _flush(self) -> None:
        if self._transport is not None and self._out:
            out, self._out = self._out, []
            self._transport.write(b"".join(out))


def refusal(answer: Answer | None) -> GatewayError:
    """What a client is told when the attestor did not do what was asked."""
    if isinstance(answer, Failure) and answer.code in SEEN_BY_CLIENTS:
        return GatewayError(answer.code)
    if isinstance(answer, Failure) and answer.code == "unknown_session":
        return GatewayError("session_closed")
    return GatewayError("signer_unavailable")
