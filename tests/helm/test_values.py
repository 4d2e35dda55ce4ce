"""The schema is complete, and what is wrong is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within, with its place."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from objects(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from objects(schema[name], f"{path}[]")


@pytest.fixture(scope="module")
def schema(readme: Any) -> dict[str, Any]:
    return json.loads((readme.CHART / "values.schema.json").read_text("utf-8"))


def test_every_value_is_described_and_unknown_keys_refuse(schema: dict[str, Any]) -> None:
    for path, inner in objects(schema):
        if inner.get("properties"):
            assert inner["additionalProperties"] is (path == ".global"), path
        if path and not path.endswith("[]"):
            assert inner["description"].endswith("."), path


def test_schema_and_defaults_have_the_same_keys(schema: dict[str, Any], readme: Any) -> None:
    def keys(values: Any, inner: dict[str, Any], path: str = "") -> Iterator[tuple[str, set[str], set[str]]]:
        if "properties" in inner:
            yield path, set(values), set(inner["properties"]) - ({"global"} if not path else set())
            for name, below in inner["properties"].items():
                if name != "global":
                    yield from keys(values[name], below, f"{path}.{name}")

    values = yaml.safe_load((readme.CHART / "values.yaml").read_text("utf-8"))
    for path, has, described in keys(values, schema):
        assert has == described, path


def test_the_readme_has_the_table(readme: Any) -> None:
    text = (readme.CHART / "README.md").read_text("utf-8")
    assert readme.page(text) == text, "run scripts/chart_readme.py"


REFUSED_BY_SCHEMA = {
    "unknown key": ({"modle": {}}, "modle"),
    "unknown key beneath": ({"engine": {"argument": []}}, "argument"),
    "image tag latest": ({"image": {"tag": "latest"}}, "tag"),
    "image digest cut short": ({"image": {"digest": "sha256:abc"}}, "digest"),
    "no replicas": ({"replicas": 0}, "replicas"),
    "user root": ({"pod": {"uid": 0}}, "uid"),
    "group root": ({"attestation": {"tpm": {"groups": [0]}}}, "groups"),
    "no instance may be drained": ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
    "contradictory budget": ({"podDisruptionBudget": {"minAvailable": 1}}, "minAvailable"),
    "update schedule": ({"model": {"updateSchedule": "hourly"}}, "updateSchedule"),
    "telemetry as text": ({"telemetry": {"optIn": "false"}}, "optIn"),
    "PCR 24": ({"attestation": {"pcrs": [24]}}, "pcrs"),
    "egress to everywhere": (
        {"model": {"updateEgress": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}},
        "updateEgress",
    ),
    "egress to nowhere": ({"model": {"hub": {"egress": [{}]}}}, "egress"),
    "path upwards": ({"model": {"pvc": {"subPath": "../other"}}}, "subPath"),
    "device elsewhere": ({"attestation": {"tpm": {"device": "/dev/../etc/shadow"}}}, "device"),
    "witness": ({"log": {"exporter": "nobody"}}, "exporter"),
}
REFUSED_BY_TEMPLATE = {
    "no model name": ({"model": {"name": ""}}, "model.name"),
    "no claim": ({"model": {"pvc": {"claimName": ""}}}, "model.pvc.claimName"),
    "no model image": ({"model": {"source": "image"}}, "model.image.reference"),
    "hub without a model": ({"model": {"source": "hub"}}, "model.hub.id"),
    "hub without addresses": ({"model": {"source": "hub", "hub": {"id": "a/b"}}}, "model.hub.egress"),
    "no API keys": ({"apiKeys": {"existingSecret": ""}}, "apiKeys.existingSecret"),
    "two sources of API keys": ({"apiKeys": {"externalSecret": {"enabled": True}}}, "exclude each other"),
    "no store": ({"apiKeys": {"existingSecret": "", "externalSecret": {"enabled": True}}}, "storeName"),
    "software key unsaid": ({"attestation": {"key": "none"}}, "unsafeSoftwareKey"),
    "software key contradicted": (
        {"attestation": {"unsafeSoftwareKey": True}},
        "contradicts attestation.key: tpm2",
    ),
    "Nitro Enclave": ({"attestation": {"key": "nitro"}}, "not possible in a pod"),
    "statement too short": ({"attestation": {"statementTtlSeconds": 60}}, "statementTtlSeconds"),
    "collateral without places": (
        {"attestation": {"collateral": {"secret": "x"}}},
        "attestation.collateral.items",
    ),
    "GPUs without a vendor": ({"hardware": {"gpus": {"vendor": "none"}}}, "hardware.gpus.vendor"),
    "GPUs without a number": ({"hardware": {"gpus": {"count": 0}}}, "resource and count"),
    "reports of another vendor": (
        {"hardware": {"gpus": {"vendor": "amd", "evidence": "nvidia"}}},
        "hardware.gpus.evidence",
    ),
    "switches of another vendor": (
        {"hardware": {"gpus": {"vendor": "amd", "switches": True}}},
        "hardware.gpus.switches",
    ),
    "exposed without a name": ({"exposure": {"kind": "ingress"}}, "exposure.host"),
    "route without a Gateway": ({"exposure": {"kind": "gateway", "host": "a.b"}}, "exposure.gateway.name"),
    "terminator undeclared": (
        {"exposure": {"kind": "ingress", "host": "a.b", "mode": "terminating"}},
        "exposure.terminating.declared",
    ),
    "terminator without a certificate": (
        {
            "exposure": {
                "kind": "ingress",
                "host": "a.b",
                "mode": "terminating",
                "terminating": {"declared": True},
            }
        },
        "exposure.terminating.secretName",
    ),
    "picker behind passthrough": (
        {
            "exposure": {
                "kind": "gateway",
                "host": "a.b",
                "gateway": {"name": "g"},
                "inferencePool": {"endpointPicker": "p"},
            }
        },
        "exposure.inferencePool",
    ),
    "KEDA without Prometheus": ({"autoscaling": {"kind": "keda"}}, "autoscaling.prometheusAddress"),
    "autoscaling downwards": ({"replicas": 5, "autoscaling": {"kind": "hpa"}}, "autoscaling.maxReplicas"),
    "two policies": ({"verify": {"policy": {"secret": "x"}}}, "verify.policy"),
}


@pytest.mark.parametrize("name", REFUSED_BY_SCHEMA)
def test_the_schema_refuses(name: str, rendered: Any, charts: Any) -> None:
    changes, says = REFUSED_BY_SCHEMA[name]
    with pytest.raises(charts.Refused, match="schema") as caught:
        rendered("h200x8", changes)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", REFUSED_BY_TEMPLATE)
def test_contradictions_are_refused(name: str, rendered: Any, charts: Any) -> None:
    changes, says = REFUSED_BY_TEMPLATE[name]
    with pytest.raises(charts.Refused) as caught:
        rendered("h200x8", changes)
    assert says in str(caught.value)


def test_image_volumes_need_their_kubernetes(rendered: Any, charts: Any) -> None:
    changes = {"model": {"source": "image", "image": {"reference": "a/b:1"}}}
    with pytest.raises(charts.Refused, match=r"need Kubernetes 1\.33"):
        rendered("h200x8", changes, kubernetes="1.32.5")


def test_old_kubernetes_is_refused(rendered: Any, charts: Any) -> None:
    with pytest.raises(charts.Refused, match="kubeVersion"):
        rendered("h200x8", kubernetes="1.28.9")
