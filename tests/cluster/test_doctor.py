"""`rlu doctor --cluster` against the real API server, scheduler and controllers: pods that nobody takes, or that are not admitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control_plane import ADMIN, Cluster, until
from fakes.terminal import Ran, rlu

Capture = pytest.CaptureFixture[str]
Unique = Callable[[str], str]
LABELS = {"app.kubernetes.io/name": "rlu"}
SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def stateful_set(security: dict[str, Any], selector: str) -> dict[str, Any]:
    container = {"name": "gateway", "image": "registry.example/rlu", "securityContext": security}
    return {
        "metadata": {"name": "rlu", "labels": LABELS},
        "spec": {
            "serviceName": "rlu",
            "replicas": 1,
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {"nodeSelector": {selector: "yes"}, "containers": [container]},
            },
        },
    }


def doctor(capsys: Capture, cluster: Cluster, token: Path, namespace: str) -> Ran:
    token.write_text(ADMIN)
    return rlu(
        capsys,
        *("doctor", "--cluster", "-n", namespace, "--json"),
        *("--api-server", cluster.url, "--api-ca", cluster.ca, "--api-token", token),
    )


def ids(ran: Ran) -> dict[str, str]:
    return {one["id"]: one["found"] for one in ran.json["findings"]}


def test_no_pods(capsys: Capture, cluster: Cluster, unique: Unique, tmp_path: Path) -> None:
    ran = doctor(capsys, cluster, tmp_path / "token", cluster.namespace(unique("empty")))
    assert (ran.code, list(ids(ran))) == (41, ["pod.none"])


def test_a_pod_that_no_node_takes(
    capsys: Capture, whole_cluster: Cluster, unique: Unique, tmp_path: Path
) -> None:
    cluster, space = whole_cluster, whole_cluster.namespace(unique("unschedulable"))
    cluster.account(space, "default")
    cluster.node(unique("node"))
    cluster.do("POST", f"/apis/apps/v1/namespaces/{space}/statefulsets", stateful_set(SAFE, unique("nobody")))

    def told() -> dict[str, str]:
        found = ids(doctor(capsys, cluster, tmp_path / "token", space))
        return found if "pod.unschedulable" in found else {}

    found = until("the scheduler has said no", told)
    assert "rlu-0" in found["pod.unschedulable"]
    assert "available" in found["pod.unschedulable"]


def test_a_pod_that_is_not_admitted(
    capsys: Capture, whole_cluster: Cluster, unique: Unique, tmp_path: Path
) -> None:
    cluster = whole_cluster
    space = cluster.namespace(unique("refused"), {"pod-security.kubernetes.io/enforce": "restricted"})
    cluster.account(space, "default")
    cluster.do("POST", f"/apis/apps/v1/namespaces/{space}/statefulsets", stateful_set({}, unique("any")))

    def told() -> dict[str, str]:
        found = ids(doctor(capsys, cluster, tmp_path / "token", space))
        return found if "pod.refused" in found else {}

    found = until("the controller was refused", told)
    assert "PodSecurity" in found["pod.refused"]
    assert "pod.none" in found


def test_what_a_kubelet_says(capsys: Capture, whole_cluster: Cluster, unique: Unique, tmp_path: Path) -> None:
    """Through the real API server, with the states of containers that its node's agent would write."""
    cluster, label = whole_cluster, unique("here")
    space = cluster.namespace(unique("kubelet"))
    cluster.account(space, "default")
    cluster.node(unique("node"), {label: "yes"})
    cluster.do("POST", f"/apis/apps/v1/namespaces/{space}/statefulsets", stateful_set(SAFE, label))

    def scheduled() -> bool:
        pods = cluster.list(f"/api/v1/namespaces/{space}/pods")
        return any(pod["spec"].get("nodeName") for pod in pods)

    until("the pod is scheduled", scheduled)
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
    status = {
        "name": "gateway",
        "image": "registry.example/rlu",
        "imageID": "",
        "ready": False,
        "restartCount": 3,
        "state": {"waiting": waiting},
        "lastState": {"terminated": {"exitCode": 77, "reason": "Error"}},
    }
    place = f"/api/v1/namespaces/{space}/pods/rlu-0/status"
    cluster.do("PATCH", place, {"status": {"phase": "Running", "containerStatuses": [status]}})
    found = ids(doctor(capsys, cluster, tmp_path / "token", space))
    assert "back-off" in found["pod.restarting"]
    assert found["exit.77"].startswith("rlu-0/gateway: ended with 77: The kernel granted less")
    cluster.kubelet(space, "rlu-0", ready=True)
    assert list(ids(doctor(capsys, cluster, tmp_path / "token", space))) == ["pod.ready"]
