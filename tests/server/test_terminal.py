"""On a real terminal: a pseudo-terminal whose session the program under test leads, or is in."""

from __future__ import annotations

import errno
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rlu_server import terminal
from waiting import PATIENCE_S

CHILD = (
    "import os\n"
    "try: os.close(os.open('/dev/tty', os.O_RDWR)); seen = 'terminal'\n"
    "except OSError: seen = 'none'\n"
    "print(seen, os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid(), flush=True)\n"
)
PROGRAM = (
    "import subprocess, sys\n"
    "from rlu_server import terminal\n"
    "if sys.argv[1] == 'leave': terminal.leave()\n"
    "subprocess.run([sys.executable, '-I', '-c', sys.argv[2]], **terminal.apart())\n"
    "sys.stdin.readline()\n"
)
IN_BETWEEN = "import subprocess, sys; subprocess.run(sys.argv[1:])"
"""A shell, as it were: it leads the session."""


@contextmanager
def on_a_terminal(*command: str) -> Iterator[int]:
    """What the terminal's user reads and types; he hangs up at the end."""
    pid, screen = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, *command])
    try:
        yield screen
    finally:
        os.close(screen)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def line(screen: int, having: bytes = b"") -> bytes:
    """The next line that has this in it."""
    got = b""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for one in got.split(b"\r\n")[:-1]:
            if having in one:
                return one
        if select.select([screen], [], [], 1)[0]:
            got += os.read(screen, 4096)
    pytest.fail(f"no such line in {got!r}")


def test_without_a_terminal_a_child_stays_in_the_session() -> None:
    """The scheduler would treat each session apart."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, "stay", CHILD],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
        start_new_session=True,
    )
    assert ran.stdout == b"none True False\n"


def test_where_nobody_can_tell_a_child_gets_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, "no descriptor is free")

    monkeypatch.setattr(os, "open", full)
    assert terminal.apart() == {"start_new_session": True}


@pytest.mark.parametrize("does", ["stay", "leave"])
def test_a_sessions_leader_keeps_its_terminal_and_its_children_do_not_have_it(does: str) -> None:
    with on_a_terminal("-c", PROGRAM, does, CHILD) as screen:
        assert line(screen) == b"none True True"


def test_below_a_shell_the_terminal_is_left() -> None:
    with on_a_terminal("-c", IN_BETWEEN, sys.executable, "-c", PROGRAM, "stay", CHILD) as screen:
        assert line(screen) == b"none True True"
    with on_a_terminal("-c", IN_BETWEEN, sys.executable, "-c", PROGRAM, "leave", CHILD) as screen:
        assert line(screen) == b"none True False"


def test_who_has_left_the_terminal_is_still_interrupted_from_it() -> None:
    program = (
        "import signal, sys\n"
        "from rlu_server import terminal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
        "terminal.leave()\n"
        "print('left', flush=True)\n"
        "print('got', signal.sigwait({signal.SIGINT}).name, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    waits = "import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); subprocess.run(sys.argv[1:])"
    with on_a_terminal("-c", waits, sys.executable, "-c", program) as screen:
        assert line(screen) == b"left"
        os.write(screen, b"\x03")
        assert line(screen, b"got").endswith(b"got SIGINT")  # after the echo of what was typed
