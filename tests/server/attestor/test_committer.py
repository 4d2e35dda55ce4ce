"""Group commit: one signature for all that waited, all or nothing, and recovery."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from fakes.attestor_process import GatewaySide
from fakes.attestor_room import Room, running_room
from rlu_attestation import cose, jose
from rlu_attestation.merkle import leaf_hash
from rlu_server.attestor import committer, messages
from rlu_server.attestor.errors import HardwareUnavailable
from rlu_server.attestor.records import start_line
from waiting import PATIENCE_S, until


async def opened_all(gateway: GatewaySide, ids: list[int]) -> list[messages.SessionOpened]:
    answers = [await gateway.answer(i) for i in ids]
    assert all(isinstance(a, messages.SessionOpened) for a in answers)
    return answers  # type: ignore[return-value]


async def test_what_waits_while_the_signer_is_busy_shares_one_signature(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        before = len(room.platform.signed)
        room.platform.gate.clear()
        first = [gateway.send(gateway.opening())]
        await until(lambda: room.committer._busy)
        rest = [gateway.send(gateway.opening()) for _ in range(500)]
        await until(lambda: room.committer.waiting == 500)
        room.platform.gate.set()
        answers = await opened_all(gateway, first + rest)
        assert len(room.platform.signed) == before + 2
        sizes = {cose.parse_inclusion(a.receipt).tree_size for a in answers}
        assert sizes == {1, 501}
        key = jose.public_key(jose.public_jwk(room.platform.public_key))
        for answer in answers[::50]:
            cose.parse_inclusion(answer.receipt).verify(key, leaf_hash(answer.logged.statement))
        assert [line["size"] for line in room.lines("head")] == [0, 1, 501]


async def test_nothing_is_answered_before_it_is_signed(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        room.platform.gate.clear()
        request = gateway.send(gateway.opening())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(gateway.receive())), 0.2)
        assert room.lines("session") == []
        room.platform.gate.set()
        await until(lambda: len(room.lines("session")) == 1)
        assert request > 0


async def test_a_failed_batch_never_was_and_can_be_asked_again(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        seq = await gateway.begin(session)
        size, root = room.ledger.tree.size, room.ledger.tree.root()
        room.platform.failing = True
        close = messages.CloseSession(id=900, session=session, reason="client_request", scratch="wiped")
        for request in (gateway.opening(), gateway.receipt(session, seq), close):
            failure = await gateway.ask(request, messages.Failure)
            assert failure.code == "signer_unavailable"
        assert room.committer.failing
        assert (room.ledger.tree.size, room.ledger.tree.root()) == (size, root)
        assert len(room.lines("receipt")) == 0
        room.platform.failing = False
        await gateway.record(session, seq)
        await gateway.close_session(session)
        assert not room.committer.failing
        assert [n for n in room.event_names() if n.startswith("signer")][-1] == "signer.recovered"


async def test_a_full_disk_fails_the_batch_like_a_failed_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()

        def full(lines: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(room.journal, "append", full)
            failure = await gateway.ask(gateway.opening(), messages.Failure)
            assert failure.code == "signer_unavailable"
        await gateway.open()
        assert "log.write_failed" in room.event_names()


async def test_closes_of_the_attestors_own_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "RETRY_S", 0.02)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        await gateway.begin(session)
        room.platform.failing = True
        await gateway.disconnect()
        await until(lambda: room.event_names().count("signer.failed") >= 3)
        assert room.lines("close") == []
        room.platform.failing = False
        await until(lambda: len(room.lines("close")) == 1)
        assert [line["seq"] for line in room.lines("receipt")] == [1]
        await until(lambda: room.ledger.sessions == 0)


async def test_a_gateway_that_leaves_while_its_session_is_signed_gets_it_closed(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        room.platform.gate.clear()
        gateway.send(gateway.opening())
        await until(lambda: room.committer._busy)
        await gateway.disconnect()
        await until(lambda: not room.server.connections)
        room.platform.gate.set()
        await until(lambda: len(room.lines("close")) == 1)
        await until(lambda: room.ledger.sessions == 0)


async def test_a_queue_that_is_too_long_is_overloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "MAX_WAITING", 10)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        room.platform.gate.clear()
        first = gateway.send(gateway.opening())
        await until(lambda: room.committer._busy)
        ids = [gateway.send(gateway.opening()) for _ in range(30)]
        refused = [await gateway.answer(i) for i in ids[10:]]
        room.platform.gate.set()
        assert {a.code for a in refused if isinstance(a, messages.Failure)} == {"overloaded"}
        assert not any(isinstance(a, messages.SessionOpened) for a in refused)
        await opened_all(gateway, [first, *ids[:10]])


async def test_a_refused_receipt_and_a_refused_close_can_be_sent_again_after_overload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        seq = await gateway.begin(session)
        with monkeypatch.context() as patch:
            patch.setattr(committer, "MAX_WAITING", 0)
            failure = await gateway.ask(gateway.receipt(session, seq), messages.Failure)
            assert failure.code == "overloaded"
            close = messages.CloseSession(id=901, session=session, reason="client_request", scratch="wiped")
            assert (await gateway.ask(close, messages.Failure)).code == "overloaded"
        await gateway.record(session, seq)
        await gateway.close_session(session)


async def test_a_bug_ends_the_process_rather_than_limp_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(tmp_path)
    await room.committer.sign_head()

    def broken(batch: object, now: int) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(room.ledger, "draft", broken)
    running = asyncio.create_task(room.committer.run())
    room.committer.submit([object()])  # type: ignore[list-item]
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running, PATIENCE_S)
    room.committer.close()
    room.journal.close()


async def test_receipts_alone_wait_while_the_signer_rests_and_go_with_what_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "REST_S", 3600.0)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        seqs = [await gateway.begin(session) for _ in range(3)]
        before = len(room.platform.signed)
        records = []
        for seq in seqs:
            records.append(gateway.send(gateway.receipt(session, seq)))
            await gateway.head()  # the receipt before it has arrived
        assert len(room.platform.signed) == before
        assert isinstance(await gateway.answer(gateway.send(gateway.opening())), messages.SessionOpened)
        answers = [await gateway.answer(record) for record in records]
        assert all(isinstance(answer, messages.ReceiptRecorded) for answer in answers)
        assert len(room.platform.signed) == before + 1


async def test_receipts_that_came_while_the_signer_was_busy_wait_for_its_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        seqs = [await gateway.begin(session) for _ in range(3)]
        await gateway.record(session, seqs[0])
        monkeypatch.setattr(committer, "REST_S", 3600.0)
        before = len(room.platform.signed)
        room.platform.gate.clear()
        second = gateway.send(gateway.receipt(session, seqs[1]))
        await until(lambda: room.committer._busy)
        third = gateway.send(gateway.receipt(session, seqs[2]))
        await gateway.head()
        room.platform.gate.set()
        assert isinstance(await gateway.answer(second), messages.ReceiptRecorded)
        await gateway.head()
        assert len(room.platform.signed) == before + 1
        assert isinstance(await gateway.answer(gateway.send(gateway.opening())), messages.SessionOpened)
        assert isinstance(await gateway.answer(third), messages.ReceiptRecorded)
        assert len(room.platform.signed) == before + 2


async def test_a_rest_ends_by_itself_and_with_the_attestor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        for _ in range(3):
            await gateway.record(session, await gateway.begin(session))
        monkeypatch.setattr(committer, "REST_S", 3600.0)
        await gateway.record(session, await gateway.begin(session))
        seq = await gateway.begin(session)
        last = gateway.send(gateway.receipt(session, seq))
        await gateway.head()
        assert len(room.lines("receipt")) == 4
        room.committer.drain()
        assert isinstance(await gateway.answer(last), messages.ReceiptRecorded)
    assert [line["seq"] for line in room.lines("receipt")] == [1, 2, 3, 4, 5]


async def test_what_comes_while_the_last_answers_are_given_is_signed_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "TOLD_AT_ONCE", 1)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        room.platform.gate.clear()
        ids = [gateway.send(gateway.opening())]
        await until(lambda: room.committer._busy)
        ids += [gateway.send(gateway.opening()) for _ in range(500)]
        await until(lambda: room.committer.waiting == 500)
        room.platform.gate.set()
        await gateway.answer(ids[0])
        await gateway.answer(ids[1])
        assert room.committer.idle
        assert room.committer._committed == []  # the last answers are being given: there is no other batch
        room.committer.submit(room.committer.ledger.close_all("expired"))
        room.committer.drain()
        await opened_all(gateway, ids[2:])
        await until(lambda: len(room.lines("close")) == len(ids))


async def test_closes_that_wait_for_another_try_get_it_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "RETRY_S", 3600.0)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        await gateway.open()
        room.platform.failing = True
        room.committer.submit(room.committer.ledger.close_all("expired"))
        await until(lambda: room.committer.failing and room.committer.idle)
        room.platform.failing = False
        room.committer.drain()
        await until(lambda: len(room.lines("close")) == 1)


async def test_a_note_is_tried_until_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "RETRY_S", 0.01)
    async with running_room(tmp_path) as room:
        room.platform.failing = True
        noting = asyncio.create_task(room.committer.note(start_line(7)))
        await until(lambda: room.event_names().count("signer.failed") >= 2)
        assert not noting.done()
        room.platform.failing = False
        await noting
        assert [line["count"] for line in room.lines("start")] == [7]


def closes_of(room: Room) -> list[object]:
    return [line["session"] for line in room.lines("close")]


async def test_a_gateway_that_leaves_while_its_answers_are_given_has_each_session_closed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of its sessions are in the log, and it has not heard of them: who closes them, the answer or the loss?"""
    monkeypatch.setattr(committer, "TOLD_AT_ONCE", 1)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        room.platform.gate.clear()
        ids = [gateway.send(gateway.opening())]
        await until(lambda: room.committer._busy)
        ids += [gateway.send(gateway.opening()) for _ in range(500)]
        await until(lambda: room.committer.waiting == 500)
        room.platform.gate.set()
        await gateway.answer(ids[0])
        await gateway.answer(ids[1])
        (connection,) = room.server.connections
        connection.gateway.lost("gateway_lost")
        await until(lambda: room.ledger.sessions == 0 and room.committer.idle)
        assert len(closes_of(room)) == len(set(closes_of(room))) == len(ids)


