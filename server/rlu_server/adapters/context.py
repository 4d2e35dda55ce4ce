"""What the application of our own routes (`endpoints/`) is given: the gateway's parts behind narrow types.

Everything here that is asynchronous raises `GatewayError` with a code of `core.errors.CATALOGUE`; nothing else is to be expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from rlu_server.attestor import messages
from rlu_server.core.apikeys import KeyRing, Principal
from rlu_server.core.errors import GatewayError
from rlu_server.core.sessions import Logged, Session
from rlu_server.settings import Settings

FIRST_BYTE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds of the time to the first byte."""


class Attestor(Protocol):
    """The attestor, as our routes see it. `signer_unavailable` when it cannot be reached or cannot sign."""

    @property
    def welcome(self) -> messages.Welcome | None:
        """What the attestor said of itself; verified. None while there is no connection."""

    async def attest(self, nonce: bytes | None) -> messages.Attestation: ...

    async def prove(self, leaf_index: int) -> bytes:
        """COSE Receipt of inclusion under the latest head; `not_in_log`."""

    async def prove_consistency(self, old_size: int) -> bytes:
        """COSE Receipt of consistency; `not_in_log`."""

    async def latest_head(self) -> messages.Head: ...


class Sessions(Protocol):
    """The ledger of sessions, as our routes see it."""

    async def open_explicit(
        self,
        principal: Principal,
        *,
        nonce: bytes | None,
        cnf_jkt: bytes | None = None,
        ttl_s: int | None = None,
        policies: Iterable[str] = (),
    ) -> Session:
        """A signed and verified session; `sessions_full`, `signer_unavailable`, `draining`."""

    def find(self, session_id: str, principal: Principal) -> Session:
        """An own session, open or closed; `session_not_found`."""

    def of(self, principal: Principal) -> list[Session]:
        """All own sessions, open or closed not long ago."""

    async def close(self, session: Session, reason: str) -> Logged:
        """Close it once its exchanges have ended; the signed close. Closing twice gives the same close."""

    async def receipt(self, session: Session, seq: int) -> Logged:
        """A receipt by the number `RLU-Receipt` announced, waiting a moment for a pending one; `receipt_not_found`,
        `receipt_pending`."""


@dataclass(slots=True)
class Readiness:
    """Why the gateway is or is not ready; all three must hold, and `draining` must not."""

    attestor: bool = False
    engine: bool = False
    salt_probe: bool = False
    draining: bool = False

    @property
    def ready(self) -> bool:
        return self.attestor and self.engine and self.salt_probe and not self.draining

    def missing(self) -> list[str]:
        """Codes of what stands in the way; empty when ready."""
        reasons = {"attestor": self.attestor, "engine": self.engine, "salt_probe": self.salt_probe}
        return [name for name, holds in reasons.items() if not holds] + ["draining"] * self.draining


@dataclass(slots=True)
class Measures:
    """Plain numbers for `/metrics`. Every label is from a fixed set of ours, so the number of series is bounded."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By route and HTTP status."""
    refusals: Counter[str] = field(default_factory=Counter)
    """By code."""
    receipts: Counter[str] = field(default_factory=Counter)
    """By status."""
    receipts_lost: int = 0
    """Receipts the attestor could not take any more (it had closed the session itself)."""
    sessions_opened: Counter[str] = field(default_factory=Counter)
    """`implicit`, `explicit`."""
    sessions_closed: Counter[str] = field(default_factory=Counter)
    """By reason."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    connections: int = 0
    in_flight: int = 0
    engine_connections: int = 0
    receipts_pending: int = 0
    first_byte_s: list[int] = field(default_factory=lambda: [0] * (len(FIRST_BYTE_BUCKETS) + 1))
    """Histogram of the time from complete request to first response byte; the last bin is beyond all bounds."""
    first_byte_sum_s: float = 0.0


@dataclass(slots=True)
class GatewayContext:
    """One per gateway process."""

    settings: Settings
    version: str
    model: str
    """The name clients use for the model that is served."""
    tls_spki_sha256: bytes | None
    attestor: Attestor
    sessions: Sessions
    readiness: Readiness
    measures: Measures
    keys: KeyRing
    """Replaced when the key file changes."""
    clock: Callable[[], float]
    """Seconds since the epoch."""

    def authenticate(self, authorization: bytes | str | None, x_api_key: bytes | str | None) -> Principal:
        """Who is asking, by either header.

        Raises:
            GatewayError: `key_missing`, `key_invalid`, `key_expired`, `key_revoked`.
        """
        return self.keys.authenticate(presented_key(authorization, x_api_key), self.clock())


def presented_key(authorization: bytes | str | None, x_api_key: bytes | str | None) -> str:
    """The key in `Authorization: Bearer` or `x-api-key`; both must agree if both are there.

    Raises:
        GatewayError: `key_missing`, `key_invalid`.
    """
    bearer = _text(authorization)
    if bearer is not None:
        scheme, _, value = bearer.partition(" ")
        bearer = value.strip() if scheme.lower() == "bearer" else None
    direct = _text(x_api_key)
    if not bearer and not direct:
        raise GatewayError("key_missing")
    if bearer and direct and bearer != direct:
        raise GatewayError("key_invalid", "`Authorization` and `x-api-key` hold different keys; send one.")
    return bearer or direct or ""


def _text(value: bytes | str | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value
