"""The attestor and the licence: no session without one in force, open ones finish, and everybody is told in time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.attestor_process import GatewaySide
from fakes.attestor_room import Room, running_room
from fakes.vendor import DAY, Vendor
from rlu_attestation import canonical, jose
from rlu_attestation.instance import InstanceClaims, profile_digest
from rlu_attestation.statements import Close
from rlu_server.attestor import messages
from rlu_server.attestor.licensing import Licensing
from rlu_server.attestor.messages import Condition, ReadCondition
from rlu_server.licence.document import Answer, digest
from rlu_server.licence.mark import Mark
from rlu_server.licence.place import Place

VENDOR = Vendor()
BEGIN = 100_000_000
END, GRACE = BEGIN + 40 * DAY, 14 * DAY


class Licensed:
    """A room's licence: its files, and looks at them."""

    def __init__(self, room: Room, directory: Path) -> None:
        self.room = room
        room.now = BEGIN
        self.directory = directory
        self.place = Place(
            directory / "licence.jws", [directory / "vendor.pub.pem"], directory / "licence-answer.jws"
        )
        self.install()
        self.licensing = self.begin()

    def begin(self) -> Licensing:
        """What a start of the attestor makes."""
        mark = Mark(self.directory / "licence-time", b"s" * 32)
        self.licensing = Licensing(self.place, mark, lambda: self.room.now, self.room.events)
        self.room.server.roster.licensing = self.licensing
        self.room.attesting._licence = lambda: self.licensing.mention
        self.look()
        return self.licensing

    def install(self, **changes: int) -> None:
        fields = {"not_before": BEGIN, "expires_at": END, "grace_s": GRACE} | changes
        VENDOR.install(self.directory, **fields)

    def look(self, head_at: int = 0) -> None:
        self.licensing.look(head_at)

    def at(self, now: int) -> None:
        self.room.now = now
        self.look()

    def told(self) -> list[tuple[str, object]]:
        lines = map(json.loads, self.room.stream.getvalue().splitlines())
        return [
            (line["event"].removeprefix("licence."), line.get("count", line.get("code")))
            for line in lines
            if line["event"].startswith("licence.")
        ]


async def refused(gateway: GatewaySide) -> str:
    answer = await gateway.answer(gateway.send(gateway.opening()))
    assert isinstance(answer, messages.Failure)
    return answer.code


