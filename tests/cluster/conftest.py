"""Each test has namespaces and nodes of its own, in the one control plane of the run."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from chart_release import RESTRICTED, SOMEWHERE, Release
from control_plane import Cluster, Status, until


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Names that no other test has."""
    tag = secrets.token_hex(4)
    return lambda name: f"{name}-{tag}"


@pytest.fixture
def release(cluster: Cluster, unique: Callable[[str], str]) -> Release:
    """A namespace with restricted Pod Security, in which nothing is installed yet."""
    return Release(cluster, cluster.namespace(unique("rlu"), RESTRICTED))


ALL = {
    "auth": {"configMap": "auth"},
    "hardware": {"gpus": {"evidence": "nvidia"}},
    "controllers": {
        "labeller": {"drain": True},
        "collateral": {"enabled": True, "egress": SOMEWHERE},
        "keySets": {
            "enabled": True,
            "sets": [{"key": "corporate.jwks.json", "url": "https://login.example.org/keys"}],
            "egress": SOMEWHERE,
        },
    },
    "licence": {
        "secret": "licence",
        "validation": {"url": "https://vendor.example.org/v1", "egress": SOMEWHERE},
    },
}


@pytest.fixture(scope="module")
def accounts(cluster: Cluster) -> Release:
    """The chart with every controller, its admission policies in force. Two nodes: `<namespace>-a` and `<namespace>-b`."""
    made = Release(cluster, cluster.namespace(f"rlu-{secrets.token_hex(4)}", RESTRICTED))
    cluster.do(
        "POST",
        f"/api/v1/namespaces/{made.namespace}/configmaps",
        {
            "metadata": {"name": "auth"},
            "data": {"ca.pem": "CA", "corporate.jwks.json": "{}"},
            "binaryData": {"crl.pem": "Q1JM"},
        },
    )
    made.run("Install", ALL)
    for name in ("a", "b"):
        cluster.node(f"{made.namespace}-{name}", {"zone": "x"})
        kept = {"metadata": {"annotations": {"kept": "1"}}}
        cluster.do("PATCH", f"/api/v1/nodes/{made.namespace}-{name}", kept)
    token = cluster.token(made.namespace, "rlu-labeller")

    def denied() -> bool:
        try:
            cluster.do(
                "PATCH",
                f"/api/v1/nodes/{made.namespace}-a",
                {"metadata": {"labels": {"probe": "1"}}},
                token=token,
            )
        except Status as status:
            return status.code == 403
        return False

    until("the admission policy is in force", denied)
    cluster.do("PATCH", f"/api/v1/nodes/{made.namespace}-a", {"metadata": {"labels": {"probe": None}}})
    return made
