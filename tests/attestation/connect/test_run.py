"""The local proxy, as clients on this machine meet it: real sockets, real SDKs, and who is turned away."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from fakes.connected import MODEL, ConnectedServer
from fakes.connected_clients import CHAT, MESSAGES
from fakes.server import API_KEY
from rlu_attestation.connect import Status, proxy
from rlu_attestation.connect.async_link import AsyncLink
from rlu_attestation.connect.errors import Misuse
from rlu_attestation.connect.guard import Guard
from rlu_attestation.connect.launch import Local
from rlu_attestation.connect.run import Place, Run, run_command
from rlu_attestation.connect.target import Target
from rlu_attestation.errors import RluError

BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]})


@contextmanager
def running(
    server: ConnectedServer, told: list[Status] | None = None, place: Place | None = None, **options: Any
) -> Iterator[Local]:
    guard = Guard(options.pop("policy", server.deployment.policy()), **options)
    target = Target(server.url, API_KEY, server.clock)
    with Run(target, guard, place or Place(), (told if told is not None else []).append) as local:
        yield local


@pytest.fixture
def told() -> list[Status]:
    return []


@pytest.fixture
def local(server: ConnectedServer, told: list[Status]) -> Iterator[Local]:
    with running(server, told) as found:
        yield found


def call(
    local: Local,
    headers: dict[str, str] | None = None,
    method: str = "POST",
    path: str = CHAT,
    body: str | None = BODY,
) -> tuple[int, Any]:
    """One request with exactly these headers beside its framing."""
    connection = http.client.HTTPConnection("127.0.0.1", int(local.url.rpartition(":")[2]), timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        given = {
            "Host": local.url.removeprefix("http://"),
            "Authorization": f"Bearer {local.key}",
            **(headers or {}),
        }
        if body is not None:
            given["Content-Length"] = str(len(body))
        for name, value in given.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders(None if body is None else body.encode())
        response = connection.getresponse()
        with response:
            content = response.read()
        return response.status, json.loads(content) if content else None
    finally:
        connection.close()


# --- who is served ----------------------------------------------------------------------------------------------------


def test_it_verifies_before_it_listens_to_anybody(
    server: ConnectedServer, local: Local, told: list[Status]
) -> None:
    assert [status.event for status in told] == ["verified"]
    assert server.prompts == []
    assert (local.model, local.url[:17]) == (MODEL, "http://127.0.0.1:")


def test_it_listens_on_the_loopback_interface_only(local: Local) -> None:
    port = int(local.url.rpartition(":")[2])
    listening = Path("/proc/net/tcp").read_text().splitlines()
    (own,) = [
        line.split()
        for line in listening
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    ]
    assert own[1] == f"0100007F:{port:04X}"


def test_who_has_the_key_is_served(local: Local) -> None:
    for headers in (
        {},
        {"Authorization": "", "X-Api-Key": local.key},
        {"Host": local.url[7:].replace("127.0.0.1", "localhost")},
    ):
        status, value = call(local, headers)
        assert (status, value["choices"][0]["finish_reason"]) == (200, "stop")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": ""}, 401, "connect.local_key"),
        ({"Authorization": "Bearer wrong"}, 401, "connect.local_key"),
        ({"Authorization": f"Bearer {API_KEY}"}, 401, "connect.local_key"),
        ({"Host": "evil.example"}, 403, "connect.host"),
        ({"Host": "127.0.0.1"}, 403, "connect.host"),
        ({"Origin": "http://evil.example"}, 403, "connect.origin"),
        ({"Origin": "null"}, 403, "connect.origin"),
        ({"Content-Encoding": "br"}, 415, "connect.encoding"),
        ({"Content-Encoding": "gzip, gzip"}, 415, "connect.encoding"),
    ],
)
def test_who_is_turned_away(
    server: ConnectedServer, local: Local, headers: dict[str, str], status: int, code: str
) -> None:
    for path, shape in ((CHAT, "error"), (MESSAGES, "type")):
        found, value = call(local, headers, path=path)
        assert (found, value["error"]["code"]) == (status, code)
        assert shape in value
    assert server.prompts == []


def test_agents_may_ask_whether_anybody_is_there(local: Local) -> None:
    assert call(local, {"Authorization": ""}, "HEAD", "/", None) == (200, None)
    assert call(local, {"Host": "evil.example"}, "HEAD", "/", None) == (403, None)


def test_a_query_that_would_matter_is_refused(server: ConnectedServer, local: Local) -> None:
    path = "/v1/responses/resp_0af/input_items?after=x"
    status, value = call(local, {}, "GET", path, None)
    assert (status, value["error"]["code"]) == (400, "connect.query")
    assert server.prompts == []


def test_other_routes_are_not_there(server: ConnectedServer, local: Local) -> None:
    status, value = call(local, path="/v1/rlu/sessions")
    assert (status, value["error"]["code"]) == (404, "connect.route")


def test_a_request_is_bounded(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MAX_BODY", 10)
    status, value = call(local)
    assert (status, value["error"]["code"]) == (413, "connect.too_large")


def test_keys_differ_from_run_to_run(server: ConnectedServer, local: Local) -> None:
    with running(server) as other:
        assert len({local.key, other.key}) == 2
        assert re.fullmatch(r"rlu_local_[A-Za-z0-9_-]{43}", other.key)


# --- what clients see -------------------------------------------------------------------------------------------------


def test_the_sdks_through_the_proxy(server: ConnectedServer, local: Local) -> None:
    asked: Any = [{"role": "user", "content": "hello"}]
    with openai.OpenAI(base_url=f"{local.url}/v1", api_key=local.key) as gpt:
        with gpt.responses.create(model=MODEL, input="x", stream=True) as events:
            assert list(events)[-1].type == "response.completed"
        assert [model.id for model in gpt.models.list()] == [MODEL]
    with (
        anthropic.Anthropic(base_url=local.url, api_key=local.key) as claude,
        claude.messages.stream(model=MODEL, messages=asked, max_tokens=9) as stream,
    ):
        assert stream.get_final_text() == "hello yourself, whoever you are"
    assert all(seen.headers["authorization"] == f"Bearer {API_KEY}" for seen in server.prompts)


def test_a_lie_ends_the_stream_with_an_error(server: ConnectedServer, told: list[Status]) -> None:
    server.on_wire = lambda data: data.replace(b"hel", b"Hel", 1)
    with running(server, told) as local, openai.OpenAI(base_url=f"{local.url}/v1", api_key=local.key) as sdk:
        with pytest.raises(openai.APIError) as found:
            list(sdk.responses.create(model=MODEL, input="x", stream=True))
        assert "receipt.response.mismatch" in str(found.value)
    assert "rejected" in [status.event for status in told]


def test_who_leaves_is_noticed_by_the_server(server: ConnectedServer, told: list[Status]) -> None:
    server.gate.clear()
    with running(server, told) as local:
        with socket.create_connection(("127.0.0.1", int(local.url.rpartition(":")[2]))) as connection:
            body = json.dumps({**json.loads(BODY), "stream": True}).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nHost: {local.url[7:]}\r\nX-Api-Key: {local.key}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            seen = b""
            while b"data: " not in seen:
                seen += connection.recv(65536)
        time.sleep(0.1)
        server.gate.set()
        assert call(local)[0] == 200
    assert (told[-1].event, told[-1].receipts) == ("closed", 2)


def test_a_rejected_server_is_never_served(server: ConnectedServer, told: list[Status]) -> None:
    policy = server.deployment.policy(channel_origins=frozenset({"provisioned"}))
    with pytest.raises(RluError) as found, running(server, told, policy=policy):
        raise AssertionError("it must not get here")
    assert (found.value.code, found.value.exit_code) == ("policy.channel.mismatch", 10)
    assert [status.event for status in told] == ["rejected"]


def test_a_port_that_is_taken(server: ConnectedServer, local: Local) -> None:
    taken = Place(port=int(local.url.rpartition(":")[2]))
    with pytest.raises(Misuse) as found, running(server, place=taken):
        raise AssertionError("it must not get here")
    assert found.value.code == "connect.listen"


def test_a_unix_socket_for_this_user(server: ConnectedServer, tmp_path: Path) -> None:
    path = Path(os.path.relpath(tmp_path / "s"))
    with running(server, place=Place(unix=path)) as local:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("POST", CHAT, BODY, {"Authorization": f"Bearer {local.key}"})
        response = connection.getresponse()
        with response:
            assert (response.status, json.loads(response.read())["model"]) == (200, MODEL)
        connection.close()
    assert not path.exists()


def test_nothing_is_written_and_nothing_is_said_of_content(
    server: ConnectedServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = sorted(tmp_path.rglob("*"))
    server.on_wire = lambda data: data.replace(b"hel", b"Hel", 1)
    told: list[Status] = []
    with running(server, told) as local:
        call(
            local, body=json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "canary-7f3a"}]})
        )
    out = capfd.readouterr()
    said = out.out + out.err + caplog.text + repr(told)
    assert "canary-7f3a" not in said
    assert "ello yourself" not in said
    assert API_KEY not in said
    assert local.key not in said
    assert sorted(tmp_path.rglob("*")) == before


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_commands_status_is_ours() -> None:
    assert run_command([sys.executable, "-c", "raise SystemExit(7)"], os.environ) == 7
    assert run_command(["sh", "-c", "kill -9 $$"], os.environ) == 128 + 9


def test_a_command_that_does_not_exist() -> None:
    with pytest.raises(Misuse) as found:
        run_command(["/nowhere/at-all"], os.environ)
    assert found.value.code == "connect.command"


def test_a_command_gets_its_environment_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_command(["/bin/sh", "-c", f"env > {out}"], {"A": "b"})
    assert "A=b" in out.read_text()
    assert "HOME=" not in out.read_text()


def test_signals_are_the_commands_to_answer() -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "print('up', flush=True)\ntime.sleep(600)"
    )
    outer = (
        "import os, sys\nfrom rlu_attestation.connect.run import run_command\n"
        f"sys.exit(run_command([sys.executable, '-c', {code!r}], os.environ))"
    )
    process = subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    threading.Event().wait(0.1)
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 5
    process.stdout.close()


@pytest.mark.timeout(120)
def test_whoever_gives_up_while_it_verifies_is_not_kept_waiting(
    server: ConnectedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the server was accepted: the proxy would have served on, and nobody could have ended it."""
    verifying = threading.Event()

    async def for_ever(self: AsyncLink, talk: object) -> None:
        verifying.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(AsyncLink, "run", for_ever)
    run = Run(Target(server.url, API_KEY, server.clock), Guard(server.deployment.policy()), Place(), print)

    def interrupted() -> Local:
        assert verifying.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(run._ready, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.__enter__()
    assert not run._thread.is_alive()


def test_a_socket_that_is_in_use_stays_with_whom_it_belongs(server: ConnectedServer, tmp_path: Path) -> None:
    place = Place(unix=tmp_path / "s")
    with running(server, place=place):
        with pytest.raises(Misuse) as refused, running(server, place=place):
            raise AssertionError("two listen there")
        assert refused.value.code == "connect.listen"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place.unix))


def test_a_socket_that_a_killed_run_left_is_replaced(server: ConnectedServer, tmp_path: Path) -> None:
    place = Place(unix=tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place.unix))
    with running(server, place=place), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place.unix))
