"""A TLS key of the operator's: from a Secret to the gateway's settings, for every name that the instances have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomllib

from rlu_server.settings import Settings

NAME = "confidential guest, everything set"


def settings(made: Any) -> Settings:
    [text] = [c["data"]["rlu.toml"] for c in made.of("ConfigMap") if "rlu.toml" in c["data"]]
    return Settings.model_validate(tomllib.loads(text))


def test_the_key_is_born_in_memory_unless_somebody_asks(rendered: Any) -> None:
    assert settings(rendered()).gateway.tls_key_file is None


def test_the_secret_arrives_with_the_gateway_alone(one_of: Any) -> None:
    made = one_of(NAME)
    gateway = settings(made).gateway
    [workload] = made.of("StatefulSet")
    spec = workload["spec"]["template"]["spec"]
    holders = {c["name"]: m for c in spec["containers"] for m in c["volumeMounts"] if m["name"] == "tls"}
    assert list(holders) == ["gateway"]
    # A directory: a file of its own would not follow the Secret.
    assert "subPath" not in holders["gateway"]
    [volume] = [one for one in spec["volumes"] if one["name"] == "tls"]
    files = {Path(holders["gateway"]["mountPath"]) / one["path"] for one in volume["secret"]["items"]}
    assert files == {gateway.tls_certificate_file, gateway.tls_key_file}
    [certificate] = [c for c in made.of("Certificate") if c["metadata"]["name"] == "rlu-gateway"]
    assert certificate["spec"]["secretName"] == volume["secret"]["secretName"]


def test_the_certificate_has_every_name_and_keeps_its_key(one_of: Any) -> None:
    made = one_of(NAME)
    [certificate] = [c for c in made.of("Certificate") if c["metadata"]["name"] == "rlu-gateway"]
    spec = certificate["spec"]
    assert {*spec["dnsNames"], *spec["ipAddresses"]} == set(settings(made).gateway.hostnames)
    assert spec["ipAddresses"] == ["10.0.0.1", "fd00::1"]
    # What is attested is the key: with another one it would be renewed by restarts only.
    assert spec["privateKey"]["rotationPolicy"] == "Never"


def test_an_issuer_takes_a_secret(rendered: Any, charts: Any) -> None:
    with pytest.raises(charts.Refused, match=r"gateway\.tls\.secretName"):
        rendered("h200x8", {"gateway": {"tls": {"issuer": {"name": "x"}}}})


TERMINATING = "terminating by Gateway API, endpoint picker, cert-manager"


def test_a_terminator_speaks_tls_to_instances_that_it_knows(one_of: Any) -> None:
    made = one_of(TERMINATING)
    names = set(settings(made).gateway.hostnames)
    services = {item["metadata"]["name"] for item in made.of("Service")}
    policies = made.of("BackendTLSPolicy")
    assert {one["metadata"]["name"] for one in policies} == {
        r["metadata"]["name"] for r in made.of("HTTPRoute")
    }
    for one in policies:
        [target] = one["spec"]["targetRefs"]
        assert target["name"] in services
        assert one["spec"]["validation"]["hostname"] in names
        [ca] = one["spec"]["validation"]["caCertificateRefs"]
        assert (ca["kind"], ca["name"]) == ("ConfigMap", "rlu-ca")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mode": "passthrough"}, "exposure.mode: terminating"),
        ({}, "signed by no CA"),
    ],
)
def test_a_ca_that_would_mean_nothing_is_refused(
    rendered: Any, charts: Any, changes: dict[str, Any], says: str
) -> None:
    exposure: dict[str, Any] = {
        "kind": "gateway",
        "host": "llm.example.com",
        "mode": "terminating",
        "terminating": {"declared": True},
        "gateway": {"name": "edge", "caConfigMap": "ca"},
        **changes,
    }
    with pytest.raises(charts.Refused) as caught:
        rendered("h200x8", {"exposure": exposure})
    assert says in str(caught.value)
