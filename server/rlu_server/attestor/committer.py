"""Group commit (design section 4): whatever waits while the signer is busy becomes the next batch, and one signed head covers it.

The event loop owns all state; one thread does what blocks, one thing at a time: sign a head, write the batch, collect evidence, sign
a statement. For a batch that thread signs first, then writes leaves and head with a single `fdatasync`, and only then is anything
released. So the disk holds exactly what was, or was about to be, released, and a crash needs no repair but to cut an unfinished tail.

There is no timer in the path of a signature that a response waits for. Receipts come after their response: when nothing else waits, the
signer rests for some milliseconds between two batches of them, so that under load more of them share a signature, a write and a wake-up.
After a failure, leaves of our own (closes nobody asked for), what gateways that are gone had handed over, and notes are tried again in a
while, and at once when we are to end.

Heads never go back in time. When the clock does, by more than corrections of the clock explain, nothing is signed until it is right
again (`clock.set_back`): a later head with an earlier time would look like a forgery to whoever follows the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from rlu_attestation import cose, jose
from rlu_attestation.errors import RluError
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.events import Event, EventLog
from rlu_server.attestor.journal import Journal
from rlu_server.attestor.ledger import Ledger
from rlu_server.attestor.messages import SIGNING_BUCKETS
from rlu_server.attestor.platform import Platform
from rlu_server.attestor.records import head_line
from rlu_server.attestor.sessions import Draft, Entry, Pending, PendingReceipt

T = TypeVar("T")
MAX_BATCH = 4096
"""Leaves under one signature; keeps a batch's composition and write below a tenth of a second."""
MAX_WAITING = 65536
TOLD_AT_ONCE = 32
RETRY_S = 1.0
REST_S = 0.005
"""Between two batches, the second of which has nothing but receipts."""
CLOCK_SLACK_S = 120
"""How far the clock may go back before nothing is signed any more; within it the head takes the time of the one before."""
SEGMENT_LEAVES = 262_144
"""Leaves in a segment of the log: 17 MB of memory, and about a second at the next start."""


@dataclass(frozen=True, slots=True)
class SignedTree:
    """The latest head, and what receipts under it are cut from."""

    size: int
    root: bytes
    protected: bytes
    signature: bytes

    @property
    def head(self) -> bytes:
        return cose.assemble_head(self.protected, self.root, self.signature)


