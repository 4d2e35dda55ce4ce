"""A second verifier, written in JavaScript from `attestation/FORMATS.md` alone, and two bundles that a running server was verified by."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from absent_inputs import absent
from e2e.caller import chat
from e2e.processes import environment
from e2e.proofs import bundle, exchange
from e2e.scripted_stack import MODEL, Scripted
from e2e.served import RLU
from e2e.test_connect import write_policy
from fakes.terminal import rlu
from rlu_server import swtpm

HERE = Path(__file__).parent
TIMEOUT_S = 120
VERIFIED_EXCEPT_WAIVERS = 11


@dataclass(frozen=True)
class Verdict:
    code: int
    said: dict[str, Any]

    def failed(self) -> list[str]:
        """What did not pass, by step."""
        return [f"{step['id']}: {step['detail']}" for step in self.said["steps"] if not step["ok"]]


@dataclass(frozen=True)
class Second:
    """The second verifier, by its command lines."""

    node: str

    def run(self, program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.node, str(HERE / program), *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def vectors(self, file: Path) -> list[dict[str, str]]:
        """What it makes of each vector of a file."""
        done = self.run("vectors.mjs", file)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, str]] = json.loads(done.stdout)
        return found

    def verify(self, bundle: Path, at: int) -> Verdict:
        done = self.run("verify.mjs", bundle, "--as-of", str(at))
        assert done.returncode in (0, 10, 30), done.stderr
        said = json.loads(done.stdout)
        assert said["ok"] == (done.returncode == 0) == all(step["ok"] for step in said["steps"])
        return Verdict(done.returncode, said)


@dataclass(frozen=True)
class First:
    """The published verifier, by its command line."""

    policy: Path

    def run(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RLU, "verify", *map(str, words), "--policy", str(self.policy), "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=environment(more),
            check=False,
        )

    def verify(self, bundle: Path, at: int) -> int:
        return self.run(bundle, "--as-of", str(at)).returncode

    def verify_here(self, capsys: pytest.CaptureFixture[str], bundle: Path, at: int) -> int:
        """The same command in this process: it takes longer to start than to verify."""
        return rlu(capsys, "verify", bundle, "--policy", self.policy, "--json", "--as-of", at).code


@dataclass(frozen=True)
class Saved:
    """Two bundles of one server, each with a session, an exchange and a close; and when they were good."""

    documents: tuple[dict[str, Any], dict[str, Any]]
    implicit: bytes
    """Of a session that its first request opened, as its principal keeps it."""
    at: int
    first: First


@pytest.fixture(scope="session")
def second() -> Second:
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules" / "cborg").is_dir():
        absent("node", "no node, or nothing below tests/interop/node_modules")
    return Second(node)


def _implicit(scripted: Scripted) -> bytes:
    """Two requests of one conversation, the second streamed and broken off by the engine."""
    first = scripted.caller.post("/v1/chat/completions", chat("hello", MODEL))
    more = chat("hello again", MODEL, stream=True, metadata={"script": "broken"})
    second = scripted.caller.post("/v1/chat/completions", more, {"RLU-Session": first.session})
    assert second.session == first.session
    exchanges = [exchange(scripted.caller, answer) for answer in (first, second)]
    return bundle(scripted.caller, first.session, exchanges, close=True).encode()


def _save(first: First, scripted: Scripted, directory: Path, number: int) -> tuple[dict[str, Any], int]:
    file, key = directory / f"{number}.rlu", directory / "api-key"
    key.write_text(scripted.caller.key)
    key.chmod(0o600)
    done = first.run(
        scripted.caller.url, "--api-key-file", key, "--probe", "What is a receipt?", "--save", file
    )
    assert done.returncode == VERIFIED_EXCEPT_WAIVERS, done.stdout + done.stderr
    verdict: Mapping[str, Any] = json.loads(done.stdout)
    return json.loads(file.read_bytes()), int(verdict["at"])


@pytest.fixture(scope="session")
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    """Saved by `rlu verify` from real processes: gateway, attestor, software TPM, a scripted engine."""
    if shutil.which("swtpm") is None:
        absent("tpm", "swtpm is not installed here")
    manufactured: Path = request.getfixturevalue("manufactured_tpm")
    here = tmp_path_factory.mktemp("interop")
    # Not below pytest's directory: socket paths have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="rlu-interop-") as directory:
        home, tpm = Path(directory) / "home", Path(directory) / "tpm"
        home.mkdir(mode=0o700)
        for part in ("tpm", "ca"):
            shutil.copytree(manufactured / part, tpm / part)
        with swtpm.SoftwareTpm(tpm) as running:
            scripted = Scripted(home, running)
            try:
                scripted.start()
                first = First(write_policy(scripted, here))
                implicit = _implicit(scripted)
                (one, _), (other, at) = (_save(first, scripted, here, number) for number in range(2))
            finally:
                scripted.stop()
        yield Saved((one, other), implicit, at, first)
