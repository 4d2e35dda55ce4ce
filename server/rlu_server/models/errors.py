"""Why a model's directory or its signature is refused; stable codes, exit codes as everywhere."""

from __future__ import annotations

from rlu_attestation.errors import Refused, RluError


class ManifestError(Refused):
    """The directory is no model that can be measured or served; the message names the file and what to do."""


class NoModel(ManifestError):
    """There is no directory of that name, or nothing in it."""

    exit_code = 2


class SignatureRefused(Refused):
    """The model is not signed as it must be."""


class BadArgument(RluError):
    """The command names something that is not there or cannot be used."""

    exit_code = 2
