"""The chart on a real control plane, installed by Helm's own engine, and the tokens of its accounts."""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from absent_inputs import absent
from control_plane import Cluster
from rlu_server.cluster.api import Api
from rlu_server.outreach.cluster import Cluster as Place

CHART = Path(__file__).resolve().parents[1] / "helm" / "rlu"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SOMEWHERE = [{"ipBlock": {"cidr": "192.0.2.10/32"}}]


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges values."""
    result = dict(copy.deepcopy(base))
    for key, value in changes.items():
        inner = result.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, dict)
        result[key] = merged(inner, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return result


def values(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The preset for eight H200, changed, and where the API server is, which has no address of its own here."""
    preset = yaml.safe_load((CHART / "values-h200x8.yaml").read_text("utf-8"))
    return merged(merged(preset, {"controllers": {"apiServer": {"egress": SOMEWHERE}}}), changes)


@dataclass(frozen=True)
class Release:
    """The chart as `rlu` in a namespace."""

    cluster: Cluster
    namespace: str

    def run(self, action: str, changes: Mapping[str, Any] | None = None, **more: Any) -> Any:
        """Install, Upgrade, Rollback or Uninstall."""
        if importlib.util.find_spec("helm_sdkpy") is None:
            absent("helm", "helm_sdkpy is not installed")
        import helm_sdkpy

        configuration = helm_sdkpy.Configuration(
            namespace=self.namespace, kubeconfig=self.cluster.kubeconfig()
        )
        made = getattr(helm_sdkpy, action)(configuration)
        if changes is None:
            return asyncio.run(made.run("rlu", **more))
        return asyncio.run(
            made.run("rlu", str(CHART), values=values(changes), wait=False, timeout=120, **more)
        )

    def token(self, account: str, pod: dict[str, Any] | None = None) -> Path:
        """A file with the account's token."""
        path = self.cluster.folder / f"token-{secrets.token_hex(8)}"
        path.write_text(self.cluster.token(self.namespace, account, pod))
        return path

    def api(self, token: Path, *roles: str) -> Api:
        """What a pod with that token has."""
        return Api(Place(self.cluster.url, self.cluster.ca, token), self.namespace, roles)

    def pod_on(self, node: str, account: str, name: str = "") -> dict[str, Any]:
        """A pod of the account that is on a node, for tokens that say so."""
        self.cluster.account(self.namespace, account)
        return self.cluster.do(
            "POST",
            f"/api/v1/namespaces/{self.namespace}/pods",
            {
                "metadata": {"name": name or f"{account}-{secrets.token_hex(4)}"},
                "spec": {
                    "nodeName": node,
                    "serviceAccountName": account,
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 1000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "one",
                            "image": "none:1",
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "capabilities": {"drop": ["ALL"]},
                            },
                        }
                    ],
                },
            },
        )
