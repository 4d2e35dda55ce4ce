"""The table of rights: paths as the API server has them, rules as RBAC has them, and a client that makes no other call."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlu_server.cluster.api import Api
from rlu_server.cluster.rights import (
    EVICT_POD,
    LIST_NODES,
    LIST_PODS,
    PATCH_MAP,
    PATCH_NODE,
    READ_NODE,
    ROLES,
    rules,
)
from rlu_server.outreach.cluster import Cluster


def test_paths() -> None:
    assert READ_NODE.path("ns", "n-1") == "/api/v1/nodes/n-1"
    assert LIST_NODES.path("ns", query={"limit": "5"}) == "/api/v1/nodes?limit=5"
    assert PATCH_MAP.path("ns", "m") == "/api/v1/namespaces/ns/configmaps/m"
    assert EVICT_POD.path("ns", "p") == "/api/v1/namespaces/ns/pods/p/eviction"
    assert (PATCH_NODE.method, PATCH_NODE.content_type) == ("PATCH", "application/merge-patch+json")
    assert (EVICT_POD.method, EVICT_POD.content_type) == ("POST", "application/json")


def test_a_name_cannot_lead_elsewhere() -> None:
    assert READ_NODE.path("ns", "../pods?x") == "/api/v1/nodes/..%2Fpods%3Fx"
    with pytest.raises(ValueError, match="get nodes"):
        READ_NODE.path("ns")
    with pytest.raises(ValueError, match="list nodes"):
        LIST_NODES.path("ns", "n")


def test_rules_of_each_role() -> None:
    core = {"apiGroups": [""]}
    assert rules("labeller", namespaced=False) == [
        {**core, "resources": ["nodes"], "verbs": ["get", "patch"]}
    ]
    assert rules("sweep", namespaced=False) == [{**core, "resources": ["nodes"], "verbs": ["list", "patch"]}]
    assert rules("drain", namespaced=True) == [
        {**core, "resources": ["pods"], "verbs": ["list"]},
        {**core, "resources": ["pods/eviction"], "verbs": ["create"]},
    ]
    assert rules("publish", namespaced=True, name="m") == [
        {**core, "resources": ["configmaps"], "verbs": ["get", "patch"], "resourceNames": ["m"]}
    ]
    for role in ROLES:
        assert bool(rules(role, namespaced=False)) != bool(rules(role, namespaced=True))


@pytest.mark.parametrize("role", list(ROLES))
def test_the_client_of_a_role_makes_no_call_of_another(role: str) -> None:
    api = Api(Cluster("http://127.0.0.1:1", Path("none"), Path("none")), "ns", (role,))
    for right in (READ_NODE, LIST_NODES, PATCH_NODE, LIST_PODS, EVICT_POD, PATCH_MAP):
        if right not in ROLES[role]:
            with pytest.raises(ValueError, match="has no right"):
                api.call(right, "name")
