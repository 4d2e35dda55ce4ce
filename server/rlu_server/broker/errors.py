"""Why weights were not sealed, opened or released: stable codes, exit codes by cause, and for the broker's answers the HTTP status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rlu_attestation.errors import Malformed, Refused, RluError, Untrusted


class SealBroken(Untrusted):
    """Sealed weights, or the key for them, are not what they were when they were sealed."""


class Misused(RluError):
    """The command or the settings name something that is not there or cannot be used."""

    exit_code = 2


class Unfit(RluError):
    """This machine lacks something that opening the weights takes."""

    exit_code = 3


class NotReleased(Refused):
    """The broker keeps the key.

    Attributes:
        status: of the HTTP answer.
        failures: codes of every step of the appraisal that failed.
    """

    status: ClassVar[int] = 403

    def __init__(self, code: str, message: str, failures: Sequence[str] = ()) -> None:
        super().__init__(code, message)
        self.failures = tuple(failures)


class NoSuchKey(NotReleased):
    """It has no key of that name."""

    status = 404


class BadRequest(Malformed):
    """What was sent is no request for a key."""

    status: ClassVar[int] = 400


class BrokerUnready(RluError):
    """The broker cannot do its part now: nothing is released, and nothing is known of the instance."""

    exit_code = 3
    status: ClassVar[int] = 503
