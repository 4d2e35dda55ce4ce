"""What a reader says to some input, for property tests: anything but our own error passes through and fails the test."""

from __future__ import annotations

from collections.abc import Callable

from rlu_attestation.errors import RluError


def code_of(read: Callable[[], object]) -> str | None:
    """The code it refuses with, or None when it accepts."""
    try:
        read()
    except RluError as error:
        return error.code
    return None
