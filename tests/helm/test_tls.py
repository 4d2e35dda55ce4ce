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
