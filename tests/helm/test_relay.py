"""The relay pod: the way out for serving pods that have none, as far as it was named; and what autoscaling asks."""

from __future__ import annotations

from typing import Any

import pytest
import tomllib

from rlu_attestation.cli.app import load as command
from rlu_server.outreach.cluster import ACCOUNT
from rlu_server.settings import Settings
from rlu_server.supervisor.plan import relay as reached

NAME = "relay, auth, traces, several engines, KEDA"


def the(made: Any, kind: str, name: str) -> Any:
    [item] = [one for one in made.of(kind) if one["metadata"]["name"] == name]
    return item


def options(words: list[str]) -> dict[str, str]:
    """`--name value` of a command line; of a flag an empty text."""
    found: dict[str, str] = {}
    for word in words:
        if word.startswith("--"):
            found[word] = ""
        elif found:
            found[list(found)[-1]] = word
    return found


def rights(made: Any) -> list[Any]:
    """The relay's role and its binding."""
    found = (*made.of("ClusterRole"), *made.of("ClusterRoleBinding"))
    return [one for one in found if one["metadata"]["name"].startswith("rlu-relay")]


def settings(made: Any) -> Settings:
    [text] = [c["data"]["rlu.toml"] for c in made.of("ConfigMap") if "rlu.toml" in c["data"]]
    return Settings.model_validate(tomllib.loads(text))


def test_there_is_none_unless_asked_for(rendered: Any) -> None:
    made = rendered()
    assert made.of("Deployment") == rights(made) == []
    assert settings(made).auth.relay == ""


def test_the_gateway_finds_it_by_address_and_trusts_its_ca(one_of: Any) -> None:
    made = one_of(NAME)
    service = the(made, "Service", "rlu-relay")["spec"]
    found = settings(made)
    [port] = service["ports"]
    assert found.auth.relay == f"https://{service['clusterIP']}:{port['port']}"
    # The gateway's lock opens this port and no other.
    assert reached(found) == ((port["port"],), [])
    [certificate] = [c for c in made.of("Certificate") if c["metadata"]["name"] == "rlu-relay"]
    assert certificate["spec"]["ipAddresses"] == [service["clusterIP"]]
    workload = the(made, "StatefulSet", "rlu")["spec"]["template"]["spec"]
    [ca] = [one for one in workload["volumes"] if one["name"] == "relay-ca"]
    assert ca["secret"]["secretName"] == certificate["spec"]["secretName"]
    # Its key stays with it.
    assert [one["key"] for one in ca["secret"]["items"]] == ["ca.crt"]


def test_an_address_of_ipv6_is_bracketed(rendered: Any) -> None:
    made = rendered(
        "h200x8",
        {
            "relay": {
                "enabled": True,
                "clusterIP": "fd00::20",
                "tls": {"secretName": "t"},
                "otlp": {"url": "https://otel.monitoring.svc", "egress": [{"podSelector": {}}]},
            }
        },
    )
    assert settings(made).auth.relay == "https://[fd00::20]:8787"
    [container] = the(made, "Deployment", "rlu-relay")["spec"]["template"]["spec"]["containers"]
    assert options(container["command"])["--listen"] == "[::]:8787"
    assert rights(made) == [], "it asks the API server nothing"
    assert made.of("Certificate") == [], "nobody named an issuer"


def test_its_command_is_one_of_rlu_and_its_files_are_mounted(one_of: Any) -> None:
    pod = the(one_of(NAME), "Deployment", "rlu-relay")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"][:2] == ["rlu", "relay"]
    given = options(container["command"])
    assert set(given) <= {option for one in command("relay").params for option in one.opts}
    volumes = {one["name"]: one for one in pod["volumes"]}
    files = {}
    for mount in container["volumeMounts"]:
        assert mount["readOnly"] is True
        volume = volumes[mount["name"]]
        source = volume.get("secret") or volume.get("configMap")
        for item in source["items"] if source else []:
            files[f"{mount['mountPath']}/{item['path']}"] = item["key"]
    assert {given[one] for one in ("--tls-cert", "--tls-key", "--ca")} == set(files)
    [account] = [one for one in container["volumeMounts"] if one["name"] == "account"]
    assert account["mountPath"] == str(ACCOUNT)
    # What `Cluster` reads, and a token that does not live long.
    token, ca = volumes["account"]["projected"]["sources"]
    assert token["serviceAccountToken"] == {"path": "token", "expirationSeconds": 3600}
    assert [one["path"] for one in ca["configMap"]["items"]] == ["ca.crt"]


