"""The relay is fuzzed over sockets for a moment in each run of the tests, for long by `make fuzz`; and what is planted is found."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

from relay_inputs import MARKER, plan_of  # noqa: E402


def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """The fuzzer in a process of its own, `before` having been executed there."""
    program = (
        f"import sys; sys.path[:0] = [{str(HERE)!r}]; sys.argv[1:] = {list(arguments)!r}\n"
        f"import relay_socket\n{before}\nsys.exit(relay_socket.main())"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mode", ["client", "engine"])
def test_a_moment_of_fuzzing(mode: str) -> None:
    done = run("--batches", "1", "--seed", "1", "--mode", mode)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Done: 1 batches of 40 connections, mode {mode}, seed 1" in done.stderr


PLANTED = {
    "reached the engine": """
        import dataclasses
        from relay_inputs import FORBIDDEN
        from rlu_server.core import routes
        plain = routes.RELAYED[b"/v1/completions"]
        for path in FORBIDDEN:
            routes.RELAYED[path.encode()] = dataclasses.replace(plain, path=path)
    """,
    "answers to at most": """
        from rlu_server.adapters import http1
        head = http1.head
        http1.head = lambda status, lines: b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n" + head(status, lines)
    """,
    "a marker of connection": """
        from rlu_server.adapters.exchange import Exchange
        read, last = Exchange.engine_read, [b""]
        def leak(self, head, content, ended):
            if len(content) == 28:
                content, last[0] = last[0] or content, content
            read(self, head, content, ended)
        Exchange.engine_read = leak
    """,
    "exchanges without a receipt": """
        from rlu_server.adapters.ledger import Ledger
        record = Ledger.record
        Ledger.record = lambda self, entry, outcome: outcome.status == "aborted" or record(self, entry, outcome)
    """,
    "bytes of content": """
        from rlu_server.adapters.relay import Relay
        Relay.let_go = lambda self, tenant, size: None
    """,
    r"was not ended|left over: .*'connections'": """
        from rlu_server.adapters.client import Connection
        Connection.tick = lambda self, now: None
    """,
}


@pytest.mark.parametrize("told", PLANTED)
def test_what_is_planted_is_found(told: str) -> None:
    before = "relay_socket.PATIENCE_S = 4.0\n" + textwrap.dedent(PLANTED[told])
    done = run("--batches", "3", "--seed", "1", "--mode", "client", before=before)
    assert done.returncode == 1, done.stderr
    assert re.search(told, done.stdout), done.stdout
    assert "seed 1, mode client, batch " in done.stdout


def test_what_is_sent_follows_from_the_seed() -> None:
    def plans(seed: str) -> list[object]:
        return [plan_of(random.Random(f"{seed}:{one}"), "key", hostile=False) for one in range(40)]

    assert plans("1") == plans("1")
    assert plans("1") != plans("2")
    assert all(MARKER.fullmatch(marker) for plan in plans("1") for marker in plan.markers)  # type: ignore[attr-defined]
