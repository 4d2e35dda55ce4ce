"""The update job: off unless a source is named; its settings, its account, its way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlu_attestation.cli.app import load as command
from rlu_server import settings as configuration
from rlu_server.cluster.rights import rules
from rlu_server.updates import addresses
from rlu_server.updates.opening import CREDENTIALS
from rlu_server.updates.rolling import ANNOTATION
from rlu_server.updates.store import VERSION, Store

UPDATES = "updates"
NAME = "rlu-update"


def by_name(rendered: Any, kind: str) -> dict[str, Any]:
    return {item["metadata"]["name"]: item for item in rendered.of(kind)}


def pod_of(made: Any) -> Any:
    return by_name(made, "CronJob")[NAME]["spec"]["jobTemplate"]["spec"]["template"]


def settings_of(made: Any, folder: Path) -> configuration.Settings:
    [container] = pod_of(made)["spec"]["containers"]
    [mount] = [one for one in container["volumeMounts"] if one["mountPath"] == "/etc/rlu/rlu.toml"]
    text = by_name(made, "ConfigMap")[NAME]["data"][mount["subPath"]]
    (folder / "rlu.toml").write_text(text, "utf-8")
    environment = {item["name"]: item["value"] for item in container["env"]}
    return configuration.load(folder / "rlu.toml", environment)


def test_off_by_default(rendered: Any) -> None:
    made = rendered("h200x8", {})
    assert NAME not in {item["metadata"]["name"] for item in made.objects}
    assert "/current" not in str(made.of("ConfigMap"))


def test_the_job_is_configured_as_its_command_reads_it(one_of: Any, tmp_path: Path) -> None:
    made = one_of(UPDATES)
    settings = settings_of(made, tmp_path)
    update = settings.update
    address = addresses.parse(update.source, update.endpoint, update.region)
    assert isinstance(address, addresses.Artefact)
    assert (address.endpoint, address.name) == ("https://mirror.example:5000", "team/qwen")
    assert (update.allow, update.proxy) == (("blobs.example:443",), "")
    assert (update.rate_bytes, update.reserve_bytes, update.keep) == (50 << 20, 10 << 30, 2)
    assert update.rollout == "rlu/rlu"
    assert settings.model.update_schedule == "weekly"
    assert settings.model.name
    [container] = pod_of(made)["spec"]["containers"]
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    store = Store.at(settings.model.path)
    assert str(store.root) == "/models/qwen"
    assert settings.state_dir == store.root
    assert [path for path, one in mounts.items() if not one.get("readOnly")] == ["/models", "/tmp"]
    assert str(update.ca_file) in mounts
    assert str(update.credentials) in mounts
    assert {str(path) for path in settings.model.signers} <= set(mounts)
    assert set(CREDENTIALS) >= {"username", "password", "token"}
    _, name, sub, *options = container["command"]
    known = {option for p in command(name).commands[sub].params for option in (*p.opts, *p.secondary_opts)}
    assert (name, sub) == ("update", "run")
    assert set(options) <= known


def test_what_serves_reads_where_the_job_writes(one_of: Any, tmp_path: Path) -> None:
    made = one_of(UPDATES)
    text = by_name(made, "ConfigMap")["rlu-settings"]["data"]["rlu.toml"]
    assert "[update]" not in text
    (tmp_path / "serving.toml").write_text(text)
    serving = configuration.load(tmp_path / "serving.toml", {})
    assert serving.model.path == settings_of(made, tmp_path).model.path == "/models/qwen/current"
    [claim] = [v for v in pod_of(made)["spec"]["volumes"] if v["name"] == "model"]
    [workload] = made.of("StatefulSet")
    [served] = [v for v in workload["spec"]["template"]["spec"]["volumes"] if v["name"] == "model"]
    assert claim["persistentVolumeClaim"]["claimName"] == served["persistentVolumeClaim"]["claimName"]
    assert served["persistentVolumeClaim"]["readOnly"] is True
    groups = {
        spec["securityContext"]["fsGroup"]
        for spec in (pod_of(made)["spec"], workload["spec"]["template"]["spec"])
    }
    assert len(groups) == 1


def test_it_finds_room_beside_an_instance(one_of: Any) -> None:
    spec = pod_of(one_of(UPDATES))["spec"]
    [container] = spec["containers"]
    assert container["resources"]["requests"] == {"cpu": "200m", "memory": "2Gi"}
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "2Gi"}


SCHEDULES = {"manual": True, "daily": False, "weekly": False}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule(schedule: str, rendered: Any) -> None:
    made = rendered("h200x8", changed(updateSchedule=schedule))
    job = by_name(made, "CronJob")[NAME]["spec"]
    assert job["suspend"] is SCHEDULES[schedule]
    assert (job["schedule"].split()[-1] == "0") == (schedule == "weekly")
    assert job["concurrencyPolicy"] == "Forbid"


def changed(**model: Any) -> dict[str, Any]:
    return {
        "controllers": {"apiServer": {"egress": [{"ipBlock": {"cidr": "192.0.2.7/32"}}]}},
        "model": {
            "signers": "PEM",
            "updateEgress": [{"ipBlock": {"cidr": "192.0.2.10/32"}}],
            "update": {"source": "s3://models/qwen"},
            **model,
        },
    }


def test_its_account_may_do_what_the_code_does(one_of: Any) -> None:
    made = one_of(UPDATES)
    assert by_name(made, "Role")[NAME]["rules"] == rules("update", namespaced=True, name="rlu")
    [subject] = by_name(made, "RoleBinding")[NAME]["subjects"]
    spec = pod_of(made)["spec"]
    assert subject["name"] == spec["serviceAccountName"] == NAME
    assert spec["automountServiceAccountToken"] is False
    policy = by_name(made, "ValidatingAdmissionPolicy")[f"{NAME}-rlu"]["spec"]
    [condition] = policy["matchConditions"]
    assert f"system:serviceaccount:rlu:{NAME}" in condition["expression"]
    assert policy["failurePolicy"] == "Fail"
    assert {one["name"]: one["expression"] for one in policy["variables"]}["key"] == f"'{ANNOTATION}'"
    assert any(
        f"^{VERSION.pattern}$".replace(r"(?:\d", "([0-9]") in one["expression"]
        for one in policy["validations"]
    )
    binding = by_name(made, "ValidatingAdmissionPolicyBinding")[f"{NAME}-rlu"]["spec"]
    assert binding == {"policyName": f"{NAME}-rlu", "validationActions": ["Deny"]}
    # It is not an annotation that the chart sets, or every upgrade would roll back.
    [workload] = made.of("StatefulSet")
    assert ANNOTATION not in workload["spec"]["template"]["metadata"]["annotations"]


def test_where_it_may_go(one_of: Any) -> None:
    made = one_of(UPDATES)
    policies = {name: item["spec"] for name, item in by_name(made, "NetworkPolicy").items()}
    spec = policies[NAME]
    source, server, names = spec["egress"]
    assert [one["port"] for one in source["ports"]] == [5000]
    assert [one["port"] for one in server["ports"]] == [6443]
    assert {one["port"] for one in names["ports"]} == {53}
    labels = pod_of(made)["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert spec["policyTypes"] == ["Egress"]
    assert policies["rlu-serving"]["egress"] == []
    assert not policies["rlu-serving"]["podSelector"]["matchLabels"].items() <= labels.items()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a schedule without a source": ({"model": {"updateSchedule": "daily"}}, "model.update.source"),
    "no signers": (changed(signers=""), "model.signers"),
    "nowhere to go": (changed(updateEgress=[]), "model.updateEgress"),
    "onto an image": (
        changed(source="image", image={"reference": "example/model:1"}),
        "model.source: pvc",
    ),
    "several nodes an instance": (changed() | {"group": {"nodes": 2}}, "group.nodes"),
    "a directory": (changed(update={"source": "/mnt"}), "source"),
    "without TLS": (changed(update={"source": "http://mirror.example/"}), "source"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_contradictions_refuse(case: str, rendered: Any, charts: Any) -> None:
    values, named = REFUSED[case]
    with pytest.raises(charts.Refused) as caught:
        rendered("h200x8", values)
    assert named in str(caught.value)


def test_it_needs_what_keeps_its_account_to_one_annotation(rendered: Any, charts: Any) -> None:
    with pytest.raises(charts.Refused, match="ValidatingAdmissionPolicy"):
        rendered("h200x8", changed(), kubernetes="1.29.3")
