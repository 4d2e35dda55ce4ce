"""The real Codex CLI, driven the way its users do: a config.toml, an API key in the environment, `codex exec --json`."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.caller import Caller
from e2e.processes import environment

INSTALLED = Path(__file__).resolve().parents[2] / ".cache" / "npm" / "node_modules" / ".bin" / "codex"
TURN_S = 240.0


def found() -> Path | None:
    """What `scripts/setup.sh test` installed, else the one on PATH."""
    if INSTALLED.exists():
        return INSTALLED
    elsewhere = shutil.which("codex")
    return None if elsewhere is None else Path(elsewhere)


@dataclass(frozen=True, slots=True)
class Turn:
    """What `codex exec` did."""

    status: int
    events: list[dict[str, Any]]
    errors: str

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def items(self, kind: str) -> list[dict[str, Any]]:
        """Completed items of a kind, such as `agent_message`."""
        done = [event["item"] for event in self.events if event["type"] == "item.completed"]
        return [item for item in done if item["type"] == kind]


class Codex:
    """One user's Codex: `workspace` is where it works."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self._binary = binary
        self._home = directory / "home"
        self.workspace = directory / "workspace"
        self._home.mkdir()
        self.workspace.mkdir()

    def run(self, caller: Caller, model: str, prompt: str, *options: str) -> Turn:
        (self._home / "config.toml").write_text(
            f'model = "{model}"\nmodel_provider = "rlu"\n[model_providers.rlu]\nname = "RLU"\n'
            f'base_url = "{caller.url}/v1"\nwire_api = "responses"\nenv_key = "RLU_API_KEY"\n'
        )
        given = {
            # Codex runs commands in a login shell, whose start-up files are not the business of a test.
            "HOME": str(self._home),
            "CODEX_HOME": str(self._home),
            "RLU_API_KEY": caller.key,
            "SSL_CERT_FILE": str(caller.certificate),
        }
        done = subprocess.run(
            [str(self._binary), "exec", "--json", "--skip-git-repo-check", *options, prompt],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TURN_S,
            cwd=self.workspace,
            env=environment(given),
            check=False,
        )
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return Turn(done.returncode, events, done.stderr)
