"""Manifests, notes, the test of the release, and what Prometheus and Grafana ask for."""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from fakes.documents import families
from rlu_server.core.errors import CATALOGUE

CLIENTS = {"namespaceSelector": {"matchLabels": {"name": "clients"}}}
PROMETHEUS = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
OBSERVED = {"monitoring": {"serviceMonitor": True, "rules": True, "dashboard": True}}


@pytest.mark.parametrize("preset", ["cpu-demo", "h100x8", "h200x8", "h200x8-multinode", "mi300x8"])
def test_k8s_is_what_the_chart_says(preset: str, charts: Any, rendered: Any) -> None:
    committed = (charts.MANIFESTS / f"{preset}.yaml").read_text("utf-8").splitlines()
    differences = list(
        difflib.unified_diff(committed, charts.manifest(preset).splitlines(), "k8s", "chart", "", "", 3, "")
    )
    assert not differences, "run scripts/render_chart.py\n" + "\n".join(differences)


def test_every_preset_has_its_manifest_and_no_other(charts: Any) -> None:
    assert {path.stem for path in charts.MANIFESTS.glob("*.yaml")} == set(charts.presets())


def test_notes_tell_three_commands(rendered: Any) -> None:
    notes = rendered().notes
    assert [line[0] for line in notes.splitlines() if re.match(r"\d\. ", line)] == ["1", "2", "3"]
    assert "kubectl -n rlu rollout status statefulset/rlu" in notes
    assert "rlu policy init --from https://localhost:8443" in notes
    assert "helm -n rlu test rlu --logs" in notes


def release_tests(made: Any) -> list[Any]:
    """What `helm test` runs."""
    return [hook for hook in made.hooks if hook["metadata"]["annotations"]["helm.sh/hook"] == "test"]


def test_notes_say_what_weakens(rendered: Any) -> None:
    assert "every verifier refuses it" in rendered("cpu-demo").notes
    assert "every verifier" not in rendered().notes
    without = rendered("h200x8", {"verify": {"policy": {"configMap": ""}}})
    assert "`helm test` has no tests" in without.notes
    assert release_tests(without) == []


def test_helm_test_verifies_every_instance(rendered: Any) -> None:
    hooks = release_tests(rendered("h200x8", {"replicas": 2}))
    commands = [hook["spec"]["containers"][0]["command"] for hook in hooks]
    assert commands == [
        ["rlu", "verify", f"https://rlu-{i}.rlu.svc:443", "--policy", "/etc/rlu-policy/policy.toml"]
        for i in (0, 1)
    ]


@pytest.mark.parametrize(
    ("preset", "waivers", "accepted"),
    [("cpu-demo", True, True), ("cpu-demo", False, False), ("h200x8", True, False)],
)
def test_a_software_key_passes_only_where_both_values_say_so(
    rendered: Any, preset: str, waivers: bool, accepted: bool
) -> None:
    """Without the option every test of the demo would end with 10: no policy can waive a software key."""
    [hook] = release_tests(rendered(preset, {"verify": {"acceptWaivers": waivers}}))
    assert ("--insecure-accept-software-key" in hook["spec"]["containers"][0]["command"]) is accepted


def test_notes_draft_a_policy_that_can_be_drafted(rendered: Any) -> None:
    """`rlu policy init` refuses evidence that does not hold, and with a software key none does."""
    assert "rlu policy init --unverified --from" in rendered("cpu-demo").notes
    assert "rlu policy init --from" in rendered().notes


