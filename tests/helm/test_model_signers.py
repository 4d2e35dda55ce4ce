"""Who may sign the model, from values to a file that the engine's container sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rlu_server import settings as configuration
from rlu_server.models import signing


def documents(made: Any, folder: Path) -> tuple[configuration.Settings, dict[str, str], Any]:
    [data] = [one["data"] for one in made.of("ConfigMap") if "rlu.toml" in one["data"]]
    (folder / "rlu.toml").write_text(data["rlu.toml"], "utf-8")
    [workload] = made.of("StatefulSet")
    return configuration.load(folder / "rlu.toml", {}), data, workload["spec"]["template"]


def test_signers_arrive_in_the_engines_container(rendered: Any, tmp_path: Path) -> None:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, form).decode()
    settings, data, template = documents(rendered("h200x8", {"model": {"signers": pem}}), tmp_path)
    assert settings.model.signature == "required"
    [signers] = settings.model.signers
    mounts = {
        container["name"]: {one["mountPath"]: one for one in container["volumeMounts"]}
        for container in template["spec"]["containers"]
    }
    mount = mounts["engine"][str(signers)]
    assert signing.signers([("file", data[mount["subPath"]].encode())]).keys == (key,)
    assert mount["readOnly"] is True
    assert [name for name in mounts if str(signers) in mounts[name]] == ["engine"]
    [volume] = [one for one in template["spec"]["volumes"] if one["name"] == mount["name"]]
    assert volume["configMap"]["name"].endswith("-settings")


def test_other_signers_restart_the_pods(rendered: Any, tmp_path: Path) -> None:
    checksums = {
        documents(rendered("h200x8", {"model": {"signers": text}}), tmp_path)[2]["metadata"]["annotations"][
            "checksum/settings"
        ]
        for text in ("", "one", "two")
    }
    assert len(checksums) == 3


def test_required_unless_somebody_says_otherwise(rendered: Any, tmp_path: Path) -> None:
    assert documents(rendered("h200x8", {}), tmp_path)[0].model.signature == "required"
    changed = rendered("h200x8", {"model": {"signature": "unsafe-optional"}})
    settings, data, _ = documents(changed, tmp_path)
    assert (settings.model.signature, settings.model.signers) == ("unsafe-optional", ())
    assert list(data) == ["rlu.toml"]
