"""Records of ended exchanges, kept until the attestor has logged them. The rules are in `ledger.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from rlu_attestation.commitment import SessionCommitter, Tag
from rlu_server.adapters.attestor_client import AttestorClient
from rlu_server.adapters.events import Events
from rlu_server.adapters.measures import Measures
from rlu_server.attestor import messages
from rlu_server.attestor.messages import Answer, Failure
from rlu_server.core.errors import GatewayError
from rlu_server.core.sessions import Logged, Session, SessionTable
from rlu_server.core.usage import Usage
from rlu_server.waiting import within

RETRY_S = 0.5
GONE = frozenset({"unknown_session", "session_expired"})
"""Failures that mean the attestor has ended the session itself."""
MAX_UNSETTLED = 8192
"""With so many records waiting for a signer, nothing new is admitted."""


class Content(msgspec.Struct, frozen=True):
    """What passed: length and SHA-256. Made for every exchange; a frozen dataclass takes four times as long."""

    size: int
    digest: bytes


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an exchange went, in content-free terms."""

    route: str
    model: str
    status: messages.Status
    http_status: int
    request: Content | None
    """None, like `response`: whoever could have told is gone."""
    forwarded: Content | None
    rewritten: tuple[str, ...]
    response: Content | None
    usage: Usage | None
    reason: str | None


@dataclass(slots=True, eq=False)
class Admitted:
    """One exchange with its number.

    `announced` is the number the client was told; `seq` the one its receipt will carry, which differs only if the attestor restarted
    meanwhile; `epoch` is the connection that `seq` belongs to.
    """

    session: Session
    announced: int
    seq: int
    epoch: int
    outcome: Outcome | None = None
    """None while it runs."""
    sent: bool = False
    """Its receipt may have been logged under `seq`."""
    ended: float = 0.0
    """The loop's time when it ended."""
    waiting: bool = False
    """An answer about it is on its way; nothing else may be asked."""

    @property
    def session_id(self) -> str:
        return self.session.id


class _Settling:
    """A session at the start of an epoch: which old numbers are still being asked about, and who waits for that."""

    __slots__ = ("asked", "deferred")

    def __init__(self, asked: Iterable[Admitted]) -> None:
        self.asked = set(asked)
        self.deferred: list[tuple[Callable[[], None], Callable[[GatewayError], None]]] = []


