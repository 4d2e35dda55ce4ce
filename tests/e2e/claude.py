"""The real Claude Code, driven the way its users do: environment variables and `claude -p`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from e2e.caller import Caller
from e2e.processes import environment

INSTALLED = Path(__file__).resolve().parents[2] / ".cache" / "npm" / "node_modules" / ".bin" / "claude"
TURN_S = 240.0


def found() -> Path | None:
    """What `scripts/setup.sh test` installed, else the one on PATH."""
    if INSTALLED.exists():
        return INSTALLED
    elsewhere = shutil.which("claude")
    return None if elsewhere is None else Path(elsewhere)


class Claude:
    """One user's Claude Code: `workspace` is where it works."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self._binary = binary
        self._home = directory / "home"
        self.workspace = directory / "workspace"
        self._home.mkdir()
        self.workspace.mkdir()

    def run(self, caller: Caller, model: str, prompt: str, *options: str) -> dict[str, Any]:
        """One headless run; its result as Claude Code prints it."""
        given = {
            "HOME": str(self._home),
            "CLAUDE_CONFIG_DIR": str(self._home / "claude"),
            "ANTHROPIC_BASE_URL": caller.url,
            "ANTHROPIC_API_KEY": caller.key,
            "ANTHROPIC_MODEL": model,
            "ANTHROPIC_SMALL_FAST_MODEL": model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "NODE_EXTRA_CA_CERTS": str(caller.certificate),
        }
        # Whoever runs the tests may be such an agent's user too; nothing of that is for this one.
        base = {k: v for k, v in environment().items() if not k.startswith(("ANTHROPIC_", "CLAUDE"))}
        done = subprocess.run(
            [str(self._binary), "-p", prompt, "--output-format", "json", *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TURN_S,
            cwd=self.workspace,
            env={**base, **given},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result
