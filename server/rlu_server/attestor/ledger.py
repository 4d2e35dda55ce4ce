"""Sessions, exchanges and the tree: what the attestor knows, and every leaf of the log. No I/O, clock or hidden randomness.

A request becomes a `Pending` leaf. `draft` turns waiting ones into the next batch, whose root is then signed and written elsewhere;
`commit` makes the batch part of the state, `rollback` forgets it as if it had never been asked for, so that a request whose signature
failed can simply be made again. Sequence numbers are given out by `begin` at once; they count only with their receipt.

A session belongs to the connection that opened it (`owner`), or to nobody after a restart, until a gateway of the same instance profile
greets. Receipts that were logged and perhaps never answered, because the process ended in between, can then be asked for again: the log
keeps no statement, but the same request, the time in the log and a blind that follows from a key give the same bytes.
"""

from __future__ import annotations

import heapq
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable

from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.log.gap import Gap
from rlu_attestation.log.tally import Tally
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.statements import SessionStatement, running_next
from rlu_server.attestor import composition, records
from rlu_server.attestor.composition import Composed, Stamp
from rlu_server.attestor.counting import Counting
from rlu_server.attestor.errors import AttestorError, LogCorrupt
from rlu_server.attestor.sessions import (
    Caller,
    Draft,
    Entry,
    Pending,
    PendingClose,
    PendingGap,
    PendingReceipt,
    PendingSession,
    PendingTally,
    Session,
    SessionState,
)
from rlu_server.attestor.tiles import Meta, TiledTree

SESSION_ID_SIZE = 16
MAX_SESSIONS = 1_000_000
MAX_OPEN = 4096
"""Exchanges open in one session: far beyond any client, and a bound on memory."""
EXPIRED_BUT_BUSY_S = 5
RECALLED = 65536
"""Receipts, the latest of the log, that can be asked for again after a restart; a batch has fewer."""
BLIND_SIZE = 16
ComposeReceipt = Callable[[Stamp], Composed]


