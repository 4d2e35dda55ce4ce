"""`rlu preflight --cluster` against the real API server: as an administrator, and as somebody with few rights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from control_plane import ADMIN, Cluster, until
from fakes.terminal import Ran, rlu

Capture = pytest.CaptureFixture[str]
Unique = Callable[[str], str]
GPUS = {"nvidia.com/gpu": "8", "smarter-devices/tpmrm0": "1"}
BARE = {
    "cluster.version": "ok",
    "cluster.namespace": "ok",
    "cluster.pod_security": "ok",
    "cluster.rights": "ok",
    "cluster.nodes": "ok",
    "cluster.gpus": "ok",
    "cluster.certified": "ok",
    "cluster.tpm": "ok",
    "cluster.storage": "error",
    "cluster.network_policy": "warning",
    "cluster.keda": "info",
}
"""A bare control plane has neither storage classes nor a CNI."""


def ask(capsys: Capture, cluster: Cluster, token: Path, namespace: str, label: str) -> Ran:
    return rlu(
        capsys,
        *("preflight", "--cluster", "-n", namespace, "--profile", "h200x8", "--label", label, "--json"),
        *("--api-server", cluster.url, "--api-ca", cluster.ca, "--api-token", token),
    )


def severities(ran: Ran) -> dict[str, str]:
    return {one["id"]: one["severity"] for one in ran.json["findings"]}


def test_as_an_administrator(capsys: Capture, cluster: Cluster, unique: Unique, tmp_path: Path) -> None:
    label, token = unique("certified"), tmp_path / "token"
    token.write_text(ADMIN)
    space = cluster.namespace(unique("preflight"), {"pod-security.kubernetes.io/enforce": "restricted"})
    cluster.node(unique("node"), {label: "abc"}, GPUS)
    ran = ask(capsys, cluster, token, space, label)
    found = severities(ran)
    assert ran.code == 41
    assert {id_: found[id_] for id_ in BARE} == BARE
    nobody = severities(ask(capsys, cluster, token, space, unique("other-label")))
    assert nobody["cluster.certified"] == "error"
    assert severities(ask(capsys, cluster, token, unique("none"), label))["cluster.namespace"] == "warning"


def test_as_somebody_with_few_rights(
    capsys: Capture, cluster: Cluster, unique: Unique, tmp_path: Path
) -> None:
    space, token = cluster.namespace(unique("few")), tmp_path / "token"
    cluster.account(space, "installer")
    token.write_text(cluster.token(space, "installer"))
    found = severities(ask(capsys, cluster, token, space, "rlu-certified"))
    assert found["cluster.rights"] == "error"
    assert found["cluster.nodes"] == "warning"
    assert found["cluster.namespace"] == "info"
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [
        {"apiGroups": groups, "resources": ["*"], "verbs": ["*"]}
        for groups in ([""], ["apps", "batch", "policy"], ["networking.k8s.io"])
    ]
    cluster.do(
        "POST", f"{rbac}/namespaces/{space}/roles", {"metadata": {"name": "installer"}, "rules": rules}
    )
    cluster.do(
        "POST",
        f"{rbac}/namespaces/{space}/rolebindings",
        {
            "metadata": {"name": "installer"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "installer"},
            "subjects": [{"kind": "ServiceAccount", "name": "installer", "namespace": space}],
        },
    )

    def granted() -> bool:
        return severities(ask(capsys, cluster, token, space, "rlu-certified"))["cluster.rights"] == "warning"

    until("the API server has seen the binding", granted)


def test_with_a_token_that_is_none(capsys: Capture, cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("nobody")
    ran = ask(capsys, cluster, token, "rlu", "rlu-certified")
    assert (ran.code, [one["id"] for one in ran.json["findings"]]) == (41, ["cluster.reach"])
