"""What the chart configures is what the server has: its settings, commands, arguments and limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import tomllib
from pydantic import BaseModel

from fakes.model_configs import LLAMA_70B, encoded
from rlu_attestation.cli.app import COMMANDS, load
from rlu_server import settings as configuration
from rlu_server.core.limits.rules import parse_file, rule_for
from rlu_server.engine import arguments, environment
from rlu_server.settings_auth import Auth
from rlu_server.sizing import GPUS, Wish, helm_values, read_model, size
from rlu_server.supervisor.runtime import LONGEST


def settings_of(rendered: Any, folder: Path) -> configuration.Settings:
    """As the server in the pod reads them: file and environment."""
    [workload] = rendered.of("StatefulSet")
    gateway, attestor, engine = workload["spec"]["template"]["spec"]["containers"]
    variables = {item["name"]: item["value"] for item in gateway["env"]}
    assert engine["env"] == gateway["env"] == attestor["env"][: len(gateway["env"])]
    text = next(c["data"]["rlu.toml"] for c in rendered.of("ConfigMap") if "rlu.toml" in c["data"])
    file = folder / "rlu.toml"
    file.write_text(text, "utf-8")
    return configuration.load(file, variables)


def test_the_server_accepts_every_configuration(configuration: Any, tmp_path: Path) -> None:
    settings = settings_of(configuration, tmp_path)
    assert settings.lock.engine_network == "shared"
    assert settings.gateway.port == 8443
    assert not settings.gateway.insecure_plain_http
    arguments.check(settings.engine.arguments)
    assert all(environment.ALLOWED.fullmatch(name) for name in settings.engine.environment)


def test_values_arrive(rendered: Any, tmp_path: Path) -> None:
    odd = 'quote " and \\ and é'
    settings = settings_of(
        rendered(
            "h200x8",
            {
                "deployment": {"region": "eu-1", "boundary": odd, "site": "s"},
                "model": {
                    "name": "qwen",
                    "updateSchedule": "daily",
                    "updateEgress": [{"ipBlock": {"cidr": "192.0.2.10/32"}}],
                    "signers": "PEM",
                    "update": {"source": "s3://models/qwen"},
                    "pvc": {"subPath": "a/b"},
                    "aliases": {"gpt-5.1-codex": "qwen", "claude-*": "qwen"},
                    "listAliases": False,
                },
                "engine": {"scratchGib": 100, "maxModelLen": 4096, "environment": {"NCCL_P2P_LEVEL": odd}},
                "attestation": {"key": "gcp-vtpm", "pcrs": [0, 7], "keyPath": "0x81000010"},
                "log": {"witnesses": ["w+1+k"]},
            },
        ),
        tmp_path,
    )
    assert (settings.deployment.region, settings.deployment.boundary) == ("eu-1", odd)
    assert settings.deployment.hardware_profile == "h200x8"
    assert (settings.model.name, settings.model.update_schedule, settings.model.path) == (
        "qwen",
        "daily",
        "/models/a/b/current",
    )
    assert settings.model.aliases == {"gpt-5.1-codex": "qwen", "claude-*": "qwen"}
    assert settings.model.list_aliases is False
    assert settings.lock.scratch_bytes == 100 << 30
    assert settings.engine.max_model_len == 4096
    assert settings.engine.environment == {"NCCL_P2P_LEVEL": odd}
    assert settings.attestation.key == "gcp-vtpm"
    assert settings.attestation.pcrs == (0, 7)
    assert settings.attestation.gpu.vendor == "nvidia"
    assert settings.key_path == "0x81000010"
    assert settings.log.witnesses == ("w+1+k",)
    assert settings.telemetry.opt_in is False


def test_limits_arrive_where_a_change_of_theirs_does_too(rendered: Any, tmp_path: Path) -> None:
    text = '[default]\nrequests_per_minute = 60\n[tenants."a b"]\nweight = 4\n'
    made = rendered("h200x8", {"admission": {"limits": text, "maxInFlight": 12}})
    settings = settings_of(made, tmp_path)
    assert settings.admission.max_in_flight == 12
    [limits] = [one for one in made.of("ConfigMap") if "limits.toml" in one["data"]]
    assert rule_for(parse_file(limits["data"]["limits.toml"].encode()), "a b", "p").weight == 4
    [workload] = made.of("StatefulSet")
    pod = workload["spec"]["template"]["spec"]
    [volume] = [
        one for one in pod["volumes"] if one.get("configMap", {}).get("name") == limits["metadata"]["name"]
    ]
    [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == volume["name"]]
    assert Path(mount["mountPath"]) == settings.limits_file.parent
    assert "subPath" not in mount


def test_what_a_pod_mounts_is_what_the_settings_name(configuration: Any, tmp_path: Path) -> None:
    settings = settings_of(configuration, tmp_path)
    [workload] = configuration.of("StatefulSet")
    gateway, attestor, engine = (
        {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        for container in workload["spec"]["template"]["spec"]["containers"]
    )
    assert str(settings.state_dir.parent) in attestor
    assert str(settings.api_keys_file.parent) in gateway
    assert any(Path(settings.model.path).is_relative_to(place) for place in engine if place != "/")
    for mounts in (gateway, attestor, engine):
        assert "/etc/rlu/rlu.toml" in mounts
        assert str(settings.runtime_dir) in mounts
    assert settings.runtime_dir is not None
    assert len(str(settings.runtime_dir)) < LONGEST
    if settings.attestation.collateral_dir is not None:
        # The directory, or those within it.
        assert any(place.startswith(str(settings.attestation.collateral_dir)) for place in attestor)
    if settings.weights.broker:
        assert any(Path(settings.model.path).is_relative_to(place) for place in attestor if place != "/")
        assert settings.weights.ca_file is not None
        assert str(settings.weights.ca_file.parent) in attestor
    if settings.attestation.policy is not None:
        assert str(settings.attestation.policy.parent) in attestor
    for one in settings.further_engines:
        assert Path(one.path).is_relative_to("/models")
    for file in files_of(settings.auth):
        # A directory: a file of its own would not follow the ConfigMap.
        assert "subPath" not in gateway[str(file.parent)]
        assert str(file.parent) not in engine


def files_of(auth: Auth) -> list[Path]:
    """What [auth] reads."""
    places = [one.jwks_file for one in auth.issuers]
    places += [auth.certificates.ca_file, auth.certificates.crl_file, auth.relay_ca_file]
    return [one for one in places if one is not None]


NOT_FOR_PODS = {
    "gateway.insecure_plain_http": "verification and the probes need TLS",
    "engine.python": "the image's",
    "group": "variables of the pods, see test_multinode",
    "weights.proxy": "the relay's option",
    "attestation.key_path": "a variable",
    "deployment.region": "a variable",
    "model.update_schedule": "a variable",
    "telemetry": "variables of the job that sends, see test_vendor",
    "update": "in the file of the job that fetches, see test_update",
    "licence.validation_url": "a variable of the job that asks",
    "licence.ca_file": "a variable of the job that asks",
    "licence.proxy": "a variable of the job that asks",
}
"""Settings that no value sets in the file, and why."""


def names_of(section: type[BaseModel], path: str = "") -> Iterator[str]:
    """Every setting, dotted; of a list of sections, those within."""
    for name, field in section.model_fields.items():
        inner = next((one for one in sections_in(field.annotation)), None)
        if inner is None:
            yield path + name
        else:
            yield from names_of(inner, f"{path}{name}.")


def sections_in(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for below in get_args(kind):
        yield from sections_in(below)


def names_in(value: Any, path: str = "") -> Iterator[str]:
    """The same of a parsed file."""
    for name, below in value.items():
        inner = below if isinstance(below, list) and below and isinstance(below[0], dict) else [below]
        yield path + name
        for one in inner:
            if isinstance(one, dict):
                yield from names_in(one, f"{path}{name}.")


def test_every_setting_is_reached_by_a_value(configurations: list[Any]) -> None:
    """A new setting takes a value, or a reason."""
    found: set[str] = set()
    for made in configurations:
        [text] = [c["data"]["rlu.toml"] for c in made.of("ConfigMap") if "rlu.toml" in c["data"]]
        found |= set(names_in(tomllib.loads(text)))
    known = set(names_of(configuration.Settings))
    exempt = {name for name in known if any(f"{name}.".startswith(f"{one}.") for one in NOT_FOR_PODS)}
    assert known - exempt - found == set()


def test_instances_are_named_in_the_certificate(configuration: Any, tmp_path: Path) -> None:
    names = set(settings_of(configuration, tmp_path).gateway.hostnames)
    for service in configuration.of("Service"):
        serves = service["spec"]["selector"]["app.kubernetes.io/component"] == "serving"
        if serves and service["spec"].get("clusterIP") != "None":
            assert f"{service['metadata']['name']}.rlu.svc" in names
    for route in configuration.of("TLSRoute"):
        assert set(route["spec"]["hostnames"]) <= names


def test_commands_are_commands_of_rlu(configuration: Any) -> None:
    seen = set()
    for pod in [w["spec"]["template"]["spec"] for w in configuration.of("StatefulSet")] + [
        p["spec"] for p in configuration.of("Pod")
    ]:
        words = pod["containers"][0]["command"]
        if words[0] == "python3":  # passes on what rlu says, but for one exit code
            words = words[words.index("rlu") :]
        assert words[0] == "rlu"
        assert words[1] in COMMANDS
        known = {option for parameter in load(words[1]).params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
        seen.add(words[1])
    assert "serve" in seen


def test_the_pods_toml_has_no_section_twice(configuration: Any) -> None:
    [text] = [c["data"]["rlu.toml"] for c in configuration.of("ConfigMap") if "rlu.toml" in c["data"]]
    tomllib.loads(text)


@pytest.mark.parametrize(("gpu", "preset"), [("h100", "h100x8"), ("h200", "h200x8"), ("mi300x", "mi300x8")])
def test_what_rlu_size_says_to_paste_is_accepted(
    gpu: str, preset: str, rendered: Any, tmp_path: Path
) -> None:
    wish = Wish(gpu=GPUS[gpu], count=8, context=8192, concurrency=None)
    values = helm_values(size(read_model(encoded(LLAMA_70B)), wish, gpu))
    assert values["hardware"]["profile"] == preset
    settings = settings_of(rendered(preset, values), tmp_path)
    assert settings.engine.max_model_len == 8192
    assert list(settings.engine.arguments) == values["engine"]["arguments"]
