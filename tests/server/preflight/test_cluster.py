"""`rlu preflight --cluster` against an API server that answers what the test says. The real one: tests/cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.api_server import EVERYTHING, ApiServer
from fakes.terminal import Ran, rlu
from rlu_server.preflight.cluster.judge import MAKES, OPTIONAL, ROLES

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[3]
DAEMONS = "/apis/apps/v1/daemonsets"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
PODS = "/api/v1/namespaces/rlu/pods"
OPERATORS = {
    "cluster.inference": "inference.networking.k8s.io",
    "cluster.prometheus": "monitoring.coreos.com",
    "cluster.keda": "keda.sh",
    "cluster.cert_manager": "cert-manager.io",
    "cluster.external_secrets": "external-secrets.io",
    "cluster.lws": "leaderworkerset.x-k8s.io",
}


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **more}


def waits(reason: str) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]}}


def node(name: str, labels: dict[str, str], swap: int | None = None, **resources: str) -> dict[str, Any]:
    amounts = {"cpu": "192", **{key.replace("__", ".").replace("_", "/"): n for key, n in resources.items()}}
    info = {} if swap is None else {"nodeInfo": {"swap": {"capacity": swap}}}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": [{"names": ["registry.example/rlu-gateway:0.1.0"]}],
            **info,
        },
    }


def h200(**changes: Any) -> dict[str, Any]:
    made = node("secret-host-name", {"rlu-certified": "abc"}, nvidia__com_gpu="8")
    made["status"]["allocatable"]["smarter-devices/tpmrm0"] = "1"
    made["status"].update(changes)
    return made


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """A cluster in which nothing is left to wish."""
    with ApiServer(tmp_path) as made:
        made.objects["/version"] = {"major": "1", "minor": "31+"}
        groups = ["gateway.networking.k8s.io", *OPERATORS.values()]
        made.objects["/apis"] = {"groups": [{"name": one, "versions": [{"version": "v1"}]} for one in groups]}
        made.objects["/apis/gateway.networking.k8s.io/v1"] = {"resources": [{"name": "tlsroutes"}]}
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        made.objects["/api/v1/namespaces/rlu"] = {"metadata": {"name": "rlu", "labels": restricted}}
        made.list_of("/api/v1/nodes", h200(), h200())
        made.list_of(DAEMONS, named("cilium"), named("nvidia-device-plugin-daemonset"))
        made.list_of(CLASSES, named("local", provisioner="p", volumeBindingMode="WaitForFirstConsumer"))
        made.list_of(HOOKS)
        made.list_of(PODS)
        made.objects["/api/v1/namespaces/rlu/secrets/pull"] = named(
            "pull", type="kubernetes.io/dockerconfigjson"
        )
        yield made


def preflight(capsys: Capture, api: ApiServer, *more: object) -> Ran:
    return rlu(
        capsys,
        *("preflight", "--cluster", "--profile", "h200x8", "--pull-secret", "pull", "--json"),
        *(*api.options, *more),
    )


def severities(ran: Ran) -> dict[str, str]:
    """The worst of each id."""
    order = ["ok", "info", "warning", "error"]
    found: dict[str, str] = {}
    for one in ran.json["findings"]:
        found[one["id"]] = max(found.get(one["id"], "ok"), one["severity"], key=order.index)
    return found


def test_a_cluster_that_is_ready(capsys: Capture, api: ApiServer) -> None:
    ran = preflight(capsys, api)
    assert (ran.code, ran.json["result"]) == (0, "ok")
    assert set(severities(ran).values()) == {"ok"}
    assert len(severities(ran)) == 19
    assert "secret-host-name" not in ran.out
    assert api.tokens == {"Bearer who-asks"}
    assert {method for method, _ in api.asked} == {"GET", "POST"}
    assert [path for method, path in api.asked if method == "POST"] == [
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    ]


def drop(path: str) -> Callable[[ApiServer], object]:
    return lambda api: api.objects.pop(path)


def nodes(*made: dict[str, Any]) -> Callable[[ApiServer], object]:
    return lambda api: api.list_of("/api/v1/nodes", *made)


def daemons(*names: str) -> Callable[[ApiServer], object]:
    return lambda api: api.list_of(DAEMONS, *map(named, names))


def lacks(verb: str, resource: str) -> Callable[[ApiServer], object]:
    everything = [one for makes in (MAKES, ROLES) for resources in makes.values() for one in resources]
    verbs = ["create", "delete", "get", "patch"]
    rules = [
        {"verbs": [v for v in verbs if (v, one) != (verb, resource)], "apiGroups": ["*"], "resources": [one]}
        for one in everything
    ]
    return lambda api: setattr(api, "rules", rules)


def hook(selector: dict[str, Any], resources: tuple[str, ...] = ("pods",)) -> Callable[[ApiServer], object]:
    made = named("injector", webhooks=[{"namespaceSelector": selector, "rules": [{"resources": resources}]}])
    return lambda api: api.list_of(HOOKS, made)


def fewer_groups(name: str) -> Callable[[ApiServer], object]:
    def change(api: ApiServer) -> None:
        groups = api.objects["/apis"]["groups"]
        api.objects["/apis"] = {"groups": [one for one in groups if one["name"] != name]}

    return change


HERE = {"matchLabels": {"kubernetes.io/metadata.name": "rlu"}}
ELSEWHERE = {"matchExpressions": [{"key": "inject", "operator": "In", "values": ["yes"]}]}
NOT_OURS = {
    "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["rlu"]}]
}
CHANGES: list[tuple[str, Callable[[ApiServer], object], str, str]] = [
    (
        "too-old",
        lambda a: a.objects.update({"/version": {"major": "1", "minor": "28"}}),
        "cluster.version",
        "error",
    ),
    (
        "just-enough",
        lambda a: a.objects.update({"/version": {"major": "1", "minor": "29"}}),
        "cluster.version",
        "ok",
    ),
    ("no-version", drop("/version"), "cluster.version", "warning"),
    ("no-namespace", drop("/api/v1/namespaces/rlu"), "cluster.namespace", "warning"),
    (
        "baseline",
        lambda a: a.objects.update(
            {
                "/api/v1/namespaces/rlu": {
                    "metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}
                }
            }
        ),
        "cluster.pod_security",
        "warning",
    ),
    (
        "no-level",
        lambda a: a.objects.update({"/api/v1/namespaces/rlu": named("rlu")}),
        "cluster.pod_security",
        "warning",
    ),
    ("no-policies", lacks("create", "networkpolicies"), "cluster.rights", "error"),
    ("no-secrets", lacks("get", "secrets"), "cluster.rights", "error"),
    ("no-roles", lacks("create", "clusterroles"), "cluster.rights", "warning"),
    ("no-rights", lambda a: setattr(a, "rules", []), "cluster.rights", "error"),
    (
        "named-rights-do-not-count",
        lambda a: setattr(a, "rules", [{**EVERYTHING, "resourceNames": ["one"]}]),
        "cluster.rights",
        "error",
    ),
    (
        "untold-rights",
        lambda a: (setattr(a, "rules", []), setattr(a, "incomplete", True)),
        "cluster.rights",
        "info",
    ),
    ("no-nodes", nodes(), "cluster.nodes", "error"),
    ("hidden-nodes", lambda a: a.denied.add("/api/v1/nodes"), "cluster.nodes", "warning"),
    (
        "node-not-ready",
        nodes(h200(conditions=[{"type": "Ready", "status": "False"}])),
        "cluster.nodes",
        "error",
    ),
    ("cordoned", nodes({**h200(), "spec": {"unschedulable": True}}), "cluster.nodes", "error"),
    ("seven-gpus", nodes(h200(allocatable={"nvidia.com/gpu": "7"})), "cluster.gpus", "error"),
    ("amd-gpus", nodes(h200(allocatable={"amd.com/gpu": "8"})), "cluster.gpus", "error"),
    ("no-gpus", nodes(h200(allocatable={"cpu": "192"})), "cluster.gpus", "error"),
    ("no-tpm", nodes(h200(allocatable={"nvidia.com/gpu": "8"})), "cluster.tpm", "warning"),
    ("uncertified", nodes({**h200(), "metadata": {"name": "n", "labels": {}}}), "cluster.certified", "error"),
    (
        "certified-without-gpus",
        nodes({**h200(), "metadata": {"name": "n"}}, node("n", {"rlu-certified": "abc"})),
        "cluster.certified",
        "error",
    ),
    ("swap", nodes(h200(nodeInfo={"swap": {"capacity": 1 << 30}})), "cluster.swap", "error"),
    ("no-secret", drop("/api/v1/namespaces/rlu/secrets/pull"), "cluster.image_pull", "error"),
    (
        "opaque-secret",
        lambda a: a.objects.update({"/api/v1/namespaces/rlu/secrets/pull": named("pull", type="Opaque")}),
        "cluster.image_pull",
        "error",
    ),
    (
        "cannot-pull",
        lambda a: a.list_of(PODS, waits("ErrImagePull"), waits("ContainerCreating")),
        "cluster.image_pull",
        "error",
    ),
    ("no-class", lambda a: a.list_of(CLASSES), "cluster.storage", "error"),
    (
        "immediate",
        lambda a: a.list_of(CLASSES, named("nfs", volumeBindingMode="Immediate")),
        "cluster.storage",
        "warning",
    ),
    ("flannel", daemons("kube-flannel-ds"), "cluster.network_policy", "error"),
    ("canal", daemons("kube-flannel-ds", "canal"), "cluster.network_policy", "ok"),
    ("unknown-cni", daemons("something"), "cluster.network_policy", "warning"),
    ("aws", daemons("aws-node"), "cluster.network_policy", "warning"),
    ("hidden-daemons", lambda a: a.denied.add(DAEMONS), "cluster.network_policy", "warning"),
    (
        "no-tls-route",
        lambda a: a.objects.update(
            {"/apis/gateway.networking.k8s.io/v1": {"resources": [{"name": "httproutes"}]}}
        ),
        "cluster.gateway_api",
        "info",
    ),
    ("no-gateway-api", fewer_groups("gateway.networking.k8s.io"), "cluster.gateway_api", "info"),
    ("injector", hook({}), "cluster.admission", "warning"),
    ("injector-here", hook(HERE), "cluster.admission", "warning"),
    *((f"no-{group}", fewer_groups(group), id_, "info") for id_, group in OPERATORS.items()),
]


@pytest.mark.parametrize(("change", "id_", "severity"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_one_thing_is_otherwise(
    capsys: Capture, api: ApiServer, change: Callable[[ApiServer], object], id_: str, severity: str
) -> None:
    change(api)
    ran = preflight(capsys, api)
    assert severities(ran)[id_] == severity
    assert (
        ran.code
        == {"ok": 0, "info": 0, "warning": 40, "error": 41}[
            max(severities(ran).values(), key=["ok", "info", "warning", "error"].index)
        ]
    )
    for one in ran.json["findings"]:
        assert bool(one["remedy"]) == (one["severity"] in ("warning", "error"))


@pytest.mark.parametrize(
    "change",
    [hook(ELSEWHERE), hook(NOT_OURS), hook({}, ("deployments",))],
    ids=["label", "not-in", "other-kind"],
)
def test_webhooks_that_do_not_reach_the_pods(
    capsys: Capture, api: ApiServer, change: Callable[[ApiServer], object]
) -> None:
    change(api)
    assert "cluster.admission" not in severities(preflight(capsys, api))


def test_images_that_nodes_hold(capsys: Capture, api: ApiServer) -> None:
    ran = preflight(capsys, api, "--image", "registry.example/rlu-gateway:0.1.0", "--image", "other")
    said = [one["found"] for one in ran.json["findings"] if one["id"] == "cluster.image_pull"]
    assert said[-2:] == ["2 of 2 nodes hold the image already", "0 of 2 nodes hold the image already"]


def test_credentials_that_do_not_count_and_servers_that_are_away(capsys: Capture, api: ApiServer) -> None:
    api.status = 401
    ran = preflight(capsys, api)
    assert (ran.code, [one["id"] for one in ran.json["findings"]]) == (41, ["cluster.reach"])
    api.status = 0
    api.objects["/version"] = {"text": "<html>"}
    assert severities(preflight(capsys, api)) == {"cluster.reach": "error"}
    gone = rlu(
        capsys,
        *("preflight", "--cluster", "--api-server", "http://127.0.0.1:1", "--json"),
        *("--api-ca", api.ca, "--api-token", api.token),
    )
    assert (gone.code, gone.json["findings"][0]["id"]) == (41, "cluster.reach")


def test_usage(capsys: Capture, api: ApiServer, tmp_path: Path) -> None:
    alone = ("preflight", "--cluster", "--api-server", api.url)
    assert rlu(capsys, *alone).code == 2
    assert rlu(capsys, "preflight", "--cluster", "--api-ca", api.ca).code == 2
    assert rlu(capsys, "preflight", "--cluster", *api.options, "--weights", tmp_path).code == 2
    unknown = rlu(capsys, "preflight", "--cluster", *api.options, "--profile", "none", "--json")
    assert (unknown.code, unknown.json["code"]) == (2, "preflight.profile")


# --- a kubeconfig ------------------------------------------------------------------------------------------------------


@pytest.fixture
def kubeconfig(tmp_path: Path, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two contexts: `lab`, whose user logs in by a program, as in most clouds, and the current one, which leads nowhere."""
    login = tmp_path / "login"
    told = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": api.token.read_text().strip()},
    }
    login.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
    login.chmod(0o700)
    by_program = {"apiVersion": told["apiVersion"], "command": str(login), "interactiveMode": "Never"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "lab", "cluster": {"server": api.url}},
            {"name": "away", "cluster": {"server": "http://127.0.0.1:1"}},
        ],
        "users": [{"name": "me", "user": {"exec": by_program}}],
        "contexts": [{"name": n, "context": {"cluster": n, "user": "me"}} for n in ("lab", "away")],
        "current-context": "away",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return path


