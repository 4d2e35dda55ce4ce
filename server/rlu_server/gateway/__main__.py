"""The gateway process: python -m rlu_server.gateway --config FILE (what `rlu serve` starts)."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop

from rlu_attestation.errors import RluError
from rlu_server import settings as configuration
from rlu_server.adapters.events import Events
from rlu_server.gateway import process, processes
from rlu_server.lock import rlu_lock

USAGE, INTERNAL = 2, 1
SPARE_FILES = 256
GC_THRESHOLD = (20_000, 20, 50)


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway; returns the exit code, by cause."""
    parser = argparse.ArgumentParser(prog="python -m rlu_server.gateway", description=__doc__)
    parser.add_argument(
        "--config", type=Path, default=_default_config(), help="rlu.toml (default: RLU_CONFIG)"
    )
    options = parser.parse_args(arguments)
    events = Events()
    code = 0

    def run() -> None:
        nonlocal code
        settings = configuration.load(options.config)
        _allow_files(2 * settings.gateway.max_connections + SPARE_FILES, events)
        # What was loaded stays; looking through it for garbage again and again costs every request, and the memory that forks share.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        events.emit("gateway_started")
        if settings.gateway.workers == 1:
            uvloop.run(process.serve(settings, rlu_lock.probe(), events))
        else:
            code = processes.run(settings, rlu_lock.probe, events, lambda role: _guarded(role, events))

    return _guarded(run, events) or code


def _guarded(run: Callable[[], None], events: Events) -> int:
    """Run it; an error is told and becomes the exit code, by cause."""
    try:
        run()
    except configuration.SettingsError as error:
        print(error, file=sys.stderr)
        return USAGE
    except RluError as error:
        print(f"gateway: {error.message} ({error.code})", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"gateway: cannot use {error.filename or 'the address'}: {error.strerror}", file=sys.stderr)
        return USAGE
    except Exception as error:
        # A bug. Its text could hold anything, so only its kind and place are told.
        events.internal(error)
        return INTERNAL
    return 0


def _allow_files(wanted: int, events: Events) -> None:
    """Two descriptors a connection: the client's and the engine's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < wanted:
        events.emit("few_files", wanted=wanted)


def _default_config() -> Path | None:
    path = os.environ.get("RLU_CONFIG")
    return Path(path) if path else None


if __name__ == "__main__":
    sys.exit(main())
