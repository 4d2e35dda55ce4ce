"""How a command is started so that it talks to the proxy: its environment, and what Codex needs on its command line.

The server's API key stays here. What the command gets is the run's own key, which opens nothing but the proxy, for as long as that runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

ELSEWHERE = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BEDROCK_BASE_URL",
    "ANTHROPIC_VERTEX_BASE_URL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
)
"""Variables that would send a client to another service, or as somebody else."""
REAL_KEY = "RLU_API_KEY"
LOOPBACK = "127.0.0.1,localhost"


@dataclass(frozen=True, slots=True)
class Local:
    """Where the proxy is, and the key for it."""

    url: str
    key: str
    model: str

    def variables(self, program: str = "") -> dict[str, str]:
        """What clients look for. Claude Code asks its user about every new `ANTHROPIC_API_KEY`, and this one is new in every run."""
        claude = PurePath(program).name in ("claude", "claude.exe")
        return {
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_KEY": self.key,
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_AUTH_TOKEN" if claude else "ANTHROPIC_API_KEY": self.key,
        }

    def environment(
        self, present: Mapping[str, str], real_key: str, *, program: str = "", pass_key: bool = False
    ) -> dict[str, str]:
        """The environment of a program: ours, without what leads elsewhere and without the real key, unless it is to be passed."""
        kept = {
            name: value
            for name, value in present.items()
            if name not in ELSEWHERE and (pass_key or (name != REAL_KEY and value != real_key))
        }
        for name in ("NO_PROXY", "no_proxy"):
            kept[name] = f"{kept[name]},{LOOPBACK}" if kept.get(name) else LOOPBACK
        if pass_key:
            kept[REAL_KEY] = real_key
        agents = {
            "ANTHROPIC_MODEL": self.model,
            "ANTHROPIC_SMALL_FAST_MODEL": self.model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        return {**agents, **kept, **self.variables(program)}

    def command(self, words: Sequence[str]) -> list[str]:
        """The command; Codex reads no base URL from its environment and gets it as configuration."""
        if not words or PurePath(words[0]).name not in ("codex", "codex.exe"):
            return list(words)
        return [words[0], *self.codex_options(), *words[1:]]

    def codex_options(self) -> list[str]:
        """Options of Codex's that make this its provider; what follows them on the command line still overrides them."""
        name = "rlu-connect"
        settings = {
            "model": self.model,
            "model_provider": name,
            f"model_providers.{name}.name": "RLU",
            f"model_providers.{name}.base_url": f"{self.url}/v1",
            f"model_providers.{name}.wire_api": "responses",
            f"model_providers.{name}.env_key": "OPENAI_API_KEY",
        }
        # A JSON string is a TOML string.
        return [word for key, value in settings.items() for word in ("-c", f"{key}={json.dumps(value)}")]
