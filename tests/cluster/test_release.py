"""The release on a real cluster but for its kubelets: certified nodes only, one at a time, budgets, upgrade, rollback, and nothing left."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chart_release import RESTRICTED, Release
from control_plane import Cluster, Status, until
from fakes.node import FakeNode
from rlu_server import preflight
from rlu_server.cluster import sweep
from rlu_server.cluster.certify import Names
from rlu_server.cluster.labeller import Labeller, Seen

SWAP = "Filename\tType\tSize\tUsed\tPriority"
Pod = dict[str, Any]


class Kubelets:
    """What the nodes' agents would do: end pods that are told to, and say of the serving ones that they are ready, unless held back.

    Jobs are done by `work`, called with the job's pod.
    """

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.held: set[str] = set()
        self.work: Callable[[Pod], None] = lambda _: None
        self.failed: list[BaseException] = []
        self._cluster, self._namespace = cluster, namespace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Kubelets:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert not self.failed, self.failed

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                for pod in self._cluster.list(f"/api/v1/namespaces/{self._namespace}/pods"):
                    with contextlib.suppress(Status):  # it went meanwhile
                        self._look(pod)
            except Exception as error:  # shown at the end; a thread has nobody to raise to
                self.failed.append(error)
                return

    def _look(self, pod: Pod) -> None:
        name = pod["metadata"]["name"]
        if not pod["spec"].get("nodeName"):
            return
        if "deletionTimestamp" in pod["metadata"]:
            self._cluster.gone(self._namespace, name)
        elif pod["metadata"]["labels"].get("batch.kubernetes.io/job-name"):
            if pod["status"].get("phase") not in ("Succeeded", "Failed"):
                self.work(pod)
                self._cluster.do(
                    "PATCH",
                    f"/api/v1/namespaces/{self._namespace}/pods/{name}/status",
                    {"status": {"phase": "Succeeded"}},
                )
        elif not _ready(pod) and name not in self.held:
            self._cluster.kubelet(self._namespace, name, ready=True)


def _ready(pod: Pod) -> bool:
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions") or ()
    )


class Site:
    """Three nodes with eight GPUs each, a claim with the model, a local volume on each node, and the release."""

    def __init__(self, cluster: Cluster, name: str, folder: Path) -> None:
        self.cluster = cluster
        self.namespace = cluster.namespace(name, RESTRICTED)
        self.release = Release(cluster, name)
        self.nodes = [f"{name}-{number}" for number in range(3)]
        self.roots = {node: FakeNode(folder / node) for node in self.nodes}
        for node in self.nodes:
            cluster.node(
                node,
                {"nvidia.com/gpu.product": "NVIDIA-H200", "pool": name},
                {"nvidia.com/gpu": "8", "smarter-devices/tpmrm0": "4"},
            )
            self._volume(f"{node}-state", "ReadWriteOncePod", f"{name}-local", node)
        cluster.do(
            "POST",
            "/apis/storage.k8s.io/v1/storageclasses",
            {
                "metadata": {"name": f"{name}-local"},
                "provisioner": "kubernetes.io/no-provisioner",
                "volumeBindingMode": "WaitForFirstConsumer",
            },
        )
        self._volume(f"{name}-model", "ReadOnlyMany", "", None)
        cluster.do(
            "POST",
            f"/api/v1/namespaces/{name}/persistentvolumeclaims",
            {
                "metadata": {"name": "rlu-model"},
                "spec": {
                    "accessModes": ["ReadOnlyMany"],
                    "storageClassName": "",
                    "volumeName": f"{name}-model",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            },
        )
        self.values = {
            "replicas": 2,
            "state": {"storageClassName": f"{name}-local"},
            "hardware": {"nodeSelector": {"pool": name}},
        }

    def _volume(self, name: str, mode: str, kind: str, node: str | None) -> None:
        spec: dict[str, Any] = {
            "capacity": {"storage": "100Gi"},
            "accessModes": [mode],
            "storageClassName": kind,
        }
        if node is None:
            spec["nfs"] = {"server": "192.0.2.30", "path": "/models"}
        else:
            term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
            spec["local"] = {"path": "/state"}
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}}
        self.cluster.do("POST", "/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": spec})

    def get(self, path: str) -> Any:
        """Something of the release's namespace, or None."""
        group, _, rest = path.rpartition(":")
        prefix = f"/apis/{group}/v1" if group else "/api/v1"
        try:
            return self.cluster.do("GET", f"{prefix}/namespaces/{self.namespace}/{rest}")
        except Status as status:
            if status.code != 404:
                raise
            return None

    def serving(self) -> dict[str, Pod]:
        """The serving pods that are not on their way out, by name."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=app.kubernetes.io/component=serving"
        return {
            pod["metadata"]["name"]: pod
            for pod in self.cluster.list(path)
            if "deletionTimestamp" not in pod["metadata"]
        }

    def places(self) -> dict[str, str]:
        """Serving pod → its node, of those that have one."""
        return {
            name: pod["spec"]["nodeName"]
            for name, pod in self.serving().items()
            if pod["spec"].get("nodeName")
        }

    def unschedulable(self) -> set[str]:
        """Serving pods of which the scheduler has said that they fit nowhere."""
        return {
            name
            for name, pod in self.serving().items()
            for one in pod["status"].get("conditions") or ()
            if one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable"
        }

    def labeller(self, node: str) -> Labeller:
        """The labeller of a node, with the token of the pod that the DaemonSet has there."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=app.kubernetes.io/component=labeller"
        pod = until(
            f"a labeller's pod is on {node}",
            lambda: next(
                (one for one in self.cluster.list(path) if one["spec"].get("nodeName") == node), None
            ),
        )
        root = self.roots[node].root

        def look() -> Seen:
            seen = preflight.look(root, landlock=7, is_root=False, library="libnvidia-ml-absent.so.1")
            return Seen(seen, tuple(preflight.judge(seen)))

        token = self.release.token("rlu-labeller", pod)
        return Labeller(
            api=self.release.api(token, "labeller"),
            name=node,
            profile=None,
            look=look,
            clock=lambda: 1000.0,
            events=lambda *_, **__: None,
        )

    def evict(self, name: str) -> int:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        try:
            self.cluster.do("POST", path, body)
        except Status as status:
            return status.code
        return 201

    def allowed(self) -> int:
        """How many the budget lets go, by the pods as they are now."""
        budget = self.get("policy:poddisruptionbudgets/rlu")
        return int(budget["status"].get("disruptionsAllowed", 0)) if budget.get("status") else 0

    def workload(self) -> Any:
        return self.get("apps:statefulsets/rlu")

    def all_ready(self) -> bool:
        found = self.workload()
        status = found["status"]
        return bool(
            status.get("observedGeneration") == found["metadata"]["generation"]
            and status.get("updatedReplicas") == status.get("readyReplicas") == status.get("replicas") == 2
            and status.get("currentRevision") == status.get("updateRevision")
        )


