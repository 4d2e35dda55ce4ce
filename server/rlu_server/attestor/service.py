"""One gateway's connection, as requests and answers; no socket here.

`Gateway.request` takes a decoded request; answers leave through `send`, in any order. What a gateway opened is closed when it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import msgspec

from rlu_attestation.errors import Malformed, RluError
from rlu_server.attestor import composition, facts, lookback, messages, reading
from rlu_server.attestor.attesting import SignedStatement
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.events import Event
from rlu_server.attestor.ledger import Ledger
from rlu_server.attestor.lookback import LookBack
from rlu_server.attestor.reading import LogRequest
from rlu_server.attestor.roster import Attestor, Roster
from rlu_server.attestor.sessions import Entry, PendingSession

Send = Callable[[messages.Answer], None]


class Gateway:
    """A gateway that is connected.

    Args:
        send: takes an answer; never called after `lost`.
        close: ends the connection.
    """

    def __init__(self, roster: Roster, send: Send, close: Callable[[], None]) -> None:
        self._roster = roster
        self._send = send
        self._close = close
        self._hello: messages.Hello | None = None
        self._statement: SignedStatement | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing = False
        self.gone = False

    @property
    def _attestor(self) -> Attestor:
        return self._roster.current

    @property
    def _ledger(self) -> Ledger:
        return self._attestor.committer.ledger

    @property
    def hello(self) -> messages.Hello | None:
        """How it introduced itself; None before it was welcomed."""
        return None if self._statement is None else self._hello

    def welcome_anew(self, statement: SignedStatement) -> None:
        """The key was rotated: what is opened from now on is of the current instance, whose statement this is."""
        self._statement = statement
        self._welcome(0, statement)

    def request(self, request: messages.Request) -> None:
        """Act on one request."""
        try:
            self._dispatch(request)
        except RluError as error:
            if isinstance(request, messages.OpenSession):
                self._ledger.counting.refused(error.code)
            self.fail(request.id, error)

    def lost(self, reason: str) -> None:
        """The connection ended: close what it had opened."""
        if self.gone:
            return
        self.gone = True
        for task in self._tasks:
            task.cancel()
        if self._hello is not None:
            self._attestor.events.emit(Event.GATEWAY_LOST, reason, self.close_sessions(reason))

    def close_sessions(self, reason: str) -> int:
        """End all of its sessions, of whichever instance; gives how many."""
        count = 0
        for instance in self._roster:
            closes = instance.committer.ledger.disown(self, reason)
            count += len(closes)
            if closes:
                instance.committer.submit(closes)
        return count

    def tend(self) -> None:
        """What is due from time to time: end everything if the instance changed, else renew its statement when it is time."""
        if self.gone or self._hello is None or self._statement is None:
            return
        if self._drifted(self._hello, self._statement):
            self._attestor.events.emit(Event.INSTANCE_CHANGED)
            self.lost("instance_changed")
            self._close()
        elif self._due(self._statement) and not self._renewing:
            self._renewing = True
            self._spawn(self._renew(self._hello))

    def drift(self) -> None:
        """The instance is not what the operator's policy demands: end all sessions, and the connection, so that the gateway knows."""
        if self._hello is None or not any(one.committer.ledger.owned(self) for one in self._roster):
            return
        self.lost("drift")
        self._close()

    def answer(self, answer: messages.Answer) -> None:
        """Send an answer, if there is still someone to read it."""
        if not self.gone:
            self._send(answer)

    def fail(self, request_id: int, error: RluError) -> None:
        """Send a failure."""
        self.answer(messages.Failure(id=request_id, code=error.code, message=error.message[:256]))

    def _dispatch(self, request: messages.Request) -> None:
        if isinstance(request, messages.Hello):
            if self._hello is not None:
                raise Malformed("malformed", "a connection is greeted once")
            self._hello = request
            self._later(request.id, self._greet(request))
        elif self._statement is None or self._hello is None:
            raise AttestorError("hello_required", "greet first, and wait for the welcome")
        elif isinstance(request, messages.OpenSession):
            self._open(request, self._hello, self._statement)
        elif isinstance(request, messages.BeginExchange):
            ledger = self._roster.holding(request.session).committer.ledger
            seq = ledger.begin(request.session, self, self._attestor.clock())
            self.answer(messages.ExchangeBegun(id=request.id, seq=seq))
        elif isinstance(request, messages.RecordReceipt):
            self._record(request)
        elif isinstance(request, messages.CloseSession):
            self._close_session(request)
        elif isinstance(request, messages.Attest):
            self._later(request.id, self._attest(request, self._hello, self._statement))
        elif isinstance(request, messages.AckExport):
            self._later(request.id, self._acknowledge(request))
        elif isinstance(request, messages.ReadCondition):
            self.answer(self._condition(request.id, self._statement))
        elif lookback.needed(request, self._roster):
            self._later(request.id, self._look_back(cast(LookBack, request)))
        else:
            self._show(cast(LogRequest, request))

    async def _greet(self, hello: messages.Hello) -> None:
        try:
            statement = await self._fresh(hello)
        except RluError:
            self._hello = None  # it may be said again, when the cause is gone
            raise
        self._statement = statement
        for instance in self._roster:
            profile = instance.attesting.profile(hello)
            instance.committer.submit(instance.committer.ledger.adopt(self, profile, "gateway_lost"))
        self._attestor.events.emit(Event.GATEWAY_GREETED)
        self._welcome(hello.id, statement)

    async def _fresh(self, hello: messages.Hello) -> SignedStatement:
        """A statement of the instance that is the current one when it is made."""
        while True:
            instance = self._attestor
            statement = await instance.attesting.statement(hello, None)
            if instance is self._attestor:
                return statement

    def _welcome(self, request_id: int, statement: SignedStatement) -> None:
        self.answer(
            messages.Welcome(
                id=request_id,
                statement=statement.jws,
                jwk=self._attestor.attesting.jwk,
                issuer=self._ledger.issuer,
                profile_digest=statement.profile,
            )
        )

    async def _attest(
        self, request: messages.Attest, hello: messages.Hello, standing: SignedStatement
    ) -> None:
        fresh = request.nonce is not None or self._due(standing)
        statement = await self._attestor.attesting.statement(hello, request.nonce) if fresh else standing
        if request.nonce is None:
            self._stand(statement)
        evidence = [
            messages.EvidenceItem(kind=k, data=item) for k, item in sorted(statement.evidence.items())
        ]
        self.answer(messages.Attestation(id=request.id, statement=statement.jws, evidence=evidence))
        if statement.profile != standing.profile:
            self.tend()

    async def _renew(self, hello: messages.Hello) -> None:
        try:
            self._stand(await self._attestor.attesting.statement(hello, None))
        except RluError as error:
            self._attestor.events.emit(Event.RENEWAL_FAILED, error.code)
        finally:
            self._renewing = False

    def _stand(self, statement: SignedStatement) -> None:
        """Make a statement the one that is given out without a nonce, unless it is of an instance that changed."""
        if self._statement is None or statement.profile != self._statement.profile:
            return
        if statement is not self._statement:
            self._statement = statement
            self._attestor.events.emit(Event.STATEMENT_RENEWED)

    def _due(self, statement: SignedStatement) -> bool:
        return self._attestor.clock() >= statement.issued_at + self._attestor.renew_s

    def _drifted(self, hello: messages.Hello, statement: SignedStatement) -> bool:
        try:
            return self._attestor.attesting.profile(hello) != statement.profile
        except RluError as error:
            self._attestor.events.emit(Event.FACTS_REFUSED, error.code)
            return True

    def _open(self, request: messages.OpenSession, hello: messages.Hello, statement: SignedStatement) -> None:
        ledger, committer = self._ledger, self._attestor.committer
        committer.check_room()
        if self._roster.drift is not None:
            raise AttestorError("drift", "the instance is not what the operator's policy demands")
        if self._roster.licensing is not None:
            self._roster.licensing.check()
        self._attestor.exporting.check(ledger.signed_size)
        session = composition.session_statement(
            ledger.stamp(self._attestor.clock()),
            ledger.new_session_id(),
            request,
            statement.profile,
            facts.channel(hello),
        )
        committer.submit([ledger.open(session, self, Ask(self, self._attestor, request.id))])

    def _record(self, request: messages.RecordReceipt) -> None:
        contents = (request.request, request.response)
        if None in contents and (
            request.status != "failed" or contents != (None, None) or request.forwarded is not None
        ):
            raise Malformed("malformed", "an exchange without contents has none at all, and has failed")
        instance = self._roster.holding(request.session)
        ledger, committer = instance.committer.ledger, instance.committer
        committer.check_room()
        session = ledger.find(request.session, self)

        def compose(stamp: composition.Stamp) -> composition.Composed:
            return composition.receipt(stamp, request, session.leaf)

        again = ledger.recall(session, request.seq, compose)
        if again is not None:
            logged = messages.Logged(statement=again[0], leaf_index=again[1])
            self.answer(messages.ReceiptRecorded(id=request.id, logged=logged))
            return
        token = Ask(self, instance, request.id, messages.ReceiptRecorded)
        committer.submit([ledger.record(session, request.seq, compose, self._attestor.clock(), token)])

    def _close_session(self, request: messages.CloseSession) -> None:
        instance = self._roster.holding(request.session)
        ledger, committer = instance.committer.ledger, instance.committer
        committer.check_room()
        session = ledger.find(request.session, self)
        token = Ask(self, instance, request.id, messages.SessionClosed)
        committer.submit([ledger.close(session, request.reason, request.scratch, token)])

    def _show(self, request: LogRequest) -> None:
        instance = self._attestor
        if isinstance(request, messages.Prove | messages.ProvePath | messages.LatestHead):
            instance = self._roster.named(request.issuer) or instance
        signed = instance.committer.signed
        if signed is None:
            raise AttestorError("signer_unavailable", "no head has been signed yet")
        self.answer(reading.show(request, signed, instance.committer.ledger.tree, instance.exporting.floor))

    async def _look_back(self, request: LookBack) -> None:
        try:
            self.answer(await lookback.answer(request, self._roster))
        except OSError as error:
            self._attestor.events.emit(Event.LOG_READ_FAILED, f"errno.{error.errno}")
            raise AttestorError("signer_unavailable", "files of the log cannot be read") from error

    async def _acknowledge(self, request: messages.AckExport) -> None:
        exporting, size = self._attestor.exporting, self._ledger.signed_size
        exporting.acknowledge(request.size, size)
        try:
            await asyncio.to_thread(exporting.store)
        except OSError as error:
            self._attestor.events.emit(Event.LOG_WRITE_FAILED, f"errno.{error.errno}")
        self.answer(messages.Exported(id=request.id, exported=exporting.exported, tree_size=size))

    def _condition(self, request_id: int, statement: SignedStatement) -> messages.Condition:
        """Of the current instance; what signs is one thread, so its times are too."""
        current, drift = self._attestor, self._roster.drift
        committer = current.committer
        return messages.Condition(
            id=request_id,
            signatures=list(committer.signatures),
            signing_s=committer.signing_s,
            waiting=sum(one.committer.waiting for one in self._roster),
            failing=any(one.committer.failing for one in self._roster),
            entries=committer.ledger.signed_size,
            exported=current.exporting.exported,
            head_at=committer.latest,
            stated_at=statement.issued_at,
            drift=drift,
            canary_at=current.attesting.canary_at,
            leaving=self._roster.leaving is not None,
            licence=None if self._roster.licensing is None else self._roster.licensing.condition(),
        )

    def _later(self, request_id: int, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except RluError as error:
                self.fail(request_id, error)

        self._spawn(guarded())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Ask(msgspec.Struct, frozen=True, eq=False):
    """A request that waits for its leaf to be signed."""

    gateway: Gateway
    attestor: Attestor
    request_id: int
    kind: type[messages.ReceiptRecorded] | type[messages.SessionClosed] = messages.ReceiptRecorded

    @property
    def gone(self) -> bool:
        """Has the gateway left?"""
        return self.gateway.gone

    def committed(self, entry: Entry) -> None:
        """Answer with the statement, and for a session with the proof that it is under the head."""
        gateway = self.gateway
        logged = messages.Logged(statement=entry.statement, leaf_index=entry.index)
        if not isinstance(entry.pending, PendingSession):
            gateway.answer(self.kind(id=self.request_id, logged=logged))
            return
        attestor = self.attestor
        session = entry.pending.session
        if gateway.gone:
            # It left while its session was being signed. When it left after that, the session is being closed.
            if not session.closing:
                ledger = attestor.committer.ledger
                attestor.committer.submit([ledger.close(session, "gateway_lost", "unknown", None)])
            return
        signed = attestor.committer.signed
        assert signed is not None
        path = attestor.committer.ledger.tree.inclusion_path(entry.index, signed.size)
        gateway.answer(
            messages.SessionOpened(
                id=self.request_id,
                session=entry.pending.session.id,
                logged=logged,
                receipt=reading.inclusion(signed, entry.index, path),
            )
        )

    def failed(self, error: RluError) -> None:
        """Say that nothing was signed."""
        self.gateway.fail(self.request_id, error)
