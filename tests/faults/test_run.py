"""The runner itself, with outcomes that are made up: what it keeps, says and exits with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from faults import run, trial
from faults.observer import Observed, Violation
from faults.schedule import Schedule, generate
from faults.trial import Outcome
from rlu_server.selftest.node import NodeError

Made = list[Schedule]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Schedules that were run; those with a kill of the engine fail."""
    seen: Made = []

    def fake(schedule: Schedule, manufactured: Path, plant: object = None) -> Outcome:
        seen.append(schedule)
        bad = any((step.kind, step.target) == ("kill", "engine") for step in schedule.steps)
        found = (Violation("receipts", "one is lost"),) if bad else ()
        observed = Observed(
            [], [], [], {7: b"the log"}, recovered_s=1.5, memory={"gateway": (1 << 20, 9 << 20)}
        )
        return Outcome(schedule, observed, found, schedule.steps, (), 0, 2.0, "what it said")

    monkeypatch.setattr(trial, "run", fake)
    monkeypatch.setattr(run.swtpm, "manufacture", lambda directory: None)
    monkeypatch.setattr(run.shutil, "which", lambda name: f"/usr/bin/{name}")
    return seen


def seeds(wanted: Callable[[Schedule], bool], count: int) -> list[int]:
    return [seed for seed in range(1, 3000) if wanted(generate(seed))][:count]


def failing(schedule: Schedule) -> bool:
    return any((step.kind, step.target) == ("kill", "engine") for step in schedule.steps)


def test_it_goes_on_where_it_was(made: Made, tmp_path: Path) -> None:
    (first,) = seeds(lambda one: not any(failing(generate(one.seed + n)) for n in range(4)), 1)
    given = ["--cache", str(tmp_path), "--first", str(first)]
    assert run.main([*given, "--schedules", "2"]) == 0
    # The last line of a run that was interrupted may be half a line.
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"seed": 5, "wor\n')
    assert run.main([*given, "--schedules", "4"]) == 0
    assert [one.seed for one in made] == [first, first + 1, first + 2, first + 3]
    assert run.main([*given, "--schedules", "4", "--again"]) == 0
    assert len(made) == 8


def test_it_ends_in_time(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--cache", str(tmp_path), "--minutes", "0", "--first", "7"]) == 0
    assert made == []
    assert "before seed 7" in capsys.readouterr().out


def test_a_failing_seed_is_named_and_kept(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (seed,) = seeds(failing, 1)
    assert run.main(["--cache", str(tmp_path), "--first", str(seed), "--schedules", "1"]) == 1
    said = capsys.readouterr().out
    assert f'make faults ARGS="--seed {seed}"' in said
    assert "VIOLATED receipts: one is lost" in said
    assert f"FAILED: seeds {seed}" in said
    assert (tmp_path / f"seed-{seed}" / "server.log").read_text() == "what it said"
    assert (tmp_path / f"seed-{seed}" / "log-0.jsonl").read_bytes() == b"the log"
    assert json.loads((tmp_path / "results.jsonl").read_text())["recovered_s"] == 1.5


def test_a_failure_is_made_as_small_as_it_gets(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = next(one for one in seeds(failing, 50) if len(generate(one).steps) > 3)
    assert run.main(["--cache", str(tmp_path), "--seed", str(seed), "--minimise"]) == 1
    targets = [(step.kind, step.target) for step in generate(seed).steps]
    number = targets.index(("kill", "engine")) + 1
    if targets.count(("kill", "engine")) == 1:
        assert f'"--seed {seed} --only {number}"' in capsys.readouterr().out
    assert run.main(["--cache", str(tmp_path), "--seed", str(seed), "--only", str(number)]) == 1
    assert len(made[-1].steps) == 1


def test_a_deployment_that_does_not_start_is_a_failure(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Outcome:
        raise NodeError("the deployment ended")

    monkeypatch.setattr(trial, "run", broken)
    assert run.main(["--cache", str(tmp_path), "--schedules", "1"]) == 1


def test_usage(made: Made, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as usage:
        run.main(["--cache", str(tmp_path), "--only", "1"])
    assert usage.value.code == 2


def test_without_a_tpm_it_says_so(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.shutil, "which", lambda name: None)
    assert run.main(["--cache", str(tmp_path)]) == 3