class Ledger:
    """All sessions of one instance, and its tree.

    Args:
        blind_key: secret from which the blinds of receipts follow; the same after a restart.
        tree: the leaves of earlier segments.

    Attributes:
        start_count: the counter of starts when a head was first signed after the latest start that is in the log.
    """

    def __init__(
        self,
        issuer: str,
        random: Callable[[int], bytes],
        blind_key: bytes,
        tree: TiledTree | None = None,
    ) -> None:
        self.issuer = issuer
        self.tree = TiledTree() if tree is None else tree
        self.signed_size = self.tree.size
        self.counting = Counting(self.tree)
        self.start_count: int | None = None
        self._random = random
        self._blind_key = blind_key
        self._recalled: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()
        self._sessions: dict[str, Session] = {}
        self._expiry: list[tuple[int, str]] = []

    @property
    def sessions(self) -> int:
        """How many sessions are live."""
        return len(self._sessions)

    def __contains__(self, session_id: str) -> bool:
        """Is this session live in this log?"""
        return session_id in self._sessions

    def stamp(self, now: int) -> Stamp:
        """Issuer, time and a fresh blind for one statement."""
        return Stamp(self.issuer, now, self._random(BLIND_SIZE))

    def new_session_id(self) -> str:
        """A random session id."""
        return b64u(self._random(SESSION_ID_SIZE))

    def open(self, statement: SessionStatement, owner: object, token: Caller) -> PendingSession:
        """A session that begins when its batch is committed.

        Raises:
            AttestorError: `overloaded`.
        """
        if len(self._sessions) >= MAX_SESSIONS:
            raise AttestorError("overloaded", f"{MAX_SESSIONS} sessions are open")
        data = statement.encode()
        leaf = leaf_hash(data)
        session = Session(
            statement.session,
            leaf,
            statement.expires_at,
            statement.instance,
            leaf,
            owner,
            statement.issued_at,
        )
        return PendingSession(token, session, data, statement.issued_at)

    def find(self, session_id: str, owner: object) -> Session:
        """A live session of this owner.

        Raises:
            AttestorError: `unknown_session`, also for another owner's.
        """
        session = self._sessions.get(session_id)
        if session is None or session.owner is not owner or session.closing:
            raise AttestorError("unknown_session", "no such session on this connection")
        return session

    def begin(self, session_id: str, owner: object, now: int) -> int:
        """The next sequence number.

        Raises:
            AttestorError: `unknown_session`, `session_expired`, `overloaded`.
        """
        session = self.find(session_id, owner)
        if now >= session.expires_at:
            raise AttestorError("session_expired", "the session has expired; open another one")
        if len(session.open) >= MAX_OPEN:
            raise AttestorError("overloaded", f"{MAX_OPEN} exchanges of this session are open")
        seq = session.next_seq
        session.next_seq += 1
        session.open.add(seq)
        return seq

    def record(
        self, session: Session, seq: int, compose: ComposeReceipt, now: int, token: Caller
    ) -> PendingReceipt:
        """The end of an exchange.

        Raises:
            AttestorError: `unknown_exchange`, if it never began or has ended.
        """
        if seq not in session.open:
            raise AttestorError("unknown_exchange", "no such exchange is open in this session")
        receipt = compose(self._receipt_stamp(session, seq, now))
        session.open.discard(seq)
        session.unsigned += 1
        return PendingReceipt(token, session, receipt.statement, seq, receipt.meta)

    def recall(self, session: Session, seq: int, compose: ComposeReceipt) -> tuple[bytes, int] | None:
        """Statement and index of a receipt that was logged before a restart, if this very request made it."""
        index, iat = self._recalled.get((session.id, seq), (None, 0))
        if index is None:
            return None
        statement = compose(self._receipt_stamp(session, seq, iat)).statement
        return (statement, index) if leaf_hash(statement) == self.tree.leaf(index) else None

    def close(self, session: Session, reason: str, scratch: str, token: Caller | None) -> PendingClose:
        """The end of a session; nothing more can begin in it."""
        session.closing = True
        return PendingClose(token, session, reason, scratch)

    def owned(self, owner: object) -> bool:
        """Has this owner live sessions?"""
        return any(s.owner is owner and not s.closing for s in self._sessions.values())

    def disown(self, owner: object, reason: str) -> list[PendingClose]:
        """Closes for all sessions of an owner that is gone."""
        owned = [s for s in self._sessions.values() if s.owner is owner and not s.closing]
        return [self.close(session, reason, "unknown", None) for session in owned]

    def close_all(self, reason: str) -> list[PendingClose]:
        """Closes for all sessions."""
        live = [s for s in self._sessions.values() if not s.closing]
        return [self.close(session, reason, "unknown", None) for session in live]

    def adopt(self, owner: object, profile: bytes, reason: str) -> list[PendingClose]:
        """Give sessions without owner to a gateway of their profile; returns closes for the others."""
        strangers: list[PendingClose] = []
        for session in self._sessions.values():
            if session.owner is None and not session.closing:
                if session.profile == profile:
                    session.owner = owner
                else:
                    strangers.append(self.close(session, reason, "unknown", None))
        return strangers

    def expire(self, now: int) -> list[PendingClose]:
        """Closes for sessions whose time is over and in which nothing is open, nor waits for a signature, which may fail."""
        closes: list[PendingClose] = []
        while self._expiry and self._expiry[0][0] <= now:
            _, session_id = heapq.heappop(self._expiry)
            session = self._sessions.get(session_id)
            if session is None or session.closing:
                continue
            if session.open or session.unsigned:
                heapq.heappush(self._expiry, (now + EXPIRED_BUT_BUSY_S, session_id))
            else:
                closes.append(self.close(session, "expired", "unknown", None))
        return closes

    def draft(self, batch: Iterable[Pending], now: int) -> Draft:
        """Append a batch to the tree. Exactly one of `commit` and `rollback` must follow before the next draft."""
        draft = Draft(self.tree.size, 0, b"", [], b"", {}, [])
        lines: list[bytes] = []
        for pending in batch:
            if isinstance(pending, PendingSession):
                lines.append(self._draft_session(draft, pending))
            elif isinstance(pending, PendingReceipt):
                draft.entries.append(Entry(pending, pending.statement, self.tree.size))
                lines.append(
                    self._draft_receipt(draft, pending.session, pending.statement, pending.seq, pending.meta)
                )
            elif isinstance(pending, PendingClose):
                lines.extend(self._draft_close(draft, pending, now))
            elif isinstance(pending, PendingGap):
                lines.append(self._draft_gap(draft, pending, now))
            elif isinstance(pending, PendingTally):
                lines.append(self._draft_tally(draft, pending, now))
        draft.size, draft.root, draft.lines = self.tree.size, self.tree.root(), b"".join(lines)
        return draft

    def commit(self, draft: Draft) -> None:
        """The batch is signed and on the disk."""
        for entry in draft.entries:
            if isinstance(entry.pending, PendingSession):
                self._enter(entry.pending.session)
                self.counting.opened(entry.pending.session.profile)
            elif isinstance(entry.pending, PendingReceipt):
                entry.pending.session.unsigned -= 1
            elif isinstance(entry.pending, PendingTally) and entry.pending.tally is not None:
                self.counting.logged(entry.pending.tally)
        for session_id, state in draft.states.items():
            session = self._sessions[session_id]
            session.running, session.count, session.last_seq = state.running, state.count, state.last_seq
            if state.closed:
                del self._sessions[session_id]
        self.signed_size = draft.size

    def rollback(self, draft: Draft) -> None:
        """The batch was not signed: it never was. What stays is tried again; all else only if the gateway asks."""
        self.tree.truncate(draft.before)
        for session, seq in draft.lost:
            session.open.add(seq)
        for pending in (entry.pending for entry in draft.entries if not entry.pending.stays):
            if isinstance(pending, PendingReceipt):
                pending.session.open.add(pending.seq)
                pending.session.unsigned -= 1
            elif isinstance(pending, PendingClose):
                pending.session.closing = False

    def replay(self, batch: records.Batch) -> None:
        """Rebuild the state from a batch of the log.

        Raises:
            LogCorrupt: it cannot follow what came before.
        """
        for record in batch.leaves:
            if isinstance(record, records.OpenRecord):
                self._reenter(record)
                continue
            if isinstance(record, records.StartRecord):
                self.start_count = record.count
                continue
            if isinstance(record, records.CountedRecord):
                self.counting.resume(record)
                continue
            if record.index != self.tree.size:
                raise LogCorrupt("log.index", f"leaf {record.index} stands where {self.tree.size} belongs")
            leaf = unb64u(record.leaf)
            if isinstance(record, records.SessionRecord):
                profile = unb64u(record.profile)
                self._enter(Session(record.session, leaf, record.exp, profile, leaf, None, record.iat))
                self.counting.opened(profile)
            elif isinstance(record, records.TallyRecord):
                self._replay_tally(record, leaf)
            elif not isinstance(record, records.GapRecord):
                self._replay_later(record, leaf)
            self.tree.put(leaf, records.meta(record))
        if batch.head.size != self.tree.size:
            raise LogCorrupt("log.size", f"a head over {batch.head.size} leaves follows {self.tree.size}")
        self.signed_size = self.tree.size

    def remember(self, receipts: Iterable[records.ReceiptRecord]) -> None:
        """Receipts of the segment before this one, to be asked for again; before anything is replayed."""
        for record in receipts:
            self._recall_later(record)

    def snapshot(self) -> bytes:
        """The lines with which the next segment begins: the counter of starts, what was counted, and the sessions that are open."""
        lines = [] if self.start_count is None else [records.start_line(self.start_count)]
        lines.append(records.counted_line(self.counting.snapshot()))
        for session in self._sessions.values():
            record = records.OpenRecord(
                count=session.count,
                exp=session.expires_at,
                last_seq=session.last_seq,
                leaf=b64u(session.leaf),
                profile=b64u(session.profile),
                running=b64u(session.running),
                session=session.id,
            )
            lines.append(records.open_line(record))
        return b"".join(lines)

    def _replay_later(self, record: records.ReceiptRecord | records.CloseRecord, leaf: bytes) -> None:
        session = self._sessions.get(record.session)
        if session is None:
            raise LogCorrupt("log.session", f"leaf {record.index} belongs to no live session")
        if isinstance(record, records.CloseRecord):
            del self._sessions[record.session]
            return
        session.running = running_next(session.running, leaf)
        session.count += 1
        session.last_seq = max(session.last_seq, record.seq)
        session.next_seq = session.last_seq + 1
        self._recall_later(record)

    def _replay_tally(self, record: records.TallyRecord, leaf: bytes) -> None:
        statement = unb64u(record.statement)
        if leaf_hash(statement) != leaf:
            raise LogCorrupt(
                "log.damaged", f"the tally of leaf {record.index} is not the one that was signed"
            )
        try:
            self.counting.replayed(Tally.parse(statement))
        except RluError as error:
            raise LogCorrupt(
                "log.damaged", f"leaf {record.index} is no tally of this version: {error.message}"
            ) from error

    def _recall_later(self, record: records.ReceiptRecord) -> None:
        self._recalled[(record.session, record.seq)] = (record.index, record.iat)
        if len(self._recalled) > RECALLED:
            self._recalled.popitem(last=False)

    def _reenter(self, record: records.OpenRecord) -> None:
        session = Session(
            record.session,
            unb64u(record.leaf),
            record.exp,
            unb64u(record.profile),
            unb64u(record.running),
            None,
        )
        session.count, session.last_seq, session.next_seq = record.count, record.last_seq, record.last_seq + 1
        self._enter(session)

    def _receipt_stamp(self, session: Session, seq: int, now: int) -> Stamp:
        message = b"receipt\0" + session.leaf + seq.to_bytes(8, "big")
        # After a correction of the clock a receipt would be older than its session, and nobody would believe it.
        now = max(now, session.issued_at)
        return Stamp(self.issuer, now, hmac.digest(self._blind_key, message, "sha256")[:BLIND_SIZE])

    def _enter(self, session: Session) -> None:
        self._sessions[session.id] = session
        heapq.heappush(self._expiry, (session.expires_at, session.id))

    def _draft_session(self, draft: Draft, pending: PendingSession) -> bytes:
        session = pending.session
        index = self.tree.put(session.leaf, Meta("session", pending.iat))
        draft.entries.append(Entry(pending, pending.statement, index))
        return records.session_line(
            index, session.id, session.leaf, pending.iat, session.expires_at, session.profile
        )

    def _draft_receipt(self, draft: Draft, session: Session, statement: bytes, seq: int, meta: Meta) -> bytes:
        state = _state(draft, session)
        leaf = leaf_hash(statement)
        index = self.tree.put(leaf, meta)
        state.running = running_next(state.running, leaf)
        state.count += 1
        state.last_seq = max(state.last_seq, seq)
        return records.receipt_line(index, session.id, leaf, meta.iat, seq, meta.status, meta.usage)

    def _draft_close(self, draft: Draft, pending: PendingClose, now: int) -> list[bytes]:
        session = pending.session
        now = max(now, session.issued_at)
        lines: list[bytes] = []
        reason = pending.reason if pending.token is None else "session_closed"
        for seq in sorted(session.open):
            stamp = self._receipt_stamp(session, seq, now)
            receipt = composition.lost_receipt(stamp, session.id, session.leaf, seq, reason)
            lines.append(self._draft_receipt(draft, session, receipt.statement, seq, receipt.meta))
            draft.lost.append((session, seq))
        session.open.clear()
        state = _state(draft, session)
        statement = composition.close(
            self.stamp(now),
            session.id,
            session.leaf,
            last_seq=state.last_seq,
            count=state.count,
            running=state.running,
            reason=pending.reason,
            scratch=pending.scratch,
        ).encode()
        leaf = leaf_hash(statement)
        index = self.tree.put(leaf, Meta("close", now))
        state.closed = True
        draft.entries.append(Entry(pending, statement, index))
        return [*lines, records.close_line(index, session.id, leaf, now)]

    def _draft_gap(self, draft: Draft, pending: PendingGap, now: int) -> bytes:
        stamp, index = self.stamp(now), self.tree.size
        statement = Gap(stamp.issuer, now, pending.first, index, stamp.blind).encode()
        leaf = leaf_hash(statement)
        self.tree.put(leaf, Meta("gap", now, first=pending.first))
        draft.entries.append(Entry(pending, statement, index))
        return records.gap_line(index, leaf, now, pending.first)

    def _draft_tally(self, draft: Draft, pending: PendingTally, now: int) -> bytes:
        opening = (e.pending.session.profile for e in draft.entries if isinstance(e.pending, PendingSession))
        tally = pending.tally = self.counting.tally(self.stamp(now), self.tree.size, opening)
        if tally is None:
            return b""
        statement = tally.encode()
        leaf = leaf_hash(statement)
        index = self.tree.put(leaf, Meta("tally", tally.issued_at))
        draft.entries.append(Entry(pending, statement, index))
        return records.tally_line(index, leaf, tally.issued_at, statement)


def _state(draft: Draft, session: Session) -> SessionState:
    state = draft.states.get(session.id)
    if state is None:
        state = SessionState(session.running, session.count, session.last_seq)
        draft.states[session.id] = state
    return state
