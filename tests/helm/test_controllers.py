"""What talks to the API server: accounts that may do what the code does and no more, and who may go where. Denials: tests/cluster."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from rlu_attestation.cli.app import load as command
from rlu_attestation.profiles import BUILT_IN
from rlu_server.cluster.rights import rules

ALL = "controllers"
ON = {"controllers": {"labeller": {"enabled": True}}}
PEER = {"ipBlock": {"cidr": "192.0.2.10/32"}}


def by_name(rendered: Any, kind: str) -> dict[str, Any]:
    return {item["metadata"]["name"]: item for item in rendered.of(kind)}


def pod_of(item: Any) -> Any:
    if item["kind"] == "CronJob":
        return item["spec"]["jobTemplate"]["spec"]["template"]
    return item["spec"]["template"]


def controllers(rendered: Any) -> dict[str, Any]:
    """Name → template of every pod with a token."""
    made = (*rendered.of("DaemonSet"), *rendered.of("CronJob"), *rendered.of("Job"))
    return {
        item["metadata"]["name"]: pod_of(item)
        for item in made
        if "account" in {volume["name"] for volume in pod_of(item)["spec"]["volumes"]}
    }


def test_roles_are_those_of_the_table(one_of: Any) -> None:
    made = one_of(ALL)
    cluster, own = by_name(made, "ClusterRole"), by_name(made, "Role")
    assert {name: item["rules"] for name, item in cluster.items()} == {
        "rlu-labeller-rlu": rules("labeller", namespaced=False),
        "rlu-sweep-rlu": rules("sweep", namespaced=False),
        "rlu-forget-rlu": rules("sweep", namespaced=False),
    }
    assert {name: item["rules"] for name, item in own.items()} == {
        "rlu-drain": rules("drain", namespaced=True),
        "rlu-collateral": rules("publish", namespaced=True, name="rlu-collateral"),
        "rlu-key-sets": rules("publish", namespaced=True, name="rlu-auth"),
        "rlu-licence": rules("publish", namespaced=True, name="rlu-licence"),
    }


def test_each_pod_with_a_token_has_an_account_of_its_own_that_is_bound(one_of: Any) -> None:
    made = one_of(ALL)
    found = controllers(made)
    jobs = {"rlu-collateral", "rlu-key-sets", "rlu-licence"}
    assert set(found) == {"rlu-labeller", "rlu-sweep", "rlu-forget", *jobs}
    bound = {
        (subject["name"], subject["namespace"])
        for item in (*made.of("ClusterRoleBinding"), *made.of("RoleBinding"))
        for subject in item["subjects"]
    }
    accounts = {pod["spec"]["serviceAccountName"] for pod in found.values()}
    assert bound == {(name, "rlu") for name in accounts}
    assert len(accounts) == len(found)
    assert accounts <= set(by_name(made, "ServiceAccount"))
    for pod in found.values():
        [volume] = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "account"]
        token = volume["projected"]["sources"][0]["serviceAccountToken"]
        assert token == {"path": "token", "expirationSeconds": 3600}


def test_arguments_of_the_collateral_job_may_name_files(one_of: Any, rendered: Any) -> None:
    def place(made: Any) -> list[tuple[str, str, bool]]:
        spec = controllers(made)["rlu-collateral"]["spec"]
        maps = {volume["name"]: volume.get("configMap", {}).get("name") for volume in spec["volumes"]}
        mounts = spec["containers"][0]["volumeMounts"]
        return [(maps[m["name"]], m["mountPath"], m["readOnly"]) for m in mounts if maps[m["name"]]]

    assert place(one_of(ALL)) == []
    files = {"configMap": "mirror", "arguments": ["--ca", "/etc/rlu/fetch/ca.pem"], "egress": [PEER]}
    changes = {"attestation": {"key": "tdx"}, "controllers": {"collateral": {"enabled": True, **files}}}
    made = rendered("h200x8", changes)
    assert place(made) == [("mirror", "/etc/rlu/fetch", True)]


def test_commands_are_ones_that_there_are(one_of: Any, rendered: Any) -> None:
    for made in (one_of(ALL), rendered("h200x8", ON)):
        for pod in controllers(made).values():
            [container] = pod["spec"]["containers"]
            _, name, sub, *words = container["command"]
            parsed = command(name).commands[sub].make_context(sub, list(words), resilient_parsing=False)
            assert parsed.params["key"] == "rlu-certified" if "key" in parsed.params else True


def test_the_labeller_looks_at_what_the_instances_need(rendered: Any) -> None:
    made = rendered("h200x8", ON)
    [daemons] = made.of("DaemonSet")
    spec = pod_of(daemons)["spec"]
    words = spec["containers"][0]["command"]
    assert words[words.index("--profile") + 1] == "h200x8"
    assert words[words.index("--landlock") + 1] == "3"
    assert words[words.index("--tpm") + 1] == "device:/dev/tpmrm0"
    assert "--ignore" not in words
    [workload] = made.of("StatefulSet")
    serving = workload["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["smarter-devices/tpmrm0"] == 1
    assert spec["securityContext"]["supplementalGroups"] == serving["securityContext"]["supplementalGroups"]
    # Wherever an instance could go, and where it could not go any more, a labeller goes.
    assert spec["nodeSelector"] == serving["nodeSelector"]
    assert {"key": "rlu-certified-missing", "operator": "Exists"} in spec["tolerations"]
    assert all(one in spec["tolerations"] for one in serving["tolerations"])
    assert "affinity" not in spec


def test_every_preset_of_a_certified_machine_has_a_profile_that_preflight_knows(preset_values: Any) -> None:
    for name, values in preset_values.items():
        assert values["hardware"]["profile"] in BUILT_IN, name


def test_what_is_not_seen_from_its_pod_does_not_count(one_of: Any, rendered: Any) -> None:
    def ignored(made: Any) -> list[str]:
        [daemons] = made.of("DaemonSet")
        words = pod_of(daemons)["spec"]["containers"][0]["command"]
        return [words[n + 1] for n, word in enumerate(words) if word == "--ignore"]

    assert ignored(one_of(ALL)) == ["gpu.persistence", "profile.key", "trust.key"]
    assert ignored(rendered("h200x8", {**ON, "lock": {"unsafeAllowSwap": True}})) == ["kernel.swap"]


def test_who_may_go_where(one_of: Any) -> None:
    made = one_of(ALL)
    policies = {name: item["spec"] for name, item in by_name(made, "NetworkPolicy").items()}
    server = {"ports": [{"port": 6443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}]}
    outside = {"ports": [{"port": 443, "protocol": "TCP"}], "to": [PEER]}
    for name, pod in controllers(made).items():
        labels = pod["metadata"]["labels"]
        rules_ = [
            rule
            for policy in policies.values()
            if policy["podSelector"]["matchLabels"].items() <= labels.items()
            for rule in policy.get("egress", [])
        ]
        assert server in rules_, name
        others = [rule for rule in rules_ if rule != server]
        if name in ("rlu-labeller", "rlu-sweep", "rlu-forget"):
            assert others == []
        else:
            assert outside in others
            assert [rule["ports"][0]["port"] for rule in others if rule != outside] == (
                [53] if name == "rlu-key-sets" else [8443, 53]
            )
    # The serving pods answer the job.
    labels = controllers(made)["rlu-collateral"]["metadata"]["labels"]
    [entry] = [
        rule for rule in policies["rlu-serving"]["ingress"] for port in rule["ports"] if port["port"] == 8443
    ]
    assert any(
        peer["podSelector"].get("matchLabels", {"no": "0"}).items() <= labels.items()
        for peer in entry["from"]
    )


def test_the_api_servers_address_is_looked_up_where_none_is_listed(rendered: Any) -> None:
    spec = by_name(rendered("h200x8", ON), "NetworkPolicy")["rlu-controllers"]["spec"]
    assert spec["egress"] == [
        {"ports": [{"port": 6443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]},
        {"ports": [{"port": 443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "192.0.2.2/32"}}]},
    ]


def test_collateral_lands_where_the_attestor_reads_it(one_of: Any) -> None:
    made = one_of(ALL)
    [workload] = made.of("StatefulSet")
    spec = workload["spec"]["template"]["spec"]
    places = {
        mount["mountPath"]: one["name"]
        for one in spec["containers"]
        for mount in one["volumeMounts"]
        if mount["name"] == "collateral"
    }
    assert places == {"/etc/rlu/collateral/tdx": "attestor"}
    [volume] = [volume for volume in spec["volumes"] if volume["name"] == "collateral"]
    assert volume["configMap"]["name"] == "rlu-collateral"
    text = "".join(item["data"].get("rlu.toml", "") for item in made.of("ConfigMap") if "data" in item)
    assert 'collateral_dir = "/etc/rlu/collateral"' in text
    # The ConfigMap's content is the job's: the chart has none, or an upgrade would take it away.
    assert not by_name(made, "ConfigMap")["rlu-collateral"]["data"]


def test_the_sweep_and_the_last_job_look_at_the_labellers_nodes(rendered: Any) -> None:
    pods = controllers(rendered("h200x8", ON))
    for name in ("rlu-sweep", "rlu-forget"):
        words = pods[name]["spec"]["containers"][0]["command"]
        assert words[words.index("--nodes") + 1] == "nvidia.com/gpu.product=NVIDIA-H200"
    assert pods["rlu-labeller"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
    chosen = {"controllers": {"labeller": {"enabled": True, "runtimeClassName": "nvidia"}}}
    assert controllers(rendered("h200x8", chosen))["rlu-labeller"]["spec"]["runtimeClassName"] == "nvidia"


def test_what_the_uninstallation_takes_along_is_gone_afterwards(one_of: Any) -> None:
    hooks = {item["kind"]: item for item in one_of(ALL).hooks if "post-delete" in str(item["metadata"])}
    assert set(hooks) == {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"}
    weights = {
        kind: int(item["metadata"]["annotations"]["helm.sh/hook-weight"]) for kind, item in hooks.items()
    }
    assert weights["ServiceAccount"] < weights["Job"]
    assert weights["ClusterRole"] < weights["ClusterRoleBinding"] < weights["Job"]
    for item in hooks.values():
        assert "hook-succeeded" in item["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert pod_of(hooks["Job"])["spec"]["containers"][0]["command"][-1] == "--all"


def test_off_there_is_nothing_of_it(rendered: Any) -> None:
    off = {"controllers": {"labeller": {"enabled": False}}}
    made = rendered("h200x8", off)
    assert controllers(made) == {}
    assert made.of("ClusterRole") == made.of("ValidatingAdmissionPolicy") == made.of("DaemonSet") == []
    assert "part-of: controllers" not in yaml.safe_dump_all(made.objects)


KEY_SETS = {"enabled": True, "sets": [{"key": "a", "url": "https://a.example"}], "egress": [PEER]}


@pytest.mark.parametrize(
    ("changes", "kubernetes", "named"),
    [
        (ON, "1.29.3", "ValidatingAdmissionPolicy"),
        (
            {
                "controllers": {
                    "collateral": {"enabled": True, "egress": [PEER]},
                    "labeller": {"enabled": False},
                },
                "attestation": {"key": "tpm2"},
                "hardware": {"gpus": {"evidence": "none"}},
            },
            "1.34.0",
            "nothing is published",
        ),
        (
            {"controllers": {"collateral": {"enabled": True}}, "attestation": {"key": "tdx"}},
            "1.34.0",
            "controllers.collateral.egress",
        ),
        ({"controllers": {"keySets": KEY_SETS}}, "1.34.0", "controllers.keySets"),
        (
            {"controllers": {"keySets": {**KEY_SETS, "sets": []}}, "auth": {"configMap": "a"}},
            "1.34.0",
            "controllers.keySets",
        ),
        ({"controllers": {"labeller": {"taint": "PreferNoSchedule"}}}, "1.34.0", "taint"),
        (
            {"controllers": {"apiServer": {"egress": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}}},
            "1.34.0",
            "egress",
        ),
    ],
    ids=["old", "nothing-published", "no-egress", "no-configmap", "no-sets", "taint", "everywhere"],
)
def test_what_is_refused(rendered: Any, changes: Any, kubernetes: str, named: str) -> None:
    with pytest.raises(Exception, match=named):
        rendered("h200x8", changes, kubernetes=kubernetes)
