"""The whole stack, started once a run: `rlu demo` with real vLLM under the lock, and the same with a scripted engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

from absent_inputs import absent
from e2e import claude as claude_code
from e2e import codex as codex_cli
from e2e.claude import Claude
from e2e.codex import Codex
from e2e.scripted_stack import BOOK, Scripted
from e2e.served import START_S, Served
from rlu_server import swtpm

LAST = "test_faults.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest come last, and what breaks the one real deployment after everything that uses it."""
    here = Path(__file__).parent

    def real(item: pytest.Item) -> bool:
        return item.path.parent == here and item.get_closest_marker("engine") is not None

    items.sort(key=lambda item: (item.path.parent == here, real(item), real(item) and item.path.name == LAST))
    for item in items:
        if real(item) and item.get_closest_marker("timeout") is None:
            # Whichever comes first waits for vLLM, and perhaps for the demo model to be trained.
            item.add_marker(pytest.mark.timeout(START_S + 300))


@pytest.fixture(scope="session")
def started(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The real deployment. `served` is what tests ask for."""
    if util.find_spec("vllm") is None:
        absent("engine", "vLLM is not installed here")
    if shutil.which("swtpm") is None:
        absent("tpm", "swtpm is not installed here")
    model = request.getfixturevalue("demo_model")
    # Not below pytest's directory: socket paths have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="rlu-e2e-") as directory:
        served = Served(Path(directory), model)
        try:
            served.wait_until_served()
            yield served
        finally:
            served.process.stop()


@pytest.fixture
def served(started: Served) -> Served:
    """The real deployment, up."""
    assert started.process.running, started.process.output()
    return started


@pytest.fixture(scope="session")
def scripted_once(request: pytest.FixtureRequest) -> Iterator[Scripted]:
    """The scripted deployment. `scripted` is what tests ask for."""
    if shutil.which("swtpm") is None:
        absent("tpm", "swtpm is not installed here")
    manufactured: Path = request.getfixturevalue("manufactured_tpm")
    with tempfile.TemporaryDirectory(prefix="rlu-e2e-") as directory:
        home, tpm = Path(directory) / "home", Path(directory) / "tpm"
        home.mkdir(mode=0o700)
        for part in ("tpm", "ca"):
            shutil.copytree(manufactured / part, tpm / part)
        with swtpm.SoftwareTpm(tpm) as running:
            scripted = Scripted(home, running)
            try:
                scripted.start()
                yield scripted
            finally:
                scripted.stop()


@pytest.fixture
def scripted(scripted_once: Scripted) -> Scripted:
    """The scripted deployment, with its first script and nothing seen."""
    scripted_once.script(BOOK)
    scripted_once.forget()
    return scripted_once


@pytest.fixture
def agent_directory() -> Iterator[Path]:
    """A directory for one agent's home and work."""
    # Codex refuses to install its tools below a temporary directory, and says so; hence .cache.
    cache = Path(__file__).resolve().parents[2] / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="agent-", dir=cache) as directory:
        yield Path(directory)


@pytest.fixture
def codex(agent_directory: Path) -> Codex:
    """The Codex CLI with a home and an empty working directory of its own."""
    binary = codex_cli.found()
    if binary is None:
        absent("codex", "no codex below .cache/npm and none on PATH")
    return Codex(binary, agent_directory)


@pytest.fixture
def claude(agent_directory: Path) -> Claude:
    """Claude Code, likewise."""
    binary = claude_code.found()
    if binary is None:
        absent("claude", "no claude below .cache/npm and none on PATH")
    return Claude(binary, agent_directory)
