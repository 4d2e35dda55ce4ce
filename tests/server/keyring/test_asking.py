"""Several who ask at once. Whole rotations by command are tested with `rlu keys`."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from rlu_attestation.errors import Unreachable
from rlu_server.attestor import asking as attestor
from rlu_server.attestor.asking import Asked, Outcome
from rlu_server.keyring import asking
from rlu_server.settings import Settings, load
from waiting import PATIENCE_S, wait_until


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(asking, "running", lambda _: True)
    (tmp_path / "attestation").mkdir()
    return load(None, {}, {"state_dir": str(tmp_path)})


def test_whoever_asks_second_waits_for_the_first_ones_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one file for answers: the second one would take the first one's away."""
    asked: list[str] = []
    waited: set[str] = set()
    answer, sleep = threading.Event(), time.sleep

    def ask(directory: Path, one: Asked) -> None:
        asked.append(one.action)

    def answered(directory: Path, one: Asked) -> Outcome | None:
        return Outcome(id=one.id) if answer.is_set() else None

    def waits(seconds: float) -> None:
        waited.add(threading.current_thread().name)
        sleep(seconds)

    monkeypatch.setattr(attestor, "ask", ask)
    monkeypatch.setattr(attestor, "answered", answered)
    monkeypatch.setattr(asking.time, "sleep", waits)
    threads = [
        threading.Thread(name=action, target=asking.ask, args=(settings, action, PATIENCE_S))
        for action in ("rotate", "rehearse")
    ]
    try:
        for thread in threads:
            thread.start()
            wait_until(lambda name=thread.name: name in waited)  # type: ignore[misc]
        assert asked == ["rotate"]
    finally:
        answer.set()
        for thread in threads:
            thread.join()
    assert asked == ["rotate", "rehearse"]


def test_whoever_waits_too_long_for_his_turn_is_told(settings: Settings, tmp_path: Path) -> None:
    with asking._alone(tmp_path / "attestation", 0.0), pytest.raises(Unreachable) as refused:
        asking.ask(settings, "rehearse", 0.0)
    assert refused.value.code == "keys.no_answer"


def test_what_is_asked_while_the_attestor_takes_another_request_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attestor.ask(tmp_path, Asked("rotate", "first"))
    unlink = Path.unlink

    def meanwhile(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith(("asked.json", ".taken")):
            monkeypatch.undo()
            attestor.ask(tmp_path, Asked("retire", "second"))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", meanwhile)
    assert attestor.take(tmp_path) == Asked("rotate", "first")
    assert attestor.take(tmp_path) == Asked("retire", "second")
