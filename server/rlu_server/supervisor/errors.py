"""Why the server did not start or stopped: one message with a remedy, one stable code and exit code by cause."""

from __future__ import annotations


class ServeError(Exception):
    """Root of what ends `rlu serve`; the message is for the operator and says what to do."""

    code = "serve.failed"
    exit_code = 1


class Misconfigured(ServeError):
    """The configuration or command line asks for something that is refused."""

    code = "serve.misconfigured"
    exit_code = 2


class Unavailable(ServeError):
    """Something this machine must provide is not there: a directory, a TPM, memory, a port."""

    code = "serve.unavailable"
    exit_code = 3


class StartFailed(ServeError):
    """A process ended, or did not become ready in time."""

    code = "serve.start_failed"
    exit_code = 4


class ModelRefused(ServeError):
    """A model is not signed as the configuration requires, or is not the one that was signed."""

    code = "serve.model_refused"
    exit_code = 10


class LockRefused(ServeError):
    """The kernel granted less than the configuration requires."""

    code = "serve.lock_refused"
    exit_code = 77


def of_exit_code(code: int) -> type[ServeError]:
    """The cause that an exit code of ours, or of a refusal (`rlu_attestation.errors`), stands for."""
    named: dict[int, type[ServeError]] = {2: Misconfigured, 3: Unavailable}
    return ModelRefused if code in (10, 20, 30) else named.get(code, StartFailed)
