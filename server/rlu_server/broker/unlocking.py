"""The job that opens sealed weights: asks the broker, opens the files into memory, and ends; the key ends with it.

    python -m rlu_server.broker.unlocking < order > outcome

`rlu serve` runs it before an engine starts. Of all that runs then it alone has a network and the model key; the serving processes have
neither. Order and outcome are one JSON object each; progress and crossings go to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_attestation.models import Software
from rlu_server.broker import asking
from rlu_server.broker.asking import Collect
from rlu_server.broker.errors import Unfit
from rlu_server.broker.sealed_files import read_header, unseal
from rlu_server.settings import Settings

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


def unlock(settings: Settings, sealed: Path, target: Path, collect: Collect | None = None) -> dict[str, Any]:
    """Open a sealed model into an empty directory; gives the files as in the manifest.

    Args:
        collect: where evidence comes from; None: this machine's devices.

    Raises:
        RluError: why it is not opened.
    """
    with _reading():
        header = read_header(sealed)
    asking.check(settings)
    key = asking.ask(
        header,
        Software("rlu", asking.version()),
        collect or asking.evidence_of(settings),
        asking.post_to(settings, time.time),
    )
    with _reading():
        manifest = unseal(sealed, target, key)
    files = [{"path": one.path, "sha256": b64u(one.sha256), "size": one.size} for one in manifest.files]
    return {"files": files, "kid": b64u(header.kid)}


def main(collect: Collect | None = None) -> int:
    """The job. Exit code 0 with an outcome, of whatever kind; anything else is a bug or a signal."""
    _end_with_parent()
    order = json.load(sys.stdin)
    try:
        settings = Settings.model_validate(order["settings"])
        outcome = unlock(settings, Path(order["sealed"]), Path(order["target"]), collect)
    except RluError as error:
        outcome = {"code": error.code, "message": error.message, "exit_code": error.exit_code}
    json.dump(outcome, sys.stdout)
    return 0


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unfit("weights.unreadable", f"{error.filename or 'the weights'}: {error.strerror}") from error


def _end_with_parent() -> None:
    """No core of us, and no opened weights for a supervisor that is gone."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
