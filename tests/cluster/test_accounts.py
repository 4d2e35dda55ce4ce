"""On a real API server: each account may do what its role does and nothing else, whatever it asks for."""

from __future__ import annotations

from typing import Any

import pytest

from chart_release import Release
from control_plane import Cluster, Status
from rlu_server.cluster.record import label
from rlu_server.cluster.rights import rules

DIGEST = label("{}")
LABEL = {"metadata": {"labels": {"rlu-certified": DIGEST}}}
TAINT = {"key": "rlu-certified-missing", "effect": "NoSchedule"}


def status_of(cluster: Cluster, token: str, method: str, path: str, body: Any = None) -> int:
    try:
        cluster.do(method, path, body, token=token)
    except Status as status:
        return status.code
    return 200


@pytest.fixture
def on_a(accounts: Release) -> str:
    """A token of the labeller whose pod is on node a."""
    pod = accounts.pod_on(f"{accounts.namespace}-a", "rlu-labeller")
    return accounts.cluster.token(accounts.namespace, "rlu-labeller", pod)


def node(accounts: Release, name: str) -> str:
    return f"/api/v1/nodes/{accounts.namespace}-{name}"


def by_resource(found: list[dict[str, Any]]) -> set[tuple[str, str, str, tuple[str, ...]]]:
    return {
        (group, resource, verb, tuple(rule.get("resourceNames") or ()))
        for rule in found
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize(
    ("account", "roles", "name"),
    [
        ("rlu-labeller", ("labeller", "drain"), ""),
        ("rlu-sweep", ("sweep",), ""),
        ("rlu-collateral", ("publish",), "rlu-collateral"),
        ("rlu-key-sets", ("publish",), "auth"),
        ("rlu-licence", ("publish",), "rlu-licence"),
        ("rlu", (), ""),
    ],
)
def test_the_rights_of_each_account_are_those_of_the_table(
    accounts: Release, account: str, roles: tuple[str, ...], name: str
) -> None:
    cluster = accounts.cluster

    def may(token: str) -> set[tuple[str, str, str, tuple[str, ...]]]:
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        answer = cluster.do("POST", path, {"spec": {"namespace": accounts.namespace}}, token=token)
        return by_resource(answer["status"]["resourceRules"])

    # What every account may ask about itself.
    cluster.account(accounts.namespace, "nobody")
    everybody = may(cluster.token(accounts.namespace, "nobody"))
    wanted = [
        rule for role in roles for kind in (False, True) for rule in rules(role, namespaced=kind, name=name)
    ]
    assert may(cluster.token(accounts.namespace, account)) - everybody == by_resource(wanted)


ELSEWHERE = [
    ("GET", "/api/v1/namespaces/{ns}/secrets"),
    ("GET", "/api/v1/secrets"),
    ("GET", "/api/v1/namespaces/{ns}/configmaps"),
    ("GET", "/api/v1/namespaces/{ns}/configmaps/rlu-settings"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/namespaces/kube-system/pods"),
    ("POST", "/api/v1/namespaces/{ns}/pods"),
    ("POST", "/api/v1/namespaces/{ns}/serviceaccounts/rlu-sweep/token"),
    ("PATCH", "/apis/apps/v1/namespaces/{ns}/statefulsets/rlu"),
    ("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/rlu-sweep-{ns}"),
    ("PATCH", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/rlu-labeller-{ns}"),
    ("PATCH", "/api/v1/nodes/{ns}-a/status"),
    ("PUT", "/api/v1/nodes/{ns}-a"),
    ("DELETE", "/api/v1/nodes/{ns}-a"),
    ("POST", "/api/v1/nodes"),
    ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
]


@pytest.mark.parametrize(
    "account", ["rlu", "rlu-labeller", "rlu-sweep", "rlu-collateral", "rlu-key-sets", "rlu-licence"]
)
def test_elsewhere_everything_is_denied(accounts: Release, account: str) -> None:
    token = accounts.cluster.token(accounts.namespace, account)
    for method, path in ELSEWHERE:
        body = None if method in ("GET", "DELETE") else {"metadata": {"name": "x"}}
        there = path.format(ns=accounts.namespace)
        assert status_of(accounts.cluster, token, method, there, body) == 403, (method, there)


def test_a_labeller_labels_its_own_node_and_no_other(accounts: Release, on_a: str) -> None:
    cluster = accounts.cluster
    assert status_of(cluster, on_a, "PATCH", node(accounts, "a"), LABEL) == 200
    assert status_of(cluster, on_a, "PATCH", node(accounts, "b"), LABEL) == 403
    assert (
        status_of(
            cluster, on_a, "PATCH", node(accounts, "a"), {"metadata": {"labels": {"rlu-certified": None}}}
        )
        == 200
    )
    # A token that says of no pod, and thus of no node.
    loose = cluster.token(accounts.namespace, "rlu-labeller")
    assert status_of(cluster, loose, "PATCH", node(accounts, "a"), LABEL) == 403


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"labels": {"rlu-certified": "true"}}},
        {"metadata": {"labels": {"zone": "y"}}},
        {"metadata": {"labels": {"zone": None}}},
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        {"metadata": {"annotations": {"other": "x"}}},
        {"metadata": {"annotations": {"kept": "2"}}},
        {"metadata": {"annotations": {"kept": None}}},
        {"metadata": {"finalizers": ["a.example/b"]}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]}},
        {"spec": {"unschedulable": True}},
        {"spec": {"taints": [{"key": "other", "effect": "NoExecute"}]}},
        {"spec": {"providerID": "x://y"}},
        {"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}},
    ],
    ids=str,
)
def test_of_its_own_node_a_labeller_changes_nothing_else(
    accounts: Release, on_a: str, change: dict[str, Any]
) -> None:
    assert status_of(accounts.cluster, on_a, "PATCH", node(accounts, "a"), change) == 403
    # The policy's own word, and not that of a validation which came first.
    assert (
        status_of(accounts.cluster, on_a, "PATCH", node(accounts, "a"), {"spec": {"taints": [TAINT]}}) == 200
    )
    assert status_of(accounts.cluster, on_a, "PATCH", node(accounts, "a"), {"spec": {"taints": None}}) == 200


