"""One root for everything this package refuses, subclassed by who is to blame.

`code` is stable and safe to show, log and match on; `message` says what was wrong and never repeats session content. `exit_code` is
what the command line returns for it.
"""

from __future__ import annotations

from typing import ClassVar


class RluError(Exception):
    """Base of all refusals.

    Attributes:
        code: stable identifier, such as `quote.signature.invalid`.
        message: one sentence for people.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Malformed(RluError):
    """The input cannot be what it claims to be: wrong length, encoding or structure."""

    exit_code = 30


class Unsupported(RluError):
    """Well-formed, but of a kind, version or algorithm that this package does not implement."""

    exit_code = 20


class Untrusted(RluError):
    """Well-formed, but a signature, chain, digest or binding does not hold."""

    exit_code = 10


class Refused(RluError):
    """Genuine, but the appraisal policy does not accept it."""

    exit_code = 10


class Unreachable(RluError):
    """The server did not answer."""

    exit_code = 3