@pytest.mark.parametrize("exchanges", [0, 2])
async def test_a_session_whose_gateway_left_while_its_close_failed_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: int
) -> None:
    """Nobody asks for that close again, and what is open in the session would keep it from expiring."""
    monkeypatch.setattr(committer, "RETRY_S", 0.02)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        other = (await gateway.open()).session
        for _ in range(exchanges):
            await gateway.begin(session)
        room.platform.gate.clear()
        room.platform.failing = True
        gateway.send(messages.CloseSession(id=900, session=session, reason="client_request", scratch="wiped"))
        await until(lambda: room.committer._busy)
        await gateway.disconnect()
        await until(lambda: not room.server.connections)
        room.platform.gate.set()
        await until(lambda: room.event_names().count("signer.failed") >= 3)
        assert room.lines("close") == []
        room.platform.failing = False
        await until(lambda: room.ledger.sessions == 0, room.stream.getvalue)
        assert sorted(map(str, closes_of(room))) == sorted([session, other])
        receipts = [(line["session"], line["seq"], line["status"]) for line in room.lines("receipt")]
        assert receipts == [(session, seq + 1, "failed") for seq in range(exchanges)]


@pytest.mark.parametrize("failures", [1, 4])
async def test_what_a_gateway_reported_before_it_left_is_signed_as_it_was_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """And only the exchange that it had said nothing about is logged as lost. The close comes last, also when its signature would work."""
    monkeypatch.setattr(committer, "RETRY_S", 0.02)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        seqs = [await gateway.begin(session) for _ in range(3)]
        sign, left = room.platform.sign, [HardwareUnavailable("tpm.unreachable", "scripted")] * failures

        def failing(digest: bytes) -> bytes:
            signature = sign(digest)  # waits at the gate
            if left:
                raise left.pop()
            return signature

        monkeypatch.setattr(room.platform, "sign", failing)
        room.platform.gate.clear()
        gateway.send(gateway.receipt(session, seqs[1]))
        await until(lambda: room.committer._busy)
        gateway.send(gateway.receipt(session, seqs[0]))
        await until(lambda: room.committer.waiting == 1)
        await gateway.disconnect()
        await until(lambda: not room.server.connections)
        room.platform.gate.set()
        await until(lambda: room.ledger.sessions == 0, room.stream.getvalue)
        assert room.event_names().count("signer.failed") == failures
        told = [(line["seq"], line["status"]) for line in room.lines("receipt")]
        assert told == [(2, "complete"), (1, "complete"), (3, "failed")]
        assert closes_of(room) == [session]
