"""How the attestor says it is doing."""

from __future__ import annotations

from pathlib import Path

from fakes.attestor_room import running_room
from rlu_server.attestor import messages


async def test_its_condition_is_what_happened(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        before = await gateway.ask(messages.ReadCondition(id=70), messages.Condition)
        assert (before.entries, before.waiting, before.failing, before.leaving) == (0, 0, False, False)
        assert len(before.signatures) == len(messages.SIGNING_BUCKETS) + 1
        session = (await gateway.open()).session
        await gateway.begin(session)
        await gateway.record(session, 1)
        after = await gateway.ask(messages.ReadCondition(id=71), messages.Condition)
        assert (after.entries, after.exported) == (2, 0)
        assert sum(after.signatures) == sum(before.signatures) + 2
        assert after.signing_s > before.signing_s
        assert (after.head_at, after.stated_at) == (room.now, room.now)
        assert (after.drift, after.canary_at) == (None, None)
        await gateway.ask(messages.AckExport(id=72, size=2), messages.Exported)
        assert (await gateway.ask(messages.ReadCondition(id=73), messages.Condition)).exported == 2


async def test_failing_and_waiting_and_drift(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        room.scripted.failing = True
        await gateway.ask(gateway.opening(), messages.Failure)
        assert (await gateway.ask(messages.ReadCondition(id=70), messages.Condition)).failing
        room.scripted.failing = False
        await gateway.open()
        room.server.roster.drift = "policy.measurement"
        found = await gateway.ask(messages.ReadCondition(id=71), messages.Condition)
        assert (found.failing, found.drift) == (False, "policy.measurement")


async def test_nobody_asks_before_the_greeting(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.connect()
        refused = await gateway.ask(messages.ReadCondition(id=70), messages.Failure)
        assert refused.code == "hello_required"
