"""Canonical JSON (FORMATS section 1): RFC 8785, restricted so that two parsers cannot read the same bytes differently.

With keys limited to ASCII and numbers to integers, RFC 8785 is what `json.dumps` writes with sorted keys, no white space and
`ensure_ascii=False`; `decode` therefore parses, encodes again and compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rlu_attestation.errors import Malformed
from rlu_attestation.strict_json import no_number

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
MAX_INTEGER = 2**53 - 1
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def encode(value: Mapping[str, Any]) -> bytes:
    """Serialise an object canonically.

    Raises:
        Malformed: a value that canonical JSON cannot hold (float, other types, non-ASCII key, lone surrogate, depth).
    """
    _check(value, MAX_DEPTH)
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed("statement.encoding", "a string holds a lone surrogate") from error


def decode(data: bytes, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Parse canonical JSON; any other spelling of the same object refuses.

    Raises:
        Malformed: too long, not UTF-8, not JSON, not an object, or not canonical (which includes duplicate keys).
    """
    if len(data) > max_bytes:
        raise Malformed("statement.encoding", f"longer than {max_bytes} bytes")
    try:
        value = json.loads(
            data.decode("utf-8"), parse_float=no_number, parse_constant=no_number, parse_int=_bounded_int
        )
    except (ValueError, RecursionError) as error:
        raise Malformed("statement.encoding", "not JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise Malformed("statement.encoding", "not a JSON object")
    if encode(value) != data:
        raise Malformed("statement.encoding", "not in canonical form")
    return value


def _bounded_int(text: str) -> int:
    if len(text) > 17:
        raise ValueError("integer out of range")
    return int(text)


def _check(value: object, depth: int) -> None:
    if depth < 0:
        raise Malformed("statement.encoding", f"nested deeper than {MAX_DEPTH}")
    # The attestor encodes a statement for every response; exact types first halves the time of this check.
    kind = type(value)
    if kind is str or kind is bool or value is None or isinstance(value, str):
        return
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise Malformed("statement.encoding", "integer beyond 2^53 - 1")
    elif isinstance(value, (dict, Mapping)):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise Malformed("statement.encoding", "keys are ASCII strings")
            _check(item, depth - 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item, depth - 1)
    else:
        raise Malformed("statement.encoding", f"a {type(value).__name__} has no canonical form")
