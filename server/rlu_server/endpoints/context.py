"""What the endpoints ask the gateway for. The gateway implements `Context`; tests use an in-memory one.

Everything that can be refused raises `GatewayError` with a code of `core.errors.CATALOGUE`. A session or receipt of another tenant
*does not exist* here: implementations answer `session_not_found` or `receipt_not_found`, and do it before anything else they check, so
that no answer tells whether an id is in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from rlu_server.attestor.messages import Attestation, CosignedHead, Entries, Instance, TlsOrigin
from rlu_server.core.apikeys import KeyRecord, Principal
from rlu_server.core.auth.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement in the log, with the COSE Receipt that proves it (FORMATS section 5)."""

    statement: bytes
    receipt: bytes


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as its principal may see it. Times are seconds since the epoch."""

    session: str
    opening: Signed
    commitment_key: bytes
    created: int
    expires: int
    state: Literal["open", "expired", "closed"]
    explicit: bool
    """Opened through `POST /v1/rlu/sessions`, not by the first request of a conversation."""
    last_seq: int
    """Highest sequence number assigned so far."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this instance is, for `/.well-known/rlu-configuration`."""

    issuer: str
    jwk: dict[str, str]
    profile_digest: bytes
    tls_origin: TlsOrigin
    tls_spki_sha256: bytes | None
    version: str


@dataclass(frozen=True, slots=True)
class Sample:
    labels: tuple[tuple[str, str], ...]
    value: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """One histogram series: cumulative counts at the upper bounds, ending with infinity."""

    labels: tuple[tuple[str, str], ...]
    buckets: tuple[tuple[float, int], ...]
    sum: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One metric family, without the `rlu_` prefix. Label values come from fixed sets, the settings or pseudonyms, never from a request."""

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
    samples: tuple[Sample, ...] = ()
    distributions: tuple[Distribution, ...] = ()


class Context(Protocol):
    """The gateway, as the endpoints see it."""

    async def authenticate(self, credentials: Credentials) -> Principal:
        """Who shows these credentials."""

    def check_administrator(self, principal: Principal) -> None:
        """Refuses with `not_administrator` whom the settings do not name as an administrator of their tenant."""

    def resolve(self, principal: Principal, pseudonym: str) -> str | None:
        """The name behind a pseudonym of the caller's tenant."""

    def keys(self, principal: Principal) -> Sequence[tuple[KeyRecord, int | None]]:
        """The API keys of the caller's tenant, and when each was last used here."""

    def identity(self) -> Identity:
        """Refuses with `signer_unavailable` while the attestor has not introduced itself."""

    def not_ready(self) -> Sequence[str]:
        """Codes of everything that keeps this gateway from serving; empty when it serves."""

    def models(self) -> Sequence[str]:
        """Names of the models that are served."""

    async def attest(self, nonce: bytes | None) -> Attestation:
        """Instance statement and evidence: fresh for a nonce, else the one renewed on schedule."""

    async def open_session(
        self, principal: Principal, nonce: bytes, cnf_jkt: bytes | None, ttl_s: int | None
    ) -> SessionView:
        """Open an explicit session; returns when its statement is under a verified signed head."""

    def sessions(self, principal: Principal) -> Sequence[SessionView]:
        """The principal's own sessions, newest first."""

    def session(self, principal: Principal, session: str) -> SessionView:
        """One session of the principal's own."""

    async def close_session(self, principal: Principal, session: str) -> Signed:
        """End a session of the principal's own: exchanges that still run are cut, then the close is signed."""

    async def receipt(self, principal: Principal, session: str, seq: int, wait_s: float) -> Signed:
        """A receipt; waits up to `wait_s` for an exchange to end and be signed, then refuses with `receipt_pending`."""

    async def head(self, issuer: str | None) -> tuple[bytes, int]:
        """The latest signed head and its tree size, of this instance or an earlier one; or `not_in_log`."""

    async def inclusion(self, leaf_index: int) -> bytes:
        """COSE Receipt of inclusion under the latest head; `not_in_log` beyond it."""

    async def consistency(self, old_size: int, issuer: str | None) -> bytes:
        """COSE Receipt of consistency between `old_size` and the latest head, or an earlier instance's final one; or `not_in_log`."""

    async def path(self, old_size: int, new_size: int, issuer: str | None) -> Sequence[bytes]:
        """The hashes that prove that one tree extends another, of this instance or an earlier one; `not_in_log` beyond the latest head."""

    async def leaves(self, start: int, count: int) -> bytes:
        """Leaf hashes, 32 bytes each, as far as the latest head reaches; `not_in_log` beyond it."""

    async def history(self) -> Sequence[Instance]:
        """The instances before this one."""

    async def entries(self, principal: Principal, start: int, count: int, issuer: str | None) -> Entries:
        """Entries for the export, of this instance or an earlier one; `not_exporter` for everyone but its principal."""

    async def exported(self, principal: Principal, size: int) -> int:
        """Note what has been exported; gives what counts as exported now. `not_exporter` as above."""

    async def cosignatures(self, issuer: str | None) -> Sequence[CosignedHead]:
        """The witnesses' latest cosignatures, on heads of this instance or an earlier one; or `not_in_log`."""

    async def cosign(self, head: bytes, line: str) -> None:
        """Take a witness's cosignature, or refuse with `cosignature_refused`."""
