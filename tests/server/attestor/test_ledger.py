"""The ledger against a naive model: what is committed is in the tree, what is rolled back never was, and a replay gives the same."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rlu_attestation import cose
from rlu_attestation.channel import Channel
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_attestation.merkle import Tree, leaf_hash
from rlu_attestation.statements import Close, Receipt, running_next
from rlu_server.attestor import composition, messages, records
from rlu_server.attestor import ledger as ledger_module
from rlu_server.attestor.errors import AttestorError, LogCorrupt
from rlu_server.attestor.ledger import ComposeReceipt, Ledger
from rlu_server.attestor.sessions import Entry, Pending, PendingClose, PendingReceipt, PendingSession, Session

ISSUER = "urn:rlu:instance:test"
PROFILE = b"\x09" * 32


class Noted:
    """A caller that notes what became of its leaf."""

    def __init__(self) -> None:
        self.gone = False
        self.entry: Entry | None = None
        self.error: RluError | None = None

    def committed(self, entry: Entry) -> None:
        self.entry = entry

    def failed(self, error: RluError) -> None:
        self.error = error


def new_ledger() -> Ledger:
    counter = itertools.count(1)
    return Ledger(ISSUER, lambda size: next(counter).to_bytes(size, "big"), b"b" * 32)


def opening(ttl_s: int = 100) -> messages.OpenSession:
    return messages.OpenSession(
        id=1,
        tenant="t",
        principal="p",
        nonce=None,
        cnf_jkt=None,
        commitment_key_digest=bytes(32),
        opening=messages.Commitment(1, bytes(32)),
        ttl_s=ttl_s,
    )


def open_session(ledger: Ledger, owner: object, now: int = 0, ttl_s: int = 100) -> PendingSession:
    statement = composition.session_statement(
        ledger.stamp(now), ledger.new_session_id(), opening(ttl_s), PROFILE, Channel("plaintext", None)
    )
    return ledger.open(statement, owner, Noted())


def reported(session: str, seq: int) -> messages.RecordReceipt:
    content = messages.Commitment(3, bytes(32))
    return messages.RecordReceipt(
        id=1,
        session=session,
        seq=seq,
        route="/v1/messages",
        model="m",
        status="complete",
        http_status=200,
        request=content,
        forwarded=None,
        rewritten=[],
        response=content,
        usage=None,
        reason=None,
    )


def composing(session: Session, seq: int) -> ComposeReceipt:
    return lambda stamp: composition.receipt(stamp, reported(session.id, seq), session.leaf)


def record(ledger: Ledger, owner: object, session_id: str, seq: int, now: int = 0) -> PendingReceipt:
    session = ledger.find(session_id, owner)
    return ledger.record(session, seq, composing(session, seq), now, Noted())


@dataclass
class Expected:
    """What the model thinks of a session."""

    leaf: bytes
    running: bytes
    next_seq: int = 1
    count: int = 0
    last_seq: int = 0
    open: set[int] = field(default_factory=set)


class LedgerMachine(RuleBasedStateMachine):
    """Requests, batches that succeed or fail, and after every success a replay of the log into a new ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.owner = object()
        self.ledger = new_ledger()
        self.model: dict[str, Expected] = {}
        self.leaves: list[bytes] = []
        self.log: list[records.Batch] = []
        self.waiting: list[PendingSession | PendingReceipt | PendingClose] = []
        self.closing: set[str] = set()

    @rule()
    def open(self) -> None:
        self.waiting.append(open_session(self.ledger, self.owner))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.model)))
        if session in self.closing:
            with pytest.raises(AttestorError, match="unknown_session"):
                self.ledger.begin(session, self.owner, 0)
            return
        expected = self.model[session]
        assert self.ledger.begin(session, self.owner, 0) == expected.next_seq
        expected.open.add(expected.next_seq)
        expected.next_seq += 1

    @precondition(lambda self: any(e.open for s, e in self.model.items() if s not in self.closing))
    @rule(data=st.data())
    def record(self, data: st.DataObject) -> None:
        candidates = sorted((s, q) for s, e in self.model.items() if s not in self.closing for q in e.open)
        session, seq = data.draw(st.sampled_from(candidates))
        self.waiting.append(record(self.ledger, self.owner, session, seq))
        self.model[session].open.discard(seq)
        with pytest.raises(AttestorError, match="unknown_exchange"):
            record(self.ledger, self.owner, session, seq)

    @precondition(lambda self: set(self.model) - self.closing)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(set(self.model) - self.closing)))
        found = self.ledger.find(session, self.owner)
        self.waiting.append(self.ledger.close(found, "client_request", "wiped", Noted()))
        self.closing.add(session)

    @rule(size=st.integers(0, 5), gone=st.booleans())
    def fail(self, size: int, gone: bool) -> None:
        """What was handed over by who is gone by now is tried again, with all that it did; a session is not."""
        batch, self.waiting = self.waiting[:size], self.waiting[size:]
        for pending in batch:
            assert isinstance(pending.token, Noted)
            pending.token.gone = gone
        self.ledger.rollback(self.ledger.draft(batch, 0))
        self.waiting = [pending for pending in batch if pending.stays] + self.waiting
        for pending in batch:
            assert pending.stays is (gone and not isinstance(pending, PendingSession))
            if pending.stays:
                continue
            if isinstance(pending, PendingReceipt):
                self.model[pending.session.id].open.add(pending.seq)
            elif isinstance(pending, PendingClose):
                self.closing.discard(pending.session.id)

    @rule(size=st.integers(0, 5))
    def succeed(self, size: int) -> None:
        batch, self.waiting = self.waiting[:size], self.waiting[size:]
        draft = self.ledger.draft(batch, 0)
        self.ledger.commit(draft)
        for pending in batch:
            session = pending.session.id
            if isinstance(pending, PendingSession):
                self.model[session] = Expected(leaf_hash(pending.statement), leaf_hash(pending.statement))
                self.leaves.append(leaf_hash(pending.statement))
            elif isinstance(pending, PendingReceipt):
                self._expect_receipt(session, leaf_hash(pending.statement), pending.seq)
            else:
                self._expect_close(pending, next(e for e in draft.entries if e.pending is pending))
        assert [e.index for e in draft.entries if not isinstance(e.pending, PendingClose)] == sorted(
            e.index for e in draft.entries if not isinstance(e.pending, PendingClose)
        )
        head = cose.assemble_head(
            cose.head_protected(bytes(32), ISSUER, 0, draft.size), draft.root, bytes(64)
        )
        lines = draft.lines + records.head_line(head, draft.size)
        found = [records.parse(line + b"\n") for line in lines.splitlines()]
        *leaves, last = found
        assert isinstance(last, records.HeadRecord)
        self.log.append(records.Batch(leaves, last, 0))  # type: ignore[arg-type]

    def _expect_receipt(self, session: str, leaf: bytes, seq: int) -> None:
        expected = self.model[session]
        expected.running = running_next(expected.running, leaf)
        expected.count += 1
        expected.last_seq = max(expected.last_seq, seq)
        self.leaves.append(leaf)

    def _expect_close(self, pending: PendingClose, entry: Entry) -> None:
        session = pending.session.id
        expected = self.model[session]
        lost = sorted(expected.open)
        tree = self.ledger.tree
        for offset, seq in enumerate(lost):
            self._expect_receipt(session, tree.leaf(len(self.leaves)), seq)
            assert offset < len(lost)
        close = Close.parse(entry.statement)
        assert (close.count, close.last_seq, close.running) == (
            expected.count,
            expected.last_seq,
            expected.running,
        )
        self.leaves.append(leaf_hash(entry.statement))
        assert entry.index == len(self.leaves) - 1
        del self.model[session]
        self.closing.discard(session)

    @invariant()
    def the_tree_holds_what_was_committed(self) -> None:
        tree = Tree()
        for leaf in self.leaves:
            tree.append(leaf)
        assert self.ledger.tree.root() == tree.root()
        assert self.ledger.signed_size == len(self.leaves)
        assert self.ledger.sessions == len(self.model)

    @invariant()
    def a_replay_gives_the_same(self) -> None:
        again = new_ledger()
        for batch in self.log:
            again.replay(batch)
        assert again.tree.root() == self.ledger.tree.root()
        again.adopt(self.owner, PROFILE, "gateway_lost")
        for session, expected in self.model.items():
            found = again.find(session, self.owner)
            assert (found.leaf, found.running, found.count, found.last_seq) == (
                expected.leaf,
                expected.running,
                expected.count,
                expected.last_seq,
            )
            assert found.next_seq == expected.last_seq + 1


