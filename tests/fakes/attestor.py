"""A working attestor in memory: software P-256 key, real tree, real heads, the protocol of messages.py on a Unix socket.

It batches as the real one does: whatever arrived since the last signature is covered by the next. Knobs: `delay_s` per signature,
`may_sign` (wait until it is set), `failing` (sign nothing), `silent` (answer nothing), `corrupt` (a function over every answer before it
is sent).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from rlu_attestation import canonical, cose, jose
from rlu_attestation.channel import Channel
from rlu_attestation.encoding import b64u
from rlu_attestation.instance import InstanceClaims, issuer, profile_digest
from rlu_attestation.merkle import Tree, leaf_hash
from rlu_attestation.models import Software
from rlu_attestation.statements import (
    Close,
    Content,
    Receipt,
    SessionStatement,
    Usage,
    running_next,
    running_start,
)
from rlu_server.attestor import messages
from rlu_server.attestor.messages import Answer, Failure, Logged

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(messages.Request).decode


@dataclass
class OpenSession:
    statement: bytes
    running: bytes
    connection: object | None
    last_seq: int = 0
    count: int = 0
    open: set[int] = field(default_factory=set)
    logged: dict[int, Logged] = field(default_factory=dict)
    expires_at: int = 0
    closed: bool = False


@dataclass
class Waiting:
    statement: bytes
    finish: Callable[[int, bytes], Answer]
    connection: Connection
    fail_id: int


class FakeAttestor:
    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.jwk = jose.public_jwk(self.key.public_key())
        self.kid = jose.thumbprint(self.jwk)
        self.issuer = issuer(self.kid)
        self.tree = Tree()
        self.leaves: list[bytes] = []
        self.sessions: dict[str, OpenSession] = {}
        self.delay_s = 0.0
        self.may_sign = asyncio.Event()
        self.may_sign.set()
        self.failing = False
        self.silent = False
        self.corrupt: Callable[[Answer], Answer] | None = None
        self.signatures = 0
        self.received: list[messages.Message] = []
        self.head: tuple[bytes, bytes, bytes, int] | None = None
        self.waiting: list[Waiting] = []
        self.server: asyncio.AbstractServer | None = None
        self.connections: set[Connection] = set()
        self.pump: asyncio.Task[None] | None = None
        self.wake = asyncio.Event()

    async def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self.server = await loop.create_unix_server(lambda: Connection(self), str(self.socket))
        self.pump = asyncio.create_task(self._sign_batches())

    async def stop(self, *, crash: bool = True) -> None:
        """End the process. A crash forgets exchanges that had begun; the log, and the sessions in it, survive."""
        if self.pump is not None:
            self.pump.cancel()
        if self.server is not None:
            self.server.close()
        self.waiting.clear()
        for session in self.sessions.values():
            session.connection = None
            session.open.clear()
            session.last_seq = max(session.logged, default=0)
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()
        self.connections.clear()
        await asyncio.sleep(0)

    def sign(self, message: bytes) -> bytes:
        r, s = utils.decode_dss_signature(self.key.sign(message, ec.ECDSA(SHA256())))
        self.signatures += 1
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def instance(self, channel: Channel, nonce: bytes | None = None) -> tuple[str, bytes]:
        now = int(time.time())
        claims = InstanceClaims(
            jwk=self.jwk,
            issued_at=now,
            expires_at=now + 3600,
            nonce=nonce,
            oemboot=False,
            dbgstat="enabled",
            key_hardware="none",
            key_created=0,
            tls=channel,
            model_name="scripted",
            model_manifest=bytes(32),
            engine=Software("vllm", "0", bytes(32)),
            gateway=Software("rlu", "0"),
            hardware_profile="test",
            lock={},
            region="here",
            boundary="test",
            site="test",
            start_count=1,
        )
        payload = claims.encode()
        signing_input = jose.jws_signing_input(self.kid, payload)
        return jose.jws_assemble(signing_input, self.sign(signing_input)), profile_digest(
            canonical.decode(payload)
        )

    def condition(self, request_id: int) -> messages.Condition:
        size = 0 if self.head is None else self.head[3]
        return messages.Condition(
            id=request_id,
            signatures=[self.signatures] + [0] * len(messages.SIGNING_BUCKETS),
            signing_s=0.0005 * self.signatures,
            waiting=len(self.waiting),
            failing=self.failing,
            entries=size,
            exported=0,
            head_at=int(time.time()),
            stated_at=int(time.time()),
            drift=None,
            canary_at=int(time.time()) - 86400,
            leaving=False,
            licence=messages.LicenceCondition(ends_in_s=864000, refuses_in_s=950400, refusing=False),
        )

    def enqueue(self, waiting: Waiting) -> None:
        self.waiting.append(waiting)
        self.wake.set()

    async def _sign_batches(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            batch, self.waiting = self.waiting, []
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self.may_sign.wait()
            if self.failing:
                for item in batch:
                    item.connection.answer(
                        Failure(id=item.fail_id, code="signer_unavailable", message="the signer failed")
                    )
                continue
            indexes = []
            for item in batch:
                indexes.append(self.tree.append(leaf_hash(item.statement)))
                self.leaves.append(item.statement)
            size = self.tree.size
            protected = cose.head_protected(self.kid, self.issuer, int(time.time()), size)
            signature = self.sign(cose.signature_input(protected, self.tree.root()))
            self.head = (protected, self.tree.root(), signature, size)
            for item, index in zip(batch, indexes, strict=True):
                receipt = cose.assemble_inclusion(
                    protected, signature, size, index, self.tree.inclusion_path(index, size)
                )
                item.connection.answer(item.finish(index, receipt))


class Connection(asyncio.Protocol):
    def __init__(self, attestor: FakeAttestor) -> None:
        self.attestor = attestor
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.channel: Channel | None = None
        self.profile = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.attestor.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self not in self.attestor.connections:
            return
        self.attestor.connections.discard(self)
        for name, session in self.attestor.sessions.items():
            if session.connection is self and not session.closed:
                session.closed = True
                self.attestor.leaves.append(f"gateway_lost:{name}:{sorted(session.open)}".encode())
                self.attestor.tree.append(leaf_hash(self.attestor.leaves[-1]))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= 4:
            size = int.from_bytes(self.buffer[:4], "big")
            if len(self.buffer) < 4 + size:
                return
            request = _decode(bytes(self.buffer[4 : 4 + size]))
            del self.buffer[: 4 + size]
            self.attestor.received.append(request)
            if not self.attestor.silent:
                self.handle(request)

    def answer(self, answer: Answer) -> None:
        if self.attestor.corrupt is not None:
            answer = self.attestor.corrupt(answer)
        payload = _encode(answer)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(len(payload).to_bytes(4, "big") + payload)

    def fail(self, request: messages.Message, code: str) -> None:
        self.answer(Failure(id=request.id, code=code, message="refused"))

    def handle(self, request: messages.Request) -> None:
        attestor = self.attestor
        match request:
            case messages.Hello():
                self.channel = Channel(request.tls_origin, request.tls_spki_sha256)
                statement, self.profile = attestor.instance(self.channel)
                self.answer(
                    messages.Welcome(
                        id=request.id,
                        statement=statement,
                        jwk=attestor.jwk,
                        issuer=attestor.issuer,
                        profile_digest=self.profile,
                    )
                )
            case messages.Attest():
                assert self.channel is not None
                statement, _ = attestor.instance(self.channel, request.nonce)
                item = messages.EvidenceItem(kind="none", data=b'{"kind":"none"}')
                self.answer(messages.Attestation(id=request.id, statement=statement, evidence=[item]))
            case messages.OpenSession():
                self.open_session(request)
            case messages.BeginExchange():
                session = self.adopt(request, request.session)
                if session is not None:
                    session.last_seq += 1
                    session.open.add(session.last_seq)
                    self.answer(messages.ExchangeBegun(id=request.id, seq=session.last_seq))
            case messages.RecordReceipt():
                self.record(request)
            case messages.CloseSession():
                self.close_session(request)
            case messages.Prove() | messages.ProveConsistency() | messages.LatestHead():
                self.prove(request)
            case messages.ReadCosignatures():
                self.answer(messages.Cosignatures(id=request.id, cosignatures=[]))
            case messages.ReadCondition():
                self.answer(attestor.condition(request.id))

    def prove(self, request: messages.Prove | messages.ProveConsistency | messages.LatestHead) -> None:
        attestor = self.attestor
        match request:
            case messages.Prove():
                if attestor.head is None or request.leaf_index >= attestor.head[3]:
                    self.fail(request, "not_in_log")
                    return
                protected, _, signature, size = attestor.head
                path = attestor.tree.inclusion_path(request.leaf_index, size)
                receipt = cose.assemble_inclusion(protected, signature, size, request.leaf_index, path)
                self.answer(messages.Proof(id=request.id, receipt=receipt))
            case messages.ProveConsistency():
                if attestor.head is None or request.old_size > attestor.head[3]:
                    self.fail(request, "not_in_log")
                    return
                protected, _, signature, size = attestor.head
                path = attestor.tree.consistency_path(request.old_size, size)
                receipt = cose.assemble_consistency(protected, signature, request.old_size, size, path)
                self.answer(messages.Proof(id=request.id, receipt=receipt))
            case messages.LatestHead():
                if attestor.head is None:
                    self.fail(request, "not_in_log")
                    return
                protected, root, signature, size = attestor.head
                head = cose.assemble_head(protected, root, signature)
                self.answer(messages.Head(id=request.id, head=head, tree_size=size))

    def adopt(self, request: messages.Message, name: str) -> OpenSession | None:
        session = self.attestor.sessions.get(name)
        if session is not None and session.connection is None:
            session.connection = self
        if session is None or session.closed or session.connection is not self:
            self.fail(request, "unknown_session")
            return None
        if time.time() >= session.expires_at and isinstance(request, messages.BeginExchange):
            self.fail(request, "session_expired")
            return None
        return session

    def open_session(self, request: messages.OpenSession) -> None:
        assert self.channel is not None
        now = int(time.time())
        name = b64u(os.urandom(16))
        opening = request.opening
        statement = SessionStatement(
            issuer=self.attestor.issuer,
            session=name,
            issued_at=now,
            expires_at=now + request.ttl_s,
            instance=self.profile,
            nonce=request.nonce,
            client_key=request.cnf_jkt,
            tenant=request.tenant,
            principal=request.principal,
            channel=self.channel,
            commitment_key=request.commitment_key_digest,
            opening=None if opening is None else Content(opening.bytes, opening.commitment),
            policies=tuple(request.policies),
            blind=os.urandom(16),
        ).encode()

        def finish(index: int, receipt: bytes) -> Answer:
            self.attestor.sessions[name] = OpenSession(
                statement, running_start(statement), self, expires_at=now + request.ttl_s
            )
            logged = Logged(statement=statement, leaf_index=index)
            return messages.SessionOpened(id=request.id, session=name, logged=logged, receipt=receipt)

        self.attestor.enqueue(Waiting(statement, finish, self, request.id))

    def record(self, request: messages.RecordReceipt) -> None:
        session = self.adopt(request, request.session)
        if session is None:
            return
        if request.seq in session.logged:
            self.answer(messages.ReceiptRecorded(id=request.id, logged=session.logged[request.seq]))
            return
        if request.seq not in session.open:
            self.fail(request, "unknown_exchange")
            return
        statement = Receipt(
            issuer=self.attestor.issuer,
            session=request.session,
            session_leaf=leaf_hash(session.statement),
            seq=request.seq,
            issued_at=int(time.time()),
            route=request.route,
            model=request.model,
            status=request.status,
            http_status=request.http_status,
            request=request.request and Content(request.request.bytes, request.request.commitment),
            forwarded=request.forwarded and Content(request.forwarded.bytes, request.forwarded.commitment),
            rewritten=tuple(request.rewritten),
            response=request.response and Content(request.response.bytes, request.response.commitment),
            usage=request.usage
            and Usage(
                request.usage.input_tokens, request.usage.output_tokens, request.usage.cached_input_tokens
            ),
            reason=request.reason,
            blind=os.urandom(16),
        ).encode()

        def finish(index: int, _receipt: bytes) -> Answer:
            logged = Logged(statement=statement, leaf_index=index)
            session.open.discard(request.seq)
            session.logged[request.seq] = logged
            session.count += 1
            session.running = running_next(session.running, leaf_hash(statement))
            return messages.ReceiptRecorded(id=request.id, logged=logged)

        self.attestor.enqueue(Waiting(statement, finish, self, request.id))

    def close_session(self, request: messages.CloseSession) -> None:
        session = self.adopt(request, request.session)
        if session is None:
            return
        statement = Close(
            issuer=self.attestor.issuer,
            session=request.session,
            session_leaf=leaf_hash(session.statement),
            issued_at=int(time.time()),
            last_seq=session.last_seq,
            count=session.count,
            running=session.running,
            reason=request.reason,
            scratch=request.scratch,
            blind=os.urandom(16),
        ).encode()

        def finish(index: int, _receipt: bytes) -> Answer:
            session.closed = True
            return messages.SessionClosed(id=request.id, logged=Logged(statement=statement, leaf_index=index))

        self.attestor.enqueue(Waiting(statement, finish, self, request.id))


def mangled(answer: Answer) -> Answer:
    """A `corrupt` that flips one bit in the statement of every opened session."""
    if not isinstance(answer, messages.SessionOpened):
        return answer
    statement = bytearray(answer.logged.statement)
    statement[-3] ^= 1
    return msgspec.structs.replace(
        answer, logged=msgspec.structs.replace(answer.logged, statement=bytes(statement))
    )


__all__ = ["FakeAttestor", "mangled"]
