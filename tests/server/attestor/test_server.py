"""The socket: who may connect, what garbage gets, and what a gateway may do when."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.attestor_process import INSTANCE_FACTS, GatewaySide
from fakes.attestor_room import Room, running_room
from rlu_attestation.errors import Malformed
from rlu_attestation.statements import Receipt
from rlu_server.attestor import frames, messages, server
from rlu_server.attestor.messages import MAX_FRAME
from waiting import PATIENCE_S, until

encode = msgspec.msgpack.Encoder().encode


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


async def rest(gateway: GatewaySide) -> list[messages.Answer]:
    """Every answer until the attestor closes the connection."""
    found = []
    try:
        while True:
            found.append(await asyncio.wait_for(gateway.receive(), PATIENCE_S))
    except (asyncio.IncompleteReadError, ConnectionError):
        return found


GARBAGE = {
    "not-msgpack": framed(b"\xc1"),
    "not-a-map": framed(encode([1, 2])),
    "empty": framed(b""),
    "unknown-type": framed(encode({"type": "sign", "id": 1, "digest": bytes(32)})),
    "unknown-field": framed(encode({"type": "latest_head", "id": 1, "prompt": "secret"})),
    "missing-field": framed(encode({"type": "open_session", "id": 1})),
    "nonce-too-short": framed(encode({"type": "attest", "id": 1, "nonce": b"1234567"})),
    "nonce-too-long": framed(encode({"type": "attest", "id": 1, "nonce": bytes(65)})),
    "id-negative": framed(encode({"type": "latest_head", "id": -1})),
    "an-answer": framed(encode({"type": "proof", "id": 1, "receipt": b""})),
    "trailing": framed(encode({"type": "latest_head", "id": 1}) + b"\x00"),
    "deep": framed(b"\x91" * 5000 + b"\xc0"),
    "too-long": (MAX_FRAME + 1).to_bytes(4, "big"),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("greeted", [False, True], ids=["before-hello", "after-hello"])
async def test_garbage_gets_one_failure_and_the_end(tmp_path: Path, garbage: bytes, greeted: bool) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.connect()
        if greeted:
            await gateway.hello()
            await gateway.open()
        gateway.writer.write(garbage)
        (failure,) = await rest(gateway)
        assert isinstance(failure, messages.Failure)
        assert (failure.code, failure.id) == ("malformed", 0)
        assert "secret" not in failure.message + room.stream.getvalue()
        other = await room.greeted()  # and nobody else is disturbed
        await other.open()
        assert len(room.lines("close")) == greeted


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=6))
def test_any_bytes_are_requests_or_malformed(chunks: list[bytes]) -> None:
    reader = frames.RequestReader()
    try:
        for chunk in chunks:
            reader.feed(chunk)
            reader.feed(framed(chunk))
    except Malformed:
        return


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(cuts=st.lists(st.integers(1, 30), max_size=20))
def test_frames_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    requests = [messages.BeginExchange(id=i, session="A" * 22) for i in range(4)]
    stream = b"".join(framed(encode(request)) for request in requests)
    reader, found = frames.RequestReader(), []
    for cut in [*cuts, len(stream)]:
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert found == requests


def test_the_peer_is_who_the_kernel_says() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert server.peer_uid(ours) == os.getuid()


async def test_another_user_is_refused_without_a_word(tmp_path: Path) -> None:
    async with running_room(tmp_path, allowed=frozenset()) as room:
        gateway = await room.connect()
        assert await rest(gateway) == []
        assert "peer.refused" in room.event_names()


async def test_connections_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with running_room(tmp_path) as room:
        first, _ = await room.greeted(), await room.greeted()
        third = await room.connect()
        assert await rest(third) == []
        await first.disconnect()
        await until(lambda: len(room.server.connections) == 1)
        await room.greeted()


async def test_everything_needs_a_greeting_first_and_only_one(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.connect()
        for request in (
            gateway.opening(),
            messages.LatestHead(id=70),
            messages.Attest(id=71, nonce=None),
            messages.BeginExchange(id=72, session="A" * 22),
        ):
            assert (await gateway.ask(request, messages.Failure)).code == "hello_required"
        await gateway.hello()
        again = messages.Hello(
            id=73, gateway_version="1", tls_origin="plaintext", tls_spki_sha256=None, posture={}
        )
        assert (await gateway.ask(again, messages.Failure)).code == "malformed"
        await gateway.open()


@pytest.mark.parametrize(
    ("origin", "spki"), [("plaintext", bytes(32)), ("gateway-memory", None), ("provisioned", None)]
)
async def test_a_greeting_that_contradicts_itself_is_refused(
    tmp_path: Path, origin: messages.TlsOrigin, spki: bytes | None
) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.connect()
        hello = messages.Hello(id=1, gateway_version="1", tls_origin=origin, tls_spki_sha256=spki, posture={})
        assert (await gateway.ask(hello, messages.Failure)).code == "hello.tls"


UNKNOWN = "A" * 22


async def test_what_is_unknown_says_so(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        expected: list[tuple[messages.Message, str]] = [
            (messages.BeginExchange(id=80, session=UNKNOWN), "unknown_session"),
            (gateway.receipt(UNKNOWN, 1), "unknown_session"),
            (gateway.receipt(session, 1), "unknown_exchange"),
            (messages.CloseSession(id=81, session=UNKNOWN, reason="x", scratch="wiped"), "unknown_session"),
            (messages.Prove(id=82, leaf_index=1), "not_in_log"),
            (messages.ProveConsistency(id=83, old_size=2), "not_in_log"),
            (messages.ProveConsistency(id=84, old_size=0), "not_in_log"),
        ]
        for request, code in expected:
            assert (await gateway.ask(request, messages.Failure)).code == code
        other = await room.greeted()
        assert (await other.ask(messages.BeginExchange(id=85, session=session), messages.Failure)).code == (
            "unknown_session"
        )
        await gateway.begin(session)
        await gateway.record(session, 1)
        assert (await gateway.ask(gateway.receipt(session, 1), messages.Failure)).code == "unknown_exchange"


async def test_only_what_failed_is_recorded_without_contents(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        await gateway.begin(session)
        whole = gateway.receipt(session, 1)
        for change in (
            {"request": None},
            {"response": None, "status": "failed"},
            {"request": None, "response": None},
            {"request": None, "response": None, "status": "failed", "forwarded": whole.request},
        ):
            half = msgspec.structs.replace(whole, id=whole.id + 1, **change)
            assert (await gateway.ask(half, messages.Failure)).code == "malformed"
            gateway = await room.greeted()
            session = (await gateway.open()).session
            await gateway.begin(session)
            whole = gateway.receipt(session, 1)
        lost = {
            "request": None,
            "response": None,
            "forwarded": None,
            "status": "failed",
            "reason": "worker_lost",
        }
        answer = await gateway.ask(
            msgspec.structs.replace(whole, route="unknown", **lost), messages.ReceiptRecorded
        )
        receipt = Receipt.parse(answer.logged.statement)
        assert (receipt.request, receipt.response, receipt.reason) == (None, None, "worker_lost")


async def test_an_expired_session_is_refused_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "EXPIRY_CHECK_S", 0.02)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open(ttl_s=60)).session
        seq = await gateway.begin(session)
        room.now += 60
        request = messages.BeginExchange(id=90, session=session)
        assert (await gateway.ask(request, messages.Failure)).code == "session_expired"
        await gateway.record(session, seq)
        room.now += 10
        await wait_for_close(room)


async def test_missing_facts_are_named_and_later_ones_are_used(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        instance = room.deployment.runtime / "facts" / "instance.json"
        instance.unlink()
        gateway = await room.connect()
        hello = messages.Hello(
            id=1, gateway_version="1", tls_origin="plaintext", tls_spki_sha256=None, posture={}
        )
        assert (await gateway.ask(hello, messages.Failure)).code == "facts.missing"
        room.deployment.write_facts(INSTANCE_FACTS)
        await gateway.hello()


async def test_drift_closes_the_sessions_of_the_instance_that_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "EXPIRY_CHECK_S", 0.02)
    monkeypatch.setattr(server, "DRIFT_CHECK_S", 0.02)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        await asyncio.sleep(0.2)
        await gateway.begin(session)  # nothing changed, nothing happened
        room.deployment.write_posture("engine", {"no_new_privs": False})
        assert await rest(gateway) == []
        await wait_for_close(room)
        assert "instance.changed" in room.event_names()
        again = await room.connect()
        welcome = await again.hello()
        assert welcome.profile_digest != bytes(32)


async def test_a_gateway_that_does_not_read_is_not_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HIGH_WATER", 64 * 1024)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        gateway.reader._limit = 1024  # type: ignore[attr-defined]
        asked = 20_000
        for i in range(asked):
            gateway.send(messages.LatestHead(id=1000 + i))
        await asyncio.sleep(0.3)
        (connection,) = room.server.connections
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 8 * 1024 * 1024
        for i in range(asked):
            assert (await gateway.receive()).id == 1000 + i


async def wait_for_close(room: Room) -> None:
    await until(lambda: room.lines("close") and room.ledger.sessions == 0)