def test_by_kubeconfig(capsys: Capture, api: ApiServer, kubeconfig: Path) -> None:
    wanted = ("preflight", "--cluster", "--context", "lab", "--profile", "h200x8", "--json")
    ran = rlu(capsys, *wanted)
    assert ran.code == 0
    assert set(severities(ran).values()) == {"ok", "info"}  # the images
    assert api.tokens == {f"Bearer {api.token.read_text().strip()}"}
    api.denied.add("/api/v1/nodes")
    assert severities(rlu(capsys, *wanted))["cluster.nodes"] == "warning"
    api.status = 401
    assert severities(rlu(capsys, *wanted)) == {"cluster.reach": "error"}


def test_a_kubeconfig_that_leads_nowhere(capsys: Capture, kubeconfig: Path) -> None:
    assert severities(rlu(capsys, "preflight", "--cluster", "--json")) == {"cluster.reach": "error"}
    unknown = rlu(capsys, "preflight", "--cluster", "--context", "none", "--json")
    assert (unknown.code, unknown.json["code"]) == (2, "relay.cluster")
    kubeconfig.unlink()
    absent = rlu(capsys, "preflight", "--cluster", "--json")
    assert (absent.code, absent.json["code"]) == (2, "relay.cluster")


# --- what is asked for -------------------------------------------------------------------------------------------------


