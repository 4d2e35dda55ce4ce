"""Files that authentication depends on, in a moment in which this process cannot open any."""

from __future__ import annotations

import errno
import json
import time
from pathlib import Path
from typing import Any

import pytest

from fakes.descriptors import none_free
from fakes.issuer import Authority
from rlu_attestation.encoding import b64u
from rlu_server.adapters.auth.entrance import Entrance
from rlu_server.adapters.events import Events
from rlu_server.adapters.tls import MemoryTls
from rlu_server.core.apikeys import KeyFile, mint
from rlu_server.core.auth.credentials import Credentials, Peer
from rlu_server.core.errors import GatewayError
from rlu_server.settings_auth import Auth

RECORD, KEY = mint(b"\x01" * 8, b"\x02" * 32, "acme", "alice", 0)


class Room:
    """A key file with one key, and a CA of clients' certificates."""

    def __init__(self, directory: Path) -> None:
        self.keys, self.ca = directory / "apikeys.json", directory / "ca.pem"
        self.lines: list[bytes] = []
        self.withdrawn = 0
        self.put(KeyFile(pseudonym_key=b64u(bytes(32)), keys=[RECORD]))
        self.ca.write_bytes(Authority().pem)
        rule = {"source": "dns", "pattern": "{principal}.x", "tenant": "t"}
        certificates = {"mode": "optional", "ca_file": self.ca, "rules": [rule]}
        self.entrance = Entrance(
            Auth.model_validate({"certificates": certificates}),
            self.keys,
            MemoryTls(("localhost",)),
            Events(self.lines.append),
            self._withdraw,
            time.time,
        )
        self.entrance.load()
        self.told()

    def _withdraw(self) -> None:
        self.withdrawn += 1

    def put(self, file: KeyFile) -> None:
        new = self.keys.with_name("new")
        new.write_bytes(file.to_json())
        new.replace(self.keys)

    def refusal(self) -> str:
        """Of the key; empty: it is good."""
        credentials = Credentials(f"Bearer {KEY}".encode(), None, Peer("192.0.2.1"))
        try:
            self.entrance.authenticator.authenticate(credentials)
        except GatewayError as error:
            return error.code
        return ""

    def told(self) -> list[dict[str, Any]]:
        lines, self.lines[:] = list(map(json.loads, self.lines)), []
        return [{name: one[name] for name in one if name not in ("time", "level")} for one in lines]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_a_key_that_is_taken_out_then_does_not_stay_for_ever(room: Room) -> None:
    assert room.refusal() == ""
    room.put(KeyFile(pseudonym_key=b64u(bytes(32))))
    with none_free():
        room.entrance.load()
        room.entrance.load()
    assert room.refusal() == ""
    unreadable = {"code": "unreadable", "file": "keys", "errno": errno.EMFILE}
    assert room.told() == [{"event": "keys_refused", **unreadable}]
    room.entrance.load()
    assert room.refusal() == "key_invalid"
    assert room.told() == [{"event": "keys_loaded", "keys": 0}]


def test_nor_does_a_certification_authority(room: Room) -> None:
    """There is no file to open here: TLS wants a descriptor."""
    room.ca.unlink()
    with none_free():
        room.entrance.load()
        room.entrance.load()
    unreadable = {"code": "unreadable", "file": "ca", "errno": errno.EMFILE}
    assert room.told() == [{"event": "auth_refused", **unreadable}]
    assert room.withdrawn == 0
    room.entrance.load()
    room.entrance.load()
    assert room.withdrawn == 1
    assert room.told() == [{"event": "auth_refused", "code": "absent", "file": "ca"}]
