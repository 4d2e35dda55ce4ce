"""Sessions, and the leaves that wait for a head."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from rlu_attestation.errors import RluError
from rlu_attestation.log.tally import Tally
from rlu_server.attestor.tiles import Meta


@dataclass(slots=True, eq=False)
class Session:
    """One session under a signed head (or about to be)."""

    id: str
    leaf: bytes
    expires_at: int
    profile: bytes
    running: bytes
    owner: object | None
    issued_at: int = 0
    """0 for one that was open when its log's segment began, which does not say."""
    count: int = 0
    last_seq: int = 0
    next_seq: int = 1
    open: set[int] = field(default_factory=set)
    unsigned: int = 0
    """Receipts that wait for a head."""
    closing: bool = False


class Caller(Protocol):
    """Whom to tell what became of a pending leaf."""

    @property
    def gone(self) -> bool:
        """Will nobody ask for it again?"""

    def committed(self, entry: Entry) -> None:
        """The leaf is under a signed head."""

    def failed(self, error: RluError) -> None:
        """The leaf never was."""


@dataclass(slots=True, eq=False)
class Pending:
    """A leaf that waits for a head; `token` is whom to tell, `None` for leaves of the attestor's own."""

    token: Caller | None

    @property
    def stays(self) -> bool:
        """Is it tried again when it could not be signed? What a gateway handed over before it left is, as it was handed over."""
        return self.token is None or self.token.gone


@dataclass(slots=True, eq=False)
class PendingSession(Pending):
    """A session that begins with its head."""

    session: Session
    statement: bytes
    iat: int

    @property
    def stays(self) -> bool:
        """No: without whom it was for it never begins."""
        return False


@dataclass(slots=True, eq=False)
class PendingReceipt(Pending):
    """The end of an exchange."""

    session: Session
    statement: bytes
    seq: int
    meta: Meta


@dataclass(slots=True, eq=False)
class PendingClose(Pending):
    """Becomes a `failed` receipt for each exchange still open, and the close itself."""

    session: Session
    reason: str
    scratch: str


@dataclass(slots=True, eq=False)
class PendingGap(Pending):
    """Says that the leaves from `first` up to its own were not exported."""

    first: int


@dataclass(slots=True, eq=False)
class PendingTally(Pending):
    """Counts the leaves since the one before; what it says is known when it gets its place."""

    tally: Tally | None = None


class Entry(msgspec.Struct, frozen=True):
    """A pending leaf in its place: the statement and its index in the log."""

    pending: Pending
    statement: bytes
    index: int


@dataclass(slots=True)
class SessionState:
    """What a batch will make of a session."""

    running: bytes
    count: int
    last_seq: int
    closed: bool = False


@dataclass(slots=True)
class Draft:
    """A batch that waits for its signature."""

    before: int
    size: int
    root: bytes
    entries: list[Entry]
    lines: bytes
    states: dict[str, SessionState]
    lost: list[tuple[Session, int]]
