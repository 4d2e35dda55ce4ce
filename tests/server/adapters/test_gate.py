"""The gate under any schedule: never more at the engine than the window, everybody told once, nothing left over."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from rlu_server.adapters.gate import Ask, Gate, Place
from rlu_server.adapters.measures import Measures
from rlu_server.core.admission.window import Load
from rlu_server.core.apikeys import Principal
from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.rules import LimitsFile, Priority, parse_file
from rlu_server.settings_admission import Admission

LIMITED = parse_file(b"[default]\ntokens_per_minute = 5000\n[default.principal]\nconcurrent_requests = 4")
PEOPLE = [Principal(t, p, "k", f"T-{t}", f"P-{p}") for t in ("acme", "globex") for p in ("a", "b")]


class Applied:
    """An applicant that does what an exchange does."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.place: Place | None = None
        self.told: list[str] = []

    def let_in(self) -> None:
        self.told.append("in")

    def turned_away(self, error: GatewayError) -> None:
        if self.place is not None:
            self.told.append(error.code)
            self.leave(None)

    def leave(self, tokens: int | None) -> None:
        place, self.place = self.place, None
        assert place is not None
        self.gate.leave(place, tokens)


EVENTS = st.one_of(
    st.tuples(st.just("enter"), st.sampled_from(PEOPLE), st.sampled_from(Priority), st.integers(0, 3000)),
    st.tuples(st.just("leave"), st.integers(0, 50), st.none() | st.integers(0, 4000)),
    st.tuples(st.just("observe"), st.builds(Load, st.integers(0, 9), st.integers(0, 9), st.floats(0, 1))),
    st.tuples(st.just("unknown")),
    st.tuples(st.just("turn")),
    st.tuples(st.just("expire")),
    st.tuples(st.just("limits"), st.sampled_from([LIMITED, LimitsFile()])),
)


@given(st.lists(EVENTS, max_size=60))
@settings(max_examples=80, deadline=None)
def test_any_schedule(events: list[tuple[object, ...]]):
    asyncio.run(schedule(events))


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def schedule(events: list[tuple[object, ...]]) -> None:
    looked: list[str] = []
    gate = Gate(Admission(max_in_flight=3, queue_size=4), ["m"], Measures(), look=looked.append)
    line = gate.lines["m"]
    everybody: list[Applied] = []

    def inside() -> list[Applied]:
        return [one for one in everybody if one.place is not None]

    for event in events:
        match event:
            case ("enter", Principal() as who, Priority() as priority, int(tokens)):
                one = Applied(gate)
                before = line.at_engine
                try:
                    one.place = gate.enter(who, Ask("m", priority, tokens), one)
                except GatewayError:
                    assert line.at_engine == before
                    continue
                everybody.append(one)
                assert one.place.waiting or line.at_engine == before + 1
                assert not one.place.waiting or looked
            case ("leave", int(number), None | int() as used) if inside():
                inside()[number % len(inside())].leave(used)
            case ("observe", Load() as load):
                gate.observe("m", load)
            case ("unknown",):
                gate.observe("m", None)
            case ("turn",):
                await turn()
            case ("expire",):
                gate.tick(asyncio.get_running_loop().time() + 31)
                assert len(line.queue) == 0
            case ("limits", LimitsFile() as file):
                gate.replace_limits(file)
        running = [one for one in inside() if one.place is not None and not one.place.waiting]
        assert line.at_engine == len(running) <= 3
        assert len(line.queue) <= 4
    await turn()
    # Whoever can go on, does: there is no room beside somebody who waits.
    assert not len(line.queue) or line.at_engine >= line.window.size
    while inside():
        inside()[0].leave(0)
        await turn()
    assert (line.at_engine, len(line.queue)) == (0, 0)
    assert all(
        len(one.told) <= 2 and one.told[:1] in ([], ["in"], ["queue_full"], ["queue_timeout"])
        for one in everybody
    )
    gate._accounts.forget_idle(asyncio.get_running_loop().time() + 3600)
    assert len(gate._accounts) == 0


async def test_nobody_overtakes_who_waits():
    gate = Gate(Admission(max_in_flight=1), ["m"], Measures())
    first, second, third = (Applied(gate) for _ in range(3))
    ask = Ask("m", Priority.INTERACTIVE, 10)
    first.place = gate.enter(PEOPLE[0], ask, first)
    second.place = gate.enter(PEOPLE[0], ask, second)
    first.leave(1)
    # The place is free, and the one who waits for it has not been told yet.
    third.place = gate.enter(PEOPLE[2], ask, third)
    assert third.place.waiting
    await turn()
    assert (second.told, third.told) == (["in"], [])


async def test_models_do_not_wait_for_each_other():
    gate = Gate(Admission(max_in_flight=1), ["m", "n"], Measures())
    places = [
        gate.enter(PEOPLE[0], Ask(model, Priority.BATCH, 1), Applied(gate)) for model in ("m", "n", "m")
    ]
    assert [place.waiting for place in places] == [False, False, True]
    assert gate.at_engine == 2
