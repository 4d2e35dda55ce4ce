"""The master with small roles in place of hub and worker: a process of its own, since it forks."""

from __future__ import annotations

import subprocess
import sys

ROLES = """
import os, signal, socket, sys, time
from rlu_server.adapters.events import Events
from rlu_server.workers.master import Master, listen, receive

def worker(number, sockets, end):
    end.sendall(b"%d" % os.getpid())
    signal.pause()
    return 0

def hub(control):
    seen = []
    control.settimeout(60)
    def next_one():
        number, end = receive(control)
        with end:
            end.settimeout(60)
            seen.append((number, int(end.recv(16))))
    next_one(); next_one()
    {does}
    sys.stdout.flush()
    return 7

listeners = listen("127.0.0.1", 0, 2)
print(len({{one.getsockname()[1] for sockets in listeners for one in sockets}}), flush=True)
code = Master(listeners, hub, worker, Events()).run()
for sockets in listeners:
    for one in sockets:
        one.close()
print("code", code)
"""


def run(does: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ROLES.format(does=does)], capture_output=True, text=True, timeout=240
    )


def test_all_listen_on_one_port_and_the_hubs_code_is_the_masters():
    done = run("print(sorted(number for number, _ in seen))")
    assert done.stdout.splitlines() == ["1", "[0, 1]", "code 7"], done.stderr


def test_a_worker_that_dies_is_replaced_at_its_number():
    done = run(
        "os.kill(seen[1][1], signal.SIGKILL); next_one(); print(seen[2][0] == seen[1][0], len({p for _, p in seen}))"
    )
    assert done.stdout.splitlines()[1:] == ["True 3", "code 7"], done.stderr
    assert '"event":"worker_lost"' in done.stderr


def test_a_worker_that_the_hub_names_is_killed_and_replaced():
    done = run(
        "os.kill(seen[0][1], signal.SIGSTOP); control.send(bytes([seen[0][0]])); next_one(); print(seen[2][0] == seen[0][0])"
    )
    assert done.stdout.splitlines()[1:] == ["True", "code 7"], done.stderr


def test_a_signal_is_passed_to_the_hub_and_nobody_is_replaced_from_then_on():
    does = (
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); os.kill(os.getppid(), signal.SIGTERM);"
        "signal.sigwait([signal.SIGTERM]); print('told');"
        "os.kill(seen[0][1], signal.SIGKILL); control.settimeout(1.5)\n"
        "    try:\n        print(receive(control))\n    except TimeoutError:\n        print('nobody')"
    )
    done = run(does)
    assert done.stdout.splitlines()[1:] == ["told", "nobody", "code 7"], done.stdout + done.stderr


def test_a_master_that_was_stopped_goes_on():
    """As by a frozen cgroup: what it waited for is over when it comes back."""
    does = (
        "os.kill(os.getppid(), signal.SIGSTOP); time.sleep(1.5); os.kill(os.getppid(), signal.SIGCONT);"
        "os.kill(seen[0][1], signal.SIGKILL); next_one(); print('replaced')"
    )
    done = run(does)
    assert done.stdout.splitlines()[1:] == ["replaced", "code 7"], done.stdout + done.stderr
