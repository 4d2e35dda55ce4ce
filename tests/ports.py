"""Ports for servers that must be told theirs before they start."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

LOWEST = 10_000


def free_port() -> int:
    """A port of this machine that nobody listens on.

    Not one out of which the kernel gives ports away by itself: by the time the server listens, somebody's connection would now and then
    have it.
    """
    given_away = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = LOWEST + secrets.randbelow(given_away - LOWEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
