"""What a start would refuse is told without one: each refusal alone, all of them at once, and nothing is made on the way."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from rlu_server.engine import launch
from rlu_server.settings import Settings, load
from rlu_server.supervisor.errors import Misconfigured, ServeError, Unavailable
from rlu_server.supervisor.rehearsal import refusals


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that has vLLM."""
    monkeypatch.setattr(launch, "engine_version", lambda python, ours: "0.32.0")


def settings(directory: Path, **sections: Any) -> Settings:
    base: dict[str, Any] = {
        "state_dir": str(directory / "state"),
        "gateway": {"port": 0},
        "attestation": {"insecure_software_key": True},
        "model": {"path": str(directory / "m")},
    }
    for name, changes in sections.items():
        base[name] = {**base.get(name, {}), **changes} if isinstance(changes, dict) else changes
    return load(None, {}, base)


CASES: list[tuple[dict[str, Any], type[ServeError], str]] = [
    (
        {"attestation": {"insecure_software_key": False, "tcti": "device:/none"}},
        Unavailable,
        "no TPM at /none",
    ),
    ({"model": {"aliases": {"a": "nobody"}}}, Misconfigured, "the alias a"),
    ({"model": {"name": "no such name"}}, Misconfigured, "cannot be a model's name"),
    ({"model": {"signers": ["/none.pem"]}}, Misconfigured, "[model] signers"),
    ({"engine": {"arguments": ["--enable-log-requests"]}}, Misconfigured, "--enable-log-requests"),
    ({"engine": {"environment": {"LD_PRELOAD": "x"}}}, Misconfigured, "LD_PRELOAD"),
    ({"engine": {"python": "/none"}}, Misconfigured, "no such program"),
    ({"admission": {"limits_file": "/none"}}, Misconfigured, "no limits file"),
    ({"runtime_dir": "/none"}, Unavailable, "runtime_dir /none"),
]


@pytest.mark.parametrize(("sections", "kind", "said"), CASES)
def test_each_refusal(tmp_path: Path, sections: dict[str, Any], kind: type[ServeError], said: str) -> None:
    (found,) = refusals(settings(tmp_path, **sections))
    assert type(found) is kind
    assert said in str(found)


def test_nothing_to_refuse_and_nothing_is_made(tmp_path: Path) -> None:
    assert refusals(settings(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_all_at_once(tmp_path: Path) -> None:
    together: dict[str, Any] = {}
    for sections, _, _ in CASES:
        for name, changes in sections.items():
            together[name] = {**together.get(name, {}), **changes} if isinstance(changes, dict) else changes
    together["model"].pop("name")
    assert len(refusals(settings(tmp_path, **together))) == len(CASES) - 1


def test_no_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "engine_version", lambda python, ours: None)
    (found,) = refusals(settings(tmp_path))
    assert "has no vLLM" in str(found)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (found,) = refusals(settings(tmp_path, gateway={"port": taken.getsockname()[1]}))
    assert "cannot listen on" in str(found)
