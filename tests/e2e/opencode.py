"""The real opencode, driven the way its users do: what `rlu clients opencode` wrote, and `opencode run`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2e.processes import NO_WAY_OUT, environment

INSTALLED = Path(__file__).resolve().parents[2] / ".cache" / "npm" / "node_modules" / ".bin" / "opencode"
TURN_S = 240.0


def found() -> Path | None:
    """What `scripts/setup.sh test` installed, else the one on PATH."""
    if INSTALLED.exists():
        return INSTALLED
    elsewhere = shutil.which("opencode")
    return None if elsewhere is None else Path(elsewhere)


def run(binary: Path, directory: Path, prompt: str, given: Mapping[str, str]) -> list[dict[str, Any]]:
    """One headless run in `directory`/workspace, with a home of its own; the events that it prints."""
    home, workspace = directory / "home", directory / "workspace"
    for path in (home, workspace):
        path.mkdir(exist_ok=True)
    # Whoever runs the tests may be such an agent's user too; nothing of that is for this one.
    base = {
        k: v
        for k, v in environment().items()
        if not k.startswith(("OPENCODE", "XDG_", "OPENAI_", "ANTHROPIC_"))
    }
    done = subprocess.run(
        [str(binary), "run", "--format", "json", prompt],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TURN_S,
        cwd=workspace,
        # It works where PWD says, as a shell sets it, and not in its working directory.
        env={
            **base,
            "HOME": str(home),
            "PWD": str(workspace),
            **NO_WAY_OUT,
            **given,
        },
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
