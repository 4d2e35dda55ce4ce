from __future__ import annotations

import gzip
import os
import time
import zlib
from pathlib import Path

import pytest

from rlu_server.selftest import scan
from rlu_server.selftest.index import Index
from rlu_server.selftest.markers import Marker
from rlu_server.selftest.scan import Scanner, Searched, changed_files


def hits(scanner: Scanner) -> set[tuple[str, str]]:
    return {(hit.form, hit.packing) for hit in scanner.hits}


def test_across_chunks(
    tmp_path: Path, made: list[Marker], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "CHUNK", 4096)
    for shift in range(0, 100, 7):
        file = tmp_path / "f"
        file.write_bytes(os.urandom(4096 * 3 - shift) + made[0].text.encode() + os.urandom(5000))
        scanner = Scanner(index)
        scanner.file("disk", file)
        assert ("text", "") in hits(scanner), shift
        assert scanner.places["disk"].size == file.stat().st_size


def test_compressed_twice_and_across_chunks(
    tmp_path: Path, made: list[Marker], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "CHUNK", 4096)
    inner = os.urandom(20_000) + zlib.compress(made[2].text.encode())
    file = tmp_path / "f"
    file.write_bytes(os.urandom(4000) + gzip.compress(inner))
    scanner = Scanner(index)
    scanner.file("disk", file)
    assert ("text", "gzip/zlib") in hits(scanner)
    (hit, *_) = scanner.hits
    assert hit.where == f"{file} at 4000"


def test_holes_cost_nothing(tmp_path: Path, made: list[Marker], index: Index) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as out:
        out.truncate(1 << 40)
        out.seek(1 << 39)
        out.write(made[1].text.encode())
    scanner = Scanner(index)
    scanner.file("disk", file)
    assert ("text", "") in hits(scanner)
    assert scanner.places["disk"].size < 1 << 20


def test_names_count_and_are_not_shown(tmp_path: Path, made: list[Marker], index: Index) -> None:
    (tmp_path / made[0].text).write_bytes(b"")
    scanner = Scanner(index)
    scanner.file("temporary", tmp_path / made[0].text)
    assert scanner.hits
    assert all(made[0].text[:8] not in hit.where for hit in scanner.hits)


def test_findings_do_not_show_what_was_found(tmp_path: Path, made: list[Marker], index: Index) -> None:
    (tmp_path / "f").write_bytes(b"secret neighbour " + made[0].text.encode())
    scanner = Scanner(index)
    scanner.file("temporary", tmp_path / "f")
    assert {hit.scenario for hit in scanner.hits} == {"test"}
    assert made[0].text[:8] not in repr(scanner.hits)
    assert "neighbour" not in repr(scanner.hits)


def test_what_cannot_be_read_is_named(tmp_path: Path, index: Index) -> None:
    scanner = Scanner(index)
    (tmp_path / "link").symlink_to("elsewhere")
    scanner.file("temporary", tmp_path / "link")
    scanner.file("temporary", tmp_path / "gone")
    (reason,) = scanner.places["temporary"].unreadable
    assert reason.startswith(f"{tmp_path / 'link'}: ")


def test_fifos_and_devices_do_not_hang(tmp_path: Path, index: Index) -> None:
    os.mkfifo(tmp_path / "fifo")
    scanner = Scanner(index)
    scanner.file("temporary", tmp_path / "fifo")
    scanner.file("temporary", Path("/dev/zero"))
    assert scanner.places["temporary"].size == 0


def test_changed_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    old = tmp_path / "a" / "old"
    old.write_bytes(b"")
    while (since := time.time()) <= old.stat().st_ctime + 0.01:
        time.sleep(0.005)
    new = tmp_path / "a" / "new"
    while True:
        new.write_bytes(b"x")
        if new.stat().st_ctime >= since:
            break
        time.sleep(0.005)
    os.utime(new, (1, 1))  # what a file says of itself can be set back; when that was done, cannot
    (tmp_path / "skipped").mkdir()
    (tmp_path / "skipped" / "too").write_bytes(b"")
    skip = str(tmp_path / "skipped")
    assert list(changed_files(tmp_path, since, lambda path: path == skip, Searched())) == [new]
    assert len(list(changed_files(tmp_path, 0, lambda path: False, Searched()))) == 3
