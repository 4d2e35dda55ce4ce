"""`rlu selftest egress` as an operator calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RLU = (sys.executable, "-c", "from rlu_attestation.cli import main; main()")


def run(directory: Path, text: str = "", *options: str) -> subprocess.CompletedProcess[str]:
    model = directory / "model"
    model.mkdir(exist_ok=True)
    config = directory / "rlu.toml"
    config.write_text(f'state_dir = "{directory / "state"}"\n[model]\npath = "{model}"\n{text}')
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
    return subprocess.run(
        [*RLU, "selftest", "egress", "--config", str(config), *options],
        capture_output=True,
        text=True,
        timeout=120,
        env=kept,
        check=False,
    )


def test_closed(tmp_path: Path) -> None:
    done = run(tmp_path, "", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == said["exit_code"] == (11 if said["not_shown"] else 0), done.stderr
    assert said["closed"] is True
    assert said["got_out"] == {"engine": [], "gateway": [], "attestor": []}
    assert set(said["held"].values()) == {said["shown"]}
    assert said["shown"] >= 30
    assert not (tmp_path / "state").exists(), "nothing of the node's is touched"


def test_a_shared_network_is_not_closed(tmp_path: Path) -> None:
    """That a NetworkPolicy denies egress is not for this machine to see."""
    done = run(tmp_path, '[lock]\nengine_network = "shared"\n')
    assert done.returncode == 10, done.stderr
    engine = next(line for line in done.stdout.splitlines() if line.startswith("engine: "))
    assert "NOT CLOSED" in engine
    assert {"tcp", "udp", "dns"} <= set(engine.split("NOT CLOSED: ")[1].rstrip(".").split(", "))


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("[lock]\nminimum_landlock_abi = 99\n", 77, "selftest.lock"),
        ('[engine]\narguments = ["--trust-remote-code"]\n', 2, "selftest.engine"),
        ('[engine]\nenvironment = {VLLM_SERVER_DEV_MODE = "1"}\n', 2, "selftest.engine"),
        ("[lock]\nnonsense = 1\n", 2, "selftest.settings"),
    ],
)
def test_what_cannot_be_tested_says_why(tmp_path: Path, text: str, status: int, code: str) -> None:
    done = run(tmp_path, text)
    assert done.returncode == status
    assert code in done.stderr