@pytest.fixture
def site(whole_cluster: Cluster, unique: Callable[[str], str], tmp_path: Path) -> Site:
    return Site(whole_cluster, unique("rlu"), tmp_path)


@pytest.fixture
def kubelets(site: Site) -> Iterator[Kubelets]:
    with Kubelets(site.cluster, site.namespace) as running:
        yield running


def revision(pod: Pod) -> str:
    return str(pod["metadata"]["labels"]["controller-revision-hash"])


def test_pods_land_on_certified_nodes_and_no_others(site: Site, kubelets: Kubelets) -> None:
    first, second, third = site.nodes
    site.release.run("Install", site.values)
    until("there is no place for either", lambda: site.unschedulable() == {"rlu-0", "rlu-1"})
    assert site.places() == {}
    # The third node has swap, and fails; the others are certified by their own labellers.
    site.roots[third].put("proc/swaps", f"{SWAP}\n/dev/sda2 partition 1 0 -2")
    assert [site.labeller(node).round().certified for node in site.nodes] == [True, True, False]
    until("both have a place", lambda: len(site.places()) == 2)
    assert set(site.places().values()) == {first, second}
    until("both are ready", site.all_ready)
    # A node drifts: what runs there goes on, and what would start there does not.
    drifting = site.places()["rlu-0"]
    site.roots[drifting].put("dev/sev-guest")
    (site.roots[drifting].root / "sys/kernel/config/tsm/report").mkdir(parents=True)
    labeller = site.labeller(drifting)
    assert labeller.round().event == "node_withheld"
    assert site.places()["rlu-0"] == drifting
    site.cluster.do("DELETE", f"/api/v1/namespaces/{site.namespace}/pods/rlu-0")
    until("the new one has no place", lambda: site.unschedulable() == {"rlu-0"})
    # An operator accepts what the node is now.
    accepted = {"metadata": {"annotations": {Names().record: None}}}
    site.cluster.do("PATCH", f"/api/v1/nodes/{drifting}", accepted)
    assert labeller.round().certified
    # Back to where its state is, and nowhere else.
    until("it is where it was", lambda: site.places().get("rlu-0") == drifting)


