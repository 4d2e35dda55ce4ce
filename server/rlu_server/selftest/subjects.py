"""The processes of a deployment as subjects of the egress test: the locks that `rlu serve` would close with these settings."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rlu_server.engine import launch
from rlu_server.selftest.egress import Subject
from rlu_server.settings import Settings
from rlu_server.supervisor import plan, prepare, runtime
from rlu_server.supervisor.plan import Host, Program
from rlu_server.supervisor.runtime import Owners, Runtime


@contextmanager
def of(settings: Settings, variables: Mapping[str, str]) -> Iterator[list[Subject]]:
    """Attestor, gateway and engine, in a runtime directory of the test's own, which is gone afterwards.

    Nothing of the node's is changed: state, keys and model are named in the profiles, and the attempts leave them alone.

    Raises:
        ServeError: the settings cannot be served with.
        ArgumentRefused, VariableRefused: the engine's arguments or variables are refused.
    """
    place = runtime.create(None)
    try:
        yield [_subject(program, place) for program in _programs(settings, place, variables)]
    finally:
        place.remove()


def _programs(settings: Settings, place: Runtime, variables: Mapping[str, str]) -> list[Program]:
    port = settings.gateway.port or _unused_port()
    gateway = settings.gateway.model_copy(update={"port": port})
    state = settings.state_dir.expanduser().resolve()
    settings = settings.model_copy(update={"gateway": gateway, "state_dir": state, "runtime_dir": place.path})
    model = Path(settings.model.path).expanduser().resolve()
    host = Host(
        Path(sys.executable),
        variables,
        None,
        tuple(sorted(Path("/dev").glob("nvidia[0-9]*"))),
        nvidia_switches=tuple(sorted(Path("/dev").glob("nvidia-nvswitch*"))),
    )
    start = launch.plan(
        settings,
        # A model that is still to be fetched has no directory yet, and the lock is the same without it.
        model=model if model.is_dir() else place.path,
        name="model",
        runtime=place.path,
        python=prepare.interpreter(settings.engine.python),
        device=launch.accelerator(),
    )
    uid = os.geteuid()
    return [
        plan.engine(settings, place, start, host, uid),
        plan.gateway(settings, place, host, uid),
        plan.attestor(settings, place, host, uid),
    ]


def _subject(program: Program, place: Runtime) -> Subject:
    user = program.additions.user
    owner = Owners() if user is None else Owners(user.uid, user.gid)
    scratch = place.directory(program.role, 0o700, owner)
    place.directory("facts", 0o755)
    return Subject(program.role, program.python, program.additions, scratch)


def _unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
