"""Reads the JSON that Intel signs, strictly: no key twice, no fractions, nothing unknown, every value of its type and size.

Intel signs the text as it stands, so it is kept as it stands and verified before it is read. A member that is not known refuses as
unsupported: it might restrict what the others seem to allow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, NoReturn

from rlu_attestation.errors import Malformed, Unsupported

MAX_TEXT = 128 * 1024
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_HEX = re.compile(r"[0-9A-Fa-f]*", re.ASCII)
_MAX_STRING = 128
_MAX_DIGITS = 10


class Fields:
    """The members of one object, each to be read exactly once, with `end` after the last."""

    def __init__(self, value: object, code: str, what: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(code, f"{what} is not an object")
        self._rest: dict[str, Any] = dict(value)
        self._code = code
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._rest

    def text(self, name: str) -> str:
        """A string of 1 to 128 printable ASCII characters."""
        return self._string(name, self._take(name))

    def hexadecimal(self, name: str, size: int) -> bytes:
        """Bytes in hexadecimal, of a fixed number."""
        value = self._take(name)
        if not isinstance(value, str) or len(value) != 2 * size or _HEX.fullmatch(value) is None:
            raise self._wrong(name, f"must be {size} bytes in hexadecimal")
        return bytes.fromhex(value)

    def number(self, name: str, maximum: int) -> int:
        """An integer from 0 to `maximum`."""
        value = self._take(name)
        if type(value) is not int or not 0 <= value <= maximum:
            raise self._wrong(name, f"must be an integer from 0 to {maximum}")
        return value

    def time(self, name: str) -> datetime:
        """A time in UTC to the second."""
        value = self._take(name)
        if not isinstance(value, str) or _TIME.fullmatch(value) is None:
            raise self._wrong(name, "must be a time in UTC to the second")
        try:
            return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        except ValueError as error:
            raise self._wrong(name, "is no such time") from error

    def texts(self, name: str, maximum: int) -> tuple[str, ...]:
        """An array of strings, or nothing when the member is absent."""
        if name not in self._rest:
            return ()
        return tuple(self._string(name, item) for item in self._array(name, maximum))

    def nested(self, name: str) -> Fields:
        """A nested object."""
        return Fields(self._take(name), self._code, f"{self._what}: {name}")

    def objects(self, name: str, maximum: int) -> list[Fields]:
        """An array of objects."""
        return [
            Fields(item, self._code, f"{self._what}: {name}[{index}]")
            for index, item in enumerate(self._array(name, maximum))
        ]

    def skip(self, *names: str) -> None:
        """Members that are for people and may be absent: strings."""
        for name in names:
            if name in self._rest:
                self._string(name, self._rest.pop(name))

    def end(self) -> None:
        """Everything must have been read."""
        if self._rest:
            names = ", ".join(sorted(name[:64] for name in self._rest))
            raise Unsupported(f"{self._code}.member", f"{self._what} has members that are not known: {names}")

    def _take(self, name: str) -> Any:
        if name not in self._rest:
            raise Malformed(self._code, f"{self._what} lacks {name}")
        return self._rest.pop(name)

    def _array(self, name: str, maximum: int) -> list[Any]:
        value = self._take(name)
        if not isinstance(value, list) or len(value) > maximum:
            raise self._wrong(name, f"must be an array of at most {maximum}")
        return value

    def _string(self, name: str, value: object) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_STRING or not value.isascii():
            raise self._wrong(name, f"must be a string of 1 to {_MAX_STRING} ASCII characters")
        if not value.isprintable():
            raise self._wrong(name, "must be printable")
        return value

    def _wrong(self, name: str, what: str) -> Malformed:
        return Malformed(self._code, f"{self._what}: {name} {what}")


def read(text: str, code: str, what: str) -> Fields:
    """The members of a JSON object.

    Raises:
        Malformed: longer than 128 KiB, not JSON, not an object, a key twice, or a number that is not a small integer (`code`).
    """
    return Fields(decode(text, code), code, what)


def decode(text: str, code: str, max_text: int = MAX_TEXT) -> object:
    """A JSON value in which no key occurs twice and every number is a small integer; raises as `read` does."""
    if len(text) > max_text:
        raise Malformed(code, f"longer than {max_text} characters")

    def refuse(reason: str) -> Callable[[str], NoReturn]:
        def raising(_: str) -> NoReturn:
            raise Malformed(code, reason)

        return raising

    def integer(digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            raise Malformed(code, "a number is too long")
        return int(digits)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Malformed(code, "a key occurs twice")
        return found

    fraction = refuse("numbers are integers here")
    try:
        return json.loads(
            text,
            parse_float=fraction,
            parse_constant=fraction,
            parse_int=integer,
            object_pairs_hook=unique,
        )
    except (ValueError, RecursionError) as error:
        raise Malformed(code, "not JSON") from error
