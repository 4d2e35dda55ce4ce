"""The whole test with a scripted engine that echoes, and that leaks everything it gets wherever its lock lets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from rlu_attestation.canary import EXCHANGES, FAULTS, PLACES
from rlu_server import settings as configuration
from rlu_server.core import tracing
from rlu_server.core.tracing import Span
from rlu_server.selftest.caller import Shot
from rlu_server.selftest.canary import CanaryTest, Options, Outcome
from rlu_server.selftest.node import Node
from rlu_server.settings import Settings, Uids

COMMAND = (sys.executable, str(Path(__file__).with_name("command.py")))
UNPLANTED = {"journal", "kernel_log", "swap", "file_systems"}
ROOT = os.geteuid() == 0

pytestmark = [pytest.mark.tpm, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Not below pytest's directory: socket paths have 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="rlu-st-") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def settings(home: Path) -> Settings:
    model = home / "m"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen3"}')
    (model / "model.safetensors").write_bytes(b"weights")
    bytewise = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = bytewise
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=bytewise.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["copper lantern velvet harbour words of some length 1234"] * 10, trainer)
    tokenizer.save(str(model / "tokenizer.json"))
    changes = {
        "state_dir": str(home / "the node's own"),
        "model": {"path": str(model), "signature": "unsafe-optional"},
        "lock": {"scratch_bytes": 32 << 20},
        "gateway": {"max_body_bytes": 1 << 19},
    }
    return configuration.load(None, {}, changes)


def run(kind: type[CanaryTest], settings: Settings, home: Path, **options: Any) -> Outcome:
    said: list[str] = []
    outcome = kind(
        settings, Options(base=home, command=COMMAND, file_systems=False, **options), said.append
    ).run()
    assert said
    return outcome


@pytest.fixture(scope="module")
def outcome(settings: Settings, home: Path) -> Outcome:
    return run(CanaryTest, settings, home, seed=11)


def test_nothing_is_left(outcome: Outcome) -> None:
    assert outcome.leaks == []
    assert sum(place.leaks for place in outcome.findings.places.values()) == 0


def test_everything_was_done(outcome: Outcome) -> None:
    found = outcome.findings
    assert set(found.exchanges) == set(EXCHANGES)
    assert {fault for fault in FAULTS if not found.faults.get(fault)} == (
        set() if ROOT else {"scratch_full", "disk_full"}
    )
    # Every API that generates repeated what it was asked, streamed or not.
    assert found.returned > 15
    assert found.tokens
    assert found.markers > 200
    named = {line.partition(":")[0] for line in outcome.undone}
    if ROOT:
        assert named == {"file_systems"}, outcome.undone
    assert found.result == "incomplete", "what was not searched is not called clean"


def test_every_plant_was_found(outcome: Outcome) -> None:
    places = outcome.findings.places
    assert set(places) == set(PLACES)
    expected = set(PLACES) - UNPLANTED - (set() if ROOT else {"disk", "system_logs", "state"})
    for name in expected:
        assert places[name].planted >= 27, name
        assert places[name].found == places[name].planted, name
        assert places[name].searched, name


def test_it_leaves_nothing_itself(outcome: Outcome, settings: Settings, home: Path) -> None:
    assert [path.name for path in home.iterdir()] == ["m"]
    assert str(home) not in Path("/proc/self/mounts").read_text()
    assert not settings.state_dir.exists(), "the node's own state is not touched"


class Leaky(CanaryTest):
    """A deployment that keeps a chat's body for a moment, on its disk, and deletes it; a header's in shared memory for good; and another's
    in a span."""

    left = Path("/dev/shm") / f"rlu-leaky-{os.getpid()}"

    async def _make(self, node: Node, shot: Shot) -> None:
        await super()._make(node, shot)
        if shot.kind == "chat_tools":
            kept = node.state / "debug"
            kept.write_bytes(shot.body)
            os.sync()
            kept.unlink()
        if shot.kind == "headers":
            self.left.write_text(shot.headers["x-codex-turn-metadata"].encode().hex())
        if shot.kind == "chat_system":
            told = {"user": json.loads(shot.body)["user"]}
            assert node.traces.send(tracing.encode([Span("0" * 32, "0" * 16, "", "x", 1, 1, 2, told)], {}))


def test_leaks_are_found_and_named(settings: Settings, home: Path) -> None:
    if (
        ROOT
    ):  # by the way: everybody reaches what he is to with a user id of his own, the TPM and the relay too
        home.chmod(0o711)
        uids = Uids(attestor=64_101, engine=64_102, gateway=64_103)
        settings = settings.model_copy(update={"lock": settings.lock.model_copy(update={"uids": uids})})
    try:
        found = run(Leaky, settings, home, breaking=False, keep=True)
    finally:
        Leaky.left.unlink()
    (kept,) = home.glob("rlu-canary-*")
    assert (kept / "disk.img").exists() == ROOT, "to be looked at"
    shutil.rmtree(kept)
    assert found.findings.result == "leak"
    traces = found.findings.places["traces"]
    assert (traces.searched, traces.found) == (True, traces.planted)
    assert any(leak.startswith("shared_memory: headers as hex: ") for leak in found.leaks)
    # Deleted, and still on the disk: only the raw image shows it.
    assert any(leak.startswith("disk: chat_tools as text: ") for leak in found.leaks) == ROOT
    assert any(leak.startswith("traces: chat_system as text: ") for leak in found.leaks)
    expected = {"shared_memory: headers", "disk: chat_tools", "traces: chat_system"}
    assert {leak.split(" as ")[0] for leak in found.leaks} <= expected


def test_interrupted_it_leaves_nothing(settings: Settings, home: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from rlu_server import settings as s; "
        "from rlu_server.selftest.canary import CanaryTest, Options; "
        "o = {'state_dir': sys.argv[1] + '/none', 'model': {'path': sys.argv[1] + '/m', 'signature': 'unsafe-optional'}}; "
        "options = Options(base=Path(sys.argv[1]), command=tuple(sys.argv[2:])); "
        "CanaryTest(s.load(None, {}, o), options, lambda t: print(t, flush=True)).run()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(home), *COMMAND],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            if line.startswith("starting"):
                break
        child.send_signal(signal.SIGTERM)
        assert child.wait(240) != 0
    assert [path.name for path in home.iterdir()] == ["m"]
    assert str(home) not in Path("/proc/self/mounts").read_text()
