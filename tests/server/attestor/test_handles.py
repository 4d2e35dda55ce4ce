"""Keys at persistent handles: which handle has which key, across every step of a rotation and a crash after each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.log_operator import Operator
from rlu_attestation import jose
from rlu_attestation.continuity import Continuity
from rlu_attestation.instance import ueid
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.handles import COUNT, HandleSlots
from rlu_server.attestor.places import KeyAt

FIRST = 0x81000010


def word(old: Operator, new: Operator) -> str:
    """The old key's word about the new one."""
    made = Continuity(jwk=old.jwk, issued_at=old.now, successor=new.kid, head=old.head())
    return jose.jws_assemble(made.signing_input(), old.sign(made.signing_input()))


def key(operator: Operator, handle: int) -> KeyAt:
    return KeyAt(handle, ueid(operator.kid))


class Desk:
    """A state directory, and the slots over it as a start finds them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.old, self.new = Operator().grow(1), Operator().grow(1)
        self.slots = HandleSlots(directory, FIRST)

    def started(self) -> HandleSlots:
        again = HandleSlots(self.directory, FIRST)
        again.recover()
        return again

    def rotate(self) -> None:
        self.slots.next.note(key(self.new, FIRST + 1))
        self.slots.swap(ueid(self.new.kid), word(self.old, self.new))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_without_a_rotation_there_is_no_file(desk: Desk) -> None:
    slots = desk.started()
    assert (slots.current, slots.stepped_down, slots.gone) == (FIRST, None, ())
    assert (slots.next.first, slots.next.count) == (FIRST, COUNT)
    assert list(desk.directory.iterdir()) == []


def test_a_rotation_goes_there_and_back(desk: Desk) -> None:
    (desk.directory / "key.json").write_text("of the old key")
    desk.rotate()
    old, new = key(desk.old, FIRST), key(desk.new, FIRST + 1)
    for slots in (desk.slots, desk.started()):
        assert (slots.current, slots.stepped_down, slots.gone) == (new, old, ())
    assert (desk.directory / "key.previous.json").read_text() == "of the old key"
    desk.slots.drop_previous()
    assert not (desk.directory / "key.previous.json").exists()
    for slots in (desk.slots, desk.started()):
        assert (slots.current, slots.stepped_down, slots.gone) == (new, None, (old,))
    desk.slots.removed(old)
    assert desk.started().gone == ()
    desk.old, third = desk.new, Operator().grow(1)
    desk.slots.next.note(key(third, FIRST))
    desk.slots.swap(ueid(third.kid), word(desk.old, third))
    assert (desk.started().current, desk.started().stepped_down) == (key(third, FIRST), new)


def test_a_crash_before_the_keys_change_places_leaves_the_old_one(desk: Desk) -> None:
    desk.slots.next.note(key(desk.new, FIRST + 1))
    slots = desk.started()
    assert (slots.current, slots.stepped_down) == (FIRST, None)
    assert slots.gone == (key(desk.new, FIRST + 1),), "it may be at its handle, or not"
    # The next attempt does not forget it.
    slots.next.note(key(Operator(), FIRST + 2))
    slots.drop_next()
    assert [one.handle for one in slots.gone] == [FIRST + 1, FIRST + 2]


def test_a_crash_while_they_change_places_keeps_the_old_ones_age(desk: Desk) -> None:
    (desk.directory / "key.json").write_text("of the old key")
    desk.slots.next.note(key(desk.new, FIRST + 1))
    (desk.directory / "key.json").rename(desk.directory / "key.previous.json")
    assert desk.started().current == FIRST
    assert (desk.directory / "key.json").read_text() == "of the old key"
    assert not (desk.directory / "key.previous.json").exists()


def test_a_swap_is_undone(desk: Desk) -> None:
    (desk.directory / "key.json").write_text("of the old key")
    desk.rotate()
    desk.slots.swap_back()
    old, new = key(desk.old, FIRST), key(desk.new, FIRST + 1)
    assert (desk.slots.current, desk.slots.stepped_down, desk.slots.gone) == (old, None, ())
    assert (desk.directory / "key.json").read_text() == "of the old key"
    desk.slots.drop_next()
    assert desk.started().gone == (new,)


def test_a_key_that_never_came_to_sign_again_is_removed_with_the_next_rotation(desk: Desk) -> None:
    desk.rotate()
    third = Operator().grow(1)
    desk.slots.next.note(key(third, FIRST + 2))
    desk.slots.swap(ueid(third.kid), word(desk.new, third))
    assert desk.slots.stepped_down == key(desk.new, FIRST + 1)
    assert desk.slots.gone == (key(desk.old, FIRST),)


def test_another_handle_in_the_settings_begins_anew(desk: Desk) -> None:
    desk.rotate()
    other = HandleSlots(desk.directory, FIRST + 0x100)
    other.recover()
    assert (other.current, other.stepped_down, other.gone) == (FIRST + 0x100, None, ())
    assert desk.started().current == key(desk.new, FIRST + 1), "until it is written over"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b'{"configured":"0x81000010","current":{"handle":"0x40000001","ueid":"x"}}',
        b'{"configured":"0x81000010","more":1}',
        b"\xff",
    ],
)
def test_a_damaged_file_is_refused(desk: Desk, damage: bytes) -> None:
    desk.slots.file.write_bytes(damage)
    with pytest.raises(NotReady) as refusal:
        desk.started()
    assert refusal.value.code == "key.handles"
    assert str(desk.slots.file) in refusal.value.message


def test_the_file_is_for_people_too(desk: Desk) -> None:
    desk.rotate()
    value = json.loads(desk.slots.file.read_text())
    assert value["configured"] == "0x81000010"
    assert value["current"] == {"handle": "0x81000011", "ueid": ueid(desk.new.kid)}
    assert value["previous"]["ueid"] == ueid(desk.old.kid)
    assert desk.slots.file.stat().st_mode & 0o777 == 0o600
