"""The log's benchmarks measure what they say, on a small scale."""

from __future__ import annotations

from pathlib import Path

import log_scale
import slow_signer


def test_a_slow_key_signs_for_all_that_wait() -> None:
    grouped = slow_signer.run(0.02, 300.0, 1.0, None)
    single = slow_signer.run(0.02, 300.0, 1.0, 1)
    assert grouped["refused"] == grouped["unanswered"] == 0
    assert grouped["opened"] > 200
    assert grouped["signatures"] < grouped["opened"] / 2
    assert single["signatures"] >= single["opened"]
    assert single["opened"] < grouped["opened"] or single["p50_ms"] > grouped["p50_ms"]


def test_a_large_log_is_sealed_proved_and_opened_again(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    found = log_scale.tree(5000, 1024, tmp_path / "tree")
    assert (found["leaves"], found["proof_hashes"]) == (5000, 13)
    assert found["disk_mib"] > 0
    read = log_scale.segment(900, tmp_path / "log")
    assert read["entries"] >= 900
    assert 100 < read["bytes_an_entry"] < 300
