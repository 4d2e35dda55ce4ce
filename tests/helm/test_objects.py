"""What every object of the chart must keep to, whatever is configured."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import tomllib

from rlu_server.settings import Settings
from rlu_server.supervisor import alone

VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
DECLARED_HOST_PATHS = {"/sys/kernel/config"}
Object = dict[str, Any]


def template(item: Object) -> Any:
    """The template of the pods that an object makes; None: it makes none."""
    if item["kind"] in ("DaemonSet", "Deployment", "Job", "StatefulSet"):
        return item["spec"]["template"]
    return item["spec"]["jobTemplate"]["spec"]["template"] if item["kind"] == "CronJob" else None


def pods(rendered: Any) -> Iterator[tuple[str, Object]]:
    """Name and specification of every pod, whoever makes it."""
    for item in (*rendered.objects, *rendered.hooks):
        name = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] == "Pod":
            yield name, item["spec"]
        elif (made := template(item)) is not None:
            yield name, made["spec"]


def containers(rendered: Any) -> Iterator[tuple[str, Object]]:
    for name, spec in pods(rendered):
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            yield f"{name}/{container['name']}", container


def jobs(rendered: Any) -> Iterator[tuple[str, Object]]:
    """Name and specification of every job, whoever starts it."""
    for item in (*rendered.objects, *rendered.hooks):
        if item["kind"] in ("CronJob", "Job"):
            spec = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
            yield f"{item['kind']}/{item['metadata']['name']}", spec


def test_the_log_of_a_job_that_gave_up_is_there(configuration: Any) -> None:
    """With OnFailure, Kubernetes deletes the pod of a job that reached its limit, and with it the log that says why."""
    for name, spec in jobs(configuration):
        assert spec["template"]["spec"]["restartPolicy"] == "Never", name


def test_jobs_are_tried_again_where_somebody_did_not_answer(configuration: Any) -> None:
    for name, spec in jobs(configuration):
        image = spec["template"]["spec"]["containers"][0]
        if image["command"][0] != "rlu" or image["command"][:3] == ["rlu", "cluster", "sweep"]:
            # A hub's client has no such codes; and who sweeps was given his rights a moment ago.
            assert "podFailurePolicy" not in spec, name
            continue
        [rule] = spec["podFailurePolicy"]["rules"]
        assert rule["action"] == ("FailIndex" if "completionMode" in spec else "FailJob"), name
        final = rule["onExitCodes"]
        assert (final["operator"], final["values"]) == ("In", [2, 10, 20, 30]), name


def roles(workload: Object) -> dict[str, Object]:
    """The containers of an instance by the role that each runs."""
    found = {one["name"]: one for one in workload["spec"]["template"]["spec"]["containers"]}
    assert {name: one["command"][-1] for name, one in found.items()} == {name: name for name in found}
    return found


def mounts(container: Object) -> dict[str, bool]:
    """Names of the volumes, and whether it may write."""
    return {mount["name"]: not mount.get("readOnly", False) for mount in container["volumeMounts"]}


def pod_labels(rendered: Any) -> Iterator[dict[str, str]]:
    for item in (*rendered.objects, *rendered.hooks):
        if item["kind"] == "Pod":
            yield item["metadata"]["labels"]
        elif (made := template(item)) is not None:
            yield made["metadata"]["labels"]


def selects(selector: Object, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


@pytest.fixture(scope="module", autouse=True)
def schemas_are_read_once() -> Iterator[None]:
    """The validator would read a version's definitions, some megabytes, and the list of versions for every object."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("schema_contents", "all_versions", "latest_version"):
            patch.setattr(
                kubernetes_validate.utils, name, functools.cache(getattr(kubernetes_validate.utils, name))
            )
        yield


