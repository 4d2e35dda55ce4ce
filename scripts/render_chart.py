"""Renders the chart with Helm's own engine and without a cluster, and keeps k8s/ what the chart says.

    python scripts/render_chart.py            write k8s/<preset>.yaml for every preset
    python scripts/render_chart.py --check    say what differs instead; exit code 1

Helm's Python binding can install but not only render. So it installs into an API server that lives for one rendering
(`discovery_server.py`): schema, Kubernetes version, capabilities, hooks and notes are all Helm's own work.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import discovery_server
from discovery_server import UNSCOPED, Object

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "rlu"
MANIFESTS = ROOT / "k8s"
NAMESPACE = RELEASE = "rlu"
KUBERNETES = "1.34.0"

CLUSTER_KINDS: dict[str, tuple[str, ...]] = {
    "admissionregistration.k8s.io/v1": ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    "v1": ("ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"),
    "apps/v1": ("DaemonSet", "Deployment", "StatefulSet"),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "batch/v1": ("CronJob", "Job"),
    "discovery.k8s.io/v1": ("EndpointSlice",),
    "networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "policy/v1": ("PodDisruptionBudget",),
    "rbac.authorization.k8s.io/v1": ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
}
CUSTOM_KINDS: dict[str, tuple[str, ...]] = {
    "cert-manager.io/v1": ("Certificate",),
    "external-secrets.io/v1": ("ExternalSecret",),
    "gateway.networking.k8s.io/v1": ("BackendTLSPolicy", "HTTPRoute"),
    "gateway.networking.k8s.io/v1alpha2": ("TLSRoute",),
    "gateway.networking.k8s.io/v1alpha3": ("BackendTLSPolicy",),
    "inference.networking.k8s.io/v1": ("InferencePool",),
    "keda.sh/v1alpha1": ("ScaledObject",),
    "leaderworkerset.x-k8s.io/v1": ("LeaderWorkerSet",),
    "monitoring.coreos.com/v1": ("PrometheusRule", "ServiceMonitor"),
}
"""What the chart may use beyond Kubernetes, by default all installed."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What Helm would send: the release's objects, the hooks' objects, and the notes."""

    objects: tuple[Object, ...]
    hooks: tuple[Object, ...]
    notes: str

    def of(self, kind: str) -> list[Object]:
        return [item for item in (*self.objects, *self.hooks) if item["kind"] == kind]


class Refused(Exception):
    """Helm refused the values or the chart; the message is Helm's."""


def presets() -> dict[str, Path]:
    """Name → values file of every preset."""
    return {path.stem.removeprefix("values-"): path for path in sorted(CHART.glob("values-*.yaml"))}


def render(
    values: Mapping[str, Any],
    *,
    kubernetes: str = KUBERNETES,
    custom_kinds: Mapping[str, tuple[str, ...]] | None = None,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    chart: Path = CHART,
) -> Rendered:
    """Render the chart.

    Raises:
        Refused: the schema, a template or the chart's Kubernetes version said no.
    """
    import helm_sdkpy  # loads 100 MB of Go

    kinds = {**CLUSTER_KINDS, **(CUSTOM_KINDS if custom_kinds is None else custom_kinds)}
    with discovery_server.answering(kubernetes, kinds) as address:
        configuration = helm_sdkpy.Configuration(namespace=namespace, kubeconfig=_kubeconfig(address))
        install = helm_sdkpy.Install(configuration)
        try:
            answer = asyncio.run(
                install.run(release, str(chart), values=dict(values), wait=False, timeout=60)
            )
        except helm_sdkpy.HelmError as error:
            raise Refused(str(error)) from error
    hooks = [yaml.safe_load(hook["manifest"]) for hook in answer.get("hooks") or []]
    objects = [item for item in yaml.safe_load_all(answer["manifest"]) if item]
    return Rendered(tuple(objects), tuple(hooks), answer["info"].get("notes", ""))


def _kubeconfig(address: str) -> str:
    named = [{"name": "here", "cluster": {"server": address}}]
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": named,
            "users": [{"name": "here", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        }
    )


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, so that differences can be read."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def manifest(preset: str) -> str:
    """The preset as plain manifests, for `kubectl apply`: without hooks, in Helm's order."""
    rendered = render(yaml.safe_load(presets()[preset].read_text("utf-8")))
    head = (
        f"# The chart helm/rlu with values-{preset}.yaml, release {RELEASE!r} in namespace {NAMESPACE!r}.\n"
        "# Made by scripts/render_chart.py; change the chart, not this file.\n"
        "# What is yours to set: names such as region and claims, the API server's addresses (192.0.2.1 and .2).\n"
    )
    bodies = []
    for item in rendered.objects:
        if item["kind"] not in UNSCOPED:
            item["metadata"]["namespace"] = NAMESPACE
        labels = item["metadata"]["labels"]
        del labels["helm.sh/chart"]
        labels["app.kubernetes.io/managed-by"] = "kubectl"
        bodies.append(yaml.dump(item, Dumper=_Dumper, sort_keys=False, width=160, allow_unicode=True))
    return head + "---\n" + "---\n".join(bodies)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write k8s/ from the chart's presets.")
    parser.add_argument("--check", action="store_true", help="write nothing; show what differs")
    check = parser.parse_args().check
    different = False
    for name in presets():
        path, new = MANIFESTS / f"{name}.yaml", manifest(name)
        old = path.read_text("utf-8") if path.exists() else ""
        if check and old != new:
            different = True
            sys.stdout.writelines(
                difflib.unified_diff(
                    old.splitlines(True), new.splitlines(True), f"k8s/{name}.yaml", "the chart"
                )
            )
        elif not check:
            path.write_text(new, "utf-8")
    return int(different)


if __name__ == "__main__":
    sys.exit(main())
