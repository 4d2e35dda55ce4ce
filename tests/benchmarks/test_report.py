"""Medians, targets and the README's table, from results made by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from bench.picture import picture
from bench.report import BEGIN, END, GOALS, headroom, median, number, replaced, section, spread, table
from bench.scenarios import SCENARIOS


def one(**fields: float | None) -> dict[str, Any]:
    zero: dict[str, Any] = {
        "requests_per_s": 0.0,
        "events_per_s": 0.0,
        "ttft_p50_ms": 0.0,
        "generator_cpu": 0.5,
    }
    return {**zero, "cpu_us_per_request": None, "cpu_us_per_event": None, **fields}


def result(ours: float, ttft: float = 20.5) -> dict[str, Any]:
    """A run in which the router does 100 of everything and nginx 300; `ours` is how many times the router's we do."""
    measured: dict[str, Any] = {scenario.name: {} for scenario in SCENARIOS}
    for name, factor in (("nginx", 3.0), ("rlu", ours), ("vllm-router", 1.0)):
        for scenario in measured.values():
            scenario[name] = [
                one(
                    requests_per_s=100 * factor * wobble,
                    events_per_s=100 * factor * wobble,
                    cpu_us_per_request=10 / factor,
                    cpu_us_per_event=10 / factor,
                    ttft_p50_ms=ttft if name == "rlu" else 21.0,
                )
                for wobble in (0.9, 1.0, 5.0)
            ]
    measured["ttft"]["direct"] = [one(ttft_p50_ms=20.0)]
    systems = {name: {"version": "1", "note": ""} for name in ("nginx", "rlu", "vllm-router")}
    systems["broken"] = {"failed": "did not start:\nlong story"}
    about = {
        "cpu": "a",
        "cores": 2,
        "kernel": "b",
        "python": "c",
        "sha_instructions": False,
        "load_at_end": 0.0,
    }
    return {
        "when": "2026-01-01", "commit": "abc", "machine": about, "rounds": 3, "seconds": 2, "systems": systems, "measured": measured,
    }  # fmt: skip


def test_medians_ignore_one_wild_round() -> None:
    rounds = [one(requests_per_s=value) for value in (90, 100, 500)]
    assert median(rounds, "requests_per_s") == 100
    assert spread(rounds, "requests_per_s") == pytest.approx(2.05)
    assert median(rounds, "cpu_us_per_event") is None
    assert median([], "requests_per_s") is None


@pytest.mark.parametrize(
    ("ours", "ttft", "met"),
    [(2.5, 20.5, [1, 1, 1, 1, 1]), (1.0, 23.0, [0, 0, 0, 0, 0]), (1.6, 20.5, [1, 1, 0, 0, 1])],
)
def test_targets(ours: float, ttft: float, met: list[int]) -> None:
    measured = result(ours, ttft)["measured"]
    ratios = [goal.ratio(measured, "rlu") for goal in GOALS]
    assert [
        int(goal.met(ratio)) for goal, ratio in zip(GOALS, ratios, strict=True) if ratio is not None
    ] == met
    assert GOALS[0].by_cpu(measured, "rlu") == pytest.approx(ours)
    assert GOALS[1].by_cpu(measured, "rlu") is None
    text = table(result(ours, ttft))
    assert text.count(", met |") == sum(met)
    assert text.count(", missed |") == 5 - sum(met)


def test_the_table_says_what_was_not_measured() -> None:
    made = result(2.5)
    made["measured"]["short"]["rlu"][1]["generator_cpu"] = 0.99
    made["measured"]["short"]["rlu"][0]["generator_cpu"] = 0.99
    text = table(made)
    assert "| broken | not measured: did not start: |" in text
    assert "long story" not in text
    rows = {row.split(" ")[1]: row for row in text.splitlines() if row.startswith("| ")}
    assert "250†" in rows["rlu"]
    assert "†" not in rows["nginx"]
    assert all(
        row.count("|") == rows["system"].count("|") for name, row in rows.items() if name in ("rlu", "broken")
    )


def test_the_readme_takes_the_section_and_keeps_the_rest() -> None:
    readme = Path(__file__).resolve().parents[2] / "benchmarks" / "README.md"
    text = readme.read_text()
    made = replaced(text, section(result(2.5)))
    assert "commit `abc`" in made
    assert made.partition(BEGIN)[0] == text.partition(BEGIN)[0]
    assert made.partition(END)[2] == text.partition(END)[2]
    assert replaced(made, section(result(2.5))) == made
    with pytest.raises(ValueError, match="has no"):
        replaced("nothing here", "x")


def test_the_picture_is_well_formed_and_to_scale() -> None:
    root = ElementTree.fromstring(picture(result(2.5)))
    bars = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if e.get("rx")]
    assert len(bars) == 3 * len(SCENARIOS) + 1
    widths = sorted(int(bar.get("width", "0")) for bar in bars[:3])
    assert widths[0] / widths[2] == pytest.approx(1 / 3, rel=0.02)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (3.14159, "3.14"), (31.4, "31.4"), (314.1, "314"), (1234.0, "1,234"), (31415.9, "31.4k")],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_the_generator_is_shown_not_to_be_the_limit() -> None:
    measured = result(2.0)["measured"]
    assert headroom(measured) == ""
    measured["short"]["direct"] = [one(requests_per_s=900.0)]
    assert headroom(measured) == (
        "The generator is not the limit: without a hop it does, of short 4.5 × rlu and 3.0 × the fastest."
    )


def test_workers_are_told() -> None:
    made = result(2.0)
    assert "one core and one worker process" in section(made)
    assert "2 cores and 2 worker processes" in section({**made, "workers": 2})
