"""The small server's own bookkeeping; what it serves is tested with the relay and the broker."""

from __future__ import annotations

import socket
import threading

import pytest

from rlu_server.outreach.listening import AT_ONCE, Handler, Listener


def test_a_request_for_which_there_is_no_thread_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a machine that was out of threads for a moment has a server that answers nobody any more."""
    listener = Listener(Handler, None, lambda code: None)

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(2 * AT_ONCE):
            with pytest.raises(RuntimeError):
                listener.process_request(ours, "")
