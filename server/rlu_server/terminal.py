"""Children that the terminal does not reach: neither its Ctrl-C, nor they it.

A session of its own does both, and is what one takes. Where there is no terminal a process group does as well, and is better: Linux may
share the CPU out among sessions before it does so among processes (sched_autogroup). With some kernels (6.18 was measured) an engine that
computes in a session of its own then kept everybody else from the CPU, the gateway too, for tens of seconds at a time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import termios
from typing import TypedDict

_TERMINAL = "/dev/tty"


class Apart(TypedDict, total=False):
    """Arguments of `subprocess.Popen`."""

    start_new_session: bool
    process_group: int


def apart() -> Apart:
    """For a child that leads a process group and has no controlling terminal. Python 3.10 makes groups with sessions only."""
    if sys.version_info < (3, 11) or _attached():
        return {"start_new_session": True}
    return {"process_group": 0}


def leave() -> None:
    """Give up the controlling terminal, if there is one, for us and all that we start. Its Ctrl-C still comes, and output still goes there.

    Who leads a session keeps it: the whole session would end.
    """
    if os.getsid(0) == os.getpid():
        return
    with contextlib.suppress(OSError):
        terminal = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.ioctl(terminal, termios.TIOCNOTTY)
        finally:
            os.close(terminal)


def _attached() -> bool:
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        return error.errno not in (
            errno.ENXIO,
            errno.ENOENT,
        )  # for want of a descriptor, say, nothing is known
    return True
