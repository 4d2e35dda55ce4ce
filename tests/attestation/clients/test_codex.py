"""Codex: its profile and its roles, as TOML."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
import tomllib

from rlu_attestation.clients import Server, codex
from rlu_attestation.clients.roles import EFFORTS, ROLES, Effort

SERVER = Server("https://rlu.example", "MY_KEY", "big", "small", PurePosixPath("/ca.pem"), 65536)


def files(**more: Any) -> dict[str, Any]:
    return {file.name: tomllib.loads(file.text) for file in codex.setup(SERVER, **more).files}


def test_the_profile() -> None:
    profile = files()["rlu.config.toml"]
    assert (profile["model"], profile["model_provider"], profile["model_context_window"]) == (
        "big",
        "rlu",
        65536,
    )
    assert profile["model_providers"] == {
        "rlu": {
            "name": "RLU",
            "base_url": "https://rlu.example/v1",
            "wire_api": "responses",
            "env_key": "MY_KEY",
            "stream_max_retries": 10,
        }
    }
    # Nothing of this goes anywhere else.
    assert (profile["check_for_update_on_startup"], profile["web_search"]) == (False, "disabled")
    assert profile["analytics"] == {"enabled": False}
    setup = codex.setup(SERVER)
    assert setup.environment == {"CODEX_CA_CERTIFICATE": "/ca.pem"}
    assert setup.command == ("codex", "--profile", "rlu")


def test_every_role_has_its_file() -> None:
    found = files()
    registered = found["rlu.config.toml"]["agents"]
    assert (registered.pop("max_threads"), registered.pop("max_depth")) == (12, 2)
    assert list(registered) == [
        "orchestrator",
        "explorer",
        "implementer",
        "ci_runner",
        "reviewer",
        "qa_test_author",
        "release_manager",
    ]
    for role in ROLES:
        assert registered[role.name]["description"] == role.description
        own = found.pop(registered[role.name]["config_file"])
        assert own["model"] == ("small" if role.quick else "big")
        assert own["developer_instructions"] == role.instructions
        assert (own["approval_policy"], own["sandbox_mode"]) == ("never", role.sandbox)
    assert set(found) == {"rlu.config.toml"}


def test_who_only_looks_cannot_write() -> None:
    found = files()
    reading = {name for name, own in found.items() if own.get("sandbox_mode") == "read-only"}
    assert reading == {"rlu-agents/explorer.toml", "rlu-agents/reviewer.toml"}
    assert "danger-full-access" not in str(found)


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        ("xhigh", ["xhigh", "low", "medium", "low", "xhigh", "high", "medium"]),
        ("high", ["high", "low", "medium", "low", "high", "high", "medium"]),
        ("low", ["low"] * 7),
    ],
)
def test_efforts_are_what_the_model_takes(highest: Effort, expected: list[str]) -> None:
    found = files(highest=highest)
    assert [found[f"rlu-agents/{role.name}.toml"]["model_reasoning_effort"] for role in ROLES] == expected
    assert EFFORTS.index(found["rlu.config.toml"]["model_reasoning_effort"]) <= EFFORTS.index(highest)


def test_without_roles() -> None:
    assert list(files(roles=False)) == ["rlu.config.toml"]
    assert "agents" not in files(roles=False)["rlu.config.toml"]
