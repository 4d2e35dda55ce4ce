"""What goes to a vendor: off unless asked for, each with a job and a NetworkPolicy of its own; the serving pods have no way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rlu_attestation.cli.app import load as command
from rlu_server import settings as configuration
from rlu_server.cli.cluster_licence import ANSWER
from rlu_server.cluster.rights import rules
from rlu_server.licence.place import place_of

VENDOR = {"ipBlock": {"cidr": "192.0.2.20/32"}}
LICENCE = {"secret": "licence", "vendorKeys": ["a.pem", "b.pem"]}
BOTH = {
    "replicas": 2,
    "licence": {
        **LICENCE,
        "validation": {"url": "https://licence.vendor.example/v1", "caKey": "ca.pem", "egress": [VENDOR]},
    },
    "telemetry": {
        "optIn": True,
        "url": "https://telemetry.vendor.example/v1",
        "proxy": "http://proxy.internal:3128",
        "port": 3128,
        "keySecret": "telemetry",
        "egress": [VENDOR],
    },
}


def pod(job: Any) -> Any:
    return job["spec"]["jobTemplate"]["spec"]["template"]


INDEX = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}


def settings_of(rendered: Any, container: Any, folder: Path, index: int = 0) -> configuration.Settings:
    """As the container of the pod with that index has them; a variable may name those before it."""
    text = next(c["data"]["rlu.toml"] for c in rendered.of("ConfigMap") if "rlu.toml" in c["data"])
    (folder / "rlu.toml").write_text(text, "utf-8")
    environment: dict[str, str] = {}
    for item in container["env"]:
        value = str(index) if item.get("valueFrom") == INDEX else item["value"]
        for name, known in environment.items():
            value = value.replace(f"$({name})", known)
        environment[item["name"]] = value
    return configuration.load(folder / "rlu.toml", environment)


def jobs(rendered: Any) -> dict[str, Any]:
    """Those that write to a vendor."""
    found = {item["metadata"]["name"]: item for item in rendered.of("CronJob")}
    return {name: item for name, item in found.items() if name in ("rlu-licence", "rlu-telemetry")}


def policies(rendered: Any) -> dict[str, Any]:
    return {item["metadata"]["name"]: item["spec"] for item in rendered.of("NetworkPolicy")}


@pytest.mark.parametrize("changes", [{}, {"licence": LICENCE}], ids=["nothing", "a licence"])
def test_off_by_default(rendered: Any, changes: Any) -> None:
    made = rendered("h200x8", changes)
    assert jobs(made) == {}
    assert {"rlu-telemetry", "rlu-licence"}.isdisjoint(policies(made))
    assert "vendor.example" not in yaml.safe_dump_all(made.objects)


def test_each_job_is_configured_as_its_command_reads_it(rendered: Any, tmp_path: Path) -> None:
    made = rendered("h200x8", BOTH)
    licence, telemetry = jobs(made)["rlu-licence"], jobs(made)["rlu-telemetry"]
    for job in (licence, telemetry):
        [container] = pod(job)["spec"]["containers"]
        _, name, sub, *options = container["command"]
        known = {
            option for p in command(name).commands[sub].params for option in (*p.opts, *p.secondary_opts)
        }
        assert {option for option in options if option.startswith("--")} <= known
    [container] = pod(telemetry)["spec"]["containers"]
    found = settings_of(made, container, tmp_path).telemetry
    assert (found.opt_in, found.url, found.proxy) == (
        True,
        BOTH["telemetry"]["url"],
        BOTH["telemetry"]["proxy"],
    )
    assert found.metrics == "http://rlu-0.rlu-instances.rlu.svc:9464"
    other = settings_of(made, container, tmp_path, 1).telemetry
    assert other.metrics == "http://rlu-1.rlu-instances.rlu.svc:9464"
    assert found.key == Path("/etc/rlu/telemetry/telemetry-key.pem")
    [container] = pod(licence)["spec"]["containers"]
    settings = settings_of(made, container, tmp_path)
    assert settings.licence.validation_url == "https://licence.vendor.example/v1"
    assert settings.licence.ca_file == Path("/etc/rlu/licence/ca.pem")
    words = container["command"]
    assert words[words.index("--configmap") + 1] == "rlu-licence"
    asked = [words[n + 1] for n, word in enumerate(words) if word == "--instance"]
    assert asked == ["https://rlu-0.rlu.svc:443", "https://rlu-1.rlu.svc:443"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/etc/rlu/rlu.toml", "/etc/rlu/licence"} <= mounts


def test_an_instance_that_is_not_up_does_not_have_the_others_reported_twice(rendered: Any) -> None:
    spec = jobs(rendered("h200x8", BOTH))["rlu-telemetry"]["spec"]["jobTemplate"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert spec["backoffLimitPerIndex"] == 3
    assert "backoffLimit" not in spec


def test_the_vendors_answer_arrives_where_the_attestor_reads_it(rendered: Any, tmp_path: Path) -> None:
    made = rendered("h200x8", BOTH)
    [workload] = made.of("StatefulSet")
    spec = workload["spec"]["template"]["spec"]
    places = {
        c["name"]: m for c in spec["containers"] for m in c["volumeMounts"] if m["name"] == "licence-answer"
    }
    assert list(places) == ["attestor"]
    assert "subPath" not in places["attestor"], "or a new answer would not arrive"
    place = place_of(settings_of(made, spec["containers"][1], tmp_path))
    assert place is not None
    assert place.answer == Path(places["attestor"]["mountPath"]) / ANSWER
    [volume] = [volume for volume in spec["volumes"] if volume["name"] == "licence-answer"]
    [filled] = [one for one in made.of("ConfigMap") if one["metadata"]["name"] == volume["configMap"]["name"]]
    # Its content is the job's: the chart has none, or an upgrade would take it away.
    assert filled["data"] == {}
    words = pod(jobs(made)["rlu-licence"])["spec"]["containers"][0]["command"]
    assert words[words.index("--configmap") + 1] == filled["metadata"]["name"]
    [role] = [one for one in made.of("Role") if one["metadata"]["name"] == "rlu-licence"]
    assert role["rules"] == rules("publish", namespaced=True, name=filled["metadata"]["name"])
    [binding] = [one for one in made.of("RoleBinding") if one["metadata"]["name"] == "rlu-licence"]
    assert [one["name"] for one in binding["subjects"]] == ["rlu-licence"]
    others = [item for item in (*made.of("CronJob"), workload) if item["metadata"]["name"] != "rlu-licence"]
    assert "'serviceAccountName': 'rlu-licence'" not in str(others)


def test_who_may_go_where(rendered: Any) -> None:
    made = rendered("h200x8", BOTH)
    known = policies(made)
    for name, port, target in (("telemetry", 3128, 9464), ("licence", 443, 8443)):
        spec = known[f"rlu-{name}"]
        assert spec["policyTypes"] == ["Egress"]
        out, serving, names = spec["egress"]
        assert out == {"ports": [{"port": port, "protocol": "TCP"}], "to": [VENDOR]}
        assert serving["ports"] == [{"port": target, "protocol": "TCP"}]
        assert {rule["port"] for rule in names["ports"]} == {53}
        [job] = [item for item in made.of("CronJob") if item["metadata"]["name"] == f"rlu-{name}"]
        labels = pod(job)["metadata"]["labels"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()
        # It is let in where it asks, and the policy of the serving pods does not mean it.
        [rule] = [r for r in known["rlu-serving"]["ingress"] for p in r["ports"] if p["port"] == target]
        assert any(
            peer["podSelector"].get("matchLabels", {}).items() <= labels.items() for peer in rule["from"]
        )
        assert not known["rlu-serving"]["podSelector"]["matchLabels"].items() <= labels.items()
        # The licence's job writes its answer down, and needs the API server for that.
        controllers = known["rlu-controllers"]["podSelector"]["matchLabels"].items()
        assert (controllers <= labels.items()) == (name == "licence")
    assert known["rlu-serving"]["egress"] == []


def test_jobs_are_as_restricted_as_everything_else(rendered: Any) -> None:
    for job in jobs(rendered("h200x8", BOTH)).values():
        spec = pod(job)["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert volumes["temporary"]["emptyDir"]["medium"] == "Memory"
        assert "persistentVolumeClaim" not in str(spec)
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            writable = [m["name"] for m in container["volumeMounts"] if not m.get("readOnly")]
            assert writable == ["temporary"]


def test_the_attestor_sees_the_licence_and_nobody_else(rendered: Any, tmp_path: Path) -> None:
    made = rendered("h200x8", {"licence": LICENCE})
    [workload] = made.of("StatefulSet")
    spec = workload["spec"]["template"]["spec"]
    holders = {c["name"]: m for c in spec["containers"] for m in c["volumeMounts"] if m["name"] == "licence"}
    assert list(holders) == ["attestor"]
    assert "subPath" not in holders["attestor"], "or a new licence would not arrive"
    [volume] = [volume for volume in spec["volumes"] if volume["name"] == "licence"]
    assert volume["secret"]["secretName"] == "licence"
    place = place_of(settings_of(made, spec["containers"][0], tmp_path))
    assert place is not None
    directory = Path(holders["attestor"]["mountPath"])
    assert (place.file, place.answer) == (directory / "licence.jws", directory / "answer.jws")
    assert list(place.vendor_keys) == [directory / "a.pem", directory / "b.pem"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"telemetry": {**BOTH["telemetry"], "url": ""}}, "telemetry.optIn"),
        ({"telemetry": {**BOTH["telemetry"], "keySecret": ""}}, "telemetry.optIn"),
        ({"telemetry": {**BOTH["telemetry"], "egress": []}}, "telemetry.optIn"),
        ({"licence": {**LICENCE, "vendorKeys": []}}, "licence.vendorKeys"),
        ({"licence": {**BOTH["licence"], "secret": ""}}, "licence.validation.url"),
        ({"telemetry": {"url": "http://vendor.example"}}, "url"),
        ({"telemetry": {"egress": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}}, "egress"),
        ({"telemetry": {"schedule": "daily"}}, "schedule"),
    ],
    ids=str,
)
def test_what_is_refused(rendered: Any, changes: Any, named: str) -> None:
    with pytest.raises(Exception, match=named):
        rendered("h200x8", changes)
