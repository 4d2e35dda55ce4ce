"""Records of ended exchanges, kept until the attestor has logged them. The rules are in `ledger.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from rlu_attestation.commitment import Tag
from rlu_server.adapters.attestor_client import AttestorClient
from rlu_server.adapters.events import Events
from rlu_server.adapters.measures import Measures
from rlu_server.adapters.waiting import within
from rlu_server.attestor import messages
from rlu_server.attestor.messages import Answer, Failure
from rlu_server.core.errors import GatewayError
from rlu_server.core.sessions import Logged, Session, SessionTable
from rlu_server.core.usage import Usage

RETRY_S = 0.5
MAX_UNSETTLED = 8192
"""With so many records waiting for a signer, nothing new is admitted."""


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
    request: Content
    forwarded: Content | None
    rewritten: tuple[str, ...]
    response: Content
    usage: Usage | None
    reason: str | None


@dataclass(slots=True, eq=False)
class _Record:
    entry: Admitted
    outcome: Outcome
    sent: bool = False
    """It may have been logged under `entry.seq`."""
    waiting: bool = False
    """An answer is on its way; nothing else may be asked."""


class Recorder:
    """Has outcomes logged as receipts.

    Args:
        on_settled: called when an exchange of a session no longer stands in the way of its close.
    """

    def __init__(
        self,
        attestor: AttestorClient,
        table: SessionTable,
        measures: Measures,
        events: Events,
        on_settled: Callable[[Session], None],
    ) -> None:
        self._attestor = attestor
        self._table = table
        self._measures = measures
        self._events = events
        self._on_settled = on_settled
        self._unsettled: dict[Admitted, _Record] = {}
        self._waiters: dict[tuple[str, int], list[asyncio.Future[Logged]]] = {}

    @property
    def pending(self) -> int:
        """Records that the attestor has not confirmed yet."""
        return len(self._unsettled)

    @property
    def blocked(self) -> bool:
        return len(self._unsettled) >= MAX_UNSETTLED

    def record(self, entry: Admitted, outcome: Outcome) -> None:
        """An admitted exchange has ended."""
        self._measures.receipts[outcome.status] += 1
        record = _Record(entry, outcome)
        self._unsettled[entry] = record
        self._submit(record)

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

    def welcomed(self) -> None:
        """A new epoch. Old numbers are asked about first, while none of them can have been given away again."""
        records = list(self._unsettled.values())
        for record in sorted(records, key=lambda record: not record.sent):
            self._submit(record)

    def _submit(self, record: _Record) -> None:
        if not self._attestor.ready or record.waiting or record.entry not in self._unsettled:
            return
        if record.sent or record.entry.epoch == self._attestor.epoch:
            self._send(record)
        else:
            self._renumber(record)

    def _renumber(self, record: _Record) -> None:
        entry = record.entry
        record.waiting = True

        def begun(answer: Answer | None) -> None:
            record.waiting = False
            if isinstance(answer, messages.ExchangeBegun):
                entry.seq, entry.epoch = answer.seq, self._attestor.epoch
                self._send(record)
            else:
                self._failed(record, answer)

        request = messages.BeginExchange(id=self._attestor.next_id(), session=entry.session.id)
        self._attestor.send(request, begun)

    def _send(self, record: _Record) -> None:
        record.sent = record.waiting = True

        def recorded(answer: Answer | None) -> None:
            record.waiting = False
            if isinstance(answer, messages.ReceiptRecorded):
                self._settle(record, Logged(answer.logged.statement, answer.logged.leaf_index))
            else:
                self._failed(record, answer)

        self._attestor.send(_message(self._attestor.next_id(), record), recorded)

    def _failed(self, record: _Record, answer: Answer | None) -> None:
        entry = record.entry
        if answer is None:
            return  # the next epoch takes it up
        code = answer.code if isinstance(answer, Failure) else "malformed"
        if code == "unknown_exchange" and entry.epoch != self._attestor.epoch:
            record.sent = False
            self._renumber(record)
        elif code in ("signer_unavailable", "overloaded", "internal"):
            asyncio.get_running_loop().call_later(RETRY_S, self._submit, record)
        else:
            self._measures.receipts_lost += 1
            self._events.emit("receipt_lost", code)
            self._settle(record, None)

    def _settle(self, record: _Record, logged: Logged | None) -> None:
        entry = record.entry
        if self._unsettled.pop(entry, None) is None:
            return
        session = entry.session
        session.in_flight -= 1
        waiters = self._waiters.get((session.id, entry.announced), [])
        if logged is None:
            session.receipts.pop(entry.announced, None)
        else:
            self._table.settle(session, entry.announced, logged)
        for future in waiters:
            if not future.done():
                if logged is None:
                    future.set_exception(GatewayError("receipt_not_found"))
                else:
                    future.set_result(logged)
        self._on_settled(session)


def _message(request_id: int, record: _Record) -> messages.RecordReceipt:
    entry, outcome = record.entry, record.outcome
    committer, seq = entry.session.committer, entry.seq

    def committed(tag: Tag, content: Content) -> messages.Commitment:
        size = content.size
        return messages.Commitment(bytes=size, commitment=committer.commit(tag, seq, size, content.digest))

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
        request=committed(Tag.REQUEST, outcome.request),
        forwarded=None if outcome.forwarded is None else committed(Tag.FORWARDED, outcome.forwarded),
        rewritten=list(outcome.rewritten),
        response=committed(Tag.RESPONSE, outcome.response),
        usage=usage,
        reason=outcome.reason,
    )
