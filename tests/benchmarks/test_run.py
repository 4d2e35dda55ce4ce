"""The benchmark itself, short: the real gateway and attestor beside no hop at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import run
from bench.installed import installed
from bench.peers import Bench, System
from bench.processes import BenchError


def test_the_gateway_and_no_hop_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    # Short measurements of everything a round has; the numbers themselves mean nothing here.
    options = run.arguments(
        [
            "--rounds",
            "1",
            "--seconds",
            "0.6",
            "--systems",
            "direct",
            "rlu",
            "rlu-tls",
            "--scenarios",
            "short",
            "ttft",
        ]
    )
    before = os.sched_getaffinity(0)
    try:
        result = run.run(options)
    finally:
        os.sched_setaffinity(0, before)
    assert {name: set(systems) for name, systems in result["measured"].items()} == {
        "short": {"direct", "rlu", "rlu-tls"},
        "ttft": {"direct", "rlu", "rlu-tls"},
    }
    for scenario, systems in result["measured"].items():
        for name, rounds in systems.items():
            (one,) = rounds
            assert one["errors"] == 0, (scenario, name)
            assert one["requests"] > 3, (scenario, name)
            assert (one["cpu_us_per_request"] is None) == (name == "direct")
    assert "signed receipt" in result["systems"]["rlu"]["note"]


def test_a_system_that_does_not_start_is_told_and_not_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(bench: Bench) -> System:
        raise BenchError("nginx is not installed; `apt-get install nginx-light`")

    monkeypatch.setitem(run.SYSTEMS, "nginx", broken)
    monkeypatch.setattr("sys.argv", ["run.py", "--no-write", "--rounds", "1", "--seconds", "0.1"])
    arguments: Any = run.arguments(
        [
            "--no-write",
            "--rounds",
            "1",
            "--seconds",
            "0.1",
            "--systems",
            "direct",
            "nginx",
            "--scenarios",
            "short",
        ]
    )
    monkeypatch.setattr(run, "arguments", lambda: arguments)
    before = os.sched_getaffinity(0)
    try:
        assert run.main() == 1
    finally:
        os.sched_setaffinity(0, before)
    said = capsys.readouterr()
    assert "| nginx | not measured: nginx is not installed" in said.out
    assert "bench: not measured: nginx" in said.err


def test_results_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = {
        "when": "2026-01-01",
        "commit": "abc",
        "machine": {
            "cpu": "a",
            "cores": 2,
            "kernel": "b",
            "python": "c",
            "sha_instructions": False,
            "load_at_end": 0.0,
        },
        "rounds": 1,
        "seconds": 1,
        "systems": {"direct": {"version": "-", "note": ""}},
        "measured": {"short": {"direct": [{"requests_per_s": 1.0}]}},
    }
    (tmp_path / "README.md").write_text((run.BENCHMARKS / "README.md").read_text())
    monkeypatch.setattr(run, "BENCHMARKS", tmp_path)
    run.write(result)
    assert '"commit": "abc"' in (tmp_path / "results" / "latest.json").read_text()
    assert (tmp_path / "results" / "latest.svg").read_text().startswith("<svg ")
    assert "commit `abc`" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [
        ([0, 1], 1, ((0,), (1,), (1,))),
        ([0, 1, 2, 3], 1, ((0,), (3,), (1,))),
        ([2, 3, 5, 7], 2, ((2, 3), (7,), (5,))),
    ],
)
def test_systems_engine_and_generator_have_cores_of_their_own(
    cores: list[int], workers: int, expected: tuple[tuple[int, ...], ...]
) -> None:
    assert run.divided(cores, workers) == expected


def test_too_few_cores_are_refused() -> None:
    with pytest.raises(BenchError, match="3 cores are needed"):
        run.divided([0, 1], 2)


def test_a_peer_is_installed_once_and_wholly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(home: Path, with_pip: bool) -> None:
        assert with_pip
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "pip").write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
        (home / "bin" / "pip").chmod(0o700)

    monkeypatch.setattr("venv.create", create)
    with pytest.raises(BenchError, match=r"no-such-peer\[all\]==1.0 did not install:\nno such thing"):
        installed(tmp_path, "no-such-peer[all]==1.0")
    home = tmp_path / "no-such-peer-1.0"
    assert not (home / ".complete").exists()
    (home / ".complete").touch()
    monkeypatch.setattr("venv.create", None)
    assert installed(tmp_path, "no-such-peer[all]==1.0") == home / "bin"