TestLedger = LedgerMachine.TestCase


def committed(ledger: Ledger, owner: object, now: int = 0, ttl_s: int = 100) -> str:
    pending = open_session(ledger, owner, now, ttl_s)
    ledger.commit(ledger.draft([pending], now))
    return pending.session.id


def test_an_exchange_still_open_at_the_close_gets_a_failed_receipt() -> None:
    ledger, owner = new_ledger(), object()
    session = committed(ledger, owner)
    assert [ledger.begin(session, owner, 0) for _ in range(2)] == [1, 2]
    (pending,) = ledger.disown(owner, "gateway_lost")
    draft = ledger.draft([pending], 5)
    lines = [json.loads(line) for line in draft.lines.splitlines()]
    assert [(line["kind"], line.get("seq")) for line in lines] == [
        ("receipt", 1),
        ("receipt", 2),
        ("close", None),
    ]
    close = Close.parse(draft.entries[-1].statement)
    assert (close.count, close.last_seq, close.reason, close.scratch) == (2, 2, "gateway_lost", "unknown")


def test_a_lost_receipt_is_failed_and_without_content() -> None:
    stamp = composition.Stamp(ISSUER, 5, bytes(16))
    lost = composition.lost_receipt(stamp, b64u(bytes(16)), bytes(32), 3, "gateway_lost")
    parsed = Receipt.parse(lost.statement)
    assert (parsed.status, parsed.reason, parsed.request, parsed.response) == (
        "failed",
        "gateway_lost",
        None,
        None,
    )


