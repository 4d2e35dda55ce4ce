"""The core by itself: a shell in memory gives it what a network would, cut and changed at will."""

from __future__ import annotations

import http.client
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.connected import MODEL, ConnectedServer
from fakes.connected_clients import CHAT, MESSAGES, RESPONSES
from fakes.server import API_KEY, Answer, Seen
from rlu_attestation.connect import relay as module
from rlu_attestation.connect.closing import close
from rlu_attestation.connect.guard import Guard
from rlu_attestation.connect.relay import Request, relay
from rlu_attestation.connect.status import Status
from rlu_attestation.connect.steps import (
    Adopt,
    Ask,
    Begin,
    Command,
    Emit,
    Head,
    Lock,
    Look,
    Meet,
    Moment,
    Pause,
    Read,
    Report,
    Send,
    Talk,
    Told,
    Unlock,
)
from rlu_attestation.errors import RluError, Untrusted

ENDS = (b'finish_reason":"', b"[DONE]", b"response.completed", b"message_stop", b"arguments.done")


class Memory:
    """A shell without a network. `done` are the commands in order, `sizes` how answers are cut."""

    def __init__(self, server: ConnectedServer) -> None:
        self.server = server
        self.done: list[Command] = []
        self.told: list[Status] = []
        self.sizes = [1 << 20]
        self.monotonic = 0.0
        self.changes = 0  # so many connections for prompts show another key
        self.adopted: list[bytes | None] = []
        self.locked = False
        self._pieces: Iterator[bytes] = iter(())

    def run(self, talk: Talk[None]) -> tuple[int, bytes]:
        """Status and content that the client got."""
        status, content = 0, b""
        try:
            command = next(talk)
            while True:
                self.done.append(command)
                if isinstance(command, Begin):
                    assert status == 0, "a second head"
                    status = command.status
                elif isinstance(command, Emit):
                    assert status, "content before its head"
                    content += command.content
                try:
                    result = self.do(command)
                except RluError as error:
                    command = talk.throw(error)
                else:
                    command = talk.send(result)
        except StopIteration:
            assert not self.locked
            return status, content

    def do(self, command: Command) -> object:
        match command:
            case Look():
                return Moment(self.server.deployment.at, self.monotonic, bytes(range(32)))
            case Meet():
                return self.told_by(Seen("GET", command.path, {}, b""))
            case Adopt():
                self.adopted.append(command.spki_sha256)
            case Ask():
                assert self.adopted, "nothing private before a key was adopted"
                headers = {"authorization": f"Bearer {API_KEY}"}
                return self.told_by(Seen(command.method, command.path, headers, command.body or b""))
            case Send():
                assert self.adopted, "no prompt before a key was adopted"
                self.changes -= 1
                if self.changes >= 0:
                    raise Untrusted("channel.changed", "another key")
                headers = {**command.headers, "authorization": f"Bearer {API_KEY}"}
                return self.send(Seen(command.method, command.path, headers, command.body))
            case Read():
                return next(self._pieces, b"")
            case Pause():
                self.monotonic += command.seconds
            case Report():
                self.told.append(command.status)
            case Lock():
                assert not self.locked
                self.locked = True
            case Unlock():
                self.locked = False
        return None

    def told_by(self, seen: Seen) -> Told:
        answer = self.server.respond(seen)
        return Told(
            answer.status, {}, answer.content, self.server.deployment.instance_claims().tls.spki_sha256
        )

    def send(self, seen: Seen) -> Head:
        answer = self.server.respond(seen)
        content = _content(answer)
        sizes = itertools.cycle(self.sizes)

        def pieces() -> Iterator[bytes]:
            at = 0
            while at < len(content):
                size = next(sizes)
                yield content[at : at + size]
                at += size

        self._pieces = pieces()
        return Head(answer.status, {name.lower(): value for name, value in answer.headers.items()})


class _Wire(io.BytesIO):
    def makefile(self, *_: object) -> io.BytesIO:
        return self


