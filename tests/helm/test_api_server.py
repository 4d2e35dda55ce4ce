"""A real API server takes every object of every configuration: ranges, contradictions, expressions, and fields that it does not know."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from control_plane import Cluster, Status

CLAIMS: dict[str, Callable[[Any], Any]] = {
    "StatefulSet": lambda spec: spec.get("volumeClaimTemplates", ()),
    "LeaderWorkerSet": lambda spec: spec["leaderWorkerTemplate"].get("volumeClaimTemplates", ()),
}


@pytest.fixture(scope="session")
def namespace(cluster: Cluster) -> str:
    """Of the whole run: its tests come between those of other modules, configuration by configuration."""
    made = cluster.namespace("charts", {"pod-security.kubernetes.io/enforce": "restricted"})
    cluster.account(made, "default")
    return made


def place(charts: Any, item: dict[str, Any], namespace: str) -> str:
    group = item["apiVersion"]
    prefix = f"/apis/{group}" if "/" in group else f"/api/{group}"
    inside = "" if item["kind"] in charts.UNSCOPED else f"/namespaces/{namespace}"
    return f"{prefix}{inside}/{charts.discovery_server.plural(item['kind'])}"


def test_it_takes_every_object(cluster: Cluster, namespace: str, configuration: Any, charts: Any) -> None:
    for given in (*configuration.objects, *configuration.hooks):
        if given["apiVersion"] in charts.CUSTOM_KINDS:
            continue
        item = copy.deepcopy(given)
        item["metadata"].pop("namespace", None)
        if item["kind"] == "Pod":  # admission wants its account there, and a dry run makes none
            item["spec"]["serviceAccountName"] = "default"
        cluster.do("POST", f"{place(charts, item, namespace)}?dryRun=All&fieldValidation=Strict", item)


def test_it_would_refuse_what_it_does_not_know(
    rendered: Any, charts: Any, cluster: Cluster, namespace: str
) -> None:
    [workload] = rendered().of("StatefulSet")
    path = f"{place(charts, workload, namespace)}?dryRun=All&fieldValidation=Strict"
    for change, words in (
        ({"replica": 1}, "unknown field"),
        ({"replicas": -1}, "greater than or equal to 0"),
    ):
        broken = copy.deepcopy(workload)
        broken["metadata"].pop("namespace", None)
        broken["spec"] |= change
        with pytest.raises(Status, match=words):
            cluster.do("POST", path, broken)


def test_restricted_pod_security_admits_every_pod_but_those_with_the_declared_host_path(
    cluster: Cluster, namespace: str, configuration: Any
) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict"
    seen = 0
    for item in (*configuration.objects, *configuration.hooks):
        for pod in pods_of(item):
            pod["metadata"]["name"] = "one"
            spec = pod["spec"]
            spec["serviceAccountName"] = "default"
            claims = CLAIMS.get(item["kind"], lambda _: ())(item["spec"])
            spec.setdefault("volumes", []).extend(
                {"name": claim["metadata"]["name"], "emptyDir": {}} for claim in claims
            )
            for given in ("priorityClassName", "runtimeClassName"):  # of the operator's cluster
                spec.pop(given, None)
            seen += 1
            if any("hostPath" in volume for volume in spec["volumes"]):
                with pytest.raises(Status, match="violates PodSecurity"):
                    cluster.do("POST", path, pod)
            else:
                cluster.do("POST", path, pod)
    assert seen


def pods_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods that an object of Kubernetes' own makes, as they would be sent."""
    kind, spec = item["kind"], item.get("spec", {})
    if kind == "Pod":
        templates = [item]
    elif kind in ("DaemonSet", "Deployment", "Job", "StatefulSet"):
        templates = [spec["template"]]
    elif kind == "CronJob":
        templates = [spec["jobTemplate"]["spec"]["template"]]
    elif kind == "LeaderWorkerSet":
        templates = [spec["leaderWorkerTemplate"][name] for name in ("leaderTemplate", "workerTemplate")]
    else:
        templates = []
    made = [copy.deepcopy({"metadata": one["metadata"], "spec": one["spec"]}) for one in templates]
    for one in made:
        one["metadata"].pop("namespace", None)
    return made