def test_the_taints_of_others_stay(accounts: Release, on_a: str) -> None:
    cluster, other = accounts.cluster, {"key": "other", "effect": "NoSchedule"}
    try:
        cluster.do("PATCH", node(accounts, "a"), {"spec": {"taints": [other]}})
        for taints in ([TAINT], None, [other, other | {"effect": "NoExecute"}]):
            assert status_of(cluster, on_a, "PATCH", node(accounts, "a"), {"spec": {"taints": taints}}) == 403
        assert (
            status_of(cluster, on_a, "PATCH", node(accounts, "a"), {"spec": {"taints": [other, TAINT]}})
            == 200
        )
    finally:
        cluster.do("PATCH", node(accounts, "a"), {"spec": {"taints": None}})


def test_the_sweep_takes_and_does_not_give(accounts: Release) -> None:
    cluster = accounts.cluster
    token = cluster.token(accounts.namespace, "rlu-sweep")
    path = node(accounts, "b")
    held = {
        "metadata": {"labels": {"rlu-certified": DIGEST}, "annotations": {"rlu-certified-seen": "1"}},
        "spec": {"taints": [TAINT]},
    }
    assert status_of(cluster, token, "PATCH", path, LABEL) == 403
    cluster.do("PATCH", path, held)
    other = {"metadata": {"labels": {"rlu-certified": label("other")}}}
    for change in (
        other,
        {"metadata": {"annotations": {"rlu-certified-seen": "2"}}},
        {"metadata": {"labels": {"zone": None}}},
        {"spec": {"taints": [TAINT | {"effect": "NoExecute"}]}},
        {"spec": {"unschedulable": True}},
    ):
        assert status_of(cluster, token, "PATCH", path, change) == 403, change
    taken = {
        "metadata": {"labels": {"rlu-certified": None}, "annotations": {"rlu-certified-seen": None}},
        "spec": {"taints": None},
    }
    assert status_of(cluster, token, "PATCH", path, taken) == 200


