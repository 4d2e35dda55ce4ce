"""The line: shares by weight, no starvation, bounds, and a model with any order of events."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rlu_server.core.admission.queue import FairQueue, Waiting
from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.rules import Priority

NOW, BATCH = Priority.INTERACTIVE, Priority.BATCH


def put(
    queue: FairQueue, tenant: str, *, weight: float = 1, cost: int = 100, priority: Priority = NOW
) -> Waiting:
    return queue.put(tenant, weight, priority, cost, 0.0, None)[0]


def order(queue: FairQueue) -> list[str]:
    found = []
    while (one := queue.pop()) is not None:
        found.append(one.tenant)
    return found


def test_one_tenant_is_served_in_its_order():
    queue = FairQueue(10, 0.1)
    placed = [put(queue, "a") for _ in range(5)]
    assert [queue.pop() for _ in range(6)] == [*placed, None]


def test_a_long_line_of_one_does_not_keep_another_waiting():
    queue = FairQueue(1000, 0.1)
    for _ in range(500):
        put(queue, "greedy")
    for _ in range(20):
        queue.pop()
    put(queue, "fresh")
    assert order(queue)[:2].count("fresh") == 1


def test_weights_share_in_tokens():
    queue = FairQueue(1000, 0.1)
    for _ in range(300):
        put(queue, "heavy", weight=3, cost=200)
        put(queue, "light", weight=1, cost=100)
    tokens: Counter[str] = Counter()
    for _ in range(200):
        one = queue.pop()
        assert one is not None
        tokens[one.tenant] += one.cost
    assert tokens["heavy"] / tokens["light"] == pytest.approx(3, rel=0.05)


def test_batch_waits_but_never_stands_still():
    queue = FairQueue(1000, 0.1)
    for _ in range(200):
        put(queue, "a", priority=NOW)
        put(queue, "b", priority=BATCH)
    first = order(queue)
    assert 8 <= first[:100].count("b") <= 12
    # Alone it gets everything.
    assert first[-50:] == ["b"] * 50


def test_batch_of_an_idle_engine_has_saved_nothing_up():
    queue = FairQueue(1000, 0.1)
    for _ in range(50):
        put(queue, "b", priority=BATCH)
        queue.pop()
    for _ in range(20):
        put(queue, "a", priority=NOW)
        put(queue, "b", priority=BATCH)
    assert order(queue)[:20].count("b") <= 3


def test_who_was_taken_for_too_little_pays_with_the_next():
    queue = FairQueue(1000, 0.1)
    for _ in range(10):
        put(queue, "liar", cost=1)
        put(queue, "honest", cost=1000)
    assert queue.pop() is not None
    queue.charge("liar", 1.0, NOW, 5000)
    late = put(queue, "liar", cost=1)
    before = order(queue)
    assert len(before) == 20
    assert late.tag >= 5000
    queue.charge("nobody", 1.0, NOW, 5000)


def test_who_leaves_is_not_served():
    queue = FairQueue(10, 0.1)
    one, two = put(queue, "a"), put(queue, "a")
    queue.remove(one)
    queue.remove(one)
    assert (queue.pop(), queue.pop(), len(queue)) == (two, None, 0)


def test_a_full_line_is_given_up_by_whoever_holds_most_of_it():
    queue = FairQueue(4, 0.1)
    places = [put(queue, "greedy") for _ in range(4)]
    with pytest.raises(GatewayError) as caught:
        put(queue, "greedy")
    assert caught.value.code == "queue_full"
    _, evicted = queue.put("small", 1, NOW, 1, 0.0, None)
    assert evicted is places[-1]
    put(queue, "small")
    with pytest.raises(GatewayError):
        put(queue, "small")  # both hold two now
    assert queue.put("heavy", 5, NOW, 1, 0.0, None)[1] is not None
    assert len(queue) == 4


def test_no_line_at_all():
    with pytest.raises(GatewayError) as caught:
        put(FairQueue(0, 0.1), "a")
    assert caught.value.code == "queue_full"


def test_own_batch_makes_room_for_own_interactive_work():
    queue = FairQueue(2, 0.1)
    put(queue, "a", priority=BATCH)
    last = put(queue, "a", priority=BATCH)
    assert queue.put("a", 1, NOW, 1, 0.0, None)[1] is last
    with pytest.raises(GatewayError):
        put(queue, "a", priority=BATCH)


def test_expiry_is_by_time_of_arrival():
    queue = FairQueue(10, 0.1)
    places = [queue.put("a", 1, NOW, 1, float(second), None)[0] for second in range(5)]
    assert queue.expired(2.0) == places[:3]
    assert queue.expired(-1.0) == []


@given(
    st.lists(st.tuples(st.floats(0.1, 20), st.integers(1, 5000)), min_size=2, max_size=5),
    st.integers(100, 400),
)
@settings(max_examples=60, deadline=None)
def test_backlogged_tenants_get_their_share_within_one_request(tenants: list[tuple[float, int]], served: int):
    """The bound of start-time fair queueing: services over weight differ by at most one request of each of the two."""
    queue = FairQueue(10_000, 0.1)
    names = [f"t{number}" for number in range(len(tenants))]
    for name, (weight, cost) in zip(names, tenants, strict=True):
        for _ in range(served + 1):
            put(queue, name, weight=weight, cost=cost)
    got: Counter[str] = Counter()
    for _ in range(served):
        one = queue.pop()
        assert one is not None
        got[one.tenant] += one.cost
    for name, (weight, cost) in zip(names, tenants, strict=True):
        for other, (its_weight, its_cost) in zip(names, tenants, strict=True):
            difference = got[name] / weight - got[other] / its_weight
            assert difference <= cost / weight + its_cost / its_weight + 1e-6


class Machine(RuleBasedStateMachine):
    """Any order of coming, leaving and being served: nobody is lost, served twice, or kept waiting for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(12, 0.25)
        self.placed: list[Waiting] = []
        self.passed_by: Counter[int] = Counter()

    @rule(
        tenant=st.sampled_from("abc"),
        priority=st.sampled_from(Priority),
        cost=st.integers(0, 3),
        weight=st.sampled_from([0.5, 1, 2]),
    )
    def come(self, tenant: str, priority: Priority, cost: int, weight: float):
        try:
            one, evicted = self.queue.put(tenant, weight, priority, cost, 0.0, None)
        except GatewayError as error:
            refused = error.code
        else:
            refused = None
        if refused is not None:
            assert (refused, len(self.placed)) == ("queue_full", 12)
            return
        if evicted is not None:
            self.placed.remove(evicted)
        self.placed.append(one)

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def leave(self, data: st.DataObject):
        one = data.draw(st.sampled_from(self.placed))
        self.queue.remove(one)
        self.placed.remove(one)

    @rule()
    def serve(self):
        one = self.queue.pop()
        assert (one is None) == (not self.placed)
        if one is not None:
            self.placed.remove(one)
            same = [w for w in self.placed if (w.tenant, w.priority) == (one.tenant, one.priority)]
            assert all(one.number < other.number for other in same)
            for other in self.placed:
                self.passed_by[other.number] += 1

    @rule(tenant=st.sampled_from("abc"), tokens=st.integers(-3, 3), priority=st.sampled_from(Priority))
    def settle(self, tenant: str, tokens: int, priority: Priority):
        self.queue.charge(tenant, 1.0, priority, tokens)

    @invariant()
    def nobody_is_lost(self):
        assert len(self.queue) == len(self.placed)
        for priority in Priority:
            assert self.queue.waiting(priority) == sum(w.priority is priority for w in self.placed)
        assert self.queue.expired(0.0) == sorted(self.placed, key=lambda w: w.number)

    @invariant()
    def nobody_waits_for_ever(self):
        # A quarter for batch, three tenants of weights 0.5 to 2, costs to 3, twelve places: far below this.
        assert all(self.passed_by[w.number] < 400 for w in self.placed)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
