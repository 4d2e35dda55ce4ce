"""The one kind of refusal of `rlu clients`."""

from __future__ import annotations

from rlu_attestation.errors import RluError


class Unusable(RluError):
    """What was asked for cannot be set up like this; the message says what to give instead."""

    exit_code = 2
