"""`rlu selftest egress`: whether anything gets out of the locked processes of this node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.output import print_json
from rlu_attestation.errors import RluError
from rlu_attestation.printing import printable
from rlu_server.engine.arguments import ArgumentRefused
from rlu_server.engine.environment import VariableRefused
from rlu_server.lock.rlu_lock import EXIT_REFUSED
from rlu_server.settings import SettingsError, load
from rlu_server.supervisor.errors import ServeError

CLOSED, GOT_OUT, NOT_SHOWN = 0, 10, 11


class Misconfigured(RluError):
    """The settings cannot be served with."""

    exit_code = 2


class Unavailable(RluError):
    """The test could not be made; says nothing of what it would have found."""

    exit_code = 3


class Refused(RluError):
    """The kernel grants less of the lock than is required."""

    exit_code = EXIT_REFUSED


_KINDS: dict[int, type[RluError]] = {kind.exit_code: kind for kind in (Misconfigured, Unavailable, Refused)}


def egress(
    config: Annotated[
        Path | None, typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")] = False,
) -> None:
    """Try every way out of engine, gateway and attestor, under the locks that your settings give them.

    Network, names, raw packets, sockets of others, their memory, signals, files outside scratch, dropped programs, the kernel: each attempt
    is made without a lock first, against targets of the test's own; what does not succeed then shows nothing, and is named. The node's
    server, key and log are not touched, and may be running. Root has the most to try.

    Exit codes: 0 nothing gets out, 10 something does (it is named), 11 nothing does, but not every attempt could be shown, 2 configuration,
    3 something is missing here, 77 the lock cannot be closed, 1 internal.
    """
    from rlu_server.selftest import egress as test
    from rlu_server.selftest import subjects

    try:
        with subjects.of(load(config), os.environ) as found:
            table = test.run(found)
    except SettingsError as error:
        raise Misconfigured("selftest.settings", str(error)) from error
    except (ArgumentRefused, VariableRefused) as error:
        raise Misconfigured("selftest.engine", str(error)) from error
    except ServeError as error:
        raise _KINDS.get(error.exit_code, Unavailable)(error.code, str(error)) from error
    except test.LockFailed as error:
        raise _KINDS[error.exit_code]("selftest.lock", str(error)) from error
    except OSError as error:
        where = error.filename or "this machine"
        raise Unavailable("selftest.machine", f"{where}: {error.strerror}") from error
    document = table.to_json()
    code = NOT_SHOWN if document["not_shown"] else CLOSED
    code = code if table.closed else GOT_OUT
    if as_json:
        print_json({**document, "exit_code": code})
    else:
        print("\n".join(printable(line) for line in table.lines()))
    raise typer.Exit(code)
