"""The labeller, its sweep and the publishing jobs, in a fake API server and in a real one: what they do to nodes, pods and ConfigMaps.

In the real one they have the accounts and tokens that the chart gives them, and its admission policies are in force.
"""

from __future__ import annotations

import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from chart_release import Release
from control_plane import until
from fakes.kubernetes import FakeKubernetes
from fakes.node import FakeNode
from rlu_server import preflight
from rlu_server.cluster import publish, sweep
from rlu_server.cluster.api import Api, Denied
from rlu_server.cluster.certify import Names
from rlu_server.cluster.labeller import Labeller, Seen
from rlu_server.cluster.record import label
from rlu_server.outreach.cluster import Cluster as Place
from rlu_server.selftest.node import RLU

TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
NAMES = Names()


@dataclass
class World:
    """One API server with a node, and what a test does there as an administrator."""

    read: Callable[[str], dict[str, Any]]
    patch: Callable[[str, dict[str, Any]], Any]
    api: Callable[[str, Sequence[str]], Api]
    pod: Callable[[str, dict[str, str]], str]
    budget: Callable[[int, int], None]
    """How many pods are healthy, and how many have to be."""
    node: str
    namespace: str
    events: list[tuple[str, Any]] = field(default_factory=list)

    def labeller(self, root: FakeNode, **how: Any) -> Labeller:
        def look() -> Seen:
            seen = preflight.look(root.root, landlock=7, is_root=False, library="libnvidia-ml-absent.so.1")
            return Seen(seen, tuple(preflight.judge(seen)))

        return Labeller(
            **{
                "api": self.api("rlu-labeller", ("labeller", "drain")),
                "name": self.node,
                "profile": None,
                "look": look,
                "clock": lambda: 1000.0,
                "events": lambda event, **more: self.events.append((event, more)),
                **how,
            }
        )

    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = self.read(f"/api/v1/nodes/{self.node}")["metadata"]
        return found

    def labelled(self) -> bool:
        return NAMES.label in self.metadata().get("labels", {})


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "fake":
        with FakeKubernetes(tmp_path) as server:
            server.put("/api/v1/nodes/n", {"metadata": {"labels": {"zone": "x"}}, "spec": {}})
            server.put("/api/v1/namespaces/ns/configmaps/rlu-collateral", {})

            def pod(name: str, labels: dict[str, str]) -> str:
                path = f"/api/v1/namespaces/ns/pods/{name}"
                server.put(path, {"metadata": {"labels": labels}, "spec": {"nodeName": "n"}})
                return path

            yield World(
                read=lambda path: server.objects[path],
                patch=lambda path, change: server._answer("PATCH", path, change),
                api=lambda account, roles: Api(Place(server.url, TRUST, server.token), "ns", tuple(roles)),
                pod=pod,
                budget=lambda healthy, wanted: setattr(server, "budget", healthy - wanted),
                node="n",
                namespace="ns",
            )
        return
    release: Release = request.getfixturevalue("accounts")
    cluster = release.cluster
    node = f"n-{secrets.token_hex(4)}"
    cluster.node(node, {"zone": "x"})
    own = release.pod_on(node, "rlu-labeller")

    def real_pod(name: str, labels: dict[str, str]) -> str:
        made = release.pod_on(node, "default", f"{name}-{node}")
        path = f"/api/v1/namespaces/{release.namespace}/pods/{made['metadata']['name']}"
        cluster.do("PATCH", path, {"metadata": {"labels": labels}})
        cluster.kubelet(release.namespace, made["metadata"]["name"], ready=True)
        return path

    budgets = f"/apis/policy/v1/namespaces/{release.namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 9, "selector": {"matchLabels": {"drained": node}}}
    cluster.do("POST", budgets, {"metadata": {"name": node}, "spec": spec})

    def budget(healthy: int, wanted: int) -> None:
        found = cluster.do("PATCH", f"{budgets}/{node}", {"spec": {"minAvailable": wanted}})
        # What the disruption controller writes too, where one is running.
        status = {
            "observedGeneration": found["metadata"]["generation"],
            "disruptionsAllowed": healthy - wanted,
            "currentHealthy": healthy,
            "desiredHealthy": wanted,
            "expectedPods": 2,
            "conditions": None,
        }
        cluster.do("PATCH", f"{budgets}/{node}/status", {"status": status})

    def api(account: str, roles: Sequence[str]) -> Api:
        pod = own if account == "rlu-labeller" else None
        return release.api(release.token(account, pod), *roles)

    yield World(
        read=lambda path: cluster.do("GET", path),
        patch=lambda path, change: cluster.do("PATCH", path, change),
        api=api,
        pod=real_pod,
        budget=budget,
        node=node,
        namespace=release.namespace,
    )


@pytest.fixture
def root(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path / "root")


