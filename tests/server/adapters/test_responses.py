"""The store in any order of events: quotas hold, owners see their own and nothing else, and memory that went is zero."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from rlu_server.adapters.responses import Begun, Found, NothingKept, ResponseStore
from rlu_server.core.apikeys import Principal
from rlu_server.core.conversation import Conversation, Explicit
from rlu_server.core.errors import GatewayError
from rlu_server.core.responses import Asked, Keep
from rlu_server.settings import Responses

KB = 1024
LIMITS = Responses(
    session_bytes=64 * KB, tenant_bytes=96 * KB, total_bytes=128 * KB, reserve_bytes=1 * KB, age_s=100
)


def principal(tenant: str, name: str) -> Principal:
    made: dict[str, Any] = {
        "tenant": tenant,
        "name": name,
        "tenant_pseudonym": f"t-{tenant}",
        "pseudonym": f"p-{name}",
        "key_id": name,
    }
    return Principal(**made)


ALICE, CAROL, BOB = principal("acme", "alice"), principal("acme", "carol"), principal("globex", "bob")
SESSIONS = {"a1": ALICE, "a2": ALICE, "c1": CAROL, "b1": BOB, "b2": BOB}


class OpenSessions:
    """Those that are open."""

    def __init__(self) -> None:
        self.open = set(SESSIONS)

    def running(self, principal: Principal, where: Explicit | Conversation) -> str | None:
        assert isinstance(where, Explicit)
        return where.session if where.session in self.open and SESSIONS[where.session] == principal else None

    def accepts(self, session: str) -> bool:
        return session in self.open


def answer(name: str, size: int) -> bytes:
    item = {"type": "message", "id": f"msg_{name}", "role": "assistant", "content": "y" * size}
    return json.dumps({"id": name, "status": "completed", "model": "m", "output": [item]}).encode()


class Store(RuleBasedStateMachine):
    tickets = Bundle("tickets")

    @initialize()
    def make(self) -> None:
        self.sessions = OpenSessions()
        self.now = 0.0
        self.store = ResponseStore(LIMITS, self.sessions, lambda: self.now)
        self.serial = 0
        self.memory: list[tuple[str, bytearray]] = []
        self.made: dict[str, tuple[Principal, tuple[str | None, int]]] = {}

    def _names(self) -> list[str]:
        return sorted(key[2] for key in self.store._kept)

    @rule(
        target=tickets,
        session=st.sampled_from(sorted(SESSIONS)),
        keep=st.sampled_from(Keep),
        size=st.integers(0, 40 * KB),
        data=st.data(),
    )
    def begin(self, session: str, keep: Keep, size: int, data: st.DataObject) -> Any:
        previous = data.draw(st.one_of(st.none(), st.sampled_from([*sorted(self.made), "resp_nobody"])))
        told: list[Begun | GatewayError] = []
        referred = data.draw(st.sets(st.sampled_from([*sorted(self.made), "resp_nobody"]), max_size=2))
        references = tuple(f"msg_{name}" for name in sorted(referred))
        own = json.dumps(
            [{"type": "item_reference", "id": name} for name in references] + [{"content": "x" * size}]
        ).encode()
        asked = Asked(keep, previous, own, references)
        self.store.begin(SESSIONS[session], Explicit(session), asked, len(own), told.append)
        (begun,) = told
        if isinstance(begun, GatewayError):
            assert begun.code in (
                "scratch_full",
                "previous_response_not_found",
                "response_not_stored",
                "item_not_found",
            )
            if begun.code == "scratch_full":
                assert keep is Keep.ASKED
            elif begun.code == "previous_response_not_found":
                assert previous is not None
            elif begun.code == "item_not_found":
                mine = {name for name, (owner, _) in self.made.items() if owner == SESSIONS[session]}
                whole = {key[2] for key, kept in self.store._kept.items() if kept.names}
                assert not referred <= mine & whole
            return multiple()
        if references:
            *items, _ = json.loads(b"[%b]" % begun.own)
            assert [(item["type"], item["id"]) for item in items] == [
                ("message", name) for name in references
            ]
            assert {self.made[name][0] for name in referred} == {SESSIONS[session]}
        if previous is not None:
            # What is continued is one's own, and all of it is there.
            assert self.made[previous][0] == SESSIONS[session]
            assert len(json.loads(b"[%b]" % begun.earlier)) == self._items(previous)
        if begun.ticket is None:
            return multiple()
        return session, begun.ticket, (previous, len(references) + 2)

    def _items(self, name: str | None) -> int:
        """Of a kept answer and all that it continues: their own, what they refer to, and the answers."""
        if name is None:
            return 0
        _, (previous, own) = self.made[name]
        return own + self._items(previous)

    @rule(taken=consumes(tickets), size=st.integers(0, 60 * KB))
    def keep(self, taken: tuple[str, int, tuple[str | None, int]], size: int) -> None:
        session, ticket, before = taken
        self.serial += 1
        name = f"resp_{self.serial}"
        self.store.keep(ticket, session, answer(name, size))
        if name in self._names():
            self.made[name] = (SESSIONS[session], before)
            kept = self.store._kept[(f"t-{SESSIONS[session].tenant}", f"p-{SESSIONS[session].name}", name)]
            self.memory += [(name, kept.response), (name, kept.input)]
            assert session in self.sessions.open

    @rule(taken=consumes(tickets))
    def keep_what_is_not_finished(self, taken: tuple[str, int, tuple[str | None, int]]) -> None:
        before = len(self.store)
        self.store.keep(taken[1], taken[0], b'{"id":"resp_x","status":"failed","output":[]}')
        assert len(self.store) == before

    @rule(taken=consumes(tickets))
    def drop(self, taken: tuple[str, int, tuple[str | None, int]]) -> None:
        self.store.drop(taken[1])
        self.store.drop(taken[1])  # a second time changes nothing

    @rule(data=st.data(), who=st.sampled_from([ALICE, CAROL, BOB]))
    def find(self, data: st.DataObject, who: Principal) -> None:
        name = data.draw(st.sampled_from([*sorted(self.made), "resp_nobody"]))
        told: list[Found | GatewayError] = []
        self.store.find(who, name, True, told.append)
        (found,) = told
        own = name in self._names() and self.made[name][0] == who
        if isinstance(found, GatewayError):
            assert found.code == ("response_not_stored" if own else "response_not_found")
        else:
            assert own
            assert json.loads(found.response)["id"] == name
            assert isinstance(json.loads(b"[%b]" % found.items), list)

    @rule(data=st.data(), who=st.sampled_from([ALICE, CAROL, BOB]))
    def delete(self, data: st.DataObject, who: Principal) -> None:
        name = data.draw(st.sampled_from([*sorted(self.made), "resp_nobody"]))
        before = self._names()
        self.store.delete(who, name)
        own = name in self.made and self.made[name][0] == who
        assert self._names() == [one for one in before if one != name or not own]

    @rule(session=st.sampled_from(sorted(SESSIONS)))
    def close(self, session: str) -> None:
        self.sessions.open.discard(session)
        assert self.store.close(session)
        assert all(kept.session != session for kept in self.store._kept.values())

    @rule(session=st.sampled_from(sorted(SESSIONS)))
    def open(self, session: str) -> None:
        self.sessions.open.add(session)

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.store.tick()

    @invariant()
    def what_went_is_zero_and_quotas_hold(self) -> None:
        names = set(self._names())
        for name, memory in self.memory:
            assert name in names or not memory.strip(b"\0")
        self.memory = [one for one in self.memory if one[0] in names]
        assert set(self.store._kept) == set(self.store._scratch.entries)
        named = {(key, name) for key, kept in self.store._kept.items() for name in kept.names}
        assert named == {(key, at[2]) for at, keys in self.store._holders.items() for key in keys}
        held = sum(len(kept.response) + len(kept.input) for kept in self.store._kept.values())
        assert held <= self.store.size <= LIMITS.total_bytes
        for session in SESSIONS:
            assert self.store._scratch.of_session(session) <= LIMITS.session_bytes

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.clear()
            assert not any(memory.strip(b"\0") for _, memory in self.memory)
            assert len(self.store) == 0


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_a_name_is_given_once():
    """An engine that repeats an id changes nothing of what is kept under it."""
    store = ResponseStore(LIMITS, OpenSessions(), lambda: 0.0)
    told: list[Any] = []
    for text in ("first", "second"):
        asked = Asked(Keep.ASKED, None, json.dumps(text).encode())
        store.begin(ALICE, Explicit("a1"), asked, 10, told.append)
        store.keep(told[-1].ticket, "a1", answer("resp_1", len(text)))
    store.find(ALICE, "resp_1", True, told.append)
    assert b"first" in told[-1].items
    assert len(store) == 1


def test_where_nothing_is_kept_nothing_is_found():
    store, told = NothingKept(), []  # type: ignore[var-annotated]
    store.begin(ALICE, Explicit("a1"), Asked(Keep.ASKED, None, b'"x"'), 1, told.append)
    assert told.pop() == Begun(b"", b"", None)
    store.begin(ALICE, Explicit("a1"), Asked(Keep.NO, "resp_1", b'"x"'), 1, told.append)
    assert told.pop().code == "state_unsupported"
    store.find(ALICE, "resp_1", True, told.append)
    assert told.pop().code == "response_not_found"
