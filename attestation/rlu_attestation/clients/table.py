"""Which clients there are, where their files belong, and which of a server's names are meant for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from rlu_attestation.clients import claude, codex, opencode, programs
from rlu_attestation.clients.setup import Client


@dataclass(frozen=True, slots=True)
class Kind:
    """One client.

    Attributes:
        setup: makes its files.
        home: its own directory below the user's home; None for programs, which lie where the user is.
        variable: the variable that moves that directory.
        inside: what comes below it.
        family: how names begin that the operator maps for this client (`[model] aliases`).
        quick: what a name of that family says if it is the small model.
    """

    setup: Client
    home: str | None = None
    variable: str = ""
    inside: str = ""
    family: str = ""
    quick: tuple[str, ...] = ()

    def directory(self, environment: Mapping[str, str], home: PurePath, here: PurePath) -> PurePath:
        """Where its files belong."""
        if self.home is None:
            return here
        moved = environment.get(self.variable)
        return (home / self.home if not moved else PurePath(moved)) / self.inside

    def models(self, listed: Mapping[str, str]) -> tuple[str, str]:
        """Model and small model, out of the names that the server lists with the model that each stands for.

        Names that the operator mapped for this client come first, the served model's own otherwise.
        """
        served = next((name for name, model in listed.items() if name == model), next(iter(listed)))
        mapped = [
            name
            for name, model in listed.items()
            if name != model and self.family and name.startswith(self.family)
        ]
        small = [name for name in mapped if any(word in name for word in self.quick)]
        large = [name for name in mapped if name not in small]
        model = (large or [served])[0]
        return model, (small or [model])[0]


CLIENTS: Mapping[str, Kind] = {
    "codex": Kind(codex.setup, ".codex", "CODEX_HOME", "", "gpt-", ("spark", "mini", "nano")),
    "claude": Kind(claude.setup, ".claude", "CLAUDE_CONFIG_DIR", "", "claude-", ("haiku",)),
    "opencode": Kind(opencode.setup, ".config", "XDG_CONFIG_HOME", "opencode"),
    "python": Kind(programs.python),
    "javascript": Kind(programs.javascript),
    "agents": Kind(programs.agents),
}
