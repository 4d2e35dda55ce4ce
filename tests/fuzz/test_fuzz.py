"""Every target is fuzzed for a moment in each run of the tests, and for long by `make fuzz`; and the fuzzer finds what is planted."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlu_attestation.errors import RluError

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

from targets import TARGETS  # noqa: E402

SECONDS = "1"


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


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    corpus = tmp_path_factory.mktemp("corpus")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(TARGETS, pool.map(lambda name: _fuzz(name, corpus), TARGETS), strict=True))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_moment_of_fuzzing(name: str, fuzzed: dict[str, subprocess.CompletedProcess[str]]) -> None:
    done = fuzzed[name]
    assert done.returncode == 0, done.stdout + done.stderr
    assert "number_of_executed_units" in done.stderr


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


def _fuzz(name: str, corpus: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(HERE / "run.py"),
        "--target",
        name,
        "--seconds",
        SECONDS,
        "--corpus",
        str(corpus),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)
