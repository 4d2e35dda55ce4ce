"""What all commands share of their output: one JSON value on standard output, or text for people, and errors on standard error."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rlu_attestation.errors import Malformed, Refused, RluError, Unreachable, Unsupported, Untrusted
from rlu_attestation.printing import printable

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 4096
_RESULTS: tuple[tuple[type[RluError], str], ...] = (
    (Malformed, "malformed"),
    (Unsupported, "unsupported"),
    (Untrusted, "rejected"),
    (Refused, "rejected"),
    (Unreachable, "unreachable"),
)


def print_json(value: Any) -> None:
    """One value, in ASCII, so that no terminal obeys it."""
    print(json.dumps(value, indent=2))


def console() -> Console:
    """For text on standard output: colours on a terminal only, and lines are wrapped only there."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def fail(error: RluError, *, as_json: bool) -> None:
    """Report an error that ended a command."""
    if as_json:
        result = next((name for kind, name in _RESULTS if isinstance(error, kind)), "error")
        print_json(
            {"result": result, "exit_code": error.exit_code, "code": error.code, "message": error.message}
        )
        return
    print(f"rlu: {printable(error.message)} [{error.code}]", file=sys.stderr)
