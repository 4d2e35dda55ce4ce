"""The export's cursor, kept by several at once; what it does to sessions is in test_continuity.py."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rlu_server.attestor import exporting
from rlu_server.attestor.exporting import Exporting


def test_two_that_acknowledge_at_once_do_not_write_one_file_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would share the file that is written before it takes the cursor's name."""
    together = threading.Barrier(2)
    met: list[bool] = []
    write = exporting.write_private

    def writing(path: Path, data: bytes) -> None:
        try:
            together.wait(0.2)
        except threading.BrokenBarrierError:
            met.append(False)
        else:
            met.append(True)
        write(path, data)

    monkeypatch.setattr(exporting, "write_private", writing)
    cursor = Exporting(tmp_path, "urn:rlu:instance:x", 0, "refuse")
    cursor.acknowledge(5, 9)
    threads = [threading.Thread(target=cursor.store) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == [False, False]
    assert Exporting(tmp_path, "urn:rlu:instance:x", 0, "refuse").exported == 5
