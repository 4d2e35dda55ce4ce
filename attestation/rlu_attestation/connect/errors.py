"""The one kind of refusal that connecting adds to the verifier's own."""

from __future__ import annotations

from rlu_attestation.errors import RluError


class Unproven(RluError):
    """An answer that nothing proves: no receipt, or one that came too late, or one that says itself that the answer was cut.

    Nothing false was shown, so later requests may go on; this answer must not pass for a success.
    """

    exit_code = 10


class Misuse(RluError):
    """What the local client asked of `rlu connect` itself cannot be done. `status` is the HTTP status that says so."""

    exit_code = 2

    def __init__(self, code: str, message: str, status: int = 404) -> None:
        super().__init__(code, message)
        self.status = status
