"""An encrypted model in the chart: opened by the attestor's container, which reaches the broker by way of the relay and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomllib

from rlu_attestation.cli.app import load as command
from rlu_server.outreach.relay import BROKER
from rlu_server.supervisor import alone

NAME = "an encrypted model"
PEER = {"ipBlock": {"cidr": "192.0.2.44/32"}}
ENCRYPTED = {"broker": "https://keys.vendor.example", "memoryGib": 20, "egress": [PEER]}
RELAY = {"enabled": True, "clusterIP": "10.96.0.20", "tls": {"secretName": "t"}}
GOOD: dict[str, Any] = {"attestation": {"key": "tdx"}, "relay": RELAY, "model": {"encrypted": ENCRYPTED}}


def the(made: Any, kind: str, name: str) -> Any:
    [found] = [item for item in made.of(kind) if item["metadata"]["name"] == name]
    return found


def containers(made: Any) -> dict[str, Any]:
    [workload] = made.of("StatefulSet")
    return {one["name"]: one for one in workload["spec"]["template"]["spec"]["containers"]}


def mounts(container: Any) -> dict[str, Any]:
    return {one["mountPath"]: one for one in container["volumeMounts"]}


def settings(made: Any) -> dict[str, Any]:
    [text] = [c["data"]["rlu.toml"] for c in made.of("ConfigMap") if "rlu.toml" in c["data"]]
    return tomllib.loads(text)


def test_one_writes_where_the_other_reads(one_of: Any) -> None:
    made = one_of(NAME)
    places = {name: mounts(one) for name, one in containers(made).items()}
    weights = f"/run/rlu/{alone.SHARED}"
    assert not places["attestor"][weights].get("readOnly")
    assert places["engine"][weights]["readOnly"] is True
    assert weights not in places["gateway"]
    # The settings' path is in both: the attestor opens what the engine is to load, and changes neither.
    for name in ("attestor", "engine"):
        assert places[name]["/models"]["readOnly"] is True
    assert "/models" not in places["gateway"]
    [workload] = made.of("StatefulSet")
    volumes = {one["name"]: one for one in workload["spec"]["template"]["spec"]["volumes"]}
    assert volumes["weights"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "700Gi"}


@pytest.mark.parametrize(
    ("own", "all_of_it"),
    [("2Gi", "22528Mi"), ("512Mi", "20992Mi"), ("1Ti", "1069056Mi"), ("1500Ki", "20482Mi")],
)
def test_its_memory_counts_with_who_writes_it(rendered: Any, own: str, all_of_it: str) -> None:
    changes = {**GOOD, "resources": {"attestor": {"memory": own}}}
    assert containers(rendered("h200x8", changes))["attestor"]["resources"]["limits"]["memory"] == all_of_it
    plain = rendered("h200x8", {"resources": {"attestor": {"memory": own}}})
    assert containers(plain)["attestor"]["resources"]["limits"]["memory"] == own


def test_the_way_is_the_relays(one_of: Any) -> None:
    made = one_of(NAME)
    found = settings(made)["weights"]
    assert found["broker"] == "https://10.96.0.20:8787/broker"
    assert {path.removesuffix("/v1/challenge") for path in BROKER if path.endswith("challenge")} == {
        "/broker"
    }
    assert str(Path(found["ca_file"]).parent) in mounts(containers(made)["attestor"])
    pod = the(made, "Deployment", "rlu-relay")["spec"]["template"]["spec"]
    words = pod["containers"][0]["command"]
    parsed = command("relay").make_context("relay", words[2:], resilient_parsing=False).params
    assert parsed["broker"] == "https://keys.vendor.example:8444"
    assert parsed["broker_proxy"] == "http://proxy.internal:3128"
    assert str(Path(parsed["broker_ca"]).parent) in mounts(pod["containers"][0])
    policies = {one["metadata"]["name"]: one["spec"] for one in made.of("NetworkPolicy")}
    assert [rule["ports"][0]["port"] for rule in policies["rlu-serving"]["egress"]] == [8787]
    out, names = policies["rlu-relay"]["egress"]
    assert out["ports"] == [{"port": 3128, "protocol": "TCP"}]
    assert {rule["port"] for rule in names["ports"]} == {53}


def test_the_update_job_may_take_encrypted_ones(one_of: Any) -> None:
    [text] = [c["data"]["update.toml"] for c in one_of(NAME).of("ConfigMap") if "update.toml" in c["data"]]
    assert tomllib.loads(text)["weights"]["broker"]


def test_without_one_there_is_nothing_of_it(rendered: Any) -> None:
    made = rendered("h200x8")
    assert "weights" not in settings(made)
    for container in containers(made).values():
        assert f"/run/rlu/{alone.SHARED}" not in mounts(container)
    assert "/models" not in mounts(containers(made)["attestor"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"relay": {"enabled": False}}, "relay.enabled"),
        ({"model": {"encrypted": {**ENCRYPTED, "memoryGib": 0}}}, "model.encrypted.memoryGib"),
        ({"model": {"encrypted": {**ENCRYPTED, "egress": []}}}, "model.encrypted.egress"),
        ({"attestation": {"key": "tpm2"}}, "TEEs that measure their software"),
        ({"model": {"encrypted": {**ENCRYPTED, "broker": "http://keys.vendor.example"}}}, "broker"),
    ],
    ids=["no-relay", "no-memory", "nowhere", "no-tee", "plain-http"],
)
def test_what_is_refused(rendered: Any, changes: Any, named: str) -> None:
    with pytest.raises(Exception, match=named):
        rendered("h200x8", {**GOOD, **changes})
