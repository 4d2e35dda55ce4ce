"""`rlu connect`: what it runs, what it prints, and which status it ends with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fakes.connected import MODEL, ConnectedServer
from fakes.policy import write_policy
from fakes.server import API_KEY
from fakes.terminal import rlu
from rlu_attestation import load_policy
from waiting import wait_until

ASK = f"""
import json, os, sys, urllib.request
url, key = os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
body = {{"model": {MODEL!r}, "messages": [{{"role": "user", "content": "hello"}}]}}
headers = {{"Authorization": "Bearer " + key, "Content-Type": "application/json"}}
request = urllib.request.Request(url + "/chat/completions", json.dumps(body).encode(), headers)
try:
    answer = json.load(urllib.request.urlopen(request))
except urllib.error.HTTPError as error:
    print(json.load(error)["error"]["code"], flush=True)
    sys.exit(4)
print(answer["choices"][0]["message"]["content"], "RLU_API_KEY" in os.environ, {API_KEY!r} in os.environ.values(), flush=True)
"""

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectedServer]:
    with ConnectedServer(tmp_path) as running:
        monkeypatch.setattr("rlu_attestation.cli.connect.time", SimpleNamespace(time=running.clock))
        monkeypatch.setenv("RLU_API_KEY", API_KEY)
        yield running


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return write_policy(tmp_path)


def test_a_command_that_asks(capfd: Capture, server: ConnectedServer, policy: Path) -> None:
    ran = rlu(capfd, "connect", server.url, "--policy", policy, "--", sys.executable, "-c", ASK)
    assert (ran.code, ran.out) == (0, "hello yourself, whoever you are False False\n")
    first, last = ran.err.splitlines()
    assert re.match(
        r"rlu connect: verified · instance A\S{43} · model demo · region eu-central-1 \(endorsed\) · session ",
        first,
    )
    assert re.match(r"rlu connect: closed · session \S{22} · 1 receipt$", last)


def test_its_status_is_the_commands(capfd: Capture, server: ConnectedServer, policy: Path) -> None:
    assert rlu(capfd, "connect", server.url, "--policy", policy, "--", "sh", "-c", "exit 7").code == 7


def test_an_answer_that_is_not_proven_has_a_status_of_its_own(
    capfd: Capture, server: ConnectedServer, policy: Path
) -> None:
    server.on_wire = lambda data: data.replace(b"hel", b"Hel", 1)
    ran = rlu(capfd, "connect", server.url, "--policy", policy, "--json", "--", sys.executable, "-c", ASK)
    assert (ran.code, ran.out) == (10, "receipt.response.mismatch\n")
    told = [json.loads(line) for line in ran.err.splitlines()]
    assert [one["event"] for one in told][:2] == ["verified", "rejected"]
    assert told[1]["code"] == "receipt.response.mismatch"


def test_a_server_that_is_rejected_runs_nothing(
    capfd: Capture, server: ConnectedServer, tmp_path: Path
) -> None:
    elsewhere = write_policy(tmp_path, region="elsewhere")
    ran = rlu(capfd, "connect", server.url, "--policy", elsewhere, "--", "sh", "-c", "echo ran")
    assert (ran.code, ran.out) == (10, "")
    assert "REJECTED" in ran.err
    assert "[policy.region.mismatch]" in ran.err


def test_without_a_policy_nothing_is_accepted(capfd: Capture, server: ConnectedServer) -> None:
    ran = rlu(capfd, "connect", server.url, "--", "sh", "-c", "echo ran")
    assert (ran.code, ran.out) == (10, "")
    assert server.prompts == []


def test_a_policy_can_be_pinned(capfd: Capture, server: ConnectedServer, policy: Path) -> None:
    digest = load_policy(policy).digest.hex()
    options = ["connect", server.url, "--policy", policy, "--policy-sha256"]
    assert rlu(capfd, *options, digest, "--", "sh", "-c", "echo ran").out == "ran\n"
    other = rlu(capfd, *options, "0" * 64, "--", "sh", "-c", "echo ran")
    assert (other.code, other.out) == (10, "")
    assert "[policy.digest]" in other.err


def test_the_options_after_the_dashes_are_the_commands(capfd: Capture, server: ConnectedServer) -> None:
    ran = rlu(capfd, "connect", server.url, "--", "sh", "-c", "echo ran", "--json", "--help")
    assert ran.code == 10
    assert ran.err.startswith("rlu connect: REJECTED")


def test_the_key_is_passed_when_asked(
    capfd: Capture, server: ConnectedServer, policy: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text(API_KEY)
    show = ["sh", "-c", "echo $RLU_API_KEY"]
    options = ["connect", server.url, "--policy", policy, "--api-key-file", key]
    assert rlu(capfd, *options, "--pass-key", "--", *show).out == f"{API_KEY}\n"
    assert rlu(capfd, *options, "--", *show).out == "\n"


@pytest.mark.parametrize(
    "options", [["--socket", "s", "--", "sh"], ["--socket", "s", "--port", "1"], ["--port", "70000"]]
)
def test_options_that_make_no_sense(capfd: Capture, server: ConnectedServer, options: list[str]) -> None:
    assert rlu(capfd, "connect", server.url, *options).code == 2


def test_a_key_is_needed(capfd: Capture, server: ConnectedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLU_API_KEY")
    assert rlu(capfd, "connect", server.url).code == 2
    assert rlu(capfd, "connect", "ftp://x", "--api-key-file", "/nowhere").code == 2


def test_a_command_that_is_not_there(capfd: Capture, server: ConnectedServer, policy: Path) -> None:
    ran = rlu(capfd, "connect", server.url, "--policy", policy, "--", "/nowhere/at-all")
    assert (ran.code, ran.out) == (2, "")
    assert "[connect.command]" in ran.err


@pytest.mark.parametrize("as_json", [False, True])
def test_it_serves_until_it_is_told_to_stop(
    capfd: Capture, server: ConnectedServer, policy: Path, as_json: bool
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stop() -> None:
        wait_until(lambda: signal.getsignal(signal.SIGTERM) is not before)  # earlier, it would end the tests
        os.kill(os.getpid(), signal.SIGTERM)

    timer = threading.Thread(target=stop)
    timer.start()
    ran = rlu(capfd, "connect", server.url, "--policy", policy, *(["--json"] if as_json else []))
    timer.join()
    assert (ran.code, ran.err) == (0, "")
    if as_json:
        told = [json.loads(line) for line in ran.out.splitlines()]
        assert [one["event"] for one in told] == ["verified", "listening", "closed"]
        assert told[1]["url"].startswith("http://127.0.0.1:")
        return
    exports = [line for line in ran.out.splitlines() if line.startswith("export ")]
    found = subprocess.run(
        ["sh", "-c", "\n".join([*exports, "env"])],
        capture_output=True,
        text=True,
        env={},
        check=True,
    ).stdout
    assert re.search(r"^OPENAI_BASE_URL=http://127\.0\.0\.1:\d+/v1$", found, re.MULTILINE)
    assert re.search(r"^ANTHROPIC_API_KEY=rlu_local_\S{43}$", found, re.MULTILINE)
    assert "\ncodex -c " in ran.out
