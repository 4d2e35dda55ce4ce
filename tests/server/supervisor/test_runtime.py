from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from rlu_server.supervisor import runtime
from rlu_server.supervisor.errors import Unavailable
from rlu_server.supervisor.runtime import Owners


@pytest.fixture
def memory() -> object:
    """A directory in memory of our own."""
    path = Path(tempfile.mkdtemp(prefix="test-runtime-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_root_gets_a_file_system_of_its_own() -> None:
    place = runtime.create(None)
    try:
        assert place.mounted
        assert os.path.ismount(place.path)
        assert runtime.is_tmpfs(place.path)
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(place.path) in line]
        assert "noswap" in mounts[0]
        assert "size=65536k" in mounts[0]
        assert place.path.stat().st_mode & 0o777 == 0o711
        place.separate("engine", 1 << 24)
        with pytest.raises(OSError, match="No space"):
            (place.path / "engine" / "too-much").write_bytes(bytes(1 << 25))
        (place.path / "what-others-need").write_bytes(bytes(1 << 20))
    finally:
        place.remove()
    assert not place.path.exists()


def test_without_privileges_below_a_memory_directory(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(memory))
    place = runtime.create(None)
    assert not place.mounted
    assert place.path.parent == memory
    place.remove()
    assert list(memory.iterdir()) == []


def test_a_runtime_dir_on_disk_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(runtime, "memory_directories", lambda: [tmp_path])
    with pytest.raises(Unavailable, match="no directory in memory"):
        runtime.create(None)


def test_a_configured_directory(memory: Path) -> None:
    (memory / "engine").mkdir()
    (memory / "engine" / "old").write_text("left by a crash")
    place = runtime.create(memory)
    assert place.path == memory
    assert [p.name for p in memory.iterdir()] == [".supervisor"]
    place.remove()
    assert list(memory.iterdir()) == []  # emptied, not removed: it is not ours


def test_a_path_too_long_for_sockets_refuses(memory: Path) -> None:
    place = memory / ("x" * 70)
    place.mkdir()
    with pytest.raises(Unavailable, match="too long"):
        runtime.create(place)


def test_a_configured_directory_with_strange_things_refuses(memory: Path) -> None:
    (memory / "thesis.tex").write_text("years of work")
    with pytest.raises(Unavailable, match="it must be empty, because it is wiped"):
        runtime.create(memory)
    assert (memory / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("place", ["/usr", "/nowhere"])
def test_other_configured_directories_refuse(place: str) -> None:
    with pytest.raises(Unavailable, match="runtime_dir"):
        runtime.create(Path(place))


def test_wiping_overwrites_before_it_deletes(memory: Path) -> None:
    """Seen through a second link to the same pages."""
    scratch = memory / "scratch"
    (scratch / "a" / "b").mkdir(parents=True)
    secret = scratch / "a" / "b" / "secret"
    secret.write_bytes(b"SECRET" * 300_000)
    os.link(secret, memory / "other-name")
    (scratch / "link").symlink_to("/etc/passwd")
    runtime.wipe(scratch)
    assert list(scratch.iterdir()) == []
    assert (memory / "other-name").read_bytes() == bytes(1_800_000)
    assert Path("/etc/passwd").stat().st_size > 0


def test_directories_have_exact_modes_and_owners(memory: Path) -> None:
    place = runtime.create(memory)
    os.umask(0o077)
    made = place.directory("engine", 0o2710, Owners(54321, 54322))
    status = made.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2710, 54321, 54322)
    os.umask(0o022)
    place.remove()


def test_what_another_living_supervisor_owns_stays(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(memory))
    living, dead, reused = (memory / f"rlu-{name}" for name in ("living", "dead", "reused"))
    for path, mark in ((living, None), (dead, "4194304 1"), (reused, f"{os.getpid()} 1")):
        path.mkdir()
        if mark is None:
            runtime._mark(path)
        else:
            (path / ".supervisor").write_text(mark)
    (memory / "rlu-unmarked").mkdir()
    runtime._remove_stale()
    assert living.exists()
    assert (memory / "rlu-unmarked").exists()
    assert not dead.exists()
    assert not reused.exists(), "the process id was taken by another process since"


def test_two_that_start_at_once_may_both_take_away_what_was_left(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = memory / "rlu-left"
    left.mkdir()
    (left / ".supervisor").write_text("1 0\n")

    def meanwhile(pid: int) -> str:
        shutil.rmtree(left)
        return "another"

    monkeypatch.setattr(runtime, "_candidates", lambda: iter([left]))
    monkeypatch.setattr(runtime, "_start_time", meanwhile)
    runtime._remove_stale()
    assert list(memory.iterdir()) == []