async def test_its_end_ends_nothing_that_has_begun(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        licensed = Licensed(room, tmp_path)
        gateway = await room.greeted()
        licensed.at(END + GRACE - 1)
        session = (await gateway.open()).session  # in the grace period
        licensed.at(END + GRACE)
        assert await refused(gateway) == "licence_expired"
        # The session that is open goes on, is recorded, and closed by whoever opened it.
        await gateway.record(session, await gateway.begin(session))
        closed = await gateway.close_session(session)
        assert Close.parse(closed.logged.statement).count == 1
        # A new licence counts at the next look, without a restart.
        licensed.install(expires_at=END + 400 * DAY)
        licensed.look()
        await gateway.open()


async def test_everybody_is_told_ahead(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        licensed = Licensed(room, tmp_path)
        for left in (31, 30, 29, 14, 13, 7, 6, 1, 0):
            licensed.at(END - left * DAY)
        licensed.at(END + GRACE)
        assert licensed.told() == [
            ("valid", None), ("ending", 30), ("ending", 14), ("ending", 7), ("ending", 1), ("grace", None), ("expired", None),
        ]  # fmt: skip


async def test_what_is_no_licence(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        licensed = Licensed(room, tmp_path)
        gateway = await room.greeted()
        licensed.place.file.unlink()
        licensed.look()
        assert await refused(gateway) == "licence_invalid"
        licensed.place.file.write_text(Vendor().licence(not_before=BEGIN, expires_at=END).sign(Vendor().key))
        licensed.look()
        assert await refused(gateway) == "licence_invalid"
        licensed.install(not_before=BEGIN + 1000)
        licensed.look()
        assert await refused(gateway) == "licence_not_yet"
        licensed.install()
        licensed.look()
        await gateway.open()
        assert licensed.told() == [
            ("valid", None), ("invalid", "licence.file"), ("invalid", "licence.key"), ("not_yet", None), ("valid", None),
        ]  # fmt: skip


async def test_withdrawn_by_the_vendor(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        licensed = Licensed(room, tmp_path)
        gateway = await room.greeted()
        answer = Answer("A-17", "withdrawn", BEGIN - GRACE, bytes(32))
        licensed.place.answer.write_text(answer.sign(Vendor().key))
        licensed.look()
        await gateway.open()  # anybody can write such an answer
        licensed.place.answer.write_text(answer.sign(VENDOR.key))
        licensed.look()
        assert await refused(gateway) == "licence_expired"


async def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """Also over a restart, and also when only the log knows the time."""
    async with running_room(tmp_path) as room:
        licensed = Licensed(room, tmp_path)
        gateway = await room.greeted()
        licensed.at(END + GRACE)
        licensed.at(BEGIN)
        assert await refused(gateway) == "licence_expired"
        licensed.begin()
        assert await refused(gateway) == "licence_expired"
        assert licensed.told().count(("time", "clock.set_back")) == 2
        (tmp_path / "licence-time").unlink()
        licensed.begin()
        await gateway.open()
        licensed.look(head_at=END + GRACE)
        assert await refused(gateway) == "licence_expired"


async def test_a_mark_that_is_not_ours(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        licensed = Licensed(room, tmp_path)
        Mark(tmp_path / "licence-time", b"t" * 32).advance(END + GRACE)
        licensed.begin()
        gateway = await room.greeted()
        await gateway.open()
        assert ("time", "licence.mark") in licensed.told()


async def test_a_mark_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and the time that is known still counts."""

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "full")

    async with running_room(tmp_path) as room:
        licensed = Licensed(room, tmp_path)
        monkeypatch.setattr("rlu_server.licence.mark.write_private", full)
        licensed.at(END + GRACE)
        licensed.at(BEGIN)
        gateway = await room.greeted()
        assert await refused(gateway) == "licence_expired"
        assert ("time", "errno.28") in licensed.told()


async def test_statements_name_it_and_stay_the_same_instance(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        licensed = Licensed(room, tmp_path)
        gateway = await room.greeted()
        session = await gateway.open()
        answer = await gateway.answer(gateway.send(messages.Attest(id=gateway.next_id(), nonce=b"n" * 16)))
        assert isinstance(answer, messages.Attestation)
        payload = jose.jws_parse(answer.statement).payload
        claims = InstanceClaims.parse(payload)
        text = licensed.place.file.read_text().strip()
        assert claims.licence is not None
        assert (claims.licence.digest, claims.licence.expires_at) == (digest(text), END)
        without = {name: value for name, value in canonical.decode(payload).items() if name != "rlu_licence"}
        assert profile_digest(canonical.decode(payload)) == profile_digest(without)
        licensed.install(expires_at=END + DAY)
        licensed.look()
        for connection in room.server.gateways:
            connection.tend()
        # Another licence is not another instance: nobody was sent away.
        begun = await gateway.answer(
            gateway.send(messages.BeginExchange(id=gateway.next_id(), session=session.session))
        )
        assert isinstance(begun, messages.ExchangeBegun)


async def test_its_condition(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()

        async def condition() -> messages.LicenceCondition | None:
            answer = await gateway.answer(gateway.send(ReadCondition(id=gateway.next_id())))
            assert isinstance(answer, Condition)
            return answer.licence

        assert await condition() is None
        licensed = Licensed(room, tmp_path)
        assert await condition() == messages.LicenceCondition(
            ends_in_s=END - BEGIN, refuses_in_s=END + GRACE - BEGIN, refusing=False
        )
        licensed.at(END + GRACE + 5)
        assert await condition() == messages.LicenceCondition(
            ends_in_s=-GRACE - 5, refuses_in_s=-5, refusing=True
        )
        licensed.place.file.unlink()
        licensed.look()
        assert await condition() == messages.LicenceCondition(
            ends_in_s=None, refuses_in_s=None, refusing=True
        )
