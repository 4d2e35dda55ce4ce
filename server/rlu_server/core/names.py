"""The names of models that clients may use: those that are served, and the operator's aliases for them.

An alias is another name, or the beginning of names followed by `*`. It stands for one served model and never for another alias. A name that
is written out wins over a pattern, and a longer pattern over a shorter one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MAX_NAME = 128


class AliasRefused(ValueError):
    """The aliases and the served models contradict each other; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Names:
    """Which model a name means.

    Attributes:
        served: the models' own names, in the order of the configuration.
        listed: what `/v1/models` shows.
    """

    served: tuple[str, ...]
    listed: tuple[str, ...]
    _exact: Mapping[str, str]
    _patterns: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, served: Iterable[str], aliases: Mapping[str, str], *, list_aliases: bool = True) -> Names:
        """Raises AliasRefused, naming everything that is wrong."""
        models = tuple(served)
        wrong = [
            f"two models are named {name}" for name in sorted({m for m in models if models.count(m) > 1})
        ]
        exact = {name: name for name in models}
        patterns: dict[str, str] = {}
        for alias, model in aliases.items():
            reason = _refused(alias, model, models)
            if reason:
                wrong.append(reason)
            elif alias.endswith("*"):
                patterns[alias[:-1]] = model
            else:
                exact[alias] = model
        if wrong:
            raise AliasRefused("; ".join(wrong))
        longest_first = sorted(patterns.items(), key=lambda item: -len(item[0]))
        return cls(models, tuple(exact) if list_aliases else models, exact, tuple(longest_first))

    def get(self, name: str, /) -> str | None:
        """The served model that a name stands for."""
        found = self._exact.get(name)
        if found is None and self._patterns and len(name) <= MAX_NAME:
            return next((model for prefix, model in self._patterns if name.startswith(prefix)), None)
        return found


def _refused(alias: str, model: str, models: tuple[str, ...]) -> str:
    prefix = alias.removesuffix("*")
    if not prefix or "*" in prefix or len(alias) > MAX_NAME or not alias.isprintable():
        return f"{alias!r} cannot be an alias: a name, or the beginning of names with one * at its end"
    if alias in models:
        return f"the alias {alias} is the name of a model that is served"
    if model not in models:
        return f"the alias {alias} stands for {model}, which is not served; served are {', '.join(models)}"
    return ""
