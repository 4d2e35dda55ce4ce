"""The small server's own bookkeeping; what it serves is tested with the relay and the broker."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading

import pytest

from rlu_server.outreach.listening import AT_ONCE, Handler, Listener

STOPPED = """
import threading
from rlu_server.outreach.listening import serve_until_told

def say(word):
    print(word, flush=True)

class Server:
    hurried = threading.Event()

    def start(self):
        say("started")

    def close(self):
        say("closing")
        self.hurried.wait()
        say("closed")

    def hurry(self):
        self.hurried.set()

serve_until_told(Server())
"""


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


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_hurries(first: signal.Signals, second: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(first)
        assert process.stdout.readline() == "closing\n"
        process.send_signal(second)
        assert process.stdout.readline() == "closed\n"
        assert process.wait(60) == 0