def test_the_rights_are_those_of_what_the_chart_makes() -> None:
    """Every kind in k8s/: of Kubernetes' own those that one needs rights for, of others those of an optional part."""
    parts = {group for _, groups, _ in OPTIONAL.values() for group in groups}
    made: dict[str, set[str]] = {}
    for path in (ROOT / "k8s").glob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text("utf-8")):
            name = one["kind"].lower()
            group = one["apiVersion"].rpartition("/")[0]
            made.setdefault(group, set()).add(f"{name[:-1]}ies" if name.endswith("y") else f"{name}s")
    assert {"", "apps", "networking.k8s.io"} <= set(made)
    for group, resources in made.items():
        assert group in parts or resources <= {*MAKES.get(group, ()), *ROLES.get(group, ())}, group
    assert "secrets" in MAKES[""]


def test_what_is_printed_for_people(capsys: Capture, api: ApiServer) -> None:
    nodes(h200(allocatable={"nvidia.com/gpu": "7", "smarter-devices/tpmrm0": "1"}))(api)
    ran = rlu(capsys, "preflight", "--cluster", "--profile", "h200x8", *api.options)
    assert ran.code == 41
    assert (
        "ERROR   cluster.gpus                no node has 8 of nvidia.com/gpu allocatable, only fewer or others"
        in ran.out
    )
    assert "→ choose the profile of these nodes" in ran.out
    assert json.dumps(api.asked)
