"""Rotation of the instance key without losing a request (server/DESIGN.md, "Rotating the key").

     1  the next key is made beside the one in use, in the same TPM, and certified by the same AK
     2  it is tried: a statement with evidence of its own, and a signature. A rehearsal ends here, and nothing has changed
     3  between two batches the old key signs who follows it; files and logs change places; the new log begins, naming the old one's head
     4  the counter of starts is raised and noted in both logs; the new key signs its first head
     5  every gateway that is connected gets a statement of the new instance, on the connection it has: from that moment on its sessions are
        opened there. Those that are open go on in the old log, under the old key
     6  when the last of them has ended, the old key is forgotten. The new instance names the final head of the old log from then on

What fails before 3 changes nothing. From 3 on it is tried until it works, and the old key goes on meanwhile; a crash is gone on with at the
next start.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from rlu_attestation import continuity, jose
from rlu_attestation.continuity import Continuity
from rlu_attestation.errors import RluError
from rlu_attestation.instance import Predecessor, issuer, ueid
from rlu_server.attestor import age, asking
from rlu_server.attestor.attesting import SignedStatement
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.events import Event, EventLog
from rlu_server.attestor.instances import Instances
from rlu_server.attestor.journal import Journal
from rlu_server.attestor.messages import Hello
from rlu_server.attestor.platform import Platform
from rlu_server.attestor.records import start_line
from rlu_server.attestor.roster import Attestor
from rlu_server.attestor.server import Server
from rlu_server.attestor.service import Gateway
from rlu_server.attestor.slots import KeySlots
from rlu_server.settings import Attestation

T = TypeVar("T")
LOOK_S = 0.5
RETRY_S = 1.0
REMOVE_S = 3600
"""How often it is tried again to remove keys from the TPM that nobody uses any more."""
DAY_S = 86400
WARN_S = 14 * DAY_S
"""How long before a rotation is due the operator is told, each day."""
NOBODY = Hello(
    id=0, gateway_version="rehearsal", tls_origin="plaintext", tls_spki_sha256=None, posture={"lock": "unmeasured"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Going:
    """An instance, and the tasks that keep it going."""

    instance: Attestor
    signing: asyncio.Task[None]
    attesting: asyncio.Task[None]


class Rotation:
    """Keeps the instances of the roster going, rotates when asked and when it is time, and ends an instance that has stepped down."""

    def __init__(
        self,
        server: Server,
        instances: Instances,
        slots: KeySlots,
        settings: Attestation,
        clock: Callable[[], int],
        events: EventLog,
    ) -> None:
        self._server = server
        self._roster = server.roster
        self._instances = instances
        self._slots = slots
        self._rotate_s = settings.rotate_days * DAY_S
        self._clock = clock
        self._events = events
        self._going: dict[str, _Going] = {}
        self._unanswered: tuple[asking.Asked, asking.Outcome] | None = None
        self._previous_stays = False
        """Could the key that signs nothing any more not be forgotten yet?"""
        self._warned = 0
        self._remove_at = 0
        for instance in self._roster:
            self._begin(instance)

    async def run(self) -> None:
        """Until cancelled; ends with the error of an instance that failed."""
        while True:
            tasks = [task for each in self._going.values() for task in (each.signing, each.attesting)]
            done, _ = await asyncio.wait(tasks, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
                raise RuntimeError("a task that does not end has ended")
            await self._look()

    async def drain(self) -> None:
        """Let what waits for a signature get it, then end: also of an instance that is not in the roster yet, or any more."""
        for each in self._going.values():
            each.instance.drain()
        for each in self._going.values():
            await each.signing
            each.attesting.cancel()

    async def rotate(self) -> Attestor:
        """Have the next key take over; gives the new instance.

        Raises:
            AttestorError: it did not, and nothing has changed.
        """
        if self._roster.leaving is not None:
            raise AttestorError(
                "rotation.under_way", "sessions of the key before this one are still open: wait, or `rlu keys retire`"
            )  # fmt: skip
        old = self._roster.current
        platform = await self._try_next(old)
        journal = await self._hand_over(old, platform)
        new = await self._until(lambda: self._first_head(old, platform, journal))
        self._begin(new)
        statements = await self._welcomes(new)
        # Nothing is awaited from here on: for every gateway the change is between two of its requests.
        old.step_down(new.issuer)
        self._roster.current, self._roster.leaving = new, old
        for gateway, statement in statements.items():
            gateway.welcome_anew(statement)
        self._events.emit(Event.KEY_ROTATED, count=old.committer.ledger.sessions)
        return new

    async def rehearse(self) -> None:
        """Make a key, have it certified, attest with it, sign its continuity, and throw it away.

        Raises:
            AttestorError: what would stop the rotation.
        """
        old = self._roster.current
        platform = await self._try_next(old)
        try:
            self._signed_word(old, platform, await self._on_signer(old, lambda: self._word(old, platform)))
        finally:
            await self._discard(old, platform)
        self._events.emit(Event.KEY_REHEARSED)

    def retire(self) -> int:
        """End the sessions of the key that stepped down; gives how many. The key goes when their closes are signed."""
        leaving = self._roster.leaving
        if leaving is None:
            raise AttestorError("rotation.none", "no key has stepped down here")
        closes = leaving.committer.ledger.close_all("key_retired")
        leaving.committer.submit(closes)
        return len(closes)

    # --- what is due ---

    async def _look(self) -> None:
        leaving = self._roster.leaving
        if leaving is not None and _is_over(leaving):
            await self._end(leaving)
        if self._clock() >= self._remove_at:
            await self._remove_gone()
        asked = asking.take(self._slots.directory)
        if asked is not None:
            self._unanswered = (asked, await self._act(asked.action, asked.findings))
            self._answer(first=True)
        else:
            self._answer()
            if self._due():
                await self._act("rotate")

    def _answer(self, *, first: bool = False) -> None:
        """Tried with each look until there is room for it, or something else is asked; whoever asked waits."""
        if self._unanswered is None:
            return
        try:
            asking.answer(self._slots.directory, *self._unanswered)
        except OSError as error:
            if first:
                self._events.emit(Event.LOG_WRITE_FAILED, _code(error))
        else:
            self._unanswered = None

    async def _act(self, action: str, findings: str = "") -> asking.Outcome:
        try:
            if action == "canary":
                return asking.Outcome(report=await self._take_over(findings))
            if action == "rotate":
                new = await self.rotate()
                return asking.Outcome(issuer=new.issuer)
            if action == "retire":
                return asking.Outcome(sessions=self.retire())
            await self.rehearse()
            return asking.Outcome()
        except (RluError, OSError) as error:
            code = _code(error)
            message = error.message if isinstance(error, RluError) else str(error.strerror)
            event = Event.CANARY_REFUSED if action == "canary" else Event.KEY_ROTATION_FAILED
            self._events.emit(event, code)
            return asking.Outcome(code=code, message=message)

    async def _take_over(self, findings: str) -> str:
        """Sign a report on a canary test's findings, in the attestor's own words."""
        current = self._roster.current
        canary = self._instances.canary
        report = canary.compose(findings, current.attesting.jwk)
        digest = hashlib.sha256(report.signing_input()).digest()
        signature = await self._on_signer(current, lambda: current.committer.platform.sign(digest))
        text = canary.keep(report, signature)
        self._events.emit(Event.CANARY_REPORTED, report.findings.result)
        return text

    def _due(self) -> bool:
        """Is it time for the next key? Tells the operator, once a day, from two weeks before."""
        if not self._rotate_s:
            return False
        now = self._clock()
        left = self._roster.current.attesting.created + self._rotate_s - now
        if left <= WARN_S and now >= self._warned + DAY_S:
            self._warned = now
            self._events.emit(Event.KEY_ROTATION_DUE, count=max(left, 0) // DAY_S)
            return left <= 0 and self._roster.leaving is None
        return False

    async def _end(self, leaving: Attestor) -> None:
        """Its last session has ended: the log is final, and the key goes."""
        self._roster.leaving = None
        going = self._going[leaving.issuer]
        leaving.drain()
        await asyncio.shield(going.signing)  # whoever ends us meanwhile waits for it in `drain`
        del self._going[leaving.issuer]
        going.attesting.cancel()
        final = leaving.committer.signed
        assert final is not None
        leaving.past.forget()
        # Named from now on; until here it was the head at which the key had stepped down, so that who asks for a proof gets it to that one.
        self._roster.current.attesting.predecessor = Predecessor(leaving.issuer, final.head)
        await self._on_signer(self._roster.current, leaving.committer.platform.close)
        leaving.committer.journal.close()
        self._previous_stays = True
        await self._remove_gone()
        self._events.emit(Event.KEY_RETIRED)

    # --- the steps ---

    async def _try_next(self, old: Attestor) -> Platform:
        """Steps 1 and 2."""
        self._drop_previous()  # its place is needed
        self._slots.drop_next()
        try:
            platform = await self._on_signer(old, lambda: old.committer.platform.beside(self._slots.next))
        except BaseException:
            with suppress(RluError, OSError):
                self._slots.drop_next()  # a key may be there, and have failed at its first use
            await self._remove_gone()
            raise
        try:
            attesting = self._instances.attesting(old.committer, platform, None, self._clock(), 0)
            hello = next((g.hello for g in self._server.gateways if g.hello is not None), NOBODY)
            serving = asyncio.create_task(attesting.run())
            try:
                made = await attesting.statement(hello, None)
            finally:
                serving.cancel()
            parsed = jose.jws_parse(made.jws)
            jose.verify_es256(platform.public_key, parsed.signing_input, parsed.signature)
        except BaseException:
            await self._discard(old, platform)
            raise
        return platform

    async def _hand_over(self, old: Attestor, platform: Platform) -> Journal:
        """Step 3."""

        def change() -> Journal:
            word = self._signed_word(old, platform, self._word(old, platform))
            jwk = jose.public_jwk(platform.public_key)
            kid = jose.thumbprint(jwk)
            self._slots.swap(ueid(kid), word)
            try:
                signed = old.committer.signed
                assert signed is not None
                return old.committer.journal.succeed(issuer(kid), jwk, signed.head)
            except OSError:
                self._slots.swap_back()
                raise

        try:
            return await self._on_signer(old, change)
        except BaseException:
            await self._discard(old, platform)
            raise

    async def _first_head(self, old: Attestor, platform: Platform, journal: Journal) -> Attestor:
        """Step 4."""

        def count_start() -> int:
            journal.try_start()
            return platform.raise_start_counter()

        count = await self._on_signer(old, count_start)
        created = age.made_at(
            self._slots.age, ueid(jose.thumbprint(jose.public_jwk(platform.public_key))), self._clock()
        )
        read = self._instances.read(platform, journal)
        new = await self._instances.start(platform, journal, read, created, count, old.committer.thread)
        old.committer.ledger.start_count = count
        await old.committer.note(start_line(count))
        journal.started()  # not before both logs know of it: after a crash in between the old one would look restored
        return new

    async def _welcomes(self, new: Attestor) -> dict[Gateway, SignedStatement]:
        """Step 5: a statement for every gateway that is connected when the last of them is made."""
        made: dict[Gateway, SignedStatement] = {}
        while True:
            missing = [g for g in self._server.gateways if g.hello is not None and g not in made]
            if not missing:
                return {gateway: made[gateway] for gateway in made if not gateway.gone}
            for gateway in missing:
                hello = gateway.hello
                assert hello is not None
                made[gateway] = await self._until(
                    lambda hello=hello: new.attesting.statement(hello, None)  # type: ignore[misc]
                )

    def _word(self, old: Attestor, platform: Platform) -> tuple[Continuity, bytes]:
        """The old key's word about the next; blocks."""
        signed = old.committer.signed
        if signed is None:
            raise AttestorError("signer_unavailable", "no head has been signed yet")
        word = Continuity(
            jwk=old.attesting.jwk,
            issued_at=self._clock(),
            successor=jose.thumbprint(jose.public_jwk(platform.public_key)),
            head=signed.head,
        )
        return word, old.committer.platform.sign(hashlib.sha256(word.signing_input()).digest())

    def _signed_word(self, old: Attestor, platform: Platform, made: tuple[Continuity, bytes]) -> str:
        text = jose.jws_assemble(made[0].signing_input(), made[1])
        continuity.verify(text)
        return text

    async def _discard(self, old: Attestor, platform: Platform) -> None:
        await self._on_signer(old, platform.close)
        self._slots.drop_next()
        await self._remove_gone()

    async def _remove_gone(self) -> None:
        """Remove keys from their handles that nobody uses any more. What fails is told, and tried again."""
        self._remove_at = self._clock() + REMOVE_S
        current = self._roster.current
        try:
            self._drop_previous()
            for key in self._slots.gone:
                await self._on_signer(current, lambda key=key: current.committer.platform.evict(key))  # type: ignore[misc]
                self._slots.removed(key)
        except (RluError, OSError) as error:
            self._events.emit(Event.KEY_REMOVAL_FAILED, _code(error))

    def _drop_previous(self) -> None:
        """Raises OSError."""
        if self._previous_stays:
            self._slots.drop_previous()
            self._previous_stays = False

    async def _until(self, step: Callable[[], Awaitable[T]]) -> T:
        """A step that must be made, tried until it is."""
        while True:
            try:
                return await step()
            except (RluError, OSError) as error:
                self._events.emit(Event.KEY_ROTATION_FAILED, _code(error))
            await asyncio.sleep(RETRY_S)

    async def _on_signer(self, instance: Attestor, operation: Callable[[], T]) -> T:
        """Run something on the signer's thread; unlike `Committer.on_signer` with the error it raised."""

        def guarded() -> tuple[T | None, Exception | None]:
            try:
                return operation(), None
            except (RluError, OSError) as error:
                return None, error

        value, error = await instance.committer.on_signer(guarded)
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def _begin(self, instance: Attestor) -> None:
        self._going[instance.issuer] = _Going(
            instance,
            asyncio.create_task(instance.committer.run()),
            asyncio.create_task(instance.attesting.run()),
        )


def _code(error: RluError | OSError) -> str:
    return error.code if isinstance(error, RluError) else f"errno.{error.errno}"


def _is_over(leaving: Attestor) -> bool:
    """Is nothing left of it that somebody waits for?"""
    committer = leaving.committer
    return not committer.ledger.sessions and committer.idle and leaving.attesting.idle