def test_a_good_node_is_labelled_and_a_drifting_one_is_not(world: World, root: FakeNode) -> None:
    labeller = world.labeller(root)
    assert labeller.round().certified
    metadata = world.metadata()
    assert metadata["labels"]["rlu-certified"] == label(metadata["annotations"]["rlu-certified-record"])
    assert metadata["labels"]["zone"] == "x"
    # Swap is switched on: it fails.
    root.put("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1 0 -2")
    assert labeller.round().codes == ("kernel.swap",)
    assert not world.labelled()
    root.put("proc/swaps", "Filename\tType\tSize\tUsed\tPriority")
    assert labeller.round().certified
    assert world.labelled()
    # It passes, but as another machine than was certified: a confidential guest's device is there now.
    root.put("dev/sev-guest")
    (root.root / "sys/kernel/config/tsm/report").mkdir(parents=True)
    assert labeller.round().event == "node_withheld"
    assert labeller.round().event == "node_withheld"
    assert not world.labelled()
    world.patch(f"/api/v1/nodes/{world.node}", {"metadata": {"annotations": {"rlu-certified-record": None}}})
    assert labeller.round().certified
    assert world.labelled()


def test_a_labeller_takes_its_label_along_and_the_sweep_those_of_the_silent(
    world: World, root: FakeNode
) -> None:
    rounds = iter([False, True])
    world.labeller(root).run(lambda: next(rounds))
    assert [event for event, _ in world.events] == ["node_certified", "labeller_resigned"]
    assert not world.labelled()
    assert "rlu-certified-record" in world.metadata()["annotations"]
    # Killed, it cannot.
    assert world.labeller(root).round().certified
    api = world.api("rlu-sweep", ("sweep",))
    assert world.node not in sweep.sweep(api, NAMES, 1600, 600)
    assert world.labelled()
    assert world.node in sweep.sweep(api, NAMES, 1601, 600)
    assert not world.labelled()
    assert world.node in sweep.forget(api, NAMES)
    assert not any("rlu-certified" in key for key in world.metadata().get("annotations", {}))


def test_a_round_that_fails_is_tried_again(world: World, root: FakeNode) -> None:
    looks = iter([None, Denied("cluster.later", "x"), None])
    labeller = world.labeller(root)
    good = labeller.look

    def look() -> Seen:
        refusal = next(looks)
        if refusal is not None:
            raise refusal
        return good()

    labeller = replace(labeller, look=look)
    ends = iter([False, False, True])
    labeller.run(lambda: next(ends))
    assert [event for event, _ in world.events] == [
        "node_certified",
        "labeller_failed",
        "node_certified",
        "labeller_resigned",
    ]
    assert world.events[1] == ("labeller_failed", {"code": "cluster.later"})


def test_a_node_without_the_label_is_tainted_and_drained_as_the_budget_allows(
    world: World, root: FakeNode
) -> None:
    other = world.pod("bystander", {"app": "other"})
    pods = [world.pod(name, {"drained": world.node}) for name in ("one", "two")]
    labeller = world.labeller(root, taint="NoSchedule", drain=f"drained={world.node}")
    labeller.round()
    assert world.events == []
    root.put("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1 0 -2")

    def going(path: str) -> bool:
        return "deletionTimestamp" in world.read(path)["metadata"]

    def evicted() -> int:
        """After one more round; a controller may still be counting."""
        assert not labeller.round().certified
        return [event for event, _ in world.events].count("pod_evicted")

    world.budget(2, 1)
    assert until("one is evicted", evicted) == 1
    assert ("pod_kept", {"code": "cluster.later"}) in world.events
    assert sum(map(going, pods)) == 1
    taints = world.read(f"/api/v1/nodes/{world.node}")["spec"]["taints"]
    assert [(one["key"], one["effect"]) for one in taints] == [("rlu-certified-missing", "NoSchedule")]
    world.budget(1, 0)
    until("the other follows", lambda: evicted() == 2)
    assert all(map(going, pods))
    assert not going(other)


def test_files_reach_the_configmap(world: World) -> None:
    api = world.api("rlu-collateral", ("publish",))
    before = publish.published(api, "rlu-collateral")
    assert publish.publish(api, "rlu-collateral", {"a": b"\x00\xff", "b": b"2"}, before)
    assert publish.published(api, "rlu-collateral") == {"a": b"\x00\xff", "b": b"2"}
    assert publish.publish(api, "rlu-collateral", {"b": b"2"}, {"a": b"\x00\xff", "b": b"2"})
    assert publish.published(api, "rlu-collateral") == {"b": b"2"}


def test_the_command_labels_and_resigns_when_it_is_told_to(world: World) -> None:
    """As the chart starts it, on the machine of the tests, whatever is wrong with it."""
    api = world.api("rlu-labeller", ("labeller",))
    seen = preflight.look(Path("/"), landlock=0, is_root=False)
    wrong = {one.id for one in preflight.judge(seen) if one.severity is preflight.Severity.ERROR}
    command = [
        *(*RLU, "cluster", "label", "--node", world.node, "--landlock", "0", "--every", "3600"),
        *(word for one in sorted(wrong) for word in ("--ignore", one)),
        *("--namespace", world.namespace, "--api-server", api.cluster.url),
        *("--api-ca", str(api.cluster.ca_file), "--api-token", str(api.cluster.token_file)),
    ]
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == b'{"event": "node_certified", "codes": []}\n'
        assert world.labelled()
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        assert b"labeller_resigned" in running.stdout.read()
        until("the label is gone", lambda: not world.labelled())
    finally:
        running.kill()
        running.communicate()
