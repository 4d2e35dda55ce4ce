"""A strict reader for the part of CBOR (RFC 8949) that Nitro documents use.

Integers, byte and text strings, null, arrays and maps; lengths in their shortest form; map keys are integers or text and none occurs twice;
nothing is left over. Maps and arrays may have indefinite length where the caller allows it, as AWS writes some payloads so; strings may
not. Tags, floats, booleans and anything deeper than eight levels refuse. Nothing is ever encoded again to compare it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, Union

from rlu_attestation.cursor import Cursor

Value: TypeAlias = Union[int, bytes, str, "list[Value]", "dict[int | str, Value]", None]

UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
_INDEFINITE, _BREAK, _NULL = 31, 0xFF, 22
_MAX_DEPTH = 8
_SIZES = {24: 1, 25: 2, 26: 4, 27: 8}


def decode(data: bytes, code: str, max_bytes: int, *, indefinite: bool = False) -> Value:
    """Read exactly one data item.

    Args:
        data: the bytes.
        code: stable code of every refusal.
        max_bytes: more input than this refuses.
        indefinite: whether maps and arrays may have indefinite length.

    Raises:
        Malformed: `code`.
    """
    reader = _Reader(Cursor(data, code, max_bytes), indefinite)
    value = reader.value(_MAX_DEPTH)
    reader.cursor.end()
    return value


class _Reader:
    __slots__ = ("_indefinite", "cursor")

    def __init__(self, cursor: Cursor, indefinite: bool) -> None:
        self.cursor = cursor
        self._indefinite = indefinite

    def value(self, depth: int) -> Value:
        if depth == 0:
            raise self.cursor.malformed(f"nested deeper than {_MAX_DEPTH}")
        major, argument = self._head()
        if argument is None and not (self._indefinite and major in (ARRAY, MAP)):
            raise self.cursor.malformed(f"indefinite length where major type {major} may not have it")
        if major == UNSIGNED:
            return argument
        if major == NEGATIVE:
            return -1 - (argument or 0)
        if major == BYTES:
            return self.cursor.take(argument or 0, "byte string")
        if major == TEXT:
            return self._text(argument or 0)
        if major == ARRAY:
            return [self.value(depth - 1) for _ in self._items(argument)]
        if major == MAP:
            return self._map(argument, depth)
        if major == SIMPLE and argument == _NULL:
            return None
        raise self.cursor.malformed(f"major type {major} with {argument} is not accepted")

    def _head(self) -> tuple[int, int | None]:
        initial = self.cursor.u8("initial byte")
        major, short = initial >> 5, initial & 0x1F
        if short < 24:
            return major, short
        if short == _INDEFINITE:
            return major, None
        size = _SIZES.get(short)
        if size is None or major == SIMPLE:
            raise self.cursor.malformed(f"initial byte {initial:#04x} is not accepted")
        argument = int.from_bytes(self.cursor.take(size, "argument"), "big")
        if argument < 24 or (size > 1 and argument >> 4 * size == 0):
            raise self.cursor.malformed("an argument is not in its shortest form")
        return major, argument

    def _items(self, count: int | None) -> Iterator[None]:
        """One turn for each item of a container; a count beyond the input ends in a refusal at its first missing byte."""
        if count is not None:
            for _ in range(count):
                yield None
            return
        while self.cursor.peek() != _BREAK:
            yield None
        self.cursor.take(1, "break")

    def _map(self, count: int | None, depth: int) -> dict[int | str, Value]:
        found: dict[int | str, Value] = {}
        for _ in self._items(count):
            key = self.value(1)
            if not isinstance(key, (int, str)):
                raise self.cursor.malformed("a map's key is neither an integer nor text")
            if key in found:
                raise self.cursor.malformed("a map has a key twice")
            found[key] = self.value(depth - 1)
        return found

    def _text(self, size: int) -> str:
        try:
            return self.cursor.take(size, "text string").decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.cursor.malformed("a text string is not UTF-8") from error
