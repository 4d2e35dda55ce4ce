"""An encrypted model in a pod: the attestor's container asks the broker by way of the relay and opens it; the engine's loads it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pod import UIDS, Pod, directories, pod_in
from sealed import SECRET, broker_in, chip

from fakes.broker_room import BrokerRoom
from rlu_server import settings as configuration
from rlu_server.outreach.relay import Broker, Plan, Relay
from rlu_server.supervisor import prepare, runtime
from rlu_server.supervisor.errors import Misconfigured, ModelRefused


@dataclass
class Site:
    pod: Pod
    room: BrokerRoom
    relay: Relay

    @property
    def weights(self) -> Path:
        return self.pod.volumes / "weights"

    def opened(self) -> list[str]:
        """Plain files that are there now."""
        return sorted(path.name for path in self.weights.glob("weights1-*/*"))


@pytest.fixture
def site() -> Iterator[Site]:
    with directories() as (directory, volumes), broker_in(directory) as room, chip() as device:
        device.parent.chmod(0o711)
        device.chmod(0o666)
        relay = Relay(Plan(broker=Broker(f"http://127.0.0.1:{room.server.port}")), "127.0.0.1:0")
        relay.start()
        try:
            with pod_in(directory, volumes, f"http://127.0.0.1:{relay.port}/broker") as pod:
                pod.environment["SNP_DEVICE"] = str(device)
                yield Site(pod, room, relay)
        finally:
            relay.close()


def test_opened_loaded_wiped_and_opened_again_until_revoked(site: Site) -> None:
    pod = site.pod
    gateway, attestor, engine = pod.start("gateway"), pod.start("attestor"), pod.start("engine")
    gateway.until(lambda: gateway.said("serving"))
    status, opened = pod.call("POST", "/v1/rlu/sessions", {"nonce": "A" * 43})
    assert status == 201, opened
    session = opened["session"]
    assert pod.ask(session) == 200
    attestor.until(lambda: attestor.said("weights.wiped"))
    assert len(attestor.said("weights.opened")) == 1
    assert site.opened() == ["config.json"]
    # The attestor's, and readable for the pod's group: who loads cannot change it.
    [config] = site.weights.glob("weights1-*/config.json")
    assert (config.stat().st_uid, config.stat().st_mode & 0o777) == (UIDS["attestor"], 0o640)
    assert not gateway.inside(pod.run / "weights").exists()
    # What left is noted, here as going to the relay.
    journal = (pod.volumes / "state" / "egress.jsonl").read_text().splitlines()
    told = [(one["job"], one["destination"]) for one in map(json.loads, journal)]
    assert told == [("weights", f"127.0.0.1:{site.relay.port}")] * 2
    assert [event for event, _ in site.room.told] == ["broker_released"]

    # The engine's container alone comes back: opened for it once more; same instance, same session.
    engine.process.kill()
    assert engine.end()[0] == -signal.SIGKILL
    engine = pod.start("engine")
    engine.until(lambda: pod.ask(session) == 200)
    attestor.until(lambda: len(attestor.said("weights.wiped")) == 2)
    assert [event for event, _ in site.room.told] == ["broker_released"] * 2
    assert not attestor.said("instance.changed")

    # Revoked: the engine's container says why it does not start, and no weights are anywhere.
    site.room.vault.revoke(site.room.key.kid, "leaked", 1)
    engine.process.kill()
    engine.end()
    code, errors = pod.start("engine").end()
    assert code == ModelRefused.exit_code
    assert "this key is revoked: leaked [broker.key.revoked]" in errors
    pod.expected = [gateway, attestor]
    attestor.until(lambda: attestor.said("weights.refused"))
    assert [name for name in site.opened() if name != "config.json"] == []

    for one in (gateway, attestor):
        one.process.send_signal(signal.SIGTERM)
    assert [one.end()[0] for one in (gateway, attestor)] == [0, 0]
    journal_text = (pod.volumes / "state" / "egress.jsonl").read_bytes()
    assert SECRET[:64] not in journal_text
    shutil.rmtree(pod.volumes / "state")
    assert [path for path in pod.volumes.rglob("*") if path.is_file()] == []


def test_without_a_broker_it_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: UIDS["engine"])
    settings = configuration.load(site.pod.config, {}, {"weights": {"broker": ""}})
    place = runtime.share(site.pod.volumes, "facts")
    with pytest.raises(Misconfigured, match=r"is encrypted: set \[weights\] broker"):
        prepare.deployment(settings, place, {}, None, "engine")