def test_its_account_may_ask_about_tokens_and_nothing_else(one_of: Any) -> None:
    made = one_of(NAME)
    role, binding = rights(made)
    assert role["rules"] == [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "rlu-relay", "namespace": "rlu"}]
    users = [
        item["metadata"]["name"]
        for item in (*made.of("Deployment"), *made.of("StatefulSet"))
        if item["spec"]["template"]["spec"]["serviceAccountName"] == "rlu-relay"
    ]
    assert users == ["rlu-relay"]


def test_serving_pods_in_and_named_places_out(one_of: Any) -> None:
    made = one_of(NAME)
    policy = the(made, "NetworkPolicy", "rlu-relay")["spec"]
    serving = the(made, "StatefulSet", "rlu")["spec"]["selector"]["matchLabels"]
    assert policy["podSelector"]["matchLabels"] == {**serving, "app.kubernetes.io/component": "relay"}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [
        {
            "ports": [{"port": 8787, "protocol": "TCP"}],
            "from": [{"podSelector": {"matchLabels": serving}}],
        }
    ]
    api, collector, names = policy["egress"]
    assert api["to"] == [{"ipBlock": {"cidr": "192.0.2.1/32"}}]
    assert [one["port"] for one in api["ports"]] == [6443]
    assert [one["port"] for one in collector["ports"]] == [4318]
    assert {one["port"] for one in names["ports"]} == {53}