@functools.cache
def validate(item: str, version: str) -> None:
    """Once: configurations have most objects in common."""
    kubernetes_validate.validate(json.loads(item), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_in_every_version(configuration: Any, version: str, charts: Any) -> None:
    found = (*configuration.objects, *configuration.hooks)
    if any("image" in v for _, spec in pods(configuration) for v in spec["volumes"]) and version < "1.33":
        return  # the chart itself refuses these versions, see test_values
    if configuration.of("ValidatingAdmissionPolicy") and version < "1.30":
        return  # likewise, see test_controllers
    for item in found:
        if item["apiVersion"] not in charts.CUSTOM_KINDS:
            validate(json.dumps(item, sort_keys=True), version)


def test_the_validator_does_catch_an_unknown_field(rendered: Any) -> None:
    [workload] = rendered().of("StatefulSet")
    broken = {**workload, "spec": {**workload["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.34", strict=True)


def test_names_are_distinct_and_labelled(configuration: Any) -> None:
    found = [*configuration.objects, *configuration.hooks]
    names = [(item["kind"], item["metadata"]["name"]) for item in found]
    assert len(set(names)) == len(names)
    for item in found:
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "rlu"
        assert len(item["metadata"]["name"]) <= 63


def test_pods_are_restricted(configuration: Any) -> None:
    for name, spec in pods(configuration):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert 0 not in [security["runAsGroup"], security["fsGroup"], *security.get("supplementalGroups", [])]
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        # Else the Service's own variables (RLU_SERVICE_HOST ...) would be refused as unknown settings.
        assert spec["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec), name


def test_containers_are_restricted(configuration: Any) -> None:
    for name, container in containers(configuration):
        security = dict(container["securityContext"])
        assert security.pop("runAsUser", 10001) > 0, name
        assert security == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }, name
        assert not any("hostPort" in port for port in container.get("ports", ())), name
        assert re.search(r"(:[^/]+|@sha256:[0-9a-f]{64})$", container["image"]), name
        assert not container["image"].endswith(":latest"), name
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(requests) <= set(limits), name
        assert requests["memory"] == limits["memory"], name


def test_what_is_written_is_in_memory_but_for_the_state_and_a_fetched_model(configuration: Any) -> None:
    for name, spec in pods(configuration):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for container in spec["containers"]:
            for mount in container["volumeMounts"]:
                volume = volumes.get(mount["name"])
                if mount.get("readOnly"):
                    continue
                if volume is None:
                    assert mount["name"] == "state"
                elif "persistentVolumeClaim" in volume:
                    assert name.startswith("Job/") or name == "CronJob/rlu-update"
                elif "hostPath" in volume:
                    assert volume["hostPath"]["path"] in DECLARED_HOST_PATHS
                else:
                    assert volume["emptyDir"]["medium"] == "Memory", name
                    assert volume["emptyDir"]["sizeLimit"], name
        used = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        assert set(volumes) <= used, f"{name}: a volume that nothing mounts"


def test_host_paths_are_the_declared_ones_for_the_declared_kinds(configuration: Any) -> None:
    [workload] = configuration.of("StatefulSet")
    text = str(configuration.of("ConfigMap"))
    tsm = 'key = "sev-snp"' in text or 'key = "tdx"' in text
    paths = [
        v["hostPath"]["path"] for _, spec in pods(configuration) for v in spec["volumes"] if "hostPath" in v
    ]
    assert paths == (["/sys/kernel/config"] if tsm else [])
    limits = {role: one["resources"]["limits"] for role, one in roles(workload).items()}
    tpm = 'key = "tpm2"' in str(configuration.of("ConfigMap"))
    assert {role for role in limits if "smarter-devices/tpmrm0" in limits[role]} == (
        {"attestor"} if tpm else set()
    )
    assert {role for role in limits if any("gpu" in name for name in limits[role])} <= {"engine"}
    assert {role for role, one in roles(workload).items() if "tsm" in mounts(one)} == (
        {"attestor"} if tsm else set()
    )


def test_every_pod_is_under_the_policy_that_denies(configuration: Any) -> None:
    deny = [p for p in configuration.of("NetworkPolicy") if p["metadata"]["name"].endswith("-deny")]
    assert len(deny) == 1
    assert set(deny[0]["spec"]) == {"podSelector", "policyTypes"}
    assert deny[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    for labels in pod_labels(configuration):
        assert selects(deny[0]["spec"]["podSelector"], labels)


def test_serving_pods_have_no_way_out(configuration: Any) -> None:
    [workload] = configuration.of("StatefulSet")
    labels = workload["spec"]["template"]["metadata"]["labels"]
    for policy in configuration.of("NetworkPolicy"):
        if selects(policy["spec"]["podSelector"], labels):
            for rule in policy["spec"].get("egress", []):
                assert rule["to"] != []
                if {port["port"] for port in rule["ports"]} == {53}:
                    continue
                # The relay of this release, and only where there is one.
                [relay] = configuration.of("Deployment")
                [peer] = rule["to"]
                assert set(peer) == {"podSelector"}
                assert peer["podSelector"]["matchLabels"] == relay["spec"]["selector"]["matchLabels"]
                [port] = relay["spec"]["template"]["spec"]["containers"][0]["ports"]
                assert rule["ports"] == [{"port": port["containerPort"], "protocol": "TCP"}]


def test_whoever_may_go_out_may_go_to_named_places_only(configuration: Any) -> None:
    for policy in configuration.of("NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            assert rule.get("to"), policy["metadata"]["name"]
            assert rule.get("ports"), policy["metadata"]["name"]
            assert not [p for p in rule["to"] if p.get("ipBlock", {}).get("cidr") in ("0.0.0.0/0", "::/0")]


def test_probes_and_the_end(configuration: Any) -> None:
    [workload] = configuration.of("StatefulSet")
    spec = workload["spec"]["template"]["spec"]
    container = roles(workload)["gateway"]
    settings = "".join(c["data"].get("rlu.toml", "") for c in configuration.of("ConfigMap"))
    ready = int(re.search(r"^ready_timeout_s = (\d+)$", settings, re.M)[1])
    drain = int(re.search(r"^drain_timeout_s = (\d+)$", settings, re.M)[1])
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > ready + 240
    assert container["readinessProbe"]["httpGet"]["path"] == startup["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    # All three pause, or those that the gateway needs would wait for its drain from too early on.
    [[*_, waits]] = {tuple(one["lifecycle"]["preStop"]["exec"]["command"]) for one in spec["containers"]}
    pause = int(re.fullmatch(r"import time; time\.sleep\((\d+)\)", waits)[1])
    # rlu_server.supervisor.server.STOP_TIMEOUT_S for each of three processes.
    assert spec["terminationGracePeriodSeconds"] > pause + drain + 3 * 20


def test_one_at_a_time_without_a_spare_node(configuration: Any) -> None:
    [workload] = configuration.of("StatefulSet")
    assert workload["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    [budget] = configuration.of("PodDisruptionBudget")
    assert "minAvailable" not in budget["spec"]
    assert budget["spec"]["maxUnavailable"] >= 1
    assert selects(budget["spec"]["selector"], workload["spec"]["template"]["metadata"]["labels"])


def test_services_find_the_pods_and_routes_find_the_services(configuration: Any) -> None:
    [workload] = configuration.of("StatefulSet")
    services = {item["metadata"]["name"]: item["spec"] for item in configuration.of("Service")}
    assert workload["spec"]["serviceName"] in services
    for spec in services.values():
        own = {k: v for k, v in spec["selector"].items() if k != "statefulset.kubernetes.io/pod-name"}
        assert any(own.items() <= one.items() for one in pod_labels(configuration))
    for route in (*configuration.of("TLSRoute"), *configuration.of("HTTPRoute")):
        for backend in route["spec"]["rules"][0]["backendRefs"]:
            pools = [pool["metadata"]["name"] for pool in configuration.of("InferencePool")]
            assert backend["name"] in (pools if backend.get("kind") else services)
    for ingress in configuration.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            assert rule["http"]["paths"][0]["backend"]["service"]["name"] in services


def test_replicas_are_left_to_the_autoscaler(configuration: Any) -> None:
    [workload] = configuration.of("StatefulSet")
    scalers = configuration.of("HorizontalPodAutoscaler") + configuration.of("ScaledObject")
    assert ("replicas" in workload["spec"]) == (not scalers)
    for scaler in scalers:
        assert scaler["spec"]["scaleTargetRef"]["name"] == workload["metadata"]["name"]


@pytest.mark.parametrize("preset", ["h100x8", "h200x8", "mi300x8"])
def test_certified_nodes_only(rendered: Any, preset: str) -> None:
    [workload] = rendered(preset).of("StatefulSet")
    affinity = workload["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchExpressions": [{"key": "rlu-certified", "operator": "Exists"}]}


def test_scratch_is_64_gib_unless_said_otherwise(rendered: Any) -> None:
    [workload] = rendered().of("StatefulSet")
    volumes = {v["name"]: v for v in workload["spec"]["template"]["spec"]["volumes"]}
    assert volumes["scratch"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}


def test_only_the_operator_can_make_the_root_writable(rendered: Any) -> None:
    found = dict(containers(rendered("h200x8", {"pod": {"unsafeWritableRoot": True}})))
    writable = [n for n, c in found.items() if not c["securityContext"]["readOnlyRootFilesystem"]]
    assert writable == ["StatefulSet/rlu/engine"]


def test_each_role_is_a_user_of_its_own_as_the_settings_say(configuration: Any) -> None:
    [workload] = configuration.of("StatefulSet")
    uids = {role: one["securityContext"]["runAsUser"] for role, one in roles(workload).items()}
    assert len(set(uids.values())) == len(uids) == 3
    [text] = [c["data"]["rlu.toml"] for c in configuration.of("ConfigMap") if "rlu.toml" in c["data"]]
    assert tomllib.loads(text)["lock"]["uids"] == uids


@pytest.mark.parametrize("switches", [False, True])
def test_switches_go_to_who_asks_them(rendered: Any, switches: bool) -> None:
    """To the attestor and the labeller, if the operator says that there are some; never to the engine."""
    changes = {
        "hardware": {"gpus": {"evidence": "nvidia", "switches": switches}},
        "controllers": {"labeller": {"enabled": True}},
    }
    made = rendered("h200x8", changes)
    asked = {
        name.rsplit("/", 1)[-1]
        for name, container in containers(made)
        if {"name": "NVIDIA_NVSWITCH", "value": "enabled"} in container.get("env", ())
    }
    assert asked == ({"attestor", "labeller"} if switches else set())


def settings_of(configuration: Any) -> Settings:
    """What the server is configured with."""
    [text] = [c["data"]["rlu.toml"] for c in configuration.of("ConfigMap") if "rlu.toml" in c["data"]]
    return Settings.model_validate(tomllib.loads(text))


def test_nobody_writes_where_another_role_reads(configuration: Any) -> None:
    [workload] = configuration.of("StatefulSet")
    seen = {role: mounts(one) for role, one in roles(workload).items()}
    for volume in {name for found in seen.values() for name in found}:
        assert sum(found.get(volume, False) for found in seen.values()) <= 1, volume
    of = {volume: {role for role, found in seen.items() if volume in found} for volume in seen["attestor"]}
    assert of["state"] == {"attestor"}
    assert of["attestor-socket"] == {"attestor", "gateway"}
    assert {role for role, found in seen.items() if "keys" in found} == {"gateway"}
    # Whoever opens an encrypted model for the engine reads it too.
    readers = {"engine", *(["attestor"] if settings_of(configuration).weights.broker else [])}
    assert {role for role, found in seen.items() if "model" in found} == readers


def test_no_container_has_the_shared_memory_of_the_pod(configuration: Any) -> None:
    """A kubelet mounts one /dev/shm into all containers of a pod, writable for everybody, unless they have their own."""
    [workload] = configuration.of("StatefulSet")
    found = {
        role: [
            (mount["name"], mount.get("readOnly", False))
            for mount in one["volumeMounts"]
            if mount["mountPath"] == "/dev/shm"
        ]
        for role, one in roles(workload).items()
    }
    nothing = [("no-shared-memory", True)]
    assert found == {"gateway": nothing, "attestor": nothing, "engine": [("shared-memory", False)]}


def test_directories_are_those_of_the_server(configuration: Any) -> None:
    [workload] = configuration.of("StatefulSet")
    settings = settings_of(configuration)
    engines, sealed = [place for place, _ in settings.fleet()], bool(settings.weights.broker)
    for role, container in roles(workload).items():
        found = {
            mount["mountPath"].removeprefix("/run/rlu/"): not mount.get("readOnly", False)
            for mount in container["volumeMounts"]
            if mount["mountPath"].startswith("/run/rlu/")
        }
        own = set(alone.written(role, engines, sealed=sealed)) - {alone.private_facts(role), "keys"}
        others = alone.seen(role, engines, sealed=sealed)
        assert found == {**dict.fromkeys(own, True), **dict.fromkeys(others, False)}
