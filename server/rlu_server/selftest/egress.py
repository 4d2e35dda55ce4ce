"""Whether anything gets out of the locked processes: every attempt of `inside/rlu_egress_attempts.py`, counted.

The attempts run under the very profiles that `rlu serve` composes, started by the same launcher, against targets made for this test: a
listener, a resolver, sockets, a message queue, a process with a secret, a directory. Each is first made *without* a lock. What does not
succeed there (a kernel without the feature, no privilege) shows nothing, and is counted as such, never as held.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlu_server.lock import profiles
from rlu_server.lock.profiles import Additions
from rlu_server.lock.rlu_lock import EXIT_REFUSED

INSIDE = Path(__file__).parent / "inside"
MODULE = "rlu_egress_attempts"
SUCCEEDED = "succeeded"
UNLOCKED = "unlocked"
TIMEOUT_S = 240.0

BY_DESIGN: Mapping[str, frozenset[str]] = {
    # What a process is there to do, or what is no way out of it.
    "gateway": frozenset({"attestor_socket"}),
}


class LockFailed(Exception):
    """The attempts could not be made: the lock was refused, or the interpreter failed."""

    def __init__(self, role: str, status: int, text: str) -> None:
        super().__init__(f"{role}: ended with status {status}: {text}")
        self.exit_code = EXIT_REFUSED if status == EXIT_REFUSED else 3


@dataclass(frozen=True, slots=True)
class Subject:
    """A process whose lock is tried: its interpreter, and what the deployment adds to its profile."""

    role: str
    python: Path
    additions: Additions
    scratch: Path
    readable: Path = INSIDE / f"{MODULE}.py"
    """A file that its profile lets it read."""


@dataclass(frozen=True, slots=True)
class Table:
    """What every attempt came to: `results[role][attempt]` is `succeeded` or the name of an error; role `unlocked` is the control."""

    results: Mapping[str, Mapping[str, str]]
    postures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def attempts(self) -> list[str]:
        return list(self.results[UNLOCKED])

    @property
    def roles(self) -> list[str]:
        return [role for role in self.results if role != UNLOCKED]

    def shown(self) -> list[str]:
        """Attempts that succeed without a lock, so that failing under one means something."""
        return [name for name in self.attempts if self.results[UNLOCKED][name] == SUCCEEDED]

    def got_out(self, role: str) -> list[str]:
        """Attempts that succeeded under the lock and are not what the process is there for."""
        allowed = BY_DESIGN.get(role, frozenset())
        return [n for n, said in self.results[role].items() if said == SUCCEEDED and n not in allowed]

    def held(self, role: str) -> list[str]:
        return [name for name in self.shown() if self.results[role][name] != SUCCEEDED]

    @property
    def closed(self) -> bool:
        """Nothing got out, and something was shown."""
        return bool(self.shown()) and not any(self.got_out(role) for role in self.roles)

    def to_json(self) -> dict[str, Any]:
        return {
            "closed": self.closed,
            "attempts": len(self.attempts),
            "shown": len(self.shown()),
            "not_shown": [name for name in self.attempts if name not in self.shown()],
            "held": {role: len(self.held(role)) for role in self.roles},
            "got_out": {role: self.got_out(role) for role in self.roles},
            "results": {role: dict(said) for role, said in self.results.items()},
        }

    def lines(self) -> list[str]:
        """For people."""
        roles = [UNLOCKED, *self.roles]
        width = max(map(len, self.attempts)) + 2
        made = ["".join([" " * width, *(f"{role:<14}" for role in roles)])]
        for name in self.attempts:
            made.append(f"{name:<{width}}" + "".join(f"{self.results[role][name]:<14}" for role in roles))
        shown = len(self.shown())
        made.append(f"{len(self.attempts)} attempts, {shown} succeed without a lock.")
        for role in self.roles:
            out = self.got_out(role)
            said = f"NOT CLOSED: {', '.join(out)}" if out else "closed"
            made.append(f"{role}: {len(self.held(role))} of {shown} held; {said}.")
        return [line.rstrip() for line in made]


def run(subjects: list[Subject]) -> Table:
    """Make the targets, try everything, and take the targets away again.

    Raises:
        OSError: the targets could not be made.
        LockFailed: the attempts could not be run; the message is the launcher's.
    """
    results: dict[str, dict[str, str]] = {}
    postures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="rlu-egress-") as place, Targets(Path(place)) as targets:
        control = Path(place) / "control"
        control.mkdir()
        (control / "file").write_text("readable")
        results[UNLOCKED] = _unlocked(targets.describe(control, control / "file"), Path(place))
        for subject in subjects:
            postures[subject.role], results[subject.role] = _locked(subject, targets, Path(place))
    return Table(results, postures)


def _unlocked(described: dict[str, Any], place: Path) -> dict[str, str]:
    command = [
        sys.executable,
        "-I",
        "-B",
        str(INSIDE / f"{MODULE}.py"),
        str(_write(place, "control", described)),
    ]
    return _read(_execute(command, {"PATH": "/usr/bin:/bin"}), "the control")


def _locked(subject: Subject, targets: Targets, place: Path) -> tuple[dict[str, Any], dict[str, str]]:
    # In its scratch, which it may read whoever it runs as.
    described = _write(subject.scratch, "egress", targets.describe(subject.scratch, subject.readable))
    profile = _write(place, f"{subject.role}-profile", profiles.compose(subject.role, subject.additions))
    reading, writing = os.pipe()
    command = profiles.command(
        subject.python,
        profile,
        subject.additions,
        MODULE,
        [str(described)],
        posture_fd=writing,
        search_path=[INSIDE],
    )
    try:
        done = _execute(command, dict(subject.additions.environment or {}), pass_fds=(writing,))
    finally:
        os.close(writing)
        described.unlink()
    with os.fdopen(reading) as pipe:
        posture = json.loads(pipe.read() or "{}")
    return posture, _read(done, subject.role)


def _execute(
    command: list[str], variables: dict[str, str], pass_fds: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=variables,
        pass_fds=pass_fds,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd="/",
        start_new_session=True,
    )


def _read(done: subprocess.CompletedProcess[str], role: str) -> dict[str, str]:
    try:
        results: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise LockFailed(role, done.returncode, done.stderr[-2000:].strip()) from None
    return results


def _write(directory: Path, name: str, document: dict[str, Any]) -> Path:
    path = directory / f"{name}.json"
    path.write_text(json.dumps(document))
    path.chmod(0o644)
    return path


_VICTIM = """
import ctypes, sys
secret = ctypes.create_string_buffer(b"secret")
print(ctypes.addressof(secret), flush=True)
sys.stdin.read()
"""


class Targets:
    """What must not be reached: enter to make it, leave to take it away."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Targets:
        with contextlib.ExitStack() as stack:
            self._make(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def describe(self, scratch: Path, readable: Path) -> dict[str, Any]:
        """As the attempts read it."""
        return {**self._values, "scratch": str(scratch), "readable": str(readable), "exec_flag": False}

    def _make(self, stack: contextlib.ExitStack) -> None:
        self._place.chmod(0o755)
        outside = self._place / "outside"
        outside.mkdir()
        outside.chmod(0o777)
        (outside / "secret").write_text("secret")
        address, interface = _address(), _interface()
        tcp = stack.enter_context(_greeter(socket.AF_INET, ("127.0.0.1", 0)))
        port = tcp.getsockname()[1]
        if address != "127.0.0.1":
            with contextlib.suppress(OSError):  # the port is taken there: one attempt shows nothing
                stack.enter_context(_greeter(socket.AF_INET, (address, port)))
        abstract = f"rlu-egress-{os.getpid()}"
        stack.enter_context(_greeter(socket.AF_UNIX, "\0" + abstract))
        for name in ("unix", "attestor"):
            stack.enter_context(_greeter(socket.AF_UNIX, str(self._place / name)))
            (self._place / name).chmod(0o777)
        udp = stack.enter_context(_echo())
        victim = stack.enter_context(_victim())
        assert victim.stdout is not None
        self._values = {
            "tcp": port,
            "udp": udp.getsockname()[1],
            "address": address,
            "interface": interface,
            "abstract": abstract,
            "unix": str(self._place / "unix"),
            "attestor": str(self._place / "attestor"),
            "outside": str(outside),
            "queue": stack.enter_context(_queue()),
            "victim": victim.pid,
            "address_of_secret": int(victim.stdout.readline()),
        }


_END = os.urandom(16)


@contextlib.contextmanager
def _greeter(family: int, address: Any) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_STREAM) as server:
        if family == socket.AF_INET:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                server.setsockopt(socket.IPPROTO_TCP, 23, 16)  # TCP_FASTOPEN
        server.bind(address)
        server.listen(64)

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = server.accept()
                    with caller, contextlib.suppress(OSError):
                        caller.send(b"outside")

        with _serving(greet, server):
            yield server


@contextlib.contextmanager
def _echo() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def echo() -> None:
            with contextlib.suppress(OSError):
                while True:
                    data, caller = server.recvfrom(512)
                    if data == _END:
                        return
                    server.sendto(data, caller)

        with _serving(echo, server):
            yield server


@contextlib.contextmanager
def _serving(work: Any, server: socket.socket) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        if server.type == socket.SOCK_DGRAM:
            server.sendto(_END, server.getsockname())
        else:
            server.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextlib.contextmanager
def _victim() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-I", "-c", _VICTIM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
        try:
            yield victim
        finally:
            victim.kill()


@contextlib.contextmanager
def _queue() -> Iterator[int]:
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.msgget(0, 0o1666)  # IPC_PRIVATE, IPC_CREAT
    if number < 0:
        raise OSError(ctypes.get_errno(), "msgget")
    try:
        yield number
    finally:
        libc.msgctl(number, 0, None)  # IPC_RMID


def _address() -> str:
    """An address of this machine that is not loopback, if it has one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(sock.getsockname()[0])


def _interface() -> str:
    """An interface that a network of one's own does not have."""
    return next((name for _, name in socket.if_nameindex() if name != "lo"), "none")
