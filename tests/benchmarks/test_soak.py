"""Memory: what counts as growth, and the real gateway under load for a short while."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import soak
from bench.growth import SLACK, Growth, Sample, growth

MB = 10**6


def samples(sizes: list[int]) -> list[Sample]:
    return [Sample(float(number), size, 100 * number) for number, size in enumerate(sizes)]


def test_growth_is_early_against_late_whatever_the_warm_up_did() -> None:
    found = growth(samples([10 * MB] * 5 + [90 * MB] * 15))
    assert found == Growth(90 * MB, 90 * MB, 1000)
    assert not found.beyond()


def test_a_leak_is_seen_and_counted_by_request() -> None:
    leaking = growth(samples([100 * MB + 1000 * 100 * number for number in range(400)]))
    assert leaking.per_request == pytest.approx(1000, rel=0.05)
    assert leaking.beyond()
    assert not leaking.beyond(allowed=leaking.grown)


def test_a_saw_tooth_is_no_growth() -> None:
    assert not growth(samples([100 * MB + (number % 4) * MB for number in range(60)])).beyond()
    assert not Growth(100 * MB, 100 * MB + SLACK, 1).beyond()
    assert Growth(100 * MB, 100 * MB + SLACK + 1, 1).beyond()


def test_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match="eight"):
        growth(samples([1] * 7))


def test_every_finding_is_a_problem() -> None:
    calm = Growth(100 * MB, 100 * MB, 10)
    good = soak.Findings(2000, 512, 250 * MB, 10, 0, calm, calm, {})
    assert good.problems() == []
    grown = Growth(100 * MB, 200 * MB, 10)
    for change, said in (
        ({"gateway_peak": 300 * MB}, "300.0 MB is its bound"),
        ({"gateway": grown}, "the gateway's memory grew by 100.0 MB"),
        ({"attestor": grown}, "the attestor's memory grew by 100.0 MB"),
        ({"errors": 1}, "1 requests were refused or lost"),
        ({"requests": 0}, "no request was served"),
    ):
        (problem,) = replace(good, **change).problems()  # type: ignore[arg-type]
        assert said in problem
    allowed = replace(good, requests=10**6, attestor=Growth(50 * MB, 70 * MB, 10**6))
    assert allowed.problems() == []


def test_idle_sessions_and_streams_within_300_mb_and_no_growth_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "soak.json"
    short = ["--warm-up", "0", "--minutes", "0.2"]
    monkeypatch.setattr("sys.argv", ["soak.py", *short, "--output", str(output)])
    code = soak.main()
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "2000 idle sessions and 512 streams" in said.out
    written = json.loads(output.read_text())
    assert written["requests"] > 0
    assert written["warm_up"][-1]["requests"] >= soak.WARM_ANSWERS
    assert written["problems"] == []
