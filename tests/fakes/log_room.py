"""The real ledger, journal and committer's way of writing a log, without processes: batches of receipts of one session."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

from fakes.log_operator import AT, Operator
from rlu_attestation import cose
from rlu_attestation.channel import Channel
from rlu_attestation.log.follow import follow
from rlu_attestation.log.state import State
from rlu_attestation.log.view import View
from rlu_server.attestor import composition, messages, records
from rlu_server.attestor.journal import Journal
from rlu_server.attestor.ledger import Ledger
from rlu_server.attestor.sessions import Session
from rlu_server.attestor.tiles import TiledTree


class LogRoom:
    """A log that is written to.

    Args:
        like: a log whose key to use, and whose files unless `fresh`.
    """

    def __init__(
        self,
        directory: Path,
        like: LogRoom | None = None,
        *,
        fresh: bool = False,
        segment_leaves: int = 1 << 20,
    ) -> None:
        self.directory = directory
        self.operator = Operator() if like is None else Operator(like.operator.key)
        self.issuer = self.operator.issuer
        self.now = AT if like is None else like.now
        self.segment_leaves = segment_leaves
        self.journal = Journal(directory, self.issuer, self.operator.jwk)
        self.tree = TiledTree(self.journal.tiles, self.journal.sealed)
        numbers = itertools.count(2 if fresh else 1)
        self.ledger = Ledger(
            self.issuer, lambda size: next(numbers).to_bytes(size, "big"), b"k" * 32, self.tree
        )
        last = None
        for last in self.journal.batches:
            self.ledger.replay(last)
        self.journal.accept(last)
        self.session: Session | None = None
        if last is None:
            self.ledger.start_count = 1
            self._sign(records.start_line(1))

    def batch(self, count: int) -> None:
        """So many entries under one head: a session first, then its receipts."""
        pendings = []
        if self.session is None:
            ask = messages.OpenSession(
                id=1,
                tenant="t",
                principal="p",
                nonce=None,
                cnf_jkt=None,
                commitment_key_digest=bytes(32),
                opening=None,
                ttl_s=100,
            )
            made = composition.session_statement(
                self.ledger.stamp(self.now),
                self.ledger.new_session_id(),
                ask,
                bytes(32),
                Channel("plaintext", None),
            )
            opening = self.ledger.open(made, self, _NOBODY)
            draft = self.ledger.draft([opening], self.now)
            self._finish(draft)
            self.session, count = opening.session, count - 1
        for _ in range(count):
            seq = self.ledger.begin(self.session.id, self, self.now)
            report = messages.RecordReceipt(
                id=1,
                session=self.session.id,
                seq=seq,
                route="/v1/messages",
                model="m",
                status="complete",
                http_status=200,
                request=messages.Commitment(3, bytes(32)),
                forwarded=None,
                rewritten=[],
                response=messages.Commitment(3, bytes(32)),
                usage=messages.Usage(300, 3),
                reason=None,
            )
            pendings.append(
                self.ledger.record(
                    self.session,
                    seq,
                    partial(_receipt, report, self.session.leaf),
                    self.now,
                    _NOBODY,
                )
            )
        if pendings:
            self._finish(self.ledger.draft(pendings, self.now))

    def observed(self) -> State:
        """The state of an observer who read everything."""
        found = follow(None, self.view(None), max(self.now, AT), None).state
        assert found is not None
        return found

    def view(self, state: State | None) -> View:
        """What an honest server shows of this log."""
        size = self.tree.size
        head = cose.assemble_head(*self._signed(size))
        leaves = self.tree.leaves(0 if state is None else state.latest.tree_size, size)
        return replace(self.operator.view(), head=head, leaves=leaves)

    def close(self) -> None:
        self.journal.close()

    def _finish(self, draft: object) -> None:
        self.ledger.commit(draft)  # type: ignore[arg-type]
        self._sign(draft.lines)  # type: ignore[attr-defined]
        if self.tree.size - self.journal.sealed >= self.segment_leaves:
            sealing = self.tree.sealing()
            head = records.head_line(cose.assemble_head(*self._signed(self.tree.size)), self.tree.size)
            self.journal.rotate(sealing, self.ledger.snapshot() + head)
            self.tree.seal(sealing, self.journal.tiles)

    def _sign(self, lines: bytes) -> None:
        head = cose.assemble_head(*self._signed(self.tree.size))
        self.journal.append(lines + records.head_line(head, self.tree.size))

    def _signed(self, size: int) -> tuple[bytes, bytes, bytes]:
        protected, root = self.operator.protected(size, iat=self.now), self.tree.root(size)
        return protected, root, self.operator.sign(cose.signature_input(protected, root))


def _receipt(report: messages.RecordReceipt, leaf: bytes, stamp: composition.Stamp) -> composition.Composed:
    return composition.receipt(stamp, report, leaf)


class _Nobody:
    gone = False

    def committed(self, entry: object) -> None:
        pass

    def failed(self, error: object) -> None:
        pass


_NOBODY = _Nobody()
