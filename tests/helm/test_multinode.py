"""Several machines for one engine: the pods that LeaderWorkerSet is to make, what they read, and whom they reach."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from rlu_server import settings as configuration
from rlu_server.engine import arguments
from rlu_server.supervisor import alone, group

PRESET = "h200x8-multinode"
WORDS = {"$(LWS_WORKER_INDEX)": "1", "$(LWS_LEADER_ADDRESS)": "rlu-nodes-0.rlu-nodes.rlu"}
"""What LeaderWorkerSet puts there, for the second machine."""


@pytest.fixture(scope="module")
def made(rendered: Any) -> Any:
    return rendered(PRESET, {"replicas": 2})


@pytest.fixture(scope="module")
def expanded(made: Any) -> Any:
    """With the StatefulSets that LeaderWorkerSet makes in its place, as far as the checks of objects look at them."""
    [one] = made.of("LeaderWorkerSet")
    pods = one["spec"]["leaderWorkerTemplate"]
    sets = [
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {**one["metadata"], "name": f"{one['metadata']['name']}{suffix}"},
            "spec": {
                "serviceName": one["metadata"]["name"],
                "selector": {"matchLabels": pods[kind]["metadata"]["labels"]},
                "template": pods[kind],
                "volumeClaimTemplates": pods["volumeClaimTemplates"],
            },
        }
        for kind, suffix in (("leaderTemplate", ""), ("workerTemplate", "-others"))
    ]
    others = [item for item in made.objects if item["kind"] != "LeaderWorkerSet"]
    return dataclasses.replace(made, objects=(*others, *sets))


def templates(made: Any) -> tuple[Any, Any]:
    [one] = made.of("LeaderWorkerSet")
    pods = one["spec"]["leaderWorkerTemplate"]
    return pods["leaderTemplate"], pods["workerTemplate"]


def settings_of(made: Any, container: Any, folder: Path) -> configuration.Settings:
    """As the server in that container reads them, once LeaderWorkerSet has put its words in."""
    [text] = [c["data"]["rlu.toml"] for c in made.of("ConfigMap") if "rlu.toml" in c["data"]]
    (folder / "rlu.toml").write_text(text, "utf-8")
    variables = {one["name"]: WORDS.get(one["value"], one["value"]) for one in container["env"]}
    return configuration.load(folder / "rlu.toml", variables)


@pytest.mark.parametrize(
    "name",
    [
        "test_names_are_distinct_and_labelled",
        "test_pods_are_restricted",
        "test_containers_are_restricted",
        "test_what_is_written_is_in_memory_but_for_the_state_and_a_fetched_model",
        "test_every_pod_is_under_the_policy_that_denies",
        "test_whoever_may_go_out_may_go_to_named_places_only",
    ],
)
def test_they_keep_to_what_every_pod_does(name: str, expanded: Any, object_checks: Any) -> None:
    getattr(object_checks, name)(expanded)


@pytest.mark.parametrize("version", [f"1.{minor}" for minor in (29, 33, 37)])
def test_what_it_makes_is_valid(expanded: Any, version: str) -> None:
    for item in expanded.of("StatefulSet"):
        kubernetes_validate.validate(item, version, strict=True)


def test_the_leader_is_an_instance_and_the_others_are_its_engine(made: Any) -> None:
    leader, other = templates(made)
    assert [one["name"] for one in leader["spec"]["containers"]] == ["gateway", "attestor", "engine"]
    [engine] = other["spec"]["containers"]
    assert engine == leader["spec"]["containers"][2]
    # The same machines: certified, of that kind, as the same user.
    for name in ("affinity", "nodeSelector", "tolerations", "securityContext"):
        assert other["spec"][name] == leader["spec"][name]
    assert leader["metadata"]["annotations"] == other["metadata"]["annotations"]


def test_nothing_of_the_others_is_the_gateways_or_the_attestors(made: Any) -> None:
    _, other = templates(made)
    names = {one["name"] for one in other["spec"]["volumes"]}
    assert not names & {"keys", "state", "attestor-socket", "attestor-runtime", "relay-ca", "tls", "auth"}
    [container] = other["spec"]["containers"]
    found = {
        mount["mountPath"].removeprefix("/run/rlu/"): not mount.get("readOnly", False)
        for mount in container["volumeMounts"]
        if mount["mountPath"].startswith("/run/rlu/")
    }
    own = set(alone.written("engine", ["engine"])) - {alone.private_facts("engine")}
    assert found == {**dict.fromkeys(own, True), **dict.fromkeys(alone.seen("engine", ["engine"]), False)}


def test_each_knows_its_place(made: Any, tmp_path: Path) -> None:
    leader, other = templates(made)
    settings = settings_of(made, other["spec"]["containers"][0], tmp_path)
    assert (settings.group.nodes, settings.group.rank) == (2, 1)
    assert settings.group.leader == "rlu-nodes-0.rlu-nodes.rlu"
    group.check(settings, "engine")
    arguments.check(settings.engine.arguments)
    # Without LeaderWorkerSet the words are no numbers, and nothing starts.
    [text] = [c["data"]["rlu.toml"] for c in made.of("ConfigMap") if "rlu.toml" in c["data"]]
    (tmp_path / "plain.toml").write_text(text, "utf-8")
    variables = {one["name"]: one["value"] for one in leader["spec"]["containers"][2]["env"]}
    with pytest.raises(configuration.SettingsError, match=r"group\.rank"):
        configuration.load(tmp_path / "plain.toml", variables)


def test_all_begin_anew_when_one_ends(made: Any) -> None:
    [one] = made.of("LeaderWorkerSet")
    spec = one["spec"]
    assert spec["leaderWorkerTemplate"]["size"] == 2
    assert spec["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
    assert spec["rolloutStrategy"]["rollingUpdateConfiguration"] == {"maxUnavailable": 1, "maxSurge": 0}
    assert spec["replicas"] == 2
    assert made.of("StatefulSet") == []
    # A drain that takes one of its machines takes the instance.
    [budget] = made.of("PodDisruptionBudget")
    for template in templates(made):
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        assert wanted <= template["metadata"]["labels"].items()


def test_they_reach_each_other_and_nobody_else(made: Any) -> None:
    leader, other = templates(made)
    rules = {
        policy["metadata"]["name"]: policy["spec"]
        for policy in made.of("NetworkPolicy")
        if all(
            policy["spec"]["podSelector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
            for one in (leader, other)
        )
    }
    assert set(rules) == {"rlu-deny", "rlu-nodes"}
    group_of = rules["rlu-nodes"]["podSelector"]
    [inward] = rules["rlu-nodes"]["ingress"]
    outward, names = rules["rlu-nodes"]["egress"]
    ports = [{"port": 29500, "endPort": 65535, "protocol": "TCP"}]
    assert inward == {"ports": ports, "from": [{"podSelector": group_of}]}
    assert outward == {"ports": ports, "to": [{"podSelector": group_of}]}
    assert {one["port"] for one in names["ports"]} == {53}
    # Clients find the leaders only.
    for service in made.of("Service"):
        selector = service["spec"]["selector"]
        wanted = {k: v for k, v in selector.items() if k != "statefulset.kubernetes.io/pod-name"}
        assert wanted.items() <= leader["metadata"]["labels"].items()
        assert not wanted.items() <= other["metadata"]["labels"].items()
    [first] = [s for s in made.of("Service") if s["metadata"]["name"] == "rlu-0"]
    assert first["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == "rlu-nodes-0"


def test_a_machine_that_is_no_longer_certified_is_drained_whatever_its_rank(rendered: Any) -> None:
    labeller = {"enabled": True, "drain": True}
    api_server = {"egress": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]}
    made = rendered(PRESET, {"controllers": {"labeller": labeller, "apiServer": api_server}})
    [daemons] = made.of("DaemonSet")
    words = daemons["spec"]["template"]["spec"]["containers"][0]["command"]
    wanted = dict(one.split("=") for one in words[words.index("--drain") + 1].split(","))
    for template in templates(made):
        assert wanted.items() <= template["metadata"]["labels"].items()


def test_notes_say_what_is_not_proven(made: Any) -> None:
    assert "evidence is of one" in made.notes
    assert "leaderworkerset/rlu-nodes" in made.notes
    assert "pod/rlu-nodes-0" in made.notes


def test_what_scales_is_the_set(rendered: Any) -> None:
    made = rendered(PRESET, {"autoscaling": {"kind": "hpa"}, "group": {"topologyKey": "rack"}})
    [scaler], [one] = made.of("HorizontalPodAutoscaler"), made.of("LeaderWorkerSet")
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"], target["name"]) == (
        one["apiVersion"],
        one["kind"],
        one["metadata"]["name"],
    )
    assert "replicas" not in one["spec"]
    assert one["metadata"]["annotations"] == {"leaderworkerset.sigs.k8s.io/exclusive-topology": "rack"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"engine": {"replicas": 2}}, "several machines run one engine"),
        ({"engine": {"arguments": []}}, "how the engine spreads"),
        ({"model": {"updateSchedule": "daily"}}, "updateSchedule"),
        ({"group": {"port": 40000}}, "port"),
    ],
)
def test_what_is_refused(rendered: Any, charts: Any, changes: Any, says: str) -> None:
    with pytest.raises(charts.Refused) as caught:
        rendered(PRESET, changes)
    assert says in str(caught.value)
