"""The decision: replay, stale, wrong model, revoked and unknown keys, and a line in the journal before any key."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fakes.broker_room import MANIFEST, BrokerRoom, items, policy
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_server.broker import protocol
from rlu_server.broker.challenges import LIFE_S
from rlu_server.broker.vault import ModelKey


@pytest.fixture
def room(tmp_path: Path) -> Iterator[BrokerRoom]:
    made = BrokerRoom(tmp_path)
    yield made
    made.close()


def lines(room: BrokerRoom) -> list[dict[str, Any]]:
    return [json.loads(line) for line in room.vault.journal.read_bytes().splitlines()]


def refused(room: BrokerRoom, request: bytes) -> RluError:
    with pytest.raises(RluError) as caught:
        room.desk.release(request, "192.0.2.7")
    return caught.value


def request_of(room: BrokerRoom, **changes: bytes) -> bytes:
    encoded = room.claims(X25519PrivateKey.generate(), **changes).encode()
    return protocol.encode_request(encoded, items("sev-snp", encoded))


def test_released(room: BrokerRoom) -> None:
    assert room.ask() == room.key.key
    (line,) = lines(room)
    assert {name: line[name] for name in ("event", "kid", "name", "peer", "time", "software")} == {
        "event": "released",
        "kid": b64u(room.key.kid),
        "name": "demo",
        "peer": "192.0.2.7",
        "time": int(room.now),
        "software": "rlu 0.1.0",
    }
    assert b64u(room.key.key) not in room.vault.journal.read_text()
    assert room.told == [("broker_released", b64u(room.key.kid))]


def test_a_replay(room: BrokerRoom) -> None:
    request = request_of(room)
    room.desk.release(request, "192.0.2.7")
    assert refused(room, request).code == "broker.challenge.used"
    assert [line["event"] for line in lines(room)] == ["released"]


def test_a_replay_of_what_was_refused(room: BrokerRoom) -> None:
    room.set_policy(policy("sev-snp", measured=f'[measurements.sev-snp]\nmeasurement = ["{"00" * 48}"]'))
    request = request_of(room)
    assert refused(room, request).code == "broker.evidence.rejected"
    room.set_policy(policy("sev-snp"))
    assert refused(room, request).code == "broker.challenge.used"


def test_a_stale_request(room: BrokerRoom) -> None:
    request = request_of(room)
    room.monotonic += LIFE_S + 0.01
    assert refused(room, request).code == "broker.challenge.expired"


def test_a_request_to_a_broker_that_was_started_again(room: BrokerRoom) -> None:
    request = request_of(room)
    room.desk = room.new_desk()
    assert refused(room, request).code == "broker.challenge.unknown"
    assert lines(room) == []


def test_evidence_with_other_claims(room: BrokerRoom) -> None:
    """What somebody caught on its way, with a public key of his own in it."""
    encoded = room.claims(X25519PrivateKey.generate()).encode()
    found = items("sev-snp", encoded)
    document = json.loads(encoded)
    document["rlu_hpke"]["public_key"] = b64u(X25519PrivateKey.generate().public_key().public_bytes_raw())
    stolen = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    error = refused(room, protocol.encode_request(stolen, found))
    assert error.code == "broker.evidence.rejected"


def test_another_model(room: BrokerRoom) -> None:
    error = refused(room, request_of(room, manifest=b"x" * 32))
    assert error.code == "broker.model.other"


def test_keys_are_for_their_models(room: BrokerRoom) -> None:
    other = ModelKey(os.urandom(32), b"o" * 32, "other")
    room.vault.add(other)
    assert refused(room, request_of(room, kid=other.kid)).code == "broker.model.other"
    assert room.ask(kid=other.kid, manifest=b"o" * 32) == other.key


def test_an_unknown_key(room: BrokerRoom) -> None:
    assert refused(room, request_of(room, kid=b"x" * 32)).code == "broker.key.unknown"
    assert [(line["event"], line["code"]) for line in lines(room)] == [("refused", "broker.key.unknown")]


def test_a_revoked_key(room: BrokerRoom) -> None:
    """It counts for the very next request, also for one whose challenge is older."""
    request = request_of(room)
    room.vault.revoke(room.key.kid, "leaked", 1)
    error = refused(room, request)
    assert (error.code, error.message) == ("broker.key.revoked", "this key is revoked: leaked")


def test_a_policy_of_its_own(room: BrokerRoom) -> None:
    strict = policy("sev-snp", measured=f'[measurements.sev-snp]\nmeasurement = ["{"00" * 48}"]')
    room.set_policy(strict, f"{b64u(room.key.kid)}.toml")
    assert refused(room, request_of(room)).code == "broker.evidence.rejected"
    other = ModelKey(os.urandom(32), MANIFEST, "another")
    room.vault.add(other)
    assert room.ask(kid=other.kid) == other.key


def test_no_line_no_key(room: BrokerRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of(room)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert refused(room, request).code == "broker.journal"
    assert lines(room) == []
    assert room.told == []


def test_what_is_no_request(room: BrokerRoom) -> None:
    assert refused(room, b"{}").code == "broker.request"
    assert lines(room) == []
    assert room.told == [("broker_refused", "broker.request")]