def test_jobs_write_their_own_configmap(accounts: Release) -> None:
    cluster = accounts.cluster
    maps = f"/api/v1/namespaces/{accounts.namespace}/configmaps"
    collateral = cluster.token(accounts.namespace, "rlu-collateral")
    sets = cluster.token(accounts.namespace, "rlu-key-sets")
    file = {"binaryData": {"x509-crl-1.crl": "AA=="}}
    assert status_of(cluster, collateral, "PATCH", f"{maps}/rlu-collateral", file) == 200
    assert status_of(cluster, collateral, "PATCH", f"{maps}/auth", file) == 403
    assert status_of(cluster, sets, "PATCH", f"{maps}/rlu-collateral", file) == 403
    answers = cluster.token(accounts.namespace, "rlu-licence")
    assert status_of(cluster, answers, "PATCH", f"{maps}/rlu-licence", {"data": {"answer.jws": "x"}}) == 200
    assert status_of(cluster, answers, "PATCH", f"{maps}/rlu-collateral", file) == 403
    assert (
        status_of(cluster, collateral, "PATCH", f"{maps}/rlu-licence", {"data": {"answer.jws": "x"}}) == 403
    )
    # The CAs of clients' certificates are in the same ConfigMap as the key sets.
    path = f"{maps}/auth"
    for change in (
        {"data": {"ca.pem": "another"}},
        {"data": None},
        {"binaryData": {"crl.pem": "AA=="}},
        {"binaryData": {"crl.pem": None}},
        {"binaryData": {"more": "AA=="}},
        {"data": {"more": "x"}},
        {"data": {"ca.pem": None}},
        {"metadata": {"labels": {"a": "b"}}},
        {"immutable": True},
    ):
        assert status_of(cluster, sets, "PATCH", path, change) == 403, change
    assert status_of(cluster, sets, "PATCH", path, {"data": {"corporate.jwks.json": "{} "}}) == 200


def test_the_namespace_is_restricted_and_the_chart_is_in_it(accounts: Release) -> None:
    cluster = accounts.cluster
    spec = {"containers": [{"name": "one", "image": "none:1"}]}
    body = {"metadata": {"name": "free"}, "spec": spec}
    cluster.account(accounts.namespace, "default")  # as a controller would
    with pytest.raises(Status, match="violates PodSecurity") as refused:
        cluster.do("POST", f"/api/v1/namespaces/{accounts.namespace}/pods", body)
    assert refused.value.code == 403
    found = cluster.list(f"/apis/networking.k8s.io/v1/namespaces/{accounts.namespace}/networkpolicies")
    assert {"rlu-deny", "rlu-serving", "rlu-controllers", "rlu-collateral", "rlu-key-sets"} <= {
        one["metadata"]["name"] for one in found
    }


def test_where_the_api_server_cannot_be_looked_up_it_has_to_be_listed(release: Release) -> None:
    """This one is on the loopback interface, and publishes no address."""
    with pytest.raises(Exception, match=r"controllers\.apiServer\.egress: list the API server's addresses"):
        release.run("Install", {"controllers": {"apiServer": {"egress": []}}})


def test_others_are_not_held_to_what_the_labeller_is(accounts: Release) -> None:
    change = {"metadata": {"labels": {"zone": "z", "rlu-certified": "by-hand"}}}
    assert accounts.cluster.do("PATCH", node(accounts, "b"), change)
    back = {"metadata": {"labels": {"zone": "x", "rlu-certified": None}}}
    assert accounts.cluster.do("PATCH", node(accounts, "b"), back)
