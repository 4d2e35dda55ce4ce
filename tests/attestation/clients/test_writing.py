"""Files are written as a whole, and nothing that was there is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlu_attestation.clients import File
from rlu_attestation.clients.errors import Unusable
from rlu_attestation.clients.writing import plan, write

FILES = (File("a.toml", "new = 1\n"), File("below/b.toml", "b = 1\n"))


def test_new_files(tmp_path: Path) -> None:
    planned = plan(tmp_path / "there", FILES)
    assert [(one.path, one.replaces) for one in planned] == [
        (tmp_path / "there" / "a.toml", False),
        (tmp_path / "there" / "below" / "b.toml", False),
    ]
    assert write(planned) == []
    assert (tmp_path / "there" / "below" / "b.toml").read_text() == "b = 1\n"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["a.toml", "below"]
    # A second time there is nothing to do.
    assert plan(tmp_path / "there", FILES) == []


def test_what_was_there_is_kept_every_time(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("mine = 1\n")
    path.chmod(0o640)
    for number, before in ((1, "mine = 1\n"), (2, "mine = 2\n")):
        path.write_text(before)
        planned = plan(tmp_path, FILES[:1])
        assert [one.replaces for one in planned] == [True]
        (backup,) = write(planned)
        assert (backup.name, backup.read_text()) == (f"a.toml.backup-{number}", before)
        assert backup.stat().st_mode & 0o777 == path.stat().st_mode & 0o777 == 0o640
        assert path.read_text() == "new = 1\n"
    assert (tmp_path / "a.toml.backup-1").read_text() == "mine = 1\n"


def test_a_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "a.toml"
    real.write_text("mine = 1\n")
    link.symlink_to(real)
    (backup,) = write(plan(tmp_path, FILES[:1]))
    assert link.is_symlink()
    assert real.read_text() == "new = 1\n"
    assert backup == tmp_path / "dotfiles.toml.backup-1"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.toml").mkdir()
    (tmp_path / "below").write_text("a file")
    for file in FILES:
        with pytest.raises(Unusable) as refused:
            write(plan(tmp_path, [file]))
        assert refused.value.code == "clients.path"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.toml", "below"]
