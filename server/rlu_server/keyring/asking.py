"""Asks the attestor that runs on a state directory, and waits for its answer."""

from __future__ import annotations

import secrets
import time

from rlu_attestation.errors import Unreachable
from rlu_server.attestor import asking
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.keyring.listing import KeysError, running
from rlu_server.settings import Settings


def ask(settings: Settings, action: asking.Action, timeout_s: float, findings: str = "") -> asking.Outcome:
    """Have something done.

    Raises:
        KeysError: `keys.not_running`, `keys.unwritable`, or the attestor's own code: it refused.
        Unreachable: `keys.no_answer`.
    """
    if not running(settings):
        raise KeysError(
            "keys.not_running", "no attestor is running on this state directory: start the server first"
        )
    directory = StateFiles(settings.state_dir).secret.parent
    asked = asking.Asked(action, secrets.token_hex(8), findings)
    try:
        asking.ask(directory, asked)
    except OSError as error:
        raise KeysError("keys.unwritable", f"{directory}: {error.strerror}") from error
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        outcome = asking.answered(directory, asked)
        if outcome is not None and outcome.code is not None:
            raise KeysError(outcome.code, outcome.message or "refused")
        if outcome is not None:
            return outcome
        time.sleep(0.1)
    raise Unreachable(
        "keys.no_answer", f"the attestor did not answer within {timeout_s:.0f} s; see its events"
    )