class Recorder:
    """Has outcomes logged as receipts.

    Args:
        on_settled: called when an exchange of a session no longer stands in the way of its close.
        on_gone: called when the attestor has ended a session itself.
    """

    def __init__(
        self,
        attestor: AttestorClient,
        table: SessionTable,
        measures: Measures,
        events: Events,
        on_settled: Callable[[Session], None],
        on_gone: Callable[[Session], None],
    ) -> None:
        self.pending = 0
        """Exchanges that have ended and whose receipt the attestor has not confirmed yet."""
        self._attestor = attestor
        self._table = table
        self._measures = measures
        self._events = events
        self._on_settled = on_settled
        self._on_gone = on_gone
        self._open: dict[Session, dict[Admitted, None]] = {}
        self._settling: dict[Session, _Settling] = {}
        self._waiters: dict[tuple[str, int], list[asyncio.Future[Logged]]] = {}

    @property
    def blocked(self) -> bool:
        return self.pending >= MAX_UNSETTLED

    def admitted(self, entry: Admitted) -> None:
        """An exchange has its number; its record will follow."""
        self._open.setdefault(entry.session, {})[entry] = None

    def record(self, entry: Admitted, outcome: Outcome) -> None:
        """An admitted exchange has ended."""
        self._measures.receipts[outcome.status] += 1
        usage = outcome.usage
        self._measures.of_tenant(
            entry.session.tenant,
            0 if usage is None else usage.input_tokens,
            0 if usage is None else usage.output_tokens,
        )
        entry.outcome = outcome
        entry.ended = asyncio.get_running_loop().time()
        self.pending += 1
        self._submit(entry)

    async def receipt(self, session: Session, announced: int, wait_s: float) -> Logged:
        """The receipt announced under a number.

        Raises:
            GatewayError: `receipt_not_found`, `receipt_pending` after `wait_s` seconds.
        """
        if announced not in session.receipts:
            raise GatewayError("receipt_not_found")
        found = session.receipts[announced]
        if found is not None:
            return found
        future: asyncio.Future[Logged] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault((session.id, announced), [])
        waiters.append(future)
        try:
            logged = await within(future, wait_s)
        finally:
            waiters.remove(future)
            if not waiters:
                self._waiters.pop((session.id, announced), None)
        if logged is None:
            raise GatewayError("receipt_pending")
        return logged

    # --- epochs ---

    def welcomed(self) -> None:
        """A new epoch: ask about old numbers first, while none of them can have been given away again."""
        for session, entries in list(self._open.items()):
            asked = [entry for entry in entries if entry.sent]
            if asked:
                self._settling[session] = _Settling(asked)
                for entry in asked:
                    self._send(entry)
            else:
                self._renumber_all(session)

    def lost(self) -> None:
        """The epoch has ended; who waited for it to settle will now be refused."""
        settling, self._settling = self._settling, {}
        for each in settling.values():
            for go_on, _ in each.deferred:
                go_on()

    def is_settling(self, session: Session) -> bool:
        """Must a new exchange of this session wait until old numbers are settled?"""
        return session in self._settling

    def defer(
        self, session: Session, go_on: Callable[[], None], refuse: Callable[[GatewayError], None]
    ) -> None:
        """Wait for that; one of the two is called later."""
        self._settling[session].deferred.append((go_on, refuse))

    def _asked_about(self, entry: Admitted) -> None:
        settling = self._settling.get(entry.session)
        if settling is None:
            return
        settling.asked.discard(entry)
        if not settling.asked:
            del self._settling[entry.session]
            self._renumber_all(entry.session)
            for go_on, _ in settling.deferred:
                go_on()

    def _renumber_all(self, session: Session) -> None:
        # All of them, running ones too, and before any new exchange: the highest number ever announced is then below every new one.
        for entry in list(self._open.get(session, ())):
            if entry.epoch != self._attestor.epoch:
                self._renumber(entry)

    # --- one entry ---

    def _submit(self, entry: Admitted) -> None:
        """Take the next step for an exchange, if there is one to take now."""
        if not self._attestor.ready or entry.waiting or entry not in self._open.get(entry.session, ()):
            return
        if entry.session in self._settling and not entry.sent:
            return
        if not entry.sent and entry.epoch != self._attestor.epoch:
            self._renumber(entry)
        elif entry.outcome is not None:
            self._send(entry)

    def _renumber(self, entry: Admitted) -> None:
        entry.waiting = True

        def begun(answer: Answer | None) -> None:
            entry.waiting = False
            if isinstance(answer, messages.ExchangeBegun):
                entry.seq, entry.epoch = answer.seq, self._attestor.epoch
                self._submit(entry)
            else:
                self._failed(entry, answer)

        request = messages.BeginExchange(id=self._attestor.next_id(), session=entry.session.id)
        self._attestor.send(request, begun)

    def _send(self, entry: Admitted) -> None:
        assert entry.outcome is not None
        entry.sent = entry.waiting = True

        def recorded(answer: Answer | None) -> None:
            entry.waiting = False
            if isinstance(answer, messages.ReceiptRecorded):
                self._settle(entry, Logged(answer.logged.statement, answer.logged.leaf_index))
            else:
                self._failed(entry, answer)

        self._attestor.send(_message(self._attestor.next_id(), entry, entry.outcome), recorded)

    def _failed(self, entry: Admitted, answer: Answer | None) -> None:
        if answer is None:
            return  # the next epoch takes it up
        code = answer.code if isinstance(answer, Failure) else "malformed"
        if code == "unknown_exchange" and entry.epoch != self._attestor.epoch:
            entry.sent = False
            self._asked_about(entry)
            self._submit(entry)
        elif code in ("signer_unavailable", "overloaded", "internal"):
            asyncio.get_running_loop().call_later(RETRY_S, self._submit, entry)
            settling = self._settling.get(entry.session)
            if settling is not None:
                deferred, settling.deferred = settling.deferred, []
                for _, refuse in deferred:
                    refuse(GatewayError("signer_unavailable"))
        elif entry.outcome is not None:
            self._measures.receipts_lost += 1
            self._events.emit("receipt_lost", code)
            self._settle(entry, None)
            if code in GONE:
                self._on_gone(entry.session)

    def _settle(self, entry: Admitted, logged: Logged | None) -> None:
        session = entry.session
        entries = self._open.get(session, {})
        if entry not in entries:
            return
        del entries[entry]
        if not entries:
            del self._open[session]
        self.pending -= 1
        session.in_flight -= 1
        if logged is None:
            session.receipts.pop(entry.announced, None)
        else:
            self._measures.receipt_wait.add(asyncio.get_running_loop().time() - entry.ended)
            self._table.settle(session, entry.announced, logged)
        for future in self._waiters.get((session.id, entry.announced), []):
            if not future.done():
                if logged is None:
                    future.set_exception(GatewayError("receipt_not_found"))
                else:
                    future.set_result(logged)
        self._asked_about(entry)
        self._on_settled(session)


def _message(request_id: int, entry: Admitted, outcome: Outcome) -> messages.RecordReceipt:
    committer, seq = entry.session.committer, entry.seq

    usage = None
    if outcome.usage is not None:
        usage = messages.Usage(
            input_tokens=outcome.usage.input_tokens,
            output_tokens=outcome.usage.output_tokens,
            cached_input_tokens=outcome.usage.cached_input_tokens,
        )
    return messages.RecordReceipt(
        id=request_id,
        session=entry.session.id,
        seq=seq,
        route=outcome.route,
        model=outcome.model,
        status=outcome.status,
        http_status=outcome.http_status,
        request=_committed(committer, Tag.REQUEST, seq, outcome.request),
        forwarded=_committed(committer, Tag.FORWARDED, seq, outcome.forwarded),
        rewritten=list(outcome.rewritten),
        response=_committed(committer, Tag.RESPONSE, seq, outcome.response),
        usage=usage,
        reason=outcome.reason,
    )


def _committed(
    committer: SessionCommitter, tag: Tag, seq: int, content: Content | None
) -> messages.Commitment | None:
    if content is None:
        return None
    size = content.size
    return messages.Commitment(bytes=size, commitment=committer.commit(tag, seq, size, content.digest))
