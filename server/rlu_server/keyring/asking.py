"""Asks the attestor that runs on a state directory, and waits for its answer."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from rlu_attestation.errors import Unreachable
from rlu_server.attestor import asking
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.keyring.listing import KeysError, running
from rlu_server.settings import Settings

LOOK_S = 0.1


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
        with _alone(directory, timeout_s):
            asking.ask(directory, asked)
            return _answer(directory, asked, timeout_s)
    except OSError as error:
        raise KeysError("keys.unwritable", f"{directory}: {error.strerror}") from error


def _answer(directory: Path, asked: asking.Asked, timeout_s: float) -> asking.Outcome:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        outcome = asking.answered(directory, asked)
        if outcome is not None and outcome.code is not None:
            raise KeysError(outcome.code, outcome.message or "refused")
        if outcome is not None:
            return outcome
        time.sleep(LOOK_S)
    raise Unreachable(
        "keys.no_answer", f"the attestor did not answer within {timeout_s:.0f} s; see its events"
    )


@contextlib.contextmanager
def _alone(directory: Path, timeout_s: float) -> Iterator[None]:
    """One who asks at a time: there is one file for requests, and one for answers. Raises OSError; Unreachable: `keys.no_answer`."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise Unreachable(
                        "keys.no_answer", "another command waits for the attestor's answer: try again"
                    ) from error
            time.sleep(LOOK_S)
        yield
    finally:
        os.close(handle)
