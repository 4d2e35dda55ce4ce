"""Sessions and records through everything that can happen to the attestor."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from fakes import attestor as fake
from fakes.rig import Rig, Wire
from rlu_attestation.commitment import Tag
from rlu_attestation.statements import Close, Receipt, SessionStatement
from rlu_server.adapters.attestor_client import OnAnswer
from rlu_server.attestor import messages
from rlu_server.core.errors import GatewayError
from rlu_server.core.sessions import State
from waiting import turns

PATH = "/v1/chat/completions"


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"session_ttl_s": 3600, "session_idle_s": 600}


async def streaming(rig: Rig, script: str = "slow", **options: object) -> Wire:
    wire = await rig.wire()
    await wire.send(rig.request(PATH, rig.chat(stream=True, script=script), **options))  # type: ignore[arg-type]
    await wire.until(b"data: ")
    return wire


def records(rig: Rig) -> list[messages.RecordReceipt]:
    return [m for m in rig.attestor.received if isinstance(m, messages.RecordReceipt)]


async def restart(rig: Rig) -> None:
    await rig.attestor.stop()
    await rig.eventually(lambda: not rig.gateway.readiness.attestor)
    await rig.attestor.start()
    await rig.eventually(lambda: rig.gateway.readiness.attestor)


async def test_a_session_that_the_attestor_ended_is_over_as_soon_as_that_is_known(rig: Rig):
    """The instance changed while an answer ran, and the receipt is refused: nobody is told that the session goes on."""
    stream = await streaming(rig)
    (session,) = rig.gateway.ledger.table
    rig.attestor.sessions[session.id].closed = True
    await stream.response()
    await rig.eventually(lambda: session.state is State.CLOSED, 60)
    found = [(one["event"], one.get("code")) for one in rig.events]
    assert ("receipt_lost", "unknown_session") in found
    assert ("session_closed", "ended_by_attestor") in found
    again = await rig.call(PATH, rig.chat(), headers={"RLU-Session": session.id})
    assert (again.status, again.json()["error"]["code"]) == (410, "session_closed")


async def test_a_session_that_ended_before_it_was_there_says_nothing_of_the_attestor(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """Whoever asks for a second, on a busy machine or in the last moment of one, would cut everybody else off."""
    send = fake.Connection.answer

    def late(connection: fake.Connection, answer: messages.Answer) -> None:
        if isinstance(answer, messages.SessionOpened):
            expires = SessionStatement.parse(answer.logged.statement).expires_at
            while time.time() <= expires:
                time.sleep(0.01)
        send(connection, answer)

    monkeypatch.setattr(fake.Connection, "answer", late)
    opened = await rig.call("/v1/rlu/sessions", {"nonce": "A" * 22, "ttl_s": 1})
    assert opened.status == 201, opened.json()
    answer = await rig.call(PATH, rig.chat(), headers={"RLU-Session": opened.json()["session"]})
    assert (answer.status, answer.json()["error"]["code"]) == (410, "session_expired")
    monkeypatch.undo()
    assert (await rig.call(PATH, rig.chat())).status == 200
    assert "attestor_untrusted" not in {one["event"] for one in rig.events}
    assert sum(isinstance(message, messages.Hello) for message in rig.attestor.received) == 1


async def test_without_an_attestor_nothing_new_is_served(rig: Rig):
    before = await rig.call(PATH, rig.chat())
    await rig.attestor.stop()
    await rig.eventually(lambda: not rig.gateway.readiness.attestor)
    seen = len(rig.engine.seen)
    for headers in ({"RLU-Session": before.session}, {"session-id": "new"}):
        answer = await rig.call(PATH, rig.chat(), headers=headers)
        assert (answer.status, answer.json()["error"]["code"]) == (503, "signer_unavailable")
        assert answer.headers["retry-after"] == "5"
    assert all(s.target == "/health" for s in list(rig.engine.seen)[seen:])
    ready = await rig.call("/readyz", None, who=None, method="GET")
    assert (ready.status, [r["code"] for r in ready.json()["reasons"]]) == (503, ["signer_unavailable"])
    await rig.attestor.start()
    await rig.ready()
    after = await rig.call(PATH, rig.chat(), headers={"RLU-Session": before.session})
    assert (after.session, after.seq) == (before.session, 2)


async def test_what_runs_goes_on_through_a_restart_and_is_recorded_after_it(rig: Rig):
    wire = await streaming(rig)
    finished = await rig.call(PATH, rig.chat())
    assert (await rig.receipt(finished)).seq == 2
    await restart(rig)
    response = await wire.response()
    assert response.seq == 1
    receipt = await rig.receipt(response)
    # Its old number was never used; the receipt says the new one and verifies with it.
    assert receipt.seq == 3
    assert receipt.status == "complete"
    assert receipt.response is not None
    assert receipt.response.commitment == rig.commitment(response.session, Tag.RESPONSE, 3, response.content)
    later = await rig.call(PATH, rig.chat())
    assert (later.session, later.seq) == (response.session, 4)


async def test_no_number_is_announced_twice_after_a_restart(rig: Rig):
    running = [await streaming(rig, headers={"session-id": "x"}) for _ in range(2)]
    await restart(rig)
    new = await rig.call(PATH, rig.chat(), headers={"session-id": "x"})
    old = [await wire.response() for wire in running]
    assert {new.session} == {each.session for each in old}
    assert [each.seq for each in old] == [1, 2]
    assert new.seq == 3
    for response in (*old, new):
        receipt = await rig.receipt(response)
        assert receipt.response is not None
        expected = rig.commitment(response.session, Tag.RESPONSE, receipt.seq, response.content)
        assert receipt.response.commitment == expected


async def test_a_new_exchange_waits_until_old_numbers_are_settled(rig: Rig):
    running = await streaming(rig, headers={"session-id": "x"})
    ended = await streaming(rig, headers={"session-id": "x"})
    rig.attestor.delay_s = 5.0
    ended.abort()
    await rig.eventually(lambda: records(rig))
    rig.attestor.delay_s = 0.0
    await restart(rig)
    new = await rig.call(PATH, rig.chat(), headers={"session-id": "x"})
    assert new.seq == 3
    await rig.eventually(lambda: rig.gateway.ledger.recorder.pending == 0)
    old = await running.response()
    assert (await rig.receipt(old)).status == "complete"
    (session,) = rig.attestor.sessions.values()
    assert sorted(session.logged) == [1, 2, 3]


async def test_what_ended_while_the_attestor_was_away_is_recorded_when_it_is_back(rig: Rig):
    wires = [await streaming(rig) for _ in range(3)]
    await rig.attestor.stop()
    await rig.eventually(lambda: not rig.gateway.readiness.attestor)
    for wire in wires:
        wire.abort()
    await rig.eventually(lambda: rig.gateway.ledger.recorder.pending == 3)
    await rig.attestor.start()
    await rig.eventually(lambda: rig.gateway.ledger.recorder.pending == 0)
    (session,) = rig.attestor.sessions.values()
    assert sorted(session.logged) == [1, 2, 3]
    assert {Receipt.parse(logged.statement).status for logged in session.logged.values()} == {"aborted"}
    assert rig.gateway.relay.measures.receipts_lost == 0


async def test_an_answer_lost_in_a_crash_is_asked_for_again_under_its_old_number(rig: Rig):
    response = await rig.call(PATH, rig.chat(), headers={"session-id": "first"})
    rig.attestor.corrupt = None
    original = rig.attestor.sessions[response.session]
    assert await rig.receipt(response)
    # The attestor logs the next receipt and dies before it can say so.
    lost = asyncio.Event()
    send = fake.Connection.answer

    def answer(self: fake.Connection, answer: messages.Answer) -> None:
        if isinstance(answer, messages.ReceiptRecorded):
            lost.set()
        else:
            send(self, answer)

    fake.Connection.answer = answer  # type: ignore[method-assign]
    try:
        second = await rig.call(PATH, rig.chat(), headers={"session-id": "first"})
        await asyncio.wait_for(lost.wait(), 60)
    finally:
        fake.Connection.answer = send  # type: ignore[method-assign]
    assert rig.gateway.ledger.recorder.pending == 1
    await restart(rig)
    assert (await rig.receipt(second)).seq == 2
    assert (original.count, sorted(original.logged)) == (2, [1, 2])


async def test_a_failing_signer_refuses_new_sessions_and_keeps_receipts_for_later(rig: Rig):
    first = await rig.call(PATH, rig.chat())
    assert await rig.receipt(first)
    rig.attestor.failing = True
    second = await rig.call(PATH, rig.chat())
    assert (second.status, second.session) == (200, first.session)
    new = await rig.call(PATH, rig.chat(), headers={"session-id": "new"})
    assert (new.status, new.json()["error"]["code"]) == (503, "signer_unavailable")
    pending = await rig.call(second.headers["rlu-receipt"], None, method="GET")
    assert (pending.status, pending.json()["code"]) == (503, "receipt_pending")
    rig.attestor.failing = False
    assert (await rig.receipt(second)).seq == 2


async def test_a_session_the_attestor_has_ended_is_replaced_for_its_conversation(rig: Rig):
    first = await rig.call(PATH, rig.chat())
    rig.attestor.sessions[first.session].closed = True
    second = await rig.call(PATH, rig.chat())
    assert second.status == 200
    assert second.session != first.session
    named = await rig.call(PATH, rig.chat(), headers={"RLU-Session": first.session})
    assert (named.status, named.json()["error"]["code"]) == (410, "session_closed")


async def test_sessions_end_when_they_expire_with_a_signed_close(rig: Rig):
    opened = await rig.gateway.ledger.open_explicit(
        rig.gateway.relay.keys.authenticate(rig.keys["alice"], 0), b"n" * 16, None, 2
    )
    answer = await rig.call(PATH, rig.chat(), headers={"RLU-Session": opened.id})
    assert answer.status == 200
    await rig.eventually(lambda: opened.closed is not None)
    assert opened.closed is not None
    close = Close.parse(opened.closed.statement)
    assert (close.reason, close.count, close.last_seq) == ("expired", 1, 1)
    refused = await rig.call(PATH, rig.chat(), headers={"RLU-Session": opened.id})
    assert (refused.status, refused.json()["error"]["code"]) == (410, "session_expired")
    assert (await rig.receipt(answer)).seq == 1


async def test_an_explicit_session_carries_its_nonce(rig: Rig):
    made = await rig.call("/v1/rlu/sessions", {"nonce": "AAECAwQFBgcICQ"})
    assert made.status in (200, 201), made.content
    session_id = made.json()["session"]
    statement = rig.statement(session_id)
    assert (statement.nonce, statement.opening) == (bytes(range(10)), None)
    answer = await rig.call(PATH, rig.chat(), headers={"RLU-Session": session_id})
    assert (answer.session, answer.seq) == (session_id, 1)


async def test_closing_cuts_what_runs_and_signs_the_close_after_its_receipt(rig: Rig):
    wire = await streaming(rig, headers={"session-id": "x"})
    session_id = wire.responses.current.headers["rlu-session"]  # type: ignore[union-attr]
    closed = await rig.call(f"/v1/rlu/sessions/{session_id}", None, method="DELETE")
    assert closed.status == 200, closed.content
    close = rig.signed(closed.json()["close"] if "close" in closed.json() else closed.json(), Close)
    assert (close.count, close.reason) == (1, "client")
    response = await wire.response()
    assert b"session_closed" in response.content
    receipt = await rig.receipt(response)
    assert (receipt.status, receipt.reason) == ("partial", "session_closed")
    fresh = await rig.call(PATH, rig.chat(), headers={"session-id": "x"})
    assert fresh.session != session_id


class Held:
    """Keeps back the attestor's answers to one kind of request."""

    def __init__(self, rig: Rig, kind: type[messages.Message], monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[tuple[OnAnswer, messages.Answer | None]] = []
        send = rig.gateway.attestor.send

        def hold(request: messages.Message, on_answer: OnAnswer) -> None:
            if isinstance(request, kind):
                send(request, lambda answer: self.answers.append((on_answer, answer)))
            else:
                send(request, on_answer)

        monkeypatch.setattr(rig.gateway.attestor, "send", hold)

    def release(self) -> None:
        for on_answer, answer in self.answers:
            on_answer(answer)


async def test_closing_cuts_what_is_being_numbered_too(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    first = await rig.call(PATH, rig.chat())
    session = rig.session(first.session)
    numbers = Held(rig, messages.BeginExchange, monkeypatch)
    wire = await rig.wire()
    await wire.send(rig.request(PATH, rig.chat(stream=True, script="slow")))
    await rig.eventually(lambda: numbers.answers)
    closing = asyncio.create_task(rig.call(f"/v1/rlu/sessions/{session.id}", None, method="DELETE"))
    await rig.eventually(lambda: session.state is State.CLOSING)
    numbers.release()
    closed = await closing
    assert rig.signed(closed.json(), Close).count == 2
    await wire.response()
    assert [record.reason for record in records(rig)] == [None, "session_closed"]


async def test_a_session_that_is_being_opened_when_we_drain_is_closed_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    openings = Held(rig, messages.OpenSession, monkeypatch)
    asking = asyncio.create_task(rig.call("/v1/rlu/sessions", {"nonce": "AAECAwQFBgcICQ"}))
    await rig.eventually(lambda: openings.answers)
    draining = asyncio.create_task(rig.gateway.ledger.drain())
    await turns()
    assert not draining.done()
    openings.release()
    await draining
    session = (await asking).json()["session"]
    assert rig.session(session).close_reason == "drain"
    assert rig.attestor.sessions[session].closed


@pytest.mark.parametrize("who", ["bob", "carol"])
async def test_sessions_and_receipts_are_their_principals_alone(rig: Rig, who: str):
    mine = await rig.call(PATH, rig.chat(), headers={"session-id": "shared"})
    theirs = await rig.call(PATH, rig.chat(), who=who, headers={"session-id": "shared"})
    assert theirs.session != mine.session
    with_mine = await rig.call(PATH, rig.chat(), who=who, headers={"RLU-Session": mine.session})
    assert (with_mine.status, with_mine.json()["error"]["code"]) == (404, "session_not_found")
    receipt = await rig.call(mine.headers["rlu-receipt"], None, who=who, method="GET")
    assert receipt.status == 404
    for path in (f"/v1/rlu/sessions/{mine.session}",):
        assert (await rig.call(path, None, who=who, method="GET")).status == 404
        assert (await rig.call(path, None, who=who, method="DELETE")).status == 404
    listed = await rig.call("/v1/rlu/sessions", None, who=who, method="GET")
    assert mine.session not in listed.content.decode()


async def test_tenants_get_salts_of_their_own(rig: Rig):
    salts = {}
    for who in ("alice", "carol", "bob"):
        await rig.call(PATH, rig.chat(), who=who)
        salts[who] = json.loads(
            rig.engine.seen[-1].body
            if rig.engine.seen[-1].method == "POST"
            else next(s.body for s in reversed(rig.engine.seen) if s.method == "POST")
        )["cache_salt"]
    assert salts["alice"] == salts["carol"] != salts["bob"]
    await rig.call(PATH, rig.chat(cache_salt=salts["alice"]), who="bob")
    folded = json.loads(next(s.body for s in reversed(rig.engine.seen) if s.method == "POST"))["cache_salt"]
    assert folded not in salts.values()


async def test_a_full_table_refuses(rig: Rig):
    rig.gateway.ledger.table._max_sessions = 1
    assert (await rig.call(PATH, rig.chat())).status == 200
    answer = await rig.call(PATH, rig.chat(), headers={"session-id": "b"})
    assert (answer.status, answer.json()["error"]["code"]) == (503, "sessions_full")


async def test_a_tenant_with_many_sessions_makes_room_for_another(rig: Rig):
    rig.gateway.ledger.table._max_sessions = 2
    mine = [await rig.call(PATH, rig.chat(), headers={"session-id": name}) for name in ("a", "b")]
    for answer in mine:
        await rig.receipt(answer)
    theirs = await rig.call(PATH, rig.chat(), who="bob")
    assert theirs.status == 200
    oldest = rig.session(mine[0].session)
    await rig.eventually(lambda: oldest.closed is not None)
    assert Close.parse(oldest.closed.statement).reason == "crowded_out"


async def test_another_instance_ends_the_sessions_of_the_old_one(rig: Rig):
    first = await rig.call(PATH, rig.chat())
    await rig.attestor.stop()
    await rig.eventually(lambda: not rig.gateway.readiness.attestor)
    rig.attestor = fake.FakeAttestor(rig.places.attestor_socket)
    await rig.attestor.start()
    await rig.ready()
    second = await rig.call(PATH, rig.chat())
    assert second.session != first.session
    assert rig.statement(second.session).issuer == rig.attestor.issuer


async def test_garbage_from_the_attestor_ends_only_that_connection(rig: Rig):
    for garbage in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc", b"\x00\x00\x00\x01\x80"):
        (connection,) = rig.attestor.connections
        assert connection.transport is not None
        connection.transport.write(garbage)
        await rig.eventually(lambda: not rig.gateway.readiness.attestor)
        await rig.ready()
    assert (await rig.call(PATH, rig.chat())).status == 200


async def test_a_receipt_that_was_never_announced_does_not_exist(rig: Rig):
    answer = await rig.call(PATH, rig.chat())
    session = rig.session(answer.session)
    for seq in (0, 2, 10**9):
        with pytest.raises(GatewayError) as caught:
            await rig.gateway.ledger.recorder.receipt(session, seq, 0.01)
        assert caught.value.code == "receipt_not_found"


async def test_a_record_that_fails_after_a_restart_is_tried_again(rig: Rig):
    wire = await streaming(rig)
    await rig.attestor.stop()
    await rig.eventually(lambda: not rig.gateway.readiness.attestor)
    wire.abort()
    await rig.eventually(lambda: rig.gateway.ledger.recorder.pending == 1)
    rig.attestor.failing = True
    await rig.attestor.start()
    await rig.eventually(lambda: len(records(rig)) > 0)
    await asyncio.sleep(0.8)
    assert rig.gateway.ledger.recorder.pending == 1
    rig.attestor.failing = False
    await rig.eventually(lambda: rig.gateway.ledger.recorder.pending == 0)
    (session,) = rig.attestor.sessions.values()
    assert len(session.logged) == 1
    assert rig.gateway.relay.measures.receipts_lost == 0
