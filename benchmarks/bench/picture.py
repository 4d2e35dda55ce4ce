"""The README's picture: bars for each scenario's headline number, as plain SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from bench.report import median, number
from bench.scenarios import SCENARIOS, Scenario

WIDTH, ROW, LABEL, PAD = 760, 20, 130, 10
OURS, THEIRS = "#1f6f54", "#9aa5b1"


def picture(result: Mapping[str, Any]) -> str:
    """One block of bars for each scenario, our own systems in colour."""
    parts: list[str] = []
    top = PAD
    for scenario in SCENARIOS:
        block, height = _block(scenario, result["measured"].get(scenario.name, {}), top)
        parts += block
        top += height
    style = "font-family:system-ui,sans-serif;font-size:12px"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" style="{style}">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>', *parts, "</svg>"]) + "\n"


def _block(
    scenario: Scenario, systems: Mapping[str, list[dict[str, Any]]], top: int
) -> tuple[list[str], int]:
    values = {name: median(rounds, scenario.headline) for name, rounds in systems.items()}
    shown = {name: value for name, value in values.items() if value}
    if not shown:
        return [], 0
    most = max(shown.values())
    heading = escape(f"{scenario.title}: {scenario.unit}, {scenario.better} is better")
    parts = [f'<text x="{PAD}" y="{top + 14}" font-weight="600">{heading}</text>']
    y = top + 22
    for name, value in sorted(shown.items(), key=lambda item: item[1], reverse=scenario.better == "higher"):
        length = max(1, round((WIDTH - LABEL - 110) * value / most))
        colour = OURS if name.startswith("rlu") else THEIRS
        parts += [
            f'<text x="{PAD}" y="{y + 13}">{escape(name)}</text>',
            f'<rect x="{LABEL}" y="{y + 2}" width="{length}" height="{ROW - 5}" rx="2" fill="{colour}"/>',
            f'<text x="{LABEL + length + 6}" y="{y + 13}">{number(value)}</text>',
        ]
        y += ROW
    return parts, y - top + PAD
