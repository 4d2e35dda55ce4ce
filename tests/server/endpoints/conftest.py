"""A gateway in memory for the endpoints: real keys, real isolation, no attestor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import httpx
import pytest

from rlu_attestation.encoding import b64u
from rlu_server.attestor.messages import Attestation, CosignedHead, Entries, EvidenceItem, Instance, LogEntry
from rlu_server.core.apikeys import KeyRecord, KeyRing, Principal, mint
from rlu_server.core.auth.credentials import Credentials, presented
from rlu_server.core.errors import GatewayError
from rlu_server.endpoints import Identity, SessionView, Signed, create_app

NOW = 1_800_000_000


class MemoryGateway:
    """Implements `Context` with dictionaries."""

    def __init__(self) -> None:
        records: list[KeyRecord] = []
        self.keys: dict[str, str] = {}
        for number, (tenant, principal) in enumerate([("a", "ann"), ("a", "al"), ("b", "bob")], 1):
            record, text = mint(bytes([number] * 8), bytes([number] * 32), tenant, principal, NOW)
            records.append(record)
            self.keys[principal] = text
        self.ring = KeyRing(bytes(32), records)
        self.opened: dict[str, tuple[Principal, SessionView]] = {}
        self.asked: list[tuple[object, ...]] = []
        self.reasons: list[str] = []
        self.failure: Exception | None = None

    def _do(self, *asked: object) -> None:
        self.asked.append(asked)
        if self.failure is not None:
            raise self.failure

    async def authenticate(self, credentials: Credentials) -> Principal:
        text = presented(credentials.authorization, credentials.x_api_key)
        if not text:
            raise GatewayError("key_missing")
        return self.ring.authenticate(text, NOW)

    def check_administrator(self, principal: Principal) -> None:
        if principal.name != "ann":
            raise GatewayError("not_administrator")

    def resolve(self, principal: Principal, pseudonym: str) -> str | None:
        return "al" if (principal.tenant, pseudonym) == ("a", "p" * 22) else None

    def keys(self, principal: Principal) -> Sequence[tuple[KeyRecord, int | None]]:
        return [(record, NOW) for record in self.ring.records if record.tenant == principal.tenant]

    def identity(self) -> Identity:
        self._do("identity")
        return Identity("urn:rlu:instance:x", {"kty": "EC"}, bytes(32), "gateway-memory", bytes(32), "0.1")

    def not_ready(self) -> Sequence[str]:
        return self.reasons

    def models(self) -> Sequence[str]:
        return ["scripted"]

    async def attest(self, nonce: bytes | None) -> Attestation:
        self._do("attest", nonce)
        return Attestation(id=1, statement="a.b.c", evidence=[EvidenceItem("none", b'{"kind":"none"}')])

    async def open_session(
        self, principal: Principal, nonce: bytes, cnf_jkt: bytes | None, ttl_s: int | None
    ) -> SessionView:
        self._do("open", nonce, cnf_jkt, ttl_s)
        name = b64u(bytes([len(self.opened) + 1] * 16))
        signed = Signed(b"statement", b"cose")
        view = SessionView(name, signed, bytes(range(32)), NOW, NOW + (ttl_s or 60), "open", True, 0)
        self.opened[name] = (principal, view)
        return view

    def sessions(self, principal: Principal) -> Sequence[SessionView]:
        return [view for owner, view in reversed(self.opened.values()) if owner == principal]

    def session(self, principal: Principal, session: str) -> SessionView:
        owner, view = self.opened.get(session, (None, None))
        if view is None or owner != principal:
            raise GatewayError("session_not_found")
        return view

    async def close_session(self, principal: Principal, session: str) -> Signed:
        view = self.session(principal, session)
        if view.state == "closed":
            raise GatewayError("session_closed")
        self.opened[session] = (principal, replace(view, state="closed"))
        return Signed(b"close", b"cose")

    async def receipt(self, principal: Principal, session: str, seq: int, wait_s: float) -> Signed:
        self.session(principal, session)
        self._do("receipt", seq, wait_s)
        if seq == 2:
            raise GatewayError("receipt_pending")
        if seq != 1:
            raise GatewayError("receipt_not_found")
        return Signed(b"receipt", b"cose")

    async def head(self, issuer: str | None) -> tuple[bytes, int]:
        self._do("head", issuer)
        return b"head", 7

    async def inclusion(self, leaf_index: int) -> bytes:
        if leaf_index >= 7:
            raise GatewayError("not_in_log")
        return b"inclusion"

    async def consistency(self, old_size: int, issuer: str | None) -> bytes:
        self._do("consistency", old_size, issuer)
        if old_size > 7:
            raise GatewayError("not_in_log")
        return b"consistency"

    async def path(self, old_size: int, new_size: int, issuer: str | None) -> Sequence[bytes]:
        self._do("path", old_size, new_size, issuer)
        if not old_size <= new_size <= 7:
            raise GatewayError("not_in_log")
        return [bytes(32)]

    async def leaves(self, start: int, count: int) -> bytes:
        if start > 7:
            raise GatewayError("not_in_log")
        return bytes(32) * min(count, 7 - start)

    async def history(self) -> Sequence[Instance]:
        return [Instance(issuer="urn:rlu:instance:old", jwk={"kty": "EC"}, head=b"final", tree_size=3)]

    async def entries(self, principal: Principal, start: int, count: int, issuer: str | None) -> Entries:
        self._exporter(principal)
        self._do("entries", start, issuer)
        receipt = LogEntry(
            leaf=bytes(32), kind="receipt", iat=NOW, status="complete", usage=(1, 2, 0), first=0
        )
        gap = LogEntry(leaf=bytes(32), kind="gap", iat=NOW, status="", usage=(0, 0, 0), first=2)
        return Entries(id=1, start=start, tree_size=7, entries=[receipt, gap][:count])

    async def exported(self, principal: Principal, size: int) -> int:
        self._exporter(principal)
        return size

    def _exporter(self, principal: Principal) -> None:
        if principal.name != "ann":
            raise GatewayError("not_exporter")

    async def cosignatures(self, issuer: str | None) -> Sequence[CosignedHead]:
        self._do("cosignatures", issuer)
        return [CosignedHead(head=b"head", line="— w AA")]

    async def cosign(self, head: bytes, line: str) -> None:
        self._do("cosign", head, line)


@pytest.fixture
def gateway() -> MemoryGateway:
    return MemoryGateway()


@pytest.fixture
async def client(gateway: MemoryGateway) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(gateway, "0.1"), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
