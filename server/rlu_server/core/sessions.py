"""The gateway's sessions: who owns them, how long they live, which receipts they still hold.

A `Session` exists only after its statement was verified, so holding one is the proof that its statement is signed (P1). The table
decides; the ledger in `adapters/` performs what it decides. Time is always an argument, in seconds since the epoch.
"""

from __future__ import annotations

import enum
import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from rlu_attestation.commitment import SessionCommitter
from rlu_server.core.apikeys import Principal
from rlu_server.core.errors import GatewayError

KEEP_CLOSED_S = 3600.0
"""How long a closed session's receipts can still be fetched, unless more sessions are closed meanwhile than may be open."""
MAX_RECEIPTS = 262_144
"""Receipts kept in all sessions together, about a kilobyte each; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A statement that is in the attestor's log under a signed head."""

    statement: bytes
    leaf_index: int


class State(enum.Enum):
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(slots=True, eq=False)
class Session:
    """One signed session.

    Attributes:
        id: the statement's `jti`; `raw_id` its 16 bytes.
        tenant, principal: pseudonyms.
        issuer: the instance that signs for it.
        inclusion: the COSE Receipt the gateway verified.
        expires: the statement's `exp`.
        expires_at: a little earlier, so that we have the close signed, and not the attestor on its own.
        receipts: the number announced in `RLU-Receipt`, with the logged receipt, or `None` while it is being signed.
        in_flight: exchanges whose receipt is not logged yet.
    """

    id: str
    raw_id: bytes
    tenant: str
    principal: str
    commitment_key: bytes
    opened: Logged
    inclusion: bytes
    opened_at: int
    expires: int
    expires_at: float
    idle_s: float
    last_used: float
    conversation: bytes | None = None
    state: State = State.OPEN
    in_flight: int = 0
    close_sent: bool = False
    last_seq: int = 0
    receipts: OrderedDict[int, Logged | None] = field(default_factory=OrderedDict)
    closed: Logged | None = None
    closed_at: float = 0.0
    issuer: str | None = None
    close_reason: str = ""
    committer: SessionCommitter = field(init=False)

    def __post_init__(self) -> None:
        self.committer = SessionCommitter(self.commitment_key, self.raw_id)

    def owned_by(self, principal: Principal) -> bool:
        return self.tenant == principal.tenant_pseudonym and self.principal == principal.pseudonym

    def usable(self, now: float) -> bool:
        """May a new exchange begin in it?"""
        return (
            self.state is State.OPEN
            and now < self.expires_at
            and (self.in_flight > 0 or now < self.last_used + self.idle_s)
        )

    def due(self) -> float:
        """When the table must look at it again."""
        if self.state is State.CLOSED:
            return self.closed_at + KEEP_CLOSED_S
        return min(self.expires_at, self.last_used + self.idle_s)