def _content(answer: Answer) -> bytes:
    """What a client makes of the chunks."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    if "Transfer-Encoding" not in answer.headers:
        return answer.content
    response = http.client.HTTPResponse(_Wire(head + answer.content))  # type: ignore[arg-type]
    response.begin()
    return response.read()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    server = ConnectedServer(tmp_path)
    yield Memory(server)
    server._http.server_close()


@pytest.fixture
def guard(memory: Memory) -> Guard:
    return Guard(memory.server.deployment.policy())


def request(path: str = CHAT, **more: Any) -> Request:
    body = {"model": MODEL, "messages": [], "input": "x", "max_tokens": 9, "stream": True, **more}
    return Request("POST", path, {"content-type": "application/json"}, json.dumps(body).encode())


def test_the_order_of_things(memory: Memory, guard: Guard) -> None:
    memory.run(relay(guard, request()))
    kinds = [type(command).__name__ for command in memory.done]
    first = {kind: kinds.index(kind) for kind in ("Meet", "Adopt", "Ask", "Report", "Send", "Begin", "Emit")}
    assert list(first) == sorted(first, key=lambda kind: first[kind])
    asked = [command.path for command in memory.done if isinstance(command, Ask)]
    assert asked[0] == "/v1/rlu/sessions"
    assert asked[1].startswith("/v1/rlu/receipts/")
    # The end is given last, once the receipt is there.
    last = max(n for n, kind in enumerate(kinds) if kind == "Emit")
    assert last > max(n for n, kind in enumerate(kinds) if kind == "Ask")
    assert b"[DONE]" in memory.done[last].content  # type: ignore[union-attr]


def test_a_second_exchange_asks_for_its_receipt_only(memory: Memory, guard: Guard) -> None:
    memory.run(relay(guard, request()))
    memory.done.clear()
    memory.run(relay(guard, request()))
    kinds = {type(command) for command in memory.done}
    assert kinds == {Look, Send, Read, Begin, Emit, Ask}


PATHS = [CHAT, RESPONSES, MESSAGES]
slow = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize("path", PATHS)
@slow
@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=8), stream=st.booleans())
def test_however_an_answer_is_cut_the_client_gets_it_whole(
    memory: Memory, guard: Guard, path: str, sizes: list[int], stream: bool
) -> None:
    sent: list[bytes] = []
    memory.server.on_wire = lambda data: sent.append(data) or data  # type: ignore[func-returns-value]
    memory.sizes = sizes
    script = {"metadata": {"script": "tool"}}
    assert memory.run(relay(guard, request(path, stream=stream, **script))) == (200, sent[-1])


@pytest.mark.parametrize("path", PATHS)
@slow
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=8),
    where=st.floats(0, 1, exclude_max=True),
    inserted=st.binary(max_size=3),
    removed=st.integers(0, 3),
)
def test_whatever_is_changed_on_the_way_no_success_is_seen(
    memory: Memory, guard: Guard, path: str, sizes: list[int], where: float, inserted: bytes, removed: int
) -> None:
    genuine: list[bytes] = []

    def change(data: bytes) -> bytes:
        at = int(where * len(data))
        genuine.append(data)
        genuine.append(data[:at] + inserted + data[at + removed :])
        return genuine[-1]

    memory.server.on_wire = change
    memory.sizes = sizes
    guard.broken = None  # a new user for each example would have to verify anew
    status, content = memory.run(relay(guard, request(path, metadata={"script": "tool"})))
    before, after = genuine[-2:]
    assert status == 200
    if before == after:
        assert content == before
        return
    error = json.loads(content.rstrip().rpartition(b"data: ")[2])["error"]
    assert error["code"] in ("receipt.response.mismatch", "receipt.response.size")
    assert not [mark for mark in ENDS if mark in content]
    assert guard.broken is not None


def test_who_leaves_while_a_session_is_opened_lets_others_open_one(memory: Memory, guard: Guard) -> None:
    talk = relay(guard, request())
    command = next(talk)
    while not isinstance(command, Meet):
        command = talk.send(memory.do(command))
    talk.close()
    memory.locked = False  # a shell gives back what its talk held
    assert memory.run(relay(guard, request()))[0] == 200


def test_a_key_that_changed_once_is_attested_anew(memory: Memory, guard: Guard) -> None:
    memory.changes = 1
    assert memory.run(relay(guard, request()))[0] == 200
    assert len(memory.server.sessions) == 2
    assert guard.failures == []


def test_a_key_that_goes_on_changing(memory: Memory, guard: Guard) -> None:
    memory.changes = 2
    status, content = memory.run(relay(guard, request()))
    assert (status, json.loads(content)["error"]["code"]) == (502, "channel.changed")
    assert memory.server.prompts == []
    # Nobody lied about an answer: the next prompt may be sent.
    assert memory.run(relay(guard, request()))[0] == 200


@pytest.mark.parametrize("changes", [{"status": "partial"}, {"status": "aborted"}])
def test_an_error_that_was_cut_is_not_passed_on(
    memory: Memory, guard: Guard, changes: dict[str, Any]
) -> None:
    memory.server.receipts = changes
    status, content = memory.run(relay(guard, request(metadata={"script": "refuses"})))
    assert (status, json.loads(content)["error"]["code"]) == (502, "receipt.status")


def test_every_status_of_an_error_is_passed_on(memory: Memory, guard: Guard) -> None:
    assert memory.run(relay(guard, request(model="unknown to the engine")))[0] == 404
    status, content = memory.run(relay(guard, Request("POST", CHAT, {}, b"{")))
    assert (status, b"JSON decode error" in content) == (400, True)
    memory.server.answers[CHAT] = Answer(400, b'{"error":{"code":"json_malformed"}}')
    assert memory.run(relay(guard, request())) == (400, b'{"error":{"code":"json_malformed"}}')
    assert guard.failures == []


def test_a_refusal_is_bounded(memory: Memory, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 100)
    memory.server.answers[CHAT] = Answer(400, b"x" * 100)
    assert memory.run(relay(guard, request())) == (400, b"x" * 100)
    memory.server.answers[CHAT] = Answer(400, b"x" * 101)
    status, content = memory.run(relay(guard, request()))
    assert (status, json.loads(content)["error"]["code"]) == (502, "response.too_large")


def test_an_answer_is_bounded(memory: Memory, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.sizes = [10]
    whole = len(memory.run(relay(guard, request()))[1])
    monkeypatch.setattr(module, "MAX_RESPONSE", whole)
    assert memory.run(relay(guard, request()))[1].endswith(b"data: [DONE]\n\n")
    monkeypatch.setattr(module, "MAX_RESPONSE", whole - 1)
    content = memory.run(relay(guard, request()))[1]
    assert b"response.too_large" in content
    assert not [mark for mark in ENDS if mark in content]


def test_a_session_in_use_is_not_closed(memory: Memory, guard: Guard) -> None:
    slow = relay(guard, request())
    command = next(slow)
    while not isinstance(command, Send):
        command = slow.send(memory.do(command))
    (first,) = memory.server.sessions.values()
    memory.server.deployment.at += 3600
    assert memory.run(relay(guard, request()))[0] == 200
    assert not first.closed
    status, content = memory.run(_resumed(slow, memory.do(command)))
    assert (status, content[-14:]) == (200, b"data: [DONE]\n\n")
    assert memory.run(relay(guard, request()))[0] == 200
    assert first.closed
    assert [status.event for status in memory.told] == ["verified", "verified", "closed"]


def _resumed(talk: Talk[None], result: object) -> Talk[None]:
    """The rest of a talk, whose last command has this result."""
    while True:
        try:
            command = talk.send(result)
        except StopIteration:
            return
        result = yield command


def receipts_asked(memory: Memory) -> int:
    return len([one for one in memory.done if isinstance(one, Ask) and "/receipts/" in one.path])


def test_a_receipt_that_is_not_there_is_not_waited_for(memory: Memory, guard: Guard) -> None:
    memory.server.on_receipt = lambda *_: Answer(404, b'{"code":"receipt_not_found"}')
    assert b"[receipt.absent]" in memory.run(relay(guard, request()))[1]
    assert (receipts_asked(memory), memory.monotonic) == (1, 0)


@pytest.mark.parametrize("status", [503, 429])
def test_a_receipt_is_waited_for_so_long(
    memory: Memory, guard: Guard, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(module, "RECEIPT_WAIT_S", 0.4)
    memory.server.on_receipt = lambda *_: Answer(status, b'{"code":"receipt_pending"}')
    assert b"[receipt.late]" in memory.run(relay(guard, request()))[1]
    assert (receipts_asked(memory), memory.monotonic) == (3, 0.4)


def test_a_session_that_the_server_does_not_close(memory: Memory, guard: Guard) -> None:
    memory.run(relay(guard, request()))
    (session,) = memory.server.sessions
    memory.server.answers[f"/v1/rlu/sessions/{session}"] = Answer(404, b'{"code":"session_not_found"}')
    memory.run(close(guard))
    assert (memory.told[-1].event, memory.told[-1].code) == ("unreachable", "server.refused")
    assert "not closed" in memory.told[-1].message
    assert guard.failures == []


def test_a_run_without_an_exchange_ends_quietly(memory: Memory, guard: Guard) -> None:
    memory.run(close(guard))
    assert memory.done == []


def test_a_rejected_server_is_asked_again_after_a_while(memory: Memory, guard: Guard) -> None:
    honest = memory.server.on_nonce
    memory.server.on_nonce = lambda nonce: bytes(32)
    assert memory.run(relay(guard, request()))[0] == 502
    memory.server.on_nonce = honest
    assert memory.run(relay(guard, request()))[0] == 502
    memory.monotonic += 10
    assert memory.run(relay(guard, request()))[0] == 200
    assert [status.event for status in memory.told] == ["rejected", "verified"]
    assert guard.failures == ["statement.nonce.mismatch"]
