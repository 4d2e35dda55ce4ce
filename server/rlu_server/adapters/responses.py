"""The store of responses: what tenants had kept, in this process's own memory and nowhere else.

Content lies in byte arrays, not in files: no path leads to it, a killed process leaves nothing behind (the kernel clears pages before
it gives them away), and the process is not dumpable and does not swap. It lives as long as the sessions do, which end with this
process too; a restart of the engine does not touch it. What goes is overwritten with zeros first: when its session closes, when it expires,
when it is deleted, when it gives way, and when the gateway stops. Copies that pass through on their way to a client or the engine are
ordinary memory of a request.

Whoever looks for something names its owner: an id of another principal does not exist.

Questions are asked with a callback, which may be called at once. A process that only relays can ask the same over a socket.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from rlu_server.core import responses
from rlu_server.core.apikeys import Principal
from rlu_server.core.conversation import Conversation, Explicit
from rlu_server.core.errors import GatewayError
from rlu_server.core.responses import Asked, Keep
from rlu_server.core.scratch import Key, Quotas, Reservation, Scratch
from rlu_server.settings import Responses as Limits


class Sessions(Protocol):
    """What must be known about sessions (the ledger knows it)."""

    def running(self, principal: Principal, where: Explicit | Conversation) -> str | None:
        """The session a request would go on in, if there is one."""

    def accepts(self, session: str) -> bool:
        """May something be kept for it?"""


class Begun(msgspec.Struct, frozen=True):
    """A request may go on.

    Attributes:
        earlier: the items before its own.
        own: its own, with those that it refers to in their place; empty where it continues nothing, and so stays as it is.
        ticket: if its answer is to be kept.
    """

    earlier: bytes
    own: bytes
    ticket: int | None


class Found(msgspec.Struct, frozen=True):
    """A kept answer: the object as it was sent, its model, the session it was made in, and, if wanted, the input items that led to it."""

    session: str
    model: str
    response: bytes
    items: bytes


class Responses(Protocol):
    """What an exchange needs of the store, be it in this process or in another."""

    def begin(
        self,
        principal: Principal,
        where: Explicit | Conversation,
        asked: Asked,
        size: int,
        done: Callable[[Begun | GatewayError], None],
    ) -> None:
        """Find what a request continues, and reserve room for its answer.

        Args:
            size: of the request; its answer repeats much of it.
            done: told of `state_unsupported`, `previous_response_not_found`, `item_not_found`, `response_not_stored`, `scratch_full`,
                `field_type` as well.
        """

    def keep(self, ticket: int, session: str, response: bytes) -> None:
        """The answer is there, and was sent. Keeps nothing that is not a finished response object."""

    def drop(self, ticket: int) -> None:
        """There will be no answer to keep."""

    def find(
        self,
        principal: Principal,
        response_id: str,
        items: bool,
        done: Callable[[Found | GatewayError], None],
    ) -> None:
        """A kept answer; `response_not_found`, `response_not_stored` otherwise.

        Args:
            items: its input items are wanted, too.
        """

    def delete(self, principal: Principal, response_id: str) -> None:
        """Wipe an answer and the input that was new with it. What continued it can still be retrieved, but not be continued."""

    def tick(self) -> None:
        """Wipe what has expired."""


class NothingKept:
    """Where there is no store: nothing is kept, nothing is found."""

    def begin(
        self,
        principal: Principal,
        where: Explicit | Conversation,
        asked: Asked,
        size: int,
        done: Callable[[Begun | GatewayError], None],
    ) -> None:
        done(_unsupported(asked) if asked.continues else Begun(b"", b"", None))

    def keep(self, ticket: int, session: str, response: bytes) -> None:
        pass

    def drop(self, ticket: int) -> None:
        pass

    def find(
        self,
        principal: Principal,
        response_id: str,
        items: bool,
        done: Callable[[Found | GatewayError], None],
    ) -> None:
        done(GatewayError("response_not_found"))

    def delete(self, principal: Principal, response_id: str) -> None:
        pass

    def tick(self) -> None:
        pass


NAME_BYTES = 256
"""What the name of an item counts, by which it can be found."""


@dataclass(slots=True, eq=False)
class _Kept:
    """`response` is empty for one that there was no room for."""

    session: str
    response: bytearray
    input: bytearray
    previous: Key | None
    names: tuple[str, ...] = ()
    """Ids of its items, by which they can be referred to."""

    def wipe(self) -> bool:
        """Overwrite it; true when nothing is left."""
        for content in (self.response, self.input):
            content[:] = bytes(len(content))
        return not self.response.strip(b"\0") and not self.input.strip(b"\0")


@dataclass(slots=True, eq=False)
class _Ticket:
    owner: tuple[str, str]
    reservation: Reservation
    own: bytes
    pinned: bool
    previous: Key | None


class ResponseStore:
    """All kept answers of a gateway.

    Attributes:
        not_kept: answers that turned out larger than the room there was.
    """

    def __init__(self, settings: Limits, sessions: Sessions, clock: Callable[[], float]) -> None:
        self.not_kept = 0
        self.count: Callable[[Principal], None] = lambda _: None
        """Counts an answer about what is kept as a request, and raises GatewayError when there were too many."""
        self._settings = settings
        self._sessions = sessions
        self._clock = clock
        quotas = Quotas(settings.total_bytes, settings.tenant_bytes, settings.session_bytes, settings.age_s)
        self._scratch = Scratch(quotas)
        self._kept: dict[Key, _Kept] = {}
        self._holders: dict[Key, list[Key]] = {}
        """By owner and an item's id: the answers that have it, be it as output or as input."""
        self._tickets: dict[int, _Ticket] = {}
        self._serial = 0
        self._left: set[str] = set()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes that are kept or promised."""
        return self._scratch.total

    # --- a request that asks for state ---

    def begin(
        self,
        principal: Principal,
        where: Explicit | Conversation,
        asked: Asked,
        size: int,
        done: Callable[[Begun | GatewayError], None],
    ) -> None:
        try:
            begun = self._begin(principal, where, asked, size)
        except GatewayError as error:
            done(error)
        else:
            done(begun)

    def _begin(self, principal: Principal, where: Explicit | Conversation, asked: Asked, size: int) -> Begun:
        owner = (principal.tenant_pseudonym, principal.pseudonym)
        on = self._settings.store == "on"
        if asked.continues and not on:
            raise _unsupported(asked)
        earlier, previous = b"", None
        if asked.previous is not None:
            previous = (*owner, asked.previous)
            chain = self._chain(previous)
            now = self._clock()
            for key in chain:
                self._scratch.use(key, now, pin=True)
            earlier = self._items(chain)
        own = self._own(owner, asked)
        if not on or asked.keep is Keep.NO:
            return Begun(earlier, own, None)
        session = self._sessions.running(principal, where)
        try:
            new = own or responses.inner(asked.input)
            room = size + max(len(new) - len(asked.input), 0) + self._settings.reserve_bytes
            reservation, gone = self._scratch.reserve(owner[0], session, room, asked=asked.keep is Keep.ASKED)
        except GatewayError:
            if asked.keep is Keep.DEFAULT:
                return Begun(earlier, own, None)  # nobody asked for it
            raise
        self._wipe(gone)
        self._serial += 1
        self._tickets[self._serial] = _Ticket(owner, reservation, new, asked.keep is Keep.ASKED, previous)
        return Begun(earlier, own, self._serial)

    def keep(self, ticket: int, session: str, response: bytes) -> None:
        held = self._tickets.pop(ticket)
        found = responses.finished(response)
        if found is None or not self._sessions.accepts(session):
            self._scratch.release(held.reservation)
            return
        key = (*held.owner, found.id)
        if held.previous is not None and held.previous not in self._kept:
            # What it continues was deleted meanwhile: kept, it could not be continued, and must not seem to begin here.
            self._scratch.release(held.reservation)
            return
        if key in self._kept:
            self._scratch.release(held.reservation)  # the engine gave one id twice; the first keeps it
            return
        now = self._clock()
        names = tuple(responses.named(responses.joined((held.own, found.output))))
        size = len(response) + len(held.own) + NAME_BYTES * len(names)
        try:
            gone = self._scratch.place(held.reservation, key, session, size, pinned=held.pinned, now=now)
        except GatewayError:
            self._remember_loss(held, key, session, now)
            return
        self._wipe(gone)
        self._kept[key] = _Kept(session, bytearray(response), bytearray(held.own), held.previous, names)
        for name in names:
            self._holders.setdefault((*held.owner, name), []).append(key)

    def drop(self, ticket: int) -> None:
        held = self._tickets.pop(ticket, None)
        if held is not None:
            self._scratch.release(held.reservation)

    # --- what was kept ---

    def find(
        self,
        principal: Principal,
        response_id: str,
        items: bool,
        done: Callable[[Found | GatewayError], None],
    ) -> None:
        key = (principal.tenant_pseudonym, principal.pseudonym, response_id)
        kept = self._kept.get(key)
        if kept is None:
            done(GatewayError("response_not_found"))
        elif not kept.response:
            done(GatewayError("response_not_stored"))
        else:
            try:
                self.count(principal)
            except GatewayError as error:
                done(error)
                return
            self._scratch.use(key, self._clock())
            response = bytes(kept.response)
            answer = responses.finished(response)
            assert answer is not None, "only finished ones are kept"
            done(Found(kept.session, answer.model, response, self._input(key) if items else b""))

    def delete(self, principal: Principal, response_id: str) -> None:
        key = (principal.tenant_pseudonym, principal.pseudonym, response_id)
        if key in self._kept:
            self._scratch.remove(key)
            self._wipe([key])

    # --- the end ---

    def close(self, session: str) -> bool:
        """Wipe what is kept for a session; true when nothing that was ever kept for it is left."""
        self._wipe(self._scratch.close(session))
        return session not in self._left

    def tick(self) -> None:
        self._wipe(self._scratch.expire(self._clock()))

    def clear(self) -> None:
        """Wipe everything."""
        for key in list(self._kept):
            self._scratch.remove(key)
            self._wipe([key])

    # --- inside ---

    def _wipe(self, keys: list[Key]) -> None:
        for key in keys:
            kept = self._kept.pop(key)
            for name in kept.names:
                holders = self._holders[key[0], key[1], name]
                holders.remove(key)
                if not holders:
                    del self._holders[key[0], key[1], name]
            if not kept.wipe():
                self._left.add(kept.session)

    def _remember_loss(self, held: _Ticket, key: Key, session: str, now: float) -> None:
        """A name without content, so that who asks for it learns why it is not there."""
        self.not_kept += 1
        try:
            room, gone = self._scratch.reserve(key[0], session, 0)
            gone += self._scratch.place(room, key, session, 0, pinned=False, now=now)
        except GatewayError:
            return
        self._wipe(gone)
        self._kept[key] = _Kept(session, bytearray(), bytearray(), held.previous)

    def _chain(self, last: Key) -> list[Key]:
        """A kept answer and all that it continues, oldest first. Raises GatewayError."""
        chain: list[Key] = []
        key: Key | None = last
        while key is not None:
            kept = self._kept.get(key)
            if kept is None:
                raise GatewayError("previous_response_not_found", param="previous_response_id")
            if not kept.response:
                raise GatewayError("response_not_stored", param="previous_response_id")
            chain.append(key)
            key = kept.previous
        chain.reverse()
        return chain

    def _items(self, chain: list[Key]) -> bytes:
        parts: list[bytes | bytearray] = []
        for key in chain:
            kept = self._kept[key]
            found = responses.finished(bytes(kept.response))
            assert found is not None, "only finished ones are kept"
            parts += [kept.input, found.output]
        return responses.joined(parts)

    def _own(self, owner: tuple[str, str], asked: Asked) -> bytes:
        """The items of a request that continues something; what it refers to is young again, and stays. Raises GatewayError."""
        if not asked.continues:
            return b""
        if not asked.references:
            return responses.inner(asked.input)
        within: dict[Key, dict[str, bytes]] = {}
        items: list[bytes] = []
        for name in asked.references:
            holders = self._holders.get((*owner, name))
            if holders is None:
                raise GatewayError("item_not_found", param="input")
            key = holders[-1]
            if key not in within:
                self._scratch.use(key, self._clock(), pin=True)
                kept = self._kept[key]
                found = responses.finished(bytes(kept.response))
                assert found is not None, "only finished ones are kept"
                within[key] = responses.named(responses.joined((kept.input, found.output)))
            items.append(within[key][name])
        return responses.inner(responses.resolved(asked.input, items))

    def _input(self, key: Key) -> bytes:
        """All input items of a kept answer: those before it, as far as they are still there, and its own."""
        kept = self._kept[key]
        earlier = b""
        if kept.previous is not None:
            try:
                earlier = self._items(self._chain(kept.previous))
            except GatewayError:
                earlier = b""
        return responses.joined([earlier, kept.input])


def _unsupported(asked: Asked) -> GatewayError:
    return GatewayError(
        "state_unsupported", param="input" if asked.previous is None else "previous_response_id"
    )
