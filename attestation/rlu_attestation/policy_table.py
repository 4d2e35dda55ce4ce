"""Reads tables of a policy: every key once, of its type, and what is left over refuses."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from rlu_attestation import x509
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.policy import Accepted, PolicyError
from rlu_attestation.verdict import Source

ANY = "any"
ReadFile = Callable[[str], bytes]
"""Gives the content of a file that a policy names; may raise `OSError` or `PolicyError`."""


class Table:
    """One TOML table; every key is read once, and what is left over refuses."""

    def __init__(self, value: object, name: str) -> None:
        self.name = name
        if not isinstance(value, dict):
            raise PolicyError("policy.value", f"{name} must be a table")
        self._rest: dict[str, Any] = dict(value)
        self._known: dict[str, None] = {}
        """Keys that were asked for, in that order: what is allowed here."""

    def __contains__(self, key: str) -> bool:
        self._known[key] = None
        return key in self._rest

    def wrong(self, key: str, what: str) -> PolicyError:
        return PolicyError("policy.value", f"{self.path(key)} {what}")

    def path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def end(self) -> None:
        if self._rest:
            names = ", ".join(self._unknown(key) for key in sorted(self._rest))
            allowed = f"; allowed here: {', '.join(self._known)}" if self._known else ""
            raise PolicyError("policy.unknown_key", f"unknown keys: {names}{allowed}")

    def _unknown(self, key: str) -> str:
        near = difflib.get_close_matches(key, self._known, 1)
        return f"{self.path(key)} (is it {near[0]}?)" if near else self.path(key)

    def take(self, key: str, default: Any) -> Any:
        self._known[key] = None
        return self._rest.pop(key, default)

    def table(self, key: str) -> Table:
        return Table(self.take(key, {}), self.path(key))

    def names(self) -> tuple[str, ...]:
        return tuple(self._rest)

    def is_any(self, key: str) -> bool:
        """Whether the rule says "any", which reads it."""
        self._known[key] = None
        return self._rest.get(key) == ANY and self._rest.pop(key) == ANY

    def limit(self, key: str) -> int | None:
        value = self.take(key, None)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self.wrong(key, "must be an integer")
        return value

    def flag(self, key: str) -> bool:
        value = self.take(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def seconds(self, key: str, default: int) -> int:
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 10 * 366 * 86400:
            raise self.wrong(key, "must be a number of seconds from 0 to ten years")
        return value

    def whole(self, key: str, default: int, least: int = 0, most: int | None = None) -> int:
        value = self.take(key, default)
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not fits or (most is not None and value > most):
            limits = f"from {least} up" if most is None else f"from {least} to {most}"
            raise self.wrong(key, f"must be a whole number {limits}")
        return int(value)

    def accepted(self, key: str) -> Accepted:
        """A list of accepted values, or "any"."""
        return None if self.is_any(key) else frozenset(self.strings(key))

    def binaries(self, key: str, size: int) -> frozenset[bytes]:
        """An array of values of one size in hexadecimal, not empty."""
        try:
            found = frozenset(bytes.fromhex(text) for text in self.strings(key))
        except ValueError:
            found = frozenset()
        if not found or any(len(value) != size for value in found):
            raise self.wrong(key, f"must be an array of values of {size} bytes in hexadecimal")
        return found

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(key, "must be an array of strings")
        return tuple(value)

    def choices(self, key: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
        values = self.strings(key)
        if not set(values) <= set(allowed):
            raise self.wrong(key, f"may hold {', '.join(allowed)}")
        return values

    def source(self, key: str, default: Source) -> Source:
        value = self.take(key, default.value)
        if value not in [source.value for source in Source]:
            raise self.wrong(key, f"must be one of {', '.join(source.value for source in Source)}")
        return Source(value)


def certificates(trust: Table, key: str, read_file: ReadFile) -> tuple[x509.Certificate, ...]:
    found: list[x509.Certificate] = []
    for text in trust.strings(key):
        try:
            inline = text.lstrip().startswith("-----BEGIN ")
            found += x509.parse_many(text.encode("utf-8") if inline else read_file(text))
        except RluError as error:
            raise PolicyError("policy.certificate", f"{trust.name}.{key}: {error.message}") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise PolicyError("policy.certificate", f"{trust.name}.{key}: {text}: {reason}") from error
    return tuple(found)


def digest(table: Table, key: str, text: str) -> bytes:
    try:
        digest = unb64u(text)
    except RluError:
        digest = b""
    if len(digest) != 32:
        raise table.wrong(key, f"holds {text}, which is not a SHA-256 digest in base64url")
    return digest