TLS = {"secretName": "t"}
OTLP = {"url": "https://otel.example", "egress": [{"podSelector": {}}]}
ISSUER = {"name": "x", "issuer": "https://x", "audience": ["rlu"], "tenant": "acme"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"relay": {"enabled": True, "tls": TLS, "otlp": OTLP}}, "relay.enabled: clusterIP"),
        ({"relay": {"enabled": True, "clusterIP": "10.0.0.1", "otlp": OTLP}}, "tls.secretName"),
        ({"relay": {"enabled": True, "clusterIP": "10.0.0.1", "tls": TLS}}, "nothing to do"),
        (
            {
                "relay": {
                    "enabled": True,
                    "clusterIP": "10.0.0.1",
                    "tls": TLS,
                    "tokenReview": {"enabled": True},
                }
            },
            "relay.tokenReview.egress",
        ),
        (
            {
                "relay": {
                    "enabled": True,
                    "clusterIP": "10.0.0.1",
                    "tls": TLS,
                    "otlp": {"url": "https://otel.example"},
                }
            },
            "relay.otlp.egress",
        ),
        ({"relay": {"clusterIP": "relay.rlu.svc"}}, "clusterIP"),
        ({"tracing": {"sample": 0.1}}, "tracing.sample"),
        ({"auth": {"issuers": [ISSUER]}}, "x needs jwksKey, or review"),
        ({"auth": {"issuers": [{**ISSUER, "jwksKey": "k"}]}}, "auth.configMap"),
        ({"auth": {"issuers": [{**ISSUER, "review": True}]}}, "relay.tokenReview.enabled"),
        (
            {"auth": {"configMap": "c", "issuers": [{**ISSUER, "jwksKey": "k", "tenantClaim": ["org"]}]}},
            "either tenant or tenantClaim",
        ),
        (
            {"auth": {"configMap": "c", "issuers": [{**ISSUER, "jwksKey": "k", "tenants": ["a"]}]}},
            "takes tenants",
        ),
        ({"auth": {"issuers": [{**ISSUER, "algorithms": ["HS256"]}]}}, "algorithms"),
        ({"auth": {"certificates": {"mode": "optional"}}}, "auth.certificates"),
        ({"auth": {"certificates": {"mode": "required"}}}, "mode"),
        (
            {
                "auth": {
                    "configMap": "c",
                    "certificates": {
                        "mode": "optional",
                        "caKey": "ca",
                        "rules": [{"source": "dns", "pattern": "{principal}", "tenant": "a"}],
                    },
                },
                "exposure": {
                    "kind": "ingress",
                    "host": "a.b",
                    "mode": "terminating",
                    "terminating": {"declared": True, "secretName": "s"},
                },
            },
            "no client's certificate arrives",
        ),
        ({"engine": {"replicas": 2, "devices": ["0"]}}, "1 entries for 2 replicas"),
        ({"furtherEngines": [{"name": "a", "subPath": "a", "devices": ["0", "1"]}]}, "devices of a"),
        (
            {
                "model": {
                    "source": "hub",
                    "hub": {"id": "a/b", "egress": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]},
                },
                "furtherEngines": [{"name": "a", "subPath": "a"}],
            },
            "one model is fetched",
        ),
        (
            {"autoscaling": {"kind": "hpa", "exchangesPerReplica": 0, "waitingPerReplica": 0}},
            "at least one",
        ),
        (
            {"engine": {"replicas": 2}, "autoscaling": {"kind": "hpa", "kvCachePercent": 80}},
            "autoscaling.kvCachePercent",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(rendered: Any, charts: Any, changes: Any, says: str) -> None:
    with pytest.raises(charts.Refused) as caught:
        rendered("h200x8", changes)
    assert says in str(caught.value)


def test_external_secrets_are_as_they_were_named(one_of: Any) -> None:
    spec = the(one_of(NAME), "ExternalSecret", "relay-tls")["spec"]
    assert spec["target"]["name"] == "relay-tls"
    assert spec["secretStoreRef"] == {"kind": "ClusterSecretStore", "name": "vault"}
    assert spec["data"] == [{"secretKey": "tls.key", "remoteRef": {"key": "rlu/relay", "property": "key"}}]


def test_hpa_and_keda_ask_for_the_same(rendered: Any) -> None:
    asked = {"autoscaling": {"kvCachePercent": 80, "prometheusAddress": "http://p"}}
    [hpa] = rendered("h200x8", {"autoscaling": {**asked["autoscaling"], "kind": "hpa"}}).of(
        "HorizontalPodAutoscaler"
    )
    by_pod = {
        one["pods"]["metric"]["name"]: one["pods"]["target"]["averageValue"] for one in hpa["spec"]["metrics"]
    }
    assert by_pod == {
        "rlu_exchanges": "64",
        "rlu_queue_length": "8",
        "rlu_engine_waiting": "8",
        "rlu_engine_kv_cache_usage_ratio": "800m",
    }
    [keda] = rendered("h200x8", {"autoscaling": {**asked["autoscaling"], "kind": "keda"}}).of("ScaledObject")
    where = '{namespace="rlu",service="rlu-instances"}'
    assert {
        one["metadata"]["query"]: (one["metricType"], one["metadata"]["threshold"])
        for one in keda["spec"]["triggers"]
    } == {
        f"sum(rlu_exchanges{where})": ("AverageValue", "64"),
        f"sum(rlu_queue_length{where})": ("AverageValue", "8"),
        f"sum(rlu_engine_waiting{where})": ("AverageValue", "8"),
        f"100 * avg(rlu_engine_kv_cache_usage_ratio{where})": ("Value", "80"),
    }


def test_a_zero_is_not_asked(rendered: Any) -> None:
    [hpa] = rendered("h200x8", {"autoscaling": {"kind": "hpa", "waitingPerReplica": 0}}).of(
        "HorizontalPodAutoscaler"
    )
    assert [one["pods"]["metric"]["name"] for one in hpa["spec"]["metrics"]] == ["rlu_exchanges"]