class Committer:
    """The signer thread and its two queues: leaves, and other work (`steps`) that takes turns with them.

    Args:
        latest: the time of the log's last head.
        segment_leaves: how many leaves end a segment of the log.
        thread: the signer's thread, where two keys of one device share it.
    """

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        platform: Platform,
        clock: Callable[[], int],
        events: EventLog,
        *,
        latest: int = 0,
        segment_leaves: int = SEGMENT_LEAVES,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        self.ledger = ledger
        self.platform = platform
        self.signed: SignedTree | None = None
        self.journal = journal
        self._clock = clock
        self._events = events
        self._key = platform.public_key
        self._kid = jose.thumbprint(jose.public_jwk(self._key))
        self.thread = thread or ThreadPoolExecutor(max_workers=1, thread_name_prefix="signer")
        self._waiting: deque[Pending] = deque()
        self._work: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._wake = asyncio.Event()
        self._draining = False
        self._last: Callable[[], None] | None = None
        self._latest = latest
        self._segment_leaves = segment_leaves
        self._beat = False
        self._committed: list[Entry] = []
        self._notes: list[tuple[bytes, asyncio.Future[None]]] = []
        self._again: list[Pending] = []
        """Leaves that are to be tried once more."""
        self._retry: asyncio.TimerHandle | None = None
        self._busy = False
        self._urgent = False
        """Does something wait that is no receipt?"""
        self._resting = False
        self._rested_at = 0.0
        """The loop's time from which receipts alone are a batch."""
        self.failing = False
        """Did the latest signature of a head fail?"""
        self.cause = ""
        """Code of the latest failure of the hardware; empty after a success."""
        self.signatures = [0] * (len(SIGNING_BUCKETS) + 1)
        """Heads that were signed and written, by the time it took; the last count is beyond all bounds."""
        self.signing_s = 0.0
        self._took_s = 0.0

    @property
    def waiting(self) -> int:
        """Leaves that wait for a signature."""
        return len(self._waiting)

    @property
    def latest(self) -> int:
        """The time of the latest head."""
        return self._latest

    @property
    def idle(self) -> bool:
        """Does nothing wait for a signature?"""
        return not (self._waiting or self._work or self._busy)

    async def note(self, lines: bytes) -> None:
        """Have lines that are no leaves written with the next head, which is signed soon; returns when they are on the disk."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._notes.append((lines, written))
        self._beat = True
        self._wake.set()
        await written

    def keep_segment(self) -> None:
        """Finish no more segments: the log is that of an instance which steps down."""
        self._segment_leaves = 2**53

    def check_room(self) -> None:
        """Ask before a gateway's request changes anything.

        Raises:
            AttestorError: `overloaded`.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise AttestorError("overloaded", "too many statements wait for a signature")

    def submit(self, pendings: Sequence[Pending]) -> None:
        """Add leaves to the next batch."""
        self._waiting.extend(pendings)
        self._urgent = self._urgent or not all(isinstance(pending, PendingReceipt) for pending in pendings)
        if self._urgent or not self._resting:
            self._wake.set()

    async def on_signer(self, operation: Callable[[], T]) -> T:
        """Run something on the signer's thread, between two batches.

        Raises:
            AttestorError: `signer_unavailable` when the hardware failed.
        """
        turn: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._work.append((operation, turn))
        self._wake.set()
        return await turn

    async def run(self) -> None:
        """Serve both queues until `drain`, then finish what is there."""
        while True:
            while self._waiting or self._work or self._beat:
                await self._rest()
                if self._waiting or self._beat:
                    await self._commit_batch()
                if self._work:
                    await self._take_turn()
            await self._tell()
            if self._waiting or self._work or self._beat:
                continue  # it came while the answers were given
            if self._draining:
                if self._last is None:
                    return
                last, self._last = self._last, None
                last()
                continue
            await self._wake.wait()
            self._wake.clear()

    def beat(self, interval_s: int) -> None:
        """Sign a head although nothing happened, when the latest is older than that: a log whose head is older has stalled."""
        if self.signed is not None and self._clock() >= self._latest + interval_s:
            self._beat = True
            self._wake.set()

    @property
    def _pressing(self) -> bool:
        """Is there more to do than receipts?"""
        return bool(self._urgent or self._work or self._beat or self._draining)

    async def _rest(self) -> None:
        """Wait until receipts alone are worth a batch, or something else comes."""
        loop = asyncio.get_running_loop()
        if self._pressing or loop.time() >= self._rested_at:
            return
        await self._tell()
        if self._pressing:
            return
        self._wake.clear()  # what set it is known
        timer = loop.call_at(self._rested_at, self._wake.set)
        self._resting = True
        await self._wake.wait()
        self._wake.clear()
        self._resting = False
        timer.cancel()

    def drain(self, last: Callable[[], None] | None = None) -> None:
        """Let `run` return once nothing waits.

        Args:
            last: called when nothing waits any more; may submit what is signed after everything else.
        """
        self._try_again()  # who waited for a better time has no other
        self._draining, self._last = True, last
        self._wake.set()

    def close(self) -> None:
        """End the signer's thread."""
        self.thread.shutdown(wait=True)

    async def sign_head(self, lines: bytes = b"") -> None:
        """A fresh head over the tree as it is, shows that the key works; `lines` go into the log with it. Only before `run`.

        Raises:
            AttestorError, OSError: the hardware or the disk failed, or the clock was set back.
        """
        draft = self.ledger.draft([], self._clock())
        draft.lines = lines
        self.signed = await self._in_thread(lambda: self._sign_and_store(draft, self._clock()))
        self.ledger.commit(draft)

    async def _commit_batch(self) -> None:
        self._beat = False
        self._busy = True
        try:
            await self._commit_next()
        finally:
            self._busy = False

    async def _commit_next(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
        self._urgent = bool(self._waiting)
        now = self._clock()
        draft = self.ledger.draft(batch, now)
        notes, self._notes = self._notes, []
        draft.lines = b"".join(lines for lines, _ in notes) + draft.lines
        try:
            signed = await self._in_thread(lambda: self._sign_and_store(draft, now))
        except (RluError, OSError) as error:
            self.ledger.rollback(draft)
            self._notes = notes + self._notes
            self._fail(batch, error)
            return
        self.ledger.commit(draft)
        self.signed = signed
        self._rested_at = asyncio.get_running_loop().time() + REST_S
        for _, written in notes:
            if not written.done():
                written.set_result(None)
        self.signatures[bisect_left(SIGNING_BUCKETS, self._took_s)] += 1
        self.signing_s += self._took_s
        if self.failing:
            self.failing, self.cause = False, ""
            self._events.emit(Event.SIGNER_RECOVERED)
        self._committed = draft.entries
        if self.ledger.tree.size - self.journal.sealed >= self._segment_leaves:
            await self._rotate(signed)

    async def _rotate(self, signed: SignedTree) -> None:
        sealing = self.ledger.tree.sealing()
        lines = self.ledger.snapshot() + head_line(signed.head, signed.size)
        try:
            await self._in_thread(lambda: self.journal.rotate(sealing, lines))
        except OSError as error:
            self._events.emit(Event.LOG_WRITE_FAILED, f"errno.{error.errno}")
            self._segment_leaves *= 2  # the segment goes on; not to be tried again with every batch
        else:
            self.ledger.tree.seal(sealing, self.journal.tiles)

    def _fail(self, batch: Sequence[Pending], error: RluError | OSError) -> None:
        self.failing = True
        if isinstance(error, RluError):
            self.cause = error.code
            self._events.emit(Event.SIGNER_FAILED, error.code, len(batch))
        else:
            self._events.emit(Event.LOG_WRITE_FAILED, f"errno.{error.errno}", len(batch))
        stay = [pending for pending in batch if pending.stays]
        if stay:
            # What stays and came later goes behind: no close may overtake the receipts of its session.
            stay += [pending for pending in self._waiting if pending.stays]
            self._waiting = deque(pending for pending in self._waiting if not pending.stays)
        if not self._draining:
            self._again += stay
            if (self._again or self._notes) and self._retry is None:
                self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._try_again)
        for pending in batch:
            if pending.token is not None:
                pending.token.failed(unavailable())

    def _try_again(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._notes:
            self._beat = True
            self._wake.set()
        if self._again:
            own, self._again = self._again, []
            self.submit(own)

    async def _take_turn(self) -> None:
        operation, turn = self._work.popleft()
        try:
            result = await self._in_thread(operation)
        except (RluError, OSError) as error:
            if isinstance(error, RluError):
                self.cause = error.code
                self._events.emit(Event.SIGNER_FAILED, error.code)
            if not turn.done():
                turn.set_exception(unavailable())
        else:
            if not self.failing:
                self.cause = ""
            if not turn.done():
                turn.set_result(result)

    async def _tell(self) -> None:
        """Answer those whose leaves are under the latest head, some at a time, so that the first answers leave before the last is made."""
        committed, self._committed = self._committed, []
        for number, entry in enumerate(committed, 1):
            if entry.pending.token is not None:
                entry.pending.token.committed(entry)
            if number % TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _in_thread(self, operation: Callable[[], T]) -> T:
        running = asyncio.get_running_loop().run_in_executor(self.thread, operation)
        # Making the answers of one batch takes the loop a while; meanwhile the signer has the next one.
        await self._tell()
        return await running

    def _sign_and_store(self, draft: Draft, now: int) -> SignedTree:
        if now < self._latest - CLOCK_SLACK_S:
            raise AttestorError(
                "clock.set_back", "the clock is behind the time of the log's last head: set it right"
            )
        now = max(now, self._latest)
        began = time.monotonic()
        protected = cose.head_protected(self._kid, self.ledger.issuer, now, draft.size)
        message = cose.signature_input(protected, draft.root)
        signature = self.platform.sign(hashlib.sha256(message).digest())
        # A signature that does not verify must not get into the log; this costs less than a tenth of a millisecond.
        jose.verify_es256(self._key, message, signature)
        signed = SignedTree(draft.size, draft.root, protected, signature)
        self.journal.append(draft.lines + head_line(signed.head, draft.size))
        self._latest = now
        self._took_s = time.monotonic() - began
        return signed


def unavailable() -> AttestorError:
    """What the gateway hears of any failure of hardware or disk; the code of the cause is in the event log."""
    return AttestorError("signer_unavailable", "the signer does not answer; nothing was signed, try again")
