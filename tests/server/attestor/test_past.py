"""Earlier instances, read by threads; what proofs from their logs are is tested with the attestor."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rlu_server.attestor import past
from rlu_server.attestor.journal import Retired
from rlu_server.attestor.past import Past
from waiting import PATIENCE_S


def test_whoever_forgets_does_not_wait_for_who_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop forgets; logs of gigabytes are read meanwhile, and signatures would wait for that."""
    reading, read, times = threading.Event(), threading.Event(), []

    def history(directory: Path) -> list[Retired]:
        times.append(directory)
        reading.set()
        assert read.wait(PATIENCE_S)
        return []

    monkeypatch.setattr(past, "history", history)
    found = Past(tmp_path)
    reader = threading.Thread(target=found.instances)
    forgetting = threading.Thread(target=found.forget)
    try:
        reader.start()
        assert reading.wait(PATIENCE_S)
        forgetting.start()
        forgetting.join(PATIENCE_S / 3)
        assert not forgetting.is_alive()
    finally:
        read.set()
        reader.join()
        forgetting.join()
    # What was read had begun before it was forgotten.
    assert found.instances() == []
    assert len(times) == 2
    found.instances()
    assert len(times) == 2