def test_a_rollout_takes_one_at_a_time_and_budgets_hold(site: Site, kubelets: Kubelets) -> None:
    site.release.run("Install", site.values)
    for node in site.nodes:
        site.labeller(node).round()
    until("both are ready", site.all_ready)
    old = {name: revision(pod) for name, pod in site.serving().items()}
    # An upgrade: the last goes first, and as long as it is not ready, the other stays.
    kubelets.held = {"rlu-1"}
    site.release.run("Upgrade", {**site.values, "gateway": {"drainSeconds": 60}})

    def halfway() -> bool:
        status, pod = site.workload()["status"], site.serving().get("rlu-1")
        return bool(
            pod
            and revision(pod) != old["rlu-1"]
            and status.get("updatedReplicas") == status.get("readyReplicas") == 1
            and status["observedGeneration"] == site.workload()["metadata"]["generation"]
        )

    until("the first is replaced and not ready", halfway)
    assert revision(site.serving()["rlu-0"]) == old["rlu-0"]
    until("nobody may go now", lambda: site.allowed() == 0)
    assert site.evict("rlu-0") == 429
    kubelets.held = set()
    until("both are replaced", site.all_ready)
    assert not set(old.values()) & {revision(pod) for pod in site.serving().values()}
    # Draining a node: one instance may go, the other has to wait for it.
    until("one may go", lambda: site.allowed() == 1)
    kubelets.held = {"rlu-0"}
    before = site.serving()["rlu-0"]["metadata"]["uid"]
    assert site.evict("rlu-0") == 201
    assert site.evict("rlu-1") == 429
    until(
        "another came",
        lambda: site.serving().get("rlu-0", {"metadata": {"uid": before}})["metadata"]["uid"] != before,
    )
    kubelets.held = set()
    until("both are ready", site.all_ready)
    # Back to the first revision. Helm's binding raises although it is done.
    with contextlib.suppress(Exception):
        site.release.run("Rollback", revision=1)
    until(
        "as it was",
        lambda: site.all_ready() and {revision(p) for p in site.serving().values()} == set(old.values()),
    )


def test_uninstallation_leaves_nothing_but_the_state(site: Site, kubelets: Kubelets) -> None:
    site.release.run("Install", site.values)
    for node in site.nodes:
        site.labeller(node).round()
    until("both are ready", site.all_ready)

    def work(pod: Pod) -> None:
        """The last job's, with the token of its own pod."""
        assert pod["spec"]["containers"][0]["command"][-1] == "--all"
        token = site.release.token("rlu-forget", pod)
        sweep.forget(site.release.api(token, "sweep"), Names())

    kubelets.work = work
    site.release.run("Uninstall", timeout=120)
    until("no pod is left", lambda: not site.cluster.list(f"/api/v1/namespaces/{site.namespace}/pods"))
    for node in site.nodes:
        metadata = site.cluster.do("GET", f"/api/v1/nodes/{node}")["metadata"]
        assert not [
            key for part in ("labels", "annotations") for key in metadata.get(part, {}) if "rlu" in key
        ]
    left = {(kind, name) for kind, name in leftovers(site.cluster, site.namespace)}
    # The model's claim is the operator's; the state proves what was served.
    assert left == {
        ("persistentvolumeclaims", f"{name}") for name in ("rlu-model", "state-rlu-0", "state-rlu-1")
    }


def leftovers(cluster: Cluster, namespace: str) -> Iterator[tuple[str, str]]:
    """Everything in the namespace, and what is named after it outside, of every kind that there is."""
    # What the cluster puts into every namespace is in this one too.
    given = {
        item["metadata"]["name"]
        for kind in ("configmaps", "serviceaccounts")
        for item in cluster.list(f"/api/v1/namespaces/default/{kind}")
    }
    groups = ["/api/v1"]
    groups += [
        f"/apis/{one['preferredVersion']['groupVersion']}" for one in cluster.do("GET", "/apis")["groups"]
    ]
    for group in groups:
        for kind in cluster.do("GET", group)["resources"]:
            if "list" not in kind["verbs"] or "/" in kind["name"] or kind["name"] in ("events", "nodes"):
                continue
            place = f"{group}/namespaces/{namespace}" if kind["namespaced"] else group
            for item in cluster.list(f"{place}/{kind['name']}"):
                name = item["metadata"]["name"]
                named = kind["namespaced"] or namespace in name
                expected = name in given or name.startswith(namespace)
                if named and not expected:
                    yield kind["name"], name
