"""On a real API server: the update job's account changes one annotation of one StatefulSet, and nothing else."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from chart_release import RESTRICTED, SOMEWHERE, Release
from control_plane import Cluster, Status, until
from rlu_server.cluster.api import Denied
from rlu_server.cluster.rights import PATCH_STATEFULSET, rules
from rlu_server.updates.rolling import ANNOTATION

VERSION = "000007-0123456789abcdef"
UPDATES = {
    "controllers": {"labeller": {"enabled": False}},
    "model": {
        "signers": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
        "updateSchedule": "weekly",
        "updateEgress": SOMEWHERE,
        "update": {"source": "s3://models/qwen"},
    },
}


def patch(**template: Any) -> dict[str, Any]:
    return {"spec": {"template": template}}


def noted(value: str | None) -> dict[str, Any]:
    return patch(metadata={"annotations": {ANNOTATION: value}})


@pytest.fixture(scope="module")
def updates(cluster: Cluster) -> Release:
    """The chart with updates, its admission policy in force."""
    made = Release(cluster, cluster.namespace(f"rlu-{secrets.token_hex(4)}", RESTRICTED))
    made.run("Install", UPDATES)
    token = cluster.token(made.namespace, "rlu-update")
    until("the admission policy is in force", lambda: status_of(made, token, noted("probe")) == 403)
    return made


def path(release: Release, name: str = "rlu") -> str:
    return f"/apis/apps/v1/namespaces/{release.namespace}/statefulsets/{name}"


def status_of(release: Release, token: str, body: Any, where: str = "", method: str = "PATCH") -> int:
    try:
        release.cluster.do(method, where or path(release), body, token=token)
    except Status as status:
        return status.code
    return 200


def test_its_rights_are_those_of_the_table(updates: Release) -> None:
    role = updates.cluster.do(
        "GET", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{updates.namespace}/roles/rlu-update"
    )
    assert role["rules"] == rules("update", namespaced=True, name="rlu")


def test_it_notes_a_version_and_the_pods_template_is_another(updates: Release) -> None:
    api = updates.api(updates.token("rlu-update"), "update")
    before = updates.cluster.do("GET", path(updates))
    made = api.call(PATCH_STATEFULSET, "rlu", noted(VERSION))
    assert made["spec"]["template"]["metadata"]["annotations"][ANNOTATION] == VERSION
    assert made["metadata"]["generation"] == before["metadata"]["generation"] + 1
    again = api.call(PATCH_STATEFULSET, "rlu", noted(VERSION))
    assert again["metadata"]["generation"] == made["metadata"]["generation"], "the same again rolls nothing"
    with pytest.raises(Denied) as caught:
        api.call(PATCH_STATEFULSET, "other", noted(VERSION))
    assert caught.value.code == "cluster.denied"


def test_an_upgrade_of_the_release_leaves_it(updates: Release) -> None:
    token = updates.cluster.token(updates.namespace, "rlu-update")
    assert status_of(updates, token, noted(VERSION)) == 200
    updates.run("Upgrade", UPDATES | {"gateway": {"accessLog": True}})
    found = updates.cluster.do("GET", path(updates))["spec"]["template"]["metadata"]["annotations"]
    assert found[ANNOTATION] == VERSION


CONTAINER = {"name": "engine", "image": "evil"}
CHANGES: dict[str, Any] = {
    "another annotation": patch(metadata={"annotations": {ANNOTATION: VERSION, "other": "x"}}),
    "an annotation less": patch(metadata={"annotations": {ANNOTATION: VERSION, "checksum/settings": None}}),
    "an annotation changed": patch(metadata={"annotations": {ANNOTATION: VERSION, "checksum/settings": "x"}}),
    "the version gone": noted(None),
    "no version": noted("../../etc"),
    "a version with more": noted(f"{VERSION}\n"),
    "a label of the pods": patch(metadata={"annotations": {ANNOTATION: VERSION}, "labels": {"a": "b"}}),
    "containers": patch(metadata={"annotations": {ANNOTATION: VERSION}}, spec={"containers": [CONTAINER]}),
    "the host's processes": patch(spec={"hostPID": True}),
    "an account": patch(spec={"serviceAccountName": "default"}),
    "replicas": {"spec": {"replicas": 0}},
    "the way of rolling": {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}},
    "seconds of readiness": {"spec": {"minReadySeconds": 9}},
    "claims at the end": {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}},
    "a label of its own": {"metadata": {"labels": {"a": "b"}}},
    "an annotation of its own": {"metadata": {"annotations": {"a": "b"}}},
    "an owner": {
        "metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]}
    },
    "a finalizer": {"metadata": {"finalizers": ["a.example/b"]}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_else_of_it_is_changed(name: str, updates: Release) -> None:
    token = updates.cluster.token(updates.namespace, "rlu-update")
    assert status_of(updates, token, noted(VERSION)) == 200
    before = updates.cluster.do("GET", path(updates))["spec"]
    assert status_of(updates, token, CHANGES[name]) == 403
    assert updates.cluster.do("GET", path(updates))["spec"] == before
    # The operator may; so it is the policy that said no, and not a validation that came first.
    if name != "an owner":
        dry = f"{path(updates)}?dryRun=All"
        updates.cluster.do("PATCH", dry, json.loads(json.dumps(CHANGES[name])))


ELSEWHERE = [
    ("GET", "/apis/apps/v1/namespaces/{ns}/statefulsets/rlu"),
    ("GET", "/apis/apps/v1/namespaces/{ns}/statefulsets"),
    ("PUT", "/apis/apps/v1/namespaces/{ns}/statefulsets/rlu"),
    ("DELETE", "/apis/apps/v1/namespaces/{ns}/statefulsets/rlu"),
    ("PATCH", "/apis/apps/v1/namespaces/{ns}/statefulsets/rlu/scale"),
    ("PATCH", "/apis/apps/v1/namespaces/{ns}/statefulsets/other"),
    ("PATCH", "/apis/apps/v1/namespaces/default/statefulsets/rlu"),
    ("GET", "/api/v1/namespaces/{ns}/secrets"),
    ("GET", "/api/v1/namespaces/{ns}/configmaps/rlu-settings"),
    ("PATCH", "/api/v1/namespaces/{ns}/configmaps/rlu-update"),
    ("POST", "/api/v1/namespaces/{ns}/pods"),
    ("GET", "/api/v1/nodes"),
    ("PATCH", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/rlu-update-{ns}"),
]


def test_elsewhere_everything_is_denied(updates: Release) -> None:
    token = updates.cluster.token(updates.namespace, "rlu-update")
    for method, where in ELSEWHERE:
        body = None if method in ("GET", "DELETE") else {"metadata": {"name": "x"}}
        there = where.format(ns=updates.namespace)
        assert status_of(updates, token, body, there, method) == 403, (method, there)
