"""Every target is fuzzed for a moment in each run of the tests, and for long by `make fuzz`; and the fuzzer finds what is planted."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlu_attestation.errors import RluError

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

from targets import TARGETS  # noqa: E402

SECONDS = "1"
watched = runpy.run_path(str(HERE / "run.py"))["watched"]  # `run` is a name that others have too


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_seeds_are_taken(name: str) -> None:
    """A seed that does not parse would make a target fuzz nothing but its first check."""
    seeds = TARGETS[name].seeds()
    assert seeds
    accepted = 0
    for seed in seeds:
        try:
            TARGETS[name].run(seed)
            accepted += 1
        except RluError:
            pass
    if name not in UNSEEDED:
        assert accepted


UNSEEDED = ("gcp-vtpm-item", "sev-snp-table")
"""Begin from something that is refused."""


Fuzzed = Mapping[str, tuple[int, str]]
"""Of each target: the exit status, and what was said."""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Fuzzed:
    """Importing everything with its coverage takes longer than a moment: once for all targets that watch the same rooms."""
    corpus = tmp_path_factory.mktemp("corpus")
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in TARGETS:
        groups.setdefault(tuple(watched(name)), []).append(name)
    longest_first = sorted(groups.values(), key=len, reverse=True)
    found: dict[str, tuple[int, str]] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for group in pool.map(lambda names: _fuzz(names, corpus), longest_first):
            found.update(group)
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_moment_of_fuzzing(name: str, fuzzed: Fuzzed) -> None:
    status, said = fuzzed[name]
    assert status == 0, said
    assert "number_of_executed_units" in said


@pytest.mark.parametrize(
    "fault",
    [
        "lambda data: data[7]",
        "lambda data: b'x' * (600 << 20)",
        "lambda data: {b'12345678': 0}[data]",
    ],
)
def test_the_fuzzer_finds_what_is_planted(fault: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]\n"
        "import run, targets, pathlib\n"
        f"targets.TARGETS['planted'] = targets.Target({fault}, lambda: [b'12345678'])\n"
        f"run.fuzz('planted', 10, pathlib.Path({str(tmp_path)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert list(tmp_path.rglob("found-*")), done.stderr


def _fuzz(names: list[str], corpus: Path) -> dict[str, tuple[int, str]]:
    command = [sys.executable, str(HERE / "run.py"), "--seconds", SECONDS, "--corpus", str(corpus)]
    for name in names:
        command += ["--target", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if len(names) == 1:
        return {names[0]: (done.returncode, done.stdout + done.stderr)}
    try:
        statuses = json.loads(done.stdout)
    except ValueError:  # it came to no target at all
        return dict.fromkeys(names, (done.returncode or 1, done.stdout + done.stderr))
    return {name: (statuses[name], (corpus / f"{name}.log").read_text("utf-8", "replace")) for name in names}