class SessionTable:
    """All sessions of this gateway, open ones and those closed not long ago."""

    def __init__(self, max_sessions: int, receipts_per_session: int) -> None:
        self._max_sessions = max_sessions
        self._receipts_per_session = receipts_per_session
        self._sessions: dict[str, Session] = {}
        self._conversations: dict[bytes, Session] = {}
        self._agenda: list[tuple[float, str]] = []
        self._open = 0
        self._kept: dict[str, dict[str, Session]] = {}
        self._closed: deque[Session] = deque()
        self._settled: deque[tuple[str, int]] = deque()
        self._live: dict[str, OrderedDict[str, Session]] = {}
        self._live_count = 0

    @property
    def open_count(self) -> int:
        """Sessions that are open or closing."""
        return self._open

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def admit(self, opening: int, tenant: str) -> Session | None:
        """Is there room for one more session of a tenant, besides `opening` that are on their way?

        When all places are taken, the tenant that holds most gives one up, so that no tenant can keep the others out.

        Returns:
            The session to close for it, the one of that tenant that was not used for longest; None while there is room.

        Raises:
            GatewayError: `sessions_full`, when it is this tenant that holds most, or everything is in use.
        """
        if self._live_count + opening < self._max_sessions:
            return None
        largest = max(self._live, key=lambda name: len(self._live[name]), default=tenant)
        if len(self._live.get(largest, ())) > len(self._live.get(tenant, ())):
            for session in self._live[largest].values():
                if not session.in_flight:
                    return session
        raise GatewayError("sessions_full")

    def add(self, session: Session) -> None:
        """Take in a session whose statement was verified."""
        self._sessions[session.id] = session
        self._kept.setdefault(session.tenant, {})[session.id] = session
        if session.conversation is not None:
            self._conversations[session.conversation] = session
        self._live.setdefault(session.tenant, OrderedDict())[session.id] = session
        self._live_count += 1
        self._open += 1
        self._schedule(session, session.due())

    def of(self, principal: Principal) -> list[Session]:
        """All own sessions, open or closed not long ago, oldest first."""
        return [s for s in self._kept.get(principal.tenant_pseudonym, {}).values() if s.owned_by(principal)]

    def visible(self, session_id: str, principal: Principal) -> Session:
        """A session to look at, open or closed.

        Raises:
            GatewayError: `session_not_found`, whether it never existed or belongs to someone else.
        """
        session = self._sessions.get(session_id)
        if session is None or not session.owned_by(principal):
            raise GatewayError("session_not_found")
        return session

    def usable(self, session_id: str, principal: Principal, now: float) -> Session:
        """A session to begin an exchange in.

        Raises:
            GatewayError: `session_not_found`, `session_closed`, `session_expired`.
        """
        session = self.visible(session_id, principal)
        if session.usable(now):
            return session
        if session.state is not State.OPEN and session.close_reason not in ("expired", "idle"):
            raise GatewayError("session_closed")
        raise GatewayError("session_expired")

    def is_open(self, session_id: str) -> bool:
        """Is there such a session, and is it neither closed nor closing?"""
        session = self._sessions.get(session_id)
        return session is not None and session.state is State.OPEN

    def continued(self, conversation: bytes, now: float) -> Session | None:
        """The session a conversation goes on in, if it can."""
        session = self._conversations.get(conversation)
        return session if session is not None and session.usable(now) else None

    def begin(self, session: Session, seq: int, now: float) -> None:
        """An exchange was given its number; its receipt is now pending."""
        session.last_used = now
        session.last_seq = max(session.last_seq, seq)
        if session.state is State.OPEN:
            self._live[session.tenant].move_to_end(session.id)
        session.receipts[seq] = None
        while len(session.receipts) > self._receipts_per_session:
            session.receipts.popitem(last=False)

    def settle(self, session: Session, seq: int, receipt: Logged) -> None:
        """The receipt of an exchange was logged. It is dropped if the ring has moved on meanwhile."""
        if seq not in session.receipts:
            return
        session.receipts[seq] = receipt
        self._settled.append((session.id, seq))
        if len(self._settled) > MAX_RECEIPTS:
            name, number = self._settled.popleft()
            oldest = self._sessions.get(name)
            if oldest is not None:
                oldest.receipts.pop(number, None)
        # What sessions' own bounds let go does not stay in this line; two for each that came, so that it gets shorter.
        for _ in range(2):
            name, number = self._settled[0]
            holder = self._sessions.get(name)
            if holder is not None and number in holder.receipts:
                break
            self._settled.popleft()

    def closing(self, session: Session, reason: str) -> None:
        """No exchange may begin from here on."""
        if session.state is State.OPEN:
            session.state = State.CLOSING
            session.close_reason = reason
            self._leave_conversation(session)
            self._live_count -= 1
            own = self._live[session.tenant]
            del own[session.id]
            if not own:
                del self._live[session.tenant]

    def close(self, session: Session, logged: Logged | None, now: float) -> None:
        """The close was signed, or the attestor has closed it without us (`None`)."""
        if session.state is State.CLOSED:
            return
        self.closing(session, "closed")
        session.state = State.CLOSED
        session.closed = logged
        session.closed_at = now
        self._open -= 1
        self._closed.append(session)
        while len(self._closed) > self._max_sessions or (
            self._closed and self._closed[0].id not in self._sessions
        ):
            self._forget(self._closed.popleft())
        self._schedule(session, session.due())

    def due(self, now: float) -> list[tuple[Session, str]]:
        """Sessions that must be closed now, each with the reason; forgets closed ones that were kept long enough."""
        found: list[tuple[Session, str]] = []
        while self._agenda and self._agenda[0][0] <= now:
            session = self._sessions.get(heapq.heappop(self._agenda)[1])
            if session is None:
                continue
            if session.due() > now:
                self._schedule(session, session.due())
            elif session.state is State.OPEN and session.in_flight and now < session.expires_at:
                # Busy is not idle, however long it takes.
                self._schedule(session, min(session.expires_at, now + session.idle_s))
            elif session.state is State.CLOSED:
                self._forget(session)
            elif session.state is State.OPEN:
                found.append((session, "expired" if now >= session.expires_at else "idle"))
        return found

    def _schedule(self, session: Session, at: float) -> None:
        # By name: what is forgotten must not be held here until its time.
        heapq.heappush(self._agenda, (at, session.id))

    def _forget(self, session: Session) -> None:
        if self._sessions.pop(session.id, None) is None:
            return
        own = self._kept[session.tenant]
        del own[session.id]
        if not own:
            del self._kept[session.tenant]

    def _leave_conversation(self, session: Session) -> None:
        if session.conversation is not None and self._conversations.get(session.conversation) is session:
            del self._conversations[session.conversation]
