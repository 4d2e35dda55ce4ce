"""Pods that do not become ready, as an API server shows them, and what `rlu doctor --cluster` says of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.api_server import ApiServer
from fakes.terminal import Ran, rlu
from rlu_server.doctor.pods import REASONS, WAITING
from rlu_server.doctor.words.cluster import POD_STATES

Capture = pytest.CaptureFixture[str]
PODS = "/api/v1/namespaces/rlu/pods"
EVENTS = "/api/v1/namespaces/rlu/events"
CLAIMS = "/api/v1/namespaces/rlu/persistentvolumeclaims"
OURS = {"app.kubernetes.io/name": "rlu"}
RUNNING = {"running": {"startedAt": "2026-11-21T10:00:00Z"}}


def container(name: str, state: dict[str, Any] = RUNNING, ready: bool = True, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "ready": ready, "restartCount": 0, **more}


def pod(*containers: dict[str, Any], name: str = "rlu-0", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": OURS},
        "status": {"phase": "Running", "containerStatuses": list(containers), **status},
    }


def event(reason: str, message: str, name: str = "rlu-0", kind: str = "Pod") -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"kind": kind, "name": name}}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as made:
        made.list_of(PODS, pod(container("gateway"), container("attestor"), container("engine")))
        made.list_of(EVENTS)
        made.list_of(CLAIMS)
        yield made


def doctor(capsys: Capture, api: ApiServer, *more: object) -> Ran:
    return rlu(capsys, "doctor", "--cluster", *api.options, "--json", *more)


def severities(ran: Ran) -> dict[str, str]:
    return {one["id"]: one["severity"] for one in ran.json["findings"]}


def log(api: ApiServer, container: str, *lines: dict[str, Any], pod: str = "rlu-0") -> None:
    api.objects[f"{PODS}/{pod}/log"] = {"text": "\n".join(json.dumps(line) for line in lines)}


def test_pods_that_are_well(capsys: Capture, api: ApiServer) -> None:
    ran = doctor(capsys, api)
    assert (ran.code, severities(ran)) == (0, {"pod.ready": "ok"})
    assert {method for method, _ in api.asked} == {"GET"}
    assert any("labelSelector=app.kubernetes.io%2Fname%3Drlu" in path for _, path in api.asked)


def test_no_pods(capsys: Capture, api: ApiServer) -> None:
    api.list_of(PODS)
    assert severities(doctor(capsys, api)) == {"pod.none": "error"}
    api.list_of(EVENTS, event("FailedCreate", "violates PodSecurity restricted", "rlu", "StatefulSet"))
    ran = doctor(capsys, api)
    assert severities(ran) == {"pod.none": "error", "pod.refused": "error"}
    assert "violates PodSecurity" in ran.out
    api.denied.add(PODS)
    assert severities(doctor(capsys, api)) == {"pod.none": "warning"}
    api.status = 500
    assert doctor(capsys, api).code in (40, 41)


WAITS = [
    ("ErrImagePull", "pod.image"),
    ("ImagePullBackOff", "pod.image"),
    ("InvalidImageName", "pod.image"),
    ("CreateContainerConfigError", "pod.configuration"),
    ("CrashLoopBackOff", "pod.restarting"),
]


@pytest.mark.parametrize(("reason", "id_"), WAITS)
def test_a_container_that_waits(capsys: Capture, api: ApiServer, reason: str, id_: str) -> None:
    waiting = {"waiting": {"reason": reason, "message": "secret 'rlu-apikeys' not found"}}
    api.list_of(PODS, pod(container("gateway", waiting, ready=False), phase="Pending"))
    ran = doctor(capsys, api)
    assert (ran.code, severities(ran)) == (41, {id_: "error"})
    (one,) = ran.json["findings"]
    assert one["found"] == "rlu-0/gateway: secret 'rlu-apikeys' not found"
    assert one["remedy"] == POD_STATES[id_].remedy


@pytest.mark.parametrize(
    ("code", "id_"), [(77, "exit.77"), (10, "exit.10"), (137, "exit.137"), (55, "pod.ended")]
)
def test_a_container_that_ended(capsys: Capture, api: ApiServer, code: int, id_: str) -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    ended = {"lastState": {"terminated": {"exitCode": code, "reason": "Error"}}, "restartCount": 3}
    api.list_of(PODS, pod(container("engine", waiting, ready=False, **ended)))
    assert severities(doctor(capsys, api)) == {"pod.restarting": "error", id_: "error"}


def test_a_container_that_was_killed_for_its_memory(capsys: Capture, api: ApiServer) -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    api.list_of(PODS, pod(container("engine", ended, ready=False)))
    assert severities(doctor(capsys, api)) == {"pod.killed": "error"}


def test_a_container_that_runs_again_and_is_ready(capsys: Capture, api: ApiServer) -> None:
    before = {"lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}, "restartCount": 1}
    api.list_of(PODS, pod(container("engine", **before)))
    assert severities(doctor(capsys, api)) == {"pod.ready": "ok"}


def test_an_init_container_that_did_its_work(capsys: Capture, api: ApiServer) -> None:
    done = container("prepare", {"terminated": {"exitCode": 0, "reason": "Completed"}}, ready=True)
    api.list_of(PODS, pod(container("gateway"), initContainerStatuses=[done]))
    assert severities(doctor(capsys, api)) == {"pod.ready": "ok"}


@pytest.mark.parametrize(
    ("containers", "phase", "wanted"),
    [
        ([], "Pending", {"pod.not_ready": "info"}),
        (
            [container("engine", {"waiting": {"reason": "ContainerCreating"}}, ready=False)],
            "Pending",
            {"pod.not_ready": "info"},
        ),
        ([container("engine", ready=False)], "Running", {"pod.not_ready": "info"}),
        (
            [container("fetch", {"terminated": {"exitCode": 0}}, ready=False)],
            "Succeeded",
            {"pod.ready": "ok"},
        ),
        ([], "Failed", {"pod.ended": "error"}),
    ],
)
def test_pods_on_their_way(
    capsys: Capture, api: ApiServer, containers: list[dict[str, Any]], phase: str, wanted: dict[str, str]
) -> None:
    api.list_of(PODS, pod(*containers, phase=phase))
    assert severities(doctor(capsys, api)) == wanted


def test_a_pod_that_no_node_takes(capsys: Capture, api: ApiServer) -> None:
    said = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    api.list_of(PODS, pod(phase="Pending", conditions=[unscheduled]))
    ran = doctor(capsys, api)
    assert severities(ran) == {"pod.unschedulable": "error"}
    assert said in ran.json["findings"][0]["found"]


@pytest.mark.parametrize(("reason", "id_"), sorted(REASONS.items()))
def test_what_events_tell(capsys: Capture, api: ApiServer, reason: str, id_: str) -> None:
    api.list_of(PODS, pod(container("gateway", ready=False)))
    claim = {"metadata": {"name": "state-rlu-0", "labels": OURS}, "status": {"phase": "Bound"}}
    api.list_of(CLAIMS, claim)
    about = ("state-rlu-0", "PersistentVolumeClaim") if reason == "ProvisioningFailed" else ("rlu-0", "Pod")
    api.list_of(
        EVENTS, event(reason, "why", *about), event("Pulled", "fine"), event("Failed", "other", "other")
    )
    ran = doctor(capsys, api)
    assert severities(ran) == {"pod.not_ready": "info", id_: "error"}


def test_events_of_pods_that_are_well_are_over(capsys: Capture, api: ApiServer) -> None:
    api.list_of(EVENTS, event("Unhealthy", "startup probe failed"))
    assert severities(doctor(capsys, api)) == {"pod.ready": "ok"}


def test_a_claim_that_is_not_bound(capsys: Capture, api: ApiServer) -> None:
    ours = {"metadata": {"name": "state-rlu-0", "labels": OURS}, "status": {"phase": "Pending"}}
    other = {"metadata": {"name": "other"}, "status": {"phase": "Pending"}}
    api.list_of(CLAIMS, ours, other)
    found = [one for one in doctor(capsys, api).json["findings"] if one["id"] == "pod.claim"]
    assert [one["found"] for one in found] == ["state-rlu-0: Pending"]


def test_events_in_logs_are_explained(capsys: Capture, api: ApiServer) -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    ended = {"lastState": {"terminated": {"exitCode": 2}}, "restartCount": 2}
    api.list_of(PODS, pod(container("attestor", waiting, ready=False, **ended)))
    log(api, "attestor", {"event": "attestor.refused_to_start", "level": "error", "code": "log.restored"})
    found = severities(doctor(capsys, api))
    assert found == {"pod.restarting": "error", "exit.2": "error", "log.restored": "error"}
    asked = [path for _, path in api.asked if path.startswith(f"{PODS}/rlu-0/log")]
    assert asked == [f"{PODS}/rlu-0/log?container=attestor&tailLines=5000&previous=true"]


def test_every_state_that_is_written_is_in_words() -> None:
    assert {*WAITING.values(), *REASONS.values()} <= set(POD_STATES)
    import re

    from rlu_server.doctor import pods

    named = set(re.findall(r'"(pod\.\w+)"', Path(pods.__file__).read_text("utf-8")))
    assert named == set(POD_STATES)


def test_the_bundle_of_a_cluster_names_no_pod(capsys: Capture, api: ApiServer, tmp_path: Path) -> None:
    api.list_of(
        PODS,
        pod(
            container("engine", {"waiting": {"reason": "ErrImagePull", "message": "MARKER"}}),
            name="secret-name",
        ),
    )
    place = tmp_path / "support.tar"
    assert doctor(capsys, api, "--bundle", place).code == 41
    data = place.read_bytes()
    assert b"pod.image" in data
    assert b"secret-name" not in data
    assert b"MARKER" not in data
