"""Writes the table of values in helm/rlu/README.md from the chart's schema and defaults.

python scripts/chart_readme.py            write it
python scripts/chart_readme.py --check    exit code 1 when the table is not what the schema says
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[1] / "helm" / "rlu"
BEGIN, END = "<!-- values: made by scripts/chart_readme.py -->", "<!-- end of values -->"


def leaves(schema: dict[str, Any], values: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Dotted name, schema and default of every value; of a map with free keys, of the map."""
    for name, inner in schema["properties"].items():
        if name == "global" and not path:
            continue  # Helm's own
        below = values[name]
        if "properties" in inner:
            yield from leaves(inner, below, f"{path}{name}.")
        else:
            yield path + name, inner, below


def table() -> str:
    """The table in Markdown."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for name, inner, default in leaves(schema, values):
        meaning = inner["description"]
        if "enum" in inner:
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in inner["enum"]) + "."
        elif "maximum" in inner:
            meaning += f" {inner['minimum']} to {inner['maximum']}."
        elif inner.get("minimum"):
            meaning += f" {inner['minimum']} or more."
        lines.append(f"| `{name}` | `{json.dumps(default)}` | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with its table replaced."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the table of the chart's values.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when it differs")
    check = parser.parse_args().check
    path = CHART / "README.md"
    old = path.read_text("utf-8")
    new = page(old)
    if check and old != new:
        print("helm/rlu/README.md is not what the schema says; run scripts/chart_readme.py")
        return 1
    if not check:
        path.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