def test_expiry_refuses_new_exchanges_but_lets_open_ones_end() -> None:
    ledger, owner = new_ledger(), object()
    session = committed(ledger, owner, ttl_s=10)
    assert ledger.begin(session, owner, 9) == 1
    assert ledger.expire(9) == []
    with pytest.raises(AttestorError, match="session_expired"):
        ledger.begin(session, owner, 10)
    assert ledger.expire(10) == []  # an exchange is open
    ledger.commit(ledger.draft([record(ledger, owner, session, 1, 11)], 11))
    (close,) = ledger.expire(60)
    assert close.reason == "expired"
    assert ledger.expire(60) == []


def test_a_session_does_not_expire_while_a_receipt_of_it_is_being_signed() -> None:
    """If that fails, the receipt is asked for again, which a closing session would refuse: it would be logged as failed."""
    ledger, owner = new_ledger(), object()
    session_id = committed(ledger, owner, ttl_s=100)
    seq = ledger.begin(session_id, owner, 9)
    draft = ledger.draft([record(ledger, owner, session_id, seq, 9)], 9)
    assert ledger.expire(200) == []
    ledger.rollback(draft)
    ledger.commit(ledger.draft([record(ledger, owner, session_id, seq, 210)], 210))
    (close,) = ledger.expire(220)
    assert close.reason == "expired"


def test_open_exchanges_and_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_OPEN", 2)
    monkeypatch.setattr(ledger_module, "MAX_SESSIONS", 1)
    ledger, owner = new_ledger(), object()
    session = committed(ledger, owner)
    assert [ledger.begin(session, owner, 0) for _ in range(2)] == [1, 2]
    with pytest.raises(AttestorError, match="overloaded"):
        ledger.begin(session, owner, 0)
    with pytest.raises(AttestorError, match="overloaded"):
        open_session(ledger, owner)


def test_a_session_belongs_to_its_connection() -> None:
    ledger, owner = new_ledger(), object()
    session = committed(ledger, owner)
    for operation in (ledger.find, lambda s, o: ledger.begin(s, o, 0)):
        with pytest.raises(AttestorError, match="unknown_session"):
            operation(session, object())
    assert ledger.disown(object(), "gateway_lost") == []


def test_a_logged_receipt_can_be_asked_for_again_after_a_restart_by_the_same_request_only() -> None:
    ledger, owner = new_ledger(), object()
    opening_batch = batch_of(ledger, open_session(ledger, owner))
    session = opening_batch.leaves[0].session
    assert ledger.begin(session, owner, 7) == 1
    pending = record(ledger, owner, session, 1, 7)
    receipt_batch = batch_of(ledger, pending)

    again = new_ledger()
    again.replay(opening_batch)
    again.replay(receipt_batch)
    assert again.adopt(owner, PROFILE, "gateway_lost") == []
    found = again.find(session, owner)
    assert again.recall(found, 1, composing(found, 1)) == (pending.statement, 1)
    other = msgspec.structs.replace(reported(session, 1), http_status=500)
    assert again.recall(found, 1, lambda stamp: composition.receipt(stamp, other, found.leaf)) is None
    assert again.recall(found, 2, composing(found, 2)) is None
    assert again.begin(session, owner, 8) == 2


def test_sessions_without_owner_go_to_a_gateway_of_their_profile_only() -> None:
    ledger, first = new_ledger(), object()
    session = committed(ledger, first)
    ledger.find(session, first).owner = None
    (close,) = ledger.adopt(object(), b"\x08" * 32, "gateway_lost")
    assert close.session.id == session
    ledger.rollback(ledger.draft([close], 0))
    with pytest.raises(AttestorError, match="unknown_session"):
        ledger.find(session, first)


def batch_of(ledger: Ledger, *pendings: Pending) -> records.Batch:
    draft = ledger.draft(pendings, 0)
    ledger.commit(draft)
    leaves = [records.parse(line + b"\n") for line in draft.lines.splitlines()]
    return records.Batch(leaves, records.HeadRecord(head="AA", size=draft.size), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("perturbation", ["index", "size", "orphan", "replayed-twice"])
def test_a_log_that_does_not_follow_is_corrupt(perturbation: str) -> None:
    ledger = new_ledger()
    batch = batch_of(ledger, open_session(ledger, object()), open_session(ledger, object()))
    again = new_ledger()
    if perturbation == "index":
        batch = records.Batch(batch.leaves[1:], batch.head, 0)
    elif perturbation == "size":
        batch = records.Batch(batch.leaves, records.HeadRecord(head="AA", size=3), 0)
    elif perturbation == "orphan":
        orphan = records.ReceiptRecord(
            iat=0,
            index=0,
            leaf=b64u(bytes(32)),
            seq=1,
            session=b64u(bytes(16)),
            status="complete",
            usage=(1, 1, 0),
        )
        batch = records.Batch([orphan], records.HeadRecord(head="AA", size=1), 0)
    else:
        again.replay(batch)
    with pytest.raises(LogCorrupt):
        again.replay(batch)
