"""What a start would refuse, told without one: nothing is made, fetched, measured or started. For `rlu doctor`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rlu_server.engine import launch
from rlu_server.engine.arguments import ArgumentRefused
from rlu_server.engine.arguments import check as check_arguments
from rlu_server.engine.environment import VariableRefused
from rlu_server.engine.environment import check as check_variables
from rlu_server.models.errors import BadArgument
from rlu_server.models.verifying import read_signers
from rlu_server.settings import Settings
from rlu_server.supervisor import prepare, runtime
from rlu_server.supervisor.errors import Misconfigured, ServeError, Unavailable


def refusals(settings: Settings) -> list[ServeError]:
    """Every refusal that can be told by looking. A start may still refuse: the model is not measured, and no process locked."""
    found: list[ServeError] = []
    for check in CHECKS:
        found += _refused(check, settings)
    return found


def _refused(check: Callable[[Settings], object], settings: Settings) -> Iterator[ServeError]:
    try:
        check(settings)
    except ServeError as error:
        yield error
    except OSError as error:
        yield Unavailable(f"{error.filename or 'a file'}: {error.strerror}")


def _tpm(settings: Settings) -> None:
    prepare.check_tpm(settings)


def _names(settings: Settings) -> None:
    if settings.model.path:
        prepare.check_names([one.name for one in prepare.given_models(settings)], settings)


def _arguments(settings: Settings) -> None:
    try:
        for arguments in (settings.engine.arguments, *(one.arguments for one in settings.further_engines)):
            check_arguments(arguments)
    except ArgumentRefused as error:
        raise Misconfigured(str(error)) from error


def _variables(settings: Settings) -> None:
    try:
        for variables in (
            settings.engine.environment,
            *(one.environment for one in settings.further_engines),
        ):
            check_variables(variables)
    except VariableRefused as error:
        raise Misconfigured(str(error)) from error


def _interpreter(settings: Settings) -> None:
    python = prepare.interpreter(settings.engine.python)
    if launch.engine_version(python, Path(sys.executable)) is None:
        raise Unavailable(
            f"{python} has no vLLM; install it there, or set [engine] python to one that has it"
        )


def _signers(settings: Settings) -> None:
    try:
        read_signers(settings.model.signers)
    except BadArgument as error:
        raise Misconfigured(f"[model] signers: {error.message}") from error


def _files(settings: Settings) -> None:
    prepare.copies(settings, settings, settings.state_dir)


def _memory(settings: Settings) -> None:
    """A place in memory for sockets and scratch; who is root mounts one."""
    if settings.runtime_dir is not None:
        runtime.share(settings.runtime_dir, "")
    elif os.geteuid() != 0 and not any(map(runtime.is_tmpfs, runtime.memory_directories())):
        raise Unavailable(
            "no directory in memory was found: set XDG_RUNTIME_DIR to a tmpfs, or set runtime_dir"
        )


def _port(settings: Settings) -> None:
    if settings.gateway.port:
        with contextlib.suppress(OSError):
            prepare.check_port(settings)


CHECKS = (_tpm, _names, _arguments, _variables, _interpreter, _signers, _files, _memory, _port)
