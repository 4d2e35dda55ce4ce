"""What the attestor refuses, by blame; `code` is stable, and the only part that is ever logged."""

from __future__ import annotations

from rlu_attestation.errors import RluError


class AttestorError(RluError):
    """Base of the attestor's own refusals."""


class HardwareUnavailable(AttestorError):
    """The TPM did not answer, or lost our objects. Trying again may help; nothing was signed."""

    exit_code = 3


class HardwareRefused(AttestorError):
    """The TPM answered no: the platform state changed, or the key, its attributes or its secret are not ours."""

    exit_code = 10


class NotReady(AttestorError):
    """Something the operator or the launcher must provide is missing or wrong: a certificate, facts, a usable file."""

    exit_code = 2


class LogCorrupt(AttestorError):
    """The log on disk is not one that this program can have written."""

    exit_code = 30
