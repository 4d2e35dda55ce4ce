from __future__ import annotations

import itertools

from faults.schedule import KINDS, generate


def test_a_seed_is_one_schedule() -> None:
    assert generate(7) == generate(7)
    assert len({generate(seed) for seed in range(50)}) == 50
    assert {generate(seed).workers for seed in range(50)} == {1, 2}


def test_the_number_of_workers_can_be_given() -> None:
    assert {generate(seed, 2).workers for seed in range(20)} == {2}
    targets = {step.target for seed in range(200) for step in generate(seed, 1).steps}
    assert not targets & {"worker", "hub"}


def test_every_fault_is_drawn() -> None:
    steps = [step for seed in range(300) for step in generate(seed).steps]
    assert {step.kind for step in steps} == set(KINDS)
    every = ("engine", "gateway", "attestor", "filter", "tpm", "worker", "hub")
    assert {step.target for step in steps if step.kind == "stall"} == set(every)
    assert {step.target for step in steps if step.kind == "kill"} == {*every, "supervisor"}
    assert {step.target for step in steps if step.kind == "terminate"} == {
        "engine",
        "gateway",
        "attestor",
        "hub",
    }


def test_moments_are_close_to_each_other() -> None:
    """The second fault comes while the first is being recovered from."""
    close = 0
    for seed in range(200):
        begun = [step.at for step in generate(seed).steps]
        close += any(0 <= b - a <= 0.1 for a, b in itertools.pairwise(sorted(begun)))
    assert close > 60


def test_a_supervisor_is_ended_once_and_last() -> None:
    found = 0
    for seed in range(300):
        targets = [step.target for step in generate(seed).steps]
        if "supervisor" in targets:
            found += 1
            assert targets.index("supervisor") == len(targets) - 1
    assert found > 10


def test_steps_can_be_left_out() -> None:
    schedule = next(one for one in map(generate, range(50)) if len(one.steps) == 4)
    assert schedule.only([2, 4]).steps == (schedule.steps[1], schedule.steps[3])
    smaller = list(schedule.smaller())
    assert [len(one.steps) for one in smaller] == [3, 3, 3, 3]
    assert {one.seed for one in smaller} == {schedule.seed}
