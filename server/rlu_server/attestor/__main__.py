"""`python -m rlu_server.attestor --config FILE`: the attestor process, and its side of the enrolment."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before anything loads the TSS library: it would log to stderr, and stderr ends up on a disk.
os.environ["TSS2_LOG"] = "all+NONE"

import uvloop

from rlu_attestation.errors import RluError
from rlu_server import settings as configuration
from rlu_server.attestor import process
from rlu_server.attestor.events import Event, EventLog


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code (by cause, as in design section 3)."""
    options = _parser().parse_args(arguments)
    events = EventLog()
    try:
        settings = configuration.load(options.config)
        allowed = frozenset(options.allow_uid or [os.getuid()])
        uvloop.run(process.serve(settings, allowed, events))
    except configuration.SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except RluError as error:
        # At start there is no session content in this process yet, so the sentence for the operator may be shown.
        events.emit(Event.REFUSED_TO_START, error.code)
        print(f"attestor: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        # A bug. Its text could hold anything, so only its kind is told.
        events.emit(Event.INTERNAL, type(error).__name__)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rlu_server.attestor", description=__doc__)
    parser.add_argument(
        "--config", type=Path, default=_default_config(), help="rlu.toml (default: RLU_CONFIG)"
    )
    parser.add_argument(
        "--allow-uid",
        type=int,
        action="append",
        metavar="UID",
        help="user id that may connect; may be repeated (default: our own)",
    )
    return parser


def _default_config() -> Path | None:
    path = os.environ.get("RLU_CONFIG")
    return Path(path) if path else None


if __name__ == "__main__":
    sys.exit(main())
