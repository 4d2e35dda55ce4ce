"""From raw measurements to medians, the targets, the README's table and its picture. Pure: results in, text out."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.scenarios import SCENARIOS, Scenario

SATURATED = 0.95
"""Share of the generator's core above which the number is its limit rather than the target's."""
BEGIN, END = "<!-- results begin -->", "<!-- results end -->"
Rounds = list[dict[str, Any]]
Measured = Mapping[str, Mapping[str, Rounds]]
"""scenario → system → one `Result` as JSON for each round."""


def median(rounds: Rounds, field: str) -> float | None:
    values = [value for value in (one.get(field) for one in rounds) if value is not None]
    return statistics.median(values) if values else None


def spread(rounds: Rounds, field: str) -> float:
    """Half the range, relative to the median; 0 for a single round."""
    values = [one[field] for one in rounds if one.get(field) is not None]
    middle = statistics.median(values) if values else 0
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


@dataclass(frozen=True, slots=True)
class Goal:
    """One target: our median against a peer's, in one run."""

    text: str
    scenario: str
    field: str
    peer: str
    factor: float
    at_least: bool

    def ratio(self, measured: Measured, system: str) -> float | None:
        ours = median(measured.get(self.scenario, {}).get(system, []), self.field)
        theirs = median(measured.get(self.scenario, {}).get(self.peer, []), self.field)
        if self.field == "ttft_p50_ms":
            base = median(measured.get(self.scenario, {}).get("direct", []), self.field)
            if base is None or ours is None or theirs is None:
                return None
            # What a hop adds; a difference below the clock's noise counts as that noise.
            ours, theirs = max(ours - base, 0.01), max(theirs - base, 0.01)
        return ours / theirs if ours and theirs else None

    def by_cpu(self, measured: Measured, system: str) -> float | None:
        """The same for a rate, from CPU time: what the rates would be if each had its core to itself."""
        cost = {"requests_per_s": "cpu_us_per_request", "events_per_s": "cpu_us_per_event"}.get(self.field)
        if cost is None:
            return None
        ours = median(measured.get(self.scenario, {}).get(system, []), cost)
        theirs = median(measured.get(self.scenario, {}).get(self.peer, []), cost)
        return theirs / ours if ours and theirs else None

    def met(self, ratio: float) -> bool:
        return ratio >= self.factor if self.at_least else ratio <= self.factor


GOALS = (
    Goal("short requests ≥ 1.5 × vllm-router", "short", "requests_per_s", "vllm-router", 1.5, True),
    Goal("CPU per paced event ≤ 0.8 × vllm-router", "paced", "cpu_us_per_event", "vllm-router", 0.8, False),
    Goal("flooded events ≥ 2 × vllm-router", "flooded", "events_per_s", "vllm-router", 2.0, True),
    Goal("flooded events ≥ 0.8 × nginx", "flooded", "events_per_s", "nginx", 0.8, True),
    Goal("added time to first event ≤ vllm-router's", "ttft", "ttft_p50_ms", "vllm-router", 1.0, False),
)


def number(value: float | None) -> str:
    if value is None:
        return "–"
    if value >= 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _cell(scenario: Scenario, rounds: Rounds) -> str:
    if not rounds:
        return "–"
    value = number(median(rounds, scenario.headline))
    per = "cpu_us_per_event" if scenario.headline == "events_per_s" else "cpu_us_per_request"
    cost = median(rounds, per) if scenario.headline != "cpu_us_per_event" else None
    limited = median(rounds, "generator_cpu") or 0
    mark = "†" if limited >= SATURATED and scenario.headline.endswith("per_s") else ""
    wobble = f" ±{100 * spread(rounds, scenario.headline):.0f} %"
    detail = f" ({number(cost)} µs)" if cost is not None and scenario.headline != "ttft_p50_ms" else ""
    return f"{value}{mark}{wobble}{detail}"


def table(result: Mapping[str, Any]) -> str:
    """The systems down, the scenarios across; then the targets."""
    measured: Measured = result["measured"]
    columns = [s for s in SCENARIOS if s.name in measured]
    lines = [
        "| system | " + " | ".join(f"{s.title}, {s.unit}" for s in columns) + " |",
        "|---|" + "--:|" * len(columns),
    ]
    for name, about in result["systems"].items():
        if "failed" in about:
            lines.append(
                f"| {name} | not measured: {about['failed'].splitlines()[0]} |" + " |" * (len(columns) - 1)
            )
            continue
        cells = [_cell(s, measured[s.name].get(name, [])) for s in columns]
        lines.append(f"| {name} {about['version']} | " + " | ".join(cells) + " |")
    lines += ["", "| target | measured | by CPU time |", "|---|--:|--:|"]
    for goal in GOALS:
        ratio, by_cpu = goal.ratio(measured, "rlu"), goal.by_cpu(measured, "rlu")
        verdict = "–" if ratio is None else f"{ratio:.2f} ×, {'met' if goal.met(ratio) else 'missed'}"
        lines.append(f"| {goal.text} | {verdict} | {'–' if by_cpu is None else f'{by_cpu:.2f} ×'} |")
    return "\n".join(lines)


def headroom(measured: Measured) -> str:
    """Whether the generator could have been the limit: what it does without a hop, beside the fastest system."""
    found = []
    for scenario in SCENARIOS:
        rounds = measured.get(scenario.name, {})
        alone = median(rounds.get("direct", []), scenario.headline)
        others = [median(each, scenario.headline) or 0 for name, each in rounds.items() if name != "direct"]
        ours = median(rounds.get("rlu", []), scenario.headline)
        if scenario.headline.endswith("per_s") and alone and others and ours:
            found.append(
                f"{scenario.name} {alone / ours:.1f} × rlu and {alone / max(others):.1f} × the fastest"
            )
    return (
        f"The generator is not the limit: without a hop it does, of {'; of '.join(found)}." if found else ""
    )


def section(result: Mapping[str, Any]) -> str:
    """The generated part of the README."""
    machine, workers = result["machine"], result.get("workers", 1)
    share = (
        "one core and one worker process"
        if workers == 1
        else f"{workers} cores and {workers} worker processes"
    )
    notes = [f"- {name}: {about['note']}" for name, about in result["systems"].items() if about.get("note")]
    return "\n".join(
        [
            BEGIN,
            f"Measured {result['when']} at commit `{result['commit']}` on {machine['cpu']}, {machine['cores']} cores, "
            f"with{'' if machine['sha_instructions'] else 'out'} SHA instructions, load average {machine['load_at_end']:.1f} at the end "
            "(ours is about 2), "
            f"kernel {machine['kernel']}, Python {machine['python']}; medians of {result['rounds']} rounds of "
            f"{result['seconds']} s, ± half the range; {share} each; in brackets "
            "CPU time per request or event of all of a system's processes. "
            "† the generator's core was full: the system may do more.",
            "",
            table(result),
            "",
            headroom(result["measured"]),
            "",
            *notes,
            "",
            "![CPU per paced event and flooded events per second](results/latest.svg)",
            END,
        ]
    )


def replaced(readme: str, generated: str) -> str:
    """The README with its generated part exchanged.

    Raises:
        ValueError: the marks are missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no {BEGIN} … {END}")
    return before + generated + after