@pytest.mark.parametrize(("code", "passed_on"), [(0, 0), (10, 10), (11, 0), (2, 2)])
def test_waivers_pass_only_when_accepted(rendered: Any, code: int, passed_on: int) -> None:
    [hook] = rendered("cpu-demo").hooks
    command = hook["spec"]["containers"][0]["command"]
    around = command[: command.index("rlu")]
    instead = [sys.executable, "-c", f"raise SystemExit({code})"]
    assert around[0] == "python3"
    done = subprocess.run([sys.executable, *around[1:], *instead], timeout=60, check=False)
    assert done.returncode == passed_on


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Names of the samples that a gateway exports; a test of the gateway holds the table against a running one."""
    names: set[str] = set()
    for family in families():
        samples = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        names |= {family.name + sample for sample in samples}
    return names


def test_alerts_and_dashboard_ask_for_what_is_exported(rendered: Any, exported: set[str]) -> None:
    release = rendered(
        "h200x8",
        {**OBSERVED, "autoscaling": {"kind": "keda", "prometheusAddress": "http://p", "kvCachePercent": 80}},
    )
    [rules] = release.of("PrometheusRule")
    [board] = [json.loads(c["data"]["rlu.json"]) for c in release.of("ConfigMap") if "rlu.json" in c["data"]]
    [scaler] = release.of("ScaledObject")
    questions = [rule["expr"] for rule in rules["spec"]["groups"][0]["rules"]]
    questions += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    questions += [trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]]
    for question in questions:
        assert "%{" not in question
        names = set(re.findall(r"\b(rlu_[a-z_]+|vllm:[a-z_]+)", question))
        assert names, question
        assert names <= exported, question
        assert set(re.findall(r'code="([a-z_]+)"', question)) <= set(CATALOGUE), question


def test_autoscaling_by_a_metric_that_is_exported(rendered: Any, exported: set[str]) -> None:
    [scaler] = rendered("h200x8", {"autoscaling": {"kind": "hpa"}}).of("HorizontalPodAutoscaler")
    assert {one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"]} <= exported


def test_alerts_say_what_is_the_matter(rendered: Any) -> None:
    [rules] = rendered("h200x8", OBSERVED).of("PrometheusRule")
    for rule in rules["spec"]["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} == set(rule["annotations"])


def test_prometheus_scrapes_each_pod_once(rendered: Any) -> None:
    release = rendered("h200x8", {**OBSERVED, "replicas": 3})
    [monitor] = release.of("ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [
        s["metadata"]["name"] for s in release.of("Service") if wanted <= s["metadata"]["labels"].items()
    ]
    assert found == ["rlu-instances"]


def test_prometheus_reaches_the_metrics_and_nobody_else(rendered: Any) -> None:
    """One port from the settings to the scrape; the clients' is none of Prometheus' business, nor theirs its."""
    release = rendered(
        "h200x8", {**OBSERVED, "networkPolicy": {"from": [CLIENTS], "monitoringFrom": [PROMETHEUS]}}
    )
    [monitor] = release.of("ServiceMonitor")
    [scraped] = monitor["spec"]["endpoints"]
    [service] = [s for s in release.of("Service") if s["metadata"]["name"] == "rlu-instances"]
    [port] = [one for one in service["spec"]["ports"] if one["name"] == scraped["port"]]
    [pods] = release.of("StatefulSet")
    container = pods["spec"]["template"]["spec"]["containers"][0]
    [open_port] = [one for one in container["ports"] if one["name"] == port["targetPort"]]
    [serving] = [p for p in release.of("NetworkPolicy") if p["metadata"]["name"] == "rlu-serving"]
    let_in = {rule["ports"][0]["port"]: rule["from"] for rule in serving["spec"]["ingress"]}
    assert let_in[open_port["containerPort"]] == [PROMETHEUS]
    assert PROMETHEUS not in let_in[8443]
    [settings] = [c["data"]["rlu.toml"] for c in release.of("ConfigMap") if "rlu.toml" in c["data"]]
    assert f'[metrics]\nlisten = "0.0.0.0:{open_port["containerPort"]}"' in settings


def test_without_prometheus_metrics_have_no_port(rendered: Any) -> None:
    release = rendered("h200x8", {"networkPolicy": {"monitoringFrom": [PROMETHEUS]}})
    [settings] = [c["data"]["rlu.toml"] for c in release.of("ConfigMap") if "rlu.toml" in c["data"]]
    assert '[metrics]\nlisten = "unix"' in settings
    assert "9464" not in json.dumps([o for o in release.objects if o["kind"] != "ConfigMap"])


def test_questions_go_by_labels_that_there_are(rendered: Any) -> None:
    release = rendered("h200x8", OBSERVED)
    [rules] = release.of("PrometheusRule")
    [board] = [json.loads(c["data"]["rlu.json"]) for c in release.of("ConfigMap") if "rlu.json" in c["data"]]
    known = {family.name: family.labels for family in families()}
    questions = [rule["expr"] for rule in rules["spec"]["groups"][0]["rules"]]
    questions += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for question in questions:
        name = re.sub("_(bucket|sum|count)$", "", re.findall(r"\brlu_[a-z_]+", question)[0])
        asked = {
            label.strip() for by in re.findall(r"by \(([a-z, ]+)\)", question) for label in by.split(",")
        }
        asked |= set(re.findall(r"([a-z]+)=~?\"", question))
        assert asked - {"pod", "le", "namespace", "service"} <= known[name], question


@pytest.mark.parametrize(
    "concern",
    [
        "rlu_key_rotation_due_seconds",
        "rlu_attestor_drift",
        "rlu_tls_certificate_expires_seconds",
        "rlu_log_export_lag",
        "rlu_canary_age_seconds",
        "rlu_attestor_signing_seconds_bucket",
        'code="signer_unavailable"',
    ],
)
def test_there_is_an_alert(rendered: Any, concern: str) -> None:
    [rules] = rendered("h200x8", OBSERVED).of("PrometheusRule")
    assert [r for r in rules["spec"]["groups"][0]["rules"] if concern in r["expr"]]


def test_routes_follow_the_api_that_is_installed(rendered: Any, charts: Any) -> None:
    changes = {"exposure": {"kind": "gateway", "host": "llm.example.com", "gateway": {"name": "edge"}}}
    newer = {**charts.CUSTOM_KINDS, "gateway.networking.k8s.io/v1": ("HTTPRoute", "TLSRoute")}
    assert {r["apiVersion"] for r in rendered("h200x8", changes).of("TLSRoute")} == {
        "gateway.networking.k8s.io/v1alpha2"
    }
    [pool, instance] = rendered("h200x8", changes, custom_kinds=newer).of("TLSRoute")
    assert pool["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert instance["spec"]["hostnames"] == ["rlu-0.llm.example.com"]
