"""Reads members of a model's `config.json`, which many hands write: by any of its names, of the right type, within bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rlu_attestation.errors import Malformed

MAX_CONFIG = 4 * 2**20
MAX_NUMBER = 2**40
Config = Mapping[str, Any]


def parse(data: bytes) -> Config:
    """The JSON object.

    Raises:
        Malformed: `size.config.malformed`.
    """
    if len(data) > MAX_CONFIG:
        raise Malformed("size.config.malformed", f"config.json is longer than {MAX_CONFIG} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed(
            "size.config.malformed", "config.json is not JSON; give a model's own file"
        ) from error
    if not isinstance(value, dict):
        raise Malformed("size.config.malformed", "config.json is not a JSON object")
    return value


def number(config: Config, *names: str, default: int | None = None, least: int = 0) -> int:
    """A whole number, by the first of its names that the file has.

    Raises:
        Malformed: absent without a default (`size.config.missing`), no whole number or out of bounds (`size.config.value`).
    """
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_NUMBER:
            raise Malformed(
                "size.config.value", f"config.json: {name} is no whole number from {least} to {MAX_NUMBER}"
            )
        return value
    if default is None:
        raise Malformed(
            "size.config.missing",
            f"config.json has no {' or '.join(names)}; is it the config.json of a decoder-only language model?",
        )
    return default


def optional(config: Config, *names: str) -> int | None:
    """As `number`; None when it is absent or 0."""
    return number(config, *names, default=0) or None


def flag(config: Config, name: str, default: bool = False) -> bool:
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Malformed("size.config.value", f"config.json: {name} is neither true nor false")
    return value


def text(config: Config, name: str, default: str = "") -> str:
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > 256:
        raise Malformed("size.config.value", f"config.json: {name} is no short text")
    return value


def texts(config: Config, name: str) -> Sequence[str]:
    """A list of texts; empty when it is absent."""
    value = config.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise Malformed("size.config.value", f"config.json: {name} is no list of texts")
    return tuple(value)


def numbers(config: Config, name: str) -> Sequence[int]:
    """A list of whole numbers; empty when it is absent."""
    value = config.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(type(entry) is int for entry in value):
        raise Malformed("size.config.value", f"config.json: {name} is no list of whole numbers")
    return tuple(value)


def section(config: Config, *names: str) -> Config | None:
    """An object within, by the first of its names that the file has."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise Malformed("size.config.value", f"config.json: {name} is no object")
        return value
    return None
