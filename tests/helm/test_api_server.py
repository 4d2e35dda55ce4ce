"""A real API server takes every object of every configuration: ranges, contradictions, expressions, and fields that it does not know."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from control_plane import Cluster, Status


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    made = cluster.namespace("charts", {"pod-security.kubernetes.io/enforce": "restricted"})
    cluster.account(made, "default")
    return made


def place(charts: Any, item: dict[str, Any], namespace: str) -> str:
    group = item["apiVersion"]
    prefix = f"/apis/{group}" if "/" in group else f"/api/{group}"
    inside = "" if item["kind"] in charts.UNSCOPED else f"/namespaces/{namespace}"
    return f"{prefix}{inside}/{charts._plural(item['kind'])}"


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
