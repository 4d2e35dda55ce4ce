"""docs/runbook.md against what wakes somebody: every alert, every event that is no mere information, every reason of /readyz."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from rlu_server.adapters import events as gateway
from rlu_server.adapters.measures import Readiness
from rlu_server.attestor import events as attestor

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
NORMAL = {
    "draining",
    "measuring",
    "proving",
    "serving",
    "stopped",
    "waiting_for_engine",
    "engine.known_answer",
    "model.switched",
    "model.switching",
    "weights.opened",
    "weights.wiped",
}
"""What the supervisor tells in the normal course."""


def rows(heading: str) -> dict[str, str]:
    """First cell and the rest of each row of the table under a heading; a cell that names several things is several rows."""
    section = re.split(r"^#+ ", RUNBOOK.split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    found = {}
    for line in lines:
        first, rest = line.strip("|").split("|", 1)
        for name in first.replace("`", "").split(","):
            assert name.strip() not in found, f"{name} twice"
            found[name.strip()] = rest
    return found


def supervisors() -> set[str]:
    """Names of events that the supervisor and `rlu serve` write themselves."""
    files = [*(ROOT / "server/rlu_server/supervisor").glob("*.py"), ROOT / "server/rlu_server/cli/serve.py"]
    text = "\n".join(path.read_text("utf-8") for path in files)
    named = set(re.findall(r"(?:\bevent|_event|tell)\(\s*\"([a-z][a-z_.]+)\"", text))
    by_role = re.findall(r"_on_event\(f\"\{self\.role\}\.(\w+)\"", text)
    assert "exited" in by_role
    troubles = set(by_role) - {"starting", "ready", "stopped"}
    return named | {f"{role}.{one}" for one in troubles for role in ("attestor", "engine", "gateway")}


def test_every_alert_has_a_first_step_and_no_other() -> None:
    text = (ROOT / "helm/rlu/files/alerts.yaml").read_text("utf-8").replace("%{where}", 'job="rlu"')
    assert set(rows("Alerts")) == {rule["alert"] for rule in yaml.safe_load(text)}


def test_every_event_that_matters_says_what_to_do_and_there_are_no_others() -> None:
    troubles = {name for name in get_args(gateway.Event) if name not in gateway.INFORMATION}
    troubles |= {event.value for event in attestor.Event if event not in attestor.INFORMATION}
    own = supervisors()
    assert own >= NORMAL
    troubles |= own - NORMAL
    told = set(rows("Events"))
    assert troubles <= told
    # The rest is what the output filter makes of the engine's output.
    filtered = (ROOT / "server/rlu_server/engine/inside/rlu_output_filter.py").read_text("utf-8")
    assert all(f'"{name.removeprefix("engine.")}"' in filtered for name in told - troubles)


def test_every_reason_of_readiness_is_there() -> None:
    readiness = Readiness()
    readiness.draining = True
    assert set(readiness.missing()) <= set(rows("Where to look first"))
    assert set(rows("Where to look first")) == {
        "signer_unavailable",
        "engine_unavailable",
        "salt_unproven",
        "draining",
    }


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for place, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text("utf-8")):
        target = (document.parent / place) if place else document
        assert target.exists(), f"{document.name}: {place}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
            assert anchor in anchors, f"{document.name}: {place}#{anchor}"
