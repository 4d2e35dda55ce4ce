"""Why an update is not made; stable codes, exit codes as everywhere. Whatever is raised, the model that is served stays."""

from __future__ import annotations

from rlu_attestation.errors import Refused, RluError


class UpdateRefused(Refused):
    """What the source offers is not taken."""


class NotPossible(RluError):
    """It could not be done now; another try may help."""

    exit_code = 3


class Misconfigured(RluError):
    """The settings or the command name something that cannot be used."""

    exit_code = 2
