"""The SDKs of OpenAI and Anthropic for JavaScript, by the served model's name and by names that clients know."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from absent_inputs import absent
from e2e.caller import Caller
from e2e.processes import NO_WAY_OUT, environment, until
from e2e.scripted_stack import BOOK, CLAUDE, GPT, MODEL, Scripted

pytestmark = pytest.mark.tpm

HERE = Path(__file__).parent / "javascript"
TURN_S = 120.0
TURNS = [
    {
        "reasoning": "Both places are wanted.",
        "text": "I look at both.",
        "calls": [
            {"name": "look", "arguments": {"at": "here"}},
            {"name": "look", "arguments": {"at": "there"}},
        ],
    },
    {"text": "Both are there."},
]
SCRIPTS: dict[str, dict[str, Any]] = {
    "turns": {"turns": TURNS},
    "endless": BOOK["scripts"]["endless"],
    "plain": {},
}


def node() -> str:
    """Node.js, with the packages that it needs."""
    found = shutil.which("node")
    if found is None or not (HERE / "node_modules").is_dir():
        absent("node", "no node on PATH, or no packages in tests/e2e/javascript")
    return found


def run(caller: Caller, program: str, scenario: str, model: str) -> None:
    done = subprocess.run(
        [node(), str(HERE / program), scenario],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TURN_S,
        env=environment(
            {
                "BASE_URL": caller.url,
                "API_KEY": caller.key,
                "MODEL": model,
                "RUNS": MODEL,
                "NODE_EXTRA_CA_CERTS": str(caller.certificate),
                **NO_WAY_OUT,
            }
        ),
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("model", [MODEL, GPT])
@pytest.mark.parametrize(
    ("scenario", "script"),
    [
        ("models", "plain"),
        ("tools", "turns"),
        ("items", "turns"),
        ("kept", "turns"),
        ("images", "plain"),
        ("cancel", "endless"),
        ("retry", "plain"),
    ],
)
def test_openai(scripted: Scripted, scenario: str, script: str, model: str) -> None:
    scripted.script({"model": MODEL, "default": SCRIPTS[script], "scripts": {"endless": SCRIPTS["endless"]}})
    run(scripted.limited if scenario == "retry" else scripted.caller, "openai.mjs", scenario, model)
    check(scripted, scenario)


@pytest.mark.parametrize("model", [MODEL, CLAUDE])
@pytest.mark.parametrize(
    ("scenario", "script"),
    [
        ("models", "plain"),
        ("tools", "turns"),
        ("images", "plain"),
        ("cancel", "endless"),
        ("retry", "plain"),
    ],
)
def test_anthropic(scripted: Scripted, scenario: str, script: str, model: str) -> None:
    scripted.script({"model": MODEL, "default": SCRIPTS[script], "scripts": {"endless": SCRIPTS["endless"]}})
    run(scripted.limited if scenario == "retry" else scripted.caller, "anthropic.mjs", scenario, model)
    check(scripted, scenario)


def check(scripted: Scripted, scenario: str) -> None:
    """What the engine got: its own name, no remote picture, and an end when the client left."""
    bodies = [json.loads(one.body) for one in scripted.seen()]
    assert {body["model"] for body in bodies} <= {MODEL}
    assert "elsewhere.example" not in json.dumps(bodies)
    if scenario == "images":
        assert "iVBORw0KGgo" in json.dumps(bodies)
    if scenario == "cancel":
        until(
            lambda: {one.outcome for one in scripted.seen()} == {"aborted"}, 20, lambda: str(scripted.seen())
        )
