"""Files below `<runtime>/facts/`: what the attestor is to state (its `facts.py` says the forms), and each process's configuration.

Written whole or not at all (rename), readable by all three processes, writable by none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlu_attestation import instance
from rlu_attestation.encoding import b64u
from rlu_attestation.models import ModelSignature
from rlu_server.settings import Settings


def model_facts(
    name: str, manifest: bytes, signature: ModelSignature, engine_version: str, arguments: list[str]
) -> dict[str, Any]:
    """One model and its engine."""
    digest = b64u(instance.arguments_digest(arguments))
    return {
        "model": {"name": name, "manifest_sha256": b64u(manifest), "signature": signature.to_json()},
        "engine": {"name": "vllm", "version": engine_version, "arguments_sha256": digest},
    }


def instance_facts(
    settings: Settings,
    *,
    served: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """`instance.json`; `served` has what `model_facts` gives for every model, at least one."""
    first, *further = served
    return {
        **first,
        **({"further_models": further} if further else {}),
        "hardware": {"profile": settings.deployment.hardware_profile},
        "region": settings.deployment.region,
        "boundary": settings.deployment.boundary,
        "site": settings.deployment.site,
    }


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write one of the files."""
    write_text(path, json.dumps(document, sort_keys=True, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, "utf-8")
    new.chmod(0o644)
    os.replace(new, path)


def toml(settings: Settings) -> str:
    """The settings in force, as TOML: every process reads the same, wherever each value came from."""
    document = settings.model_dump(mode="json", exclude_none=True)
    top = {name: value for name, value in document.items() if not isinstance(value, dict)}
    lines = [f"{name} = {_value(value)}" for name, value in top.items()]
    for name, section in document.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]", *(f"{_key(key)} = {_value(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").isalnum() else _string(name)


def _string(text: str) -> str:
    """TOML's basic strings are those of JSON, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(str(k))} = {_value(v)}" for k, v in value.items()) + " }"
    raise TypeError(f"no TOML for {type(value).__name__}")
