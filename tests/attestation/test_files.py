from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlu_attestation.files import Unreadable, write_private


def test_a_private_file_is_for_its_owner_whatever_it_was(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(b"old, and longer than what follows")
    path.chmod(0o644)
    write_private(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    write_private(tmp_path / "another", b"new")
    assert (tmp_path / "another").stat().st_mode & 0o777 == 0o600


def test_what_was_there_stays_until_all_of_the_new_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle that gets witnesses' words may be the only one there is."""
    path = tmp_path / "bundle"
    path.write_bytes(b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unreadable, match="No space left") as refused:
        write_private(path, b"new")
    assert refused.value.code == "file.unwritable"
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("bundle", b"old")]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there")
    write_private(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_bytes() == b"new"


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        write_private(Path(f"/proc/self/fd/{writing}"), b"new")
        assert os.read(reading, 16) == b"new"
    finally:
        os.close(reading)
        os.close(writing)
