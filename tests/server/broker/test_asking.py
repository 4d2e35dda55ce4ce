"""Evidence for a key request from a working fake of the kernel's interface, through the attestor's own collectors."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fakes import amd
from fakes.broker_room import BrokerRoom
from fakes.configfs_tsm import ConfigfsTsm, snp
from rlu_attestation.models import Software
from rlu_server import settings as configuration
from rlu_server.attestor import collect
from rlu_server.attestor.collect.tsm import TsmReports
from rlu_server.attestor.errors import NotReady
from rlu_server.broker import asking, protocol
from rlu_server.broker.asking import Post
from rlu_server.broker.sealing import Header
from rlu_server.models.manifest import File, Manifest

WEIGHTS = Manifest((File("a", 1, bytes(32)),))


def without_http(room: BrokerRoom) -> Post:
    def post(path: str, media_type: str, content: bytes) -> bytes:
        if path == protocol.CHALLENGE_PATH:
            return room.desk.challenge()
        return room.desk.release(content, "192.0.2.7")

    return post


def test_sev_snp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From configfs-tsm to the key; nothing of it is written below the state directory."""
    room = BrokerRoom(tmp_path, now=time.time(), manifest=WEIGHTS.sha256)
    state, given = tmp_path / "state", tmp_path / "collateral" / "sev-snp"
    state.mkdir()
    given.mkdir(parents=True)
    now = datetime.now(timezone.utc)
    day = timedelta(days=1)
    (given / "ark.crl").write_bytes(amd.ark("Milan").revoke(this_update=now - day, next_update=now + day))
    attestation = {"key": "sev-snp", "collateral_dir": str(given.parent)}
    settings = configuration.load(None, {}, {"state_dir": str(state), "attestation": attestation})
    header = Header(room.key.kid, os.urandom(32), 1 << 20, WEIGHTS)
    with ConfigfsTsm(snp(amd.Chip())) as device:
        monkeypatch.setattr(collect, "TsmReports", lambda: TsmReports(device.path))
        key = asking.ask(header, Software("rlu", "0.1.0"), asking.evidence_of(settings), without_http(room))
    assert key == room.key.key
    assert list(state.iterdir()) == []
    room.close()


def test_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "TsmReports", lambda: TsmReports(tmp_path / "none"))
    settings = configuration.load(None, {}, {"state_dir": str(tmp_path), "attestation": {"key": "sev-snp"}})
    with pytest.raises(NotReady):
        asking.evidence_of(settings)(bytes(32))
