"""Reads the members of a decoded JSON object one by one, so that nothing unknown, missing or of another type slips through.

    with Members(value, "session statement") as members:
        issuer = members.text("iss")
        nonce = members.optional(members.binary, "eat_nonce")

Leaving the block refuses whatever was not read: an unknown claim is an error, not a surprise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Malformed

T = TypeVar("T")
MAX_TEXT = 512


class Members:
    """The members of one object, each to be read exactly once."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, Mapping):
            raise Malformed("statement.claims", f"{what} is not an object")
        self._rest: dict[str, Any] = dict(value)
        self._what = what

    def __enter__(self) -> Members:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._rest:
            names = ", ".join(sorted(name[:64] for name in self._rest))
            raise Malformed("statement.claims", f"{self._what} has unknown members: {names}")

    def __contains__(self, name: str) -> bool:
        return name in self._rest

    def optional(self, read: Callable[..., T], name: str, *arguments: Any) -> T | None:
        """Read a member that may be absent."""
        return read(name, *arguments) if name in self._rest else None

    def exactly(self, name: str, expected: str) -> None:
        """A member with one possible value."""
        if self._take(name) != expected:
            raise self._wrong(name, f"must be {expected}")

    def text(self, name: str) -> str:
        """A string of 1 to 512 characters."""
        value = self._take(name)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
            raise self._wrong(name, f"must be a string of 1 to {MAX_TEXT} characters")
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """One of a few strings."""
        value = self._take(name)
        if value not in allowed:
            raise self._wrong(name, f"must be one of {', '.join(allowed)}")
        return str(value)

    def count(self, name: str) -> int:
        """An integer from 0 up."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(name, "must be an integer from 0 up")
        return value

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "must be true or false")
        return value

    def binary(self, name: str, *sizes: int) -> bytes:
        """base64url bytes; of one of the given sizes, if any are given."""
        value = self._take(name)
        if not isinstance(value, str):
            raise self._wrong(name, "must be base64url")
        data = unb64u(value)
        if sizes and len(data) not in sizes:
            raise self._wrong(name, f"must have {' or '.join(map(str, sizes))} bytes")
        return data

    def texts(self, name: str, maximum: int) -> tuple[str, ...]:
        """An array of at most `maximum` strings."""
        value = self._take(name)
        if not isinstance(value, list) or len(value) > maximum:
            raise self._wrong(name, f"must be an array of at most {maximum} strings")
        if not all(isinstance(item, str) and 0 < len(item) <= MAX_TEXT for item in value):
            raise self._wrong(name, f"must hold strings of 1 to {MAX_TEXT} characters")
        return tuple(value)

    def object(self, name: str) -> Members:
        """A nested object, to be read in a `with` block of its own."""
        return Members(self._take(name), f"{self._what}: {name}")

    def value(self, name: str) -> Any:
        """A member as it is; its type is for the caller to check."""
        return self._take(name)

    def mapping(self, name: str) -> dict[str, Any]:
        """A nested object whose members are not fixed."""
        value = self._take(name)
        if not isinstance(value, Mapping):
            raise self._wrong(name, "must be an object")
        return dict(value)

    def _take(self, name: str) -> Any:
        if name not in self._rest:
            raise Malformed("statement.claims", f"{self._what} lacks {name}")
        return self._rest.pop(name)

    def _wrong(self, name: str, what: str) -> Malformed:
        return Malformed("statement.claims", f"{self._what}: {name} {what}")
