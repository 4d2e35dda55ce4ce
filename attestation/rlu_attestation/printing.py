"""Text that may come from a hostile server, made safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text without anything a terminal obeys: control and format characters are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
