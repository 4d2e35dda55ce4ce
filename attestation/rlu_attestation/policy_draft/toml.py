"""Writes TOML 1.0 with comments. Every text may come from a hostile server, so nothing reaches the file that could end its line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rlu_attestation.printing import printable

Value = bool | int | str
WIDTH = 120
_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def text(value: str) -> str:
    """A basic string (TOML 1.0, "String")."""
    return f'"{"".join(map(_escaped, value))}"'


def key(name: str) -> str:
    """One part of a key."""
    return name if _BARE.fullmatch(name) else text(name)


def value_of(value: Value) -> str:
    """A boolean, integer or string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else text(value)


def array(values: Iterable[Value]) -> str:
    """An array, on one line if it is short."""
    items = [value_of(value) for value in values]
    line = f"[{', '.join(items)}]"
    return line if len(line) <= WIDTH else "[\n" + "".join(f"  {item},\n" for item in items) + "]"


class Writer:
    """Collects the lines of a file."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def comment(self, words: str) -> None:
        """A comment, of as many lines as it needs."""
        self._lines += [f"# {line}".rstrip() for line in _wrapped(printable(words))]

    def rule(self, name: str, value: str, words: str = "") -> None:
        """A key with its value, as TOML already; `words` go above it."""
        if words:
            self.comment(words)
        self._lines += f"{key(name)} = {value}".split("\n")

    def suggested(self, lines: Iterable[str], words: str) -> None:
        """Lines that are left for a person to uncomment, with the reason above them."""
        self.comment(words)
        self._lines += [f"# {line}" for entry in lines for line in entry.split("\n")]

    def table(self, *names: str) -> None:
        self.blank()
        self._lines.append(f"[{'.'.join(map(key, names))}]")

    def blank(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def __str__(self) -> str:
        return "\n".join(self._lines).rstrip() + "\n"


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"


def _wrapped(words: str) -> Iterable[str]:
    line = ""
    for word in words.split():
        if line and len(line) + len(word) >= WIDTH:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
