"""Backup and restore: what comes back is what was there, and nothing is believed that is not."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.log_room import LogRoom
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.log import files
from rlu_server.attestor import records
from rlu_server.export import backup
from rlu_server.export.backup import BackupError, create, restore


@pytest.fixture
def room(tmp_path: Path) -> LogRoom:
    made = LogRoom(tmp_path / "state" / "log", segment_leaves=600)
    for count in (700, 30):
        made.batch(count)
    revocations = tmp_path / "state" / "revocations"
    revocations.mkdir()
    (revocations / "list.json").write_bytes(b"{}")
    attestation = tmp_path / "state" / "attestation"
    attestation.mkdir()
    (attestation / "secret").write_bytes(b"the attestor's secret")
    (attestation / "continuity").mkdir()
    (attestation / "continuity" / "ueid.jws").write_bytes(b"the old key's word\n")
    return made


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for part in ("log", "revocations", "attestation/continuity")
        for path in (directory / part).rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_what_was_backed_up_comes_back(room: LogRoom, tmp_path: Path) -> None:
    room.close()
    manifest = create(tmp_path / "state", tmp_path / "backup")
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    assert restore(tmp_path / "backup", tmp_path / "new") == manifest
    assert contents(tmp_path / "new") == contents(tmp_path / "state")
    assert [path.name for path in (tmp_path / "new" / "attestation").iterdir()] == ["continuity"]
    assert b"the attestor's secret" not in (tmp_path / "backup").read_bytes()
    again = LogRoom(tmp_path / "new" / "log", room)
    again.close()
    assert again.tree.root() == room.tree.root()
    assert list((tmp_path / "new").glob(".restoring*")) == []


def test_a_backup_is_made_while_the_log_is_written_to(room: LogRoom, tmp_path: Path) -> None:
    with (room.directory / "log.jsonl").open("ab") as file:
        file.write(b'{"iat":9,"index":730,"kind":"close","leaf":"half a batch')
    create(tmp_path / "state", tmp_path / "backup")
    room.close()
    restore(tmp_path / "backup", tmp_path / "new")
    assert (tmp_path / "new" / "log" / "log.jsonl").read_bytes().endswith(b'"size":730}\n')


def test_a_segment_that_is_finished_meanwhile_is_in_it_once(
    room: LogRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, done = backup._add, []

    def slowly(tar: tarfile.TarFile, state: Path, path: Path, file: Any) -> dict[str, Any]:
        if not done:
            done.append(add(tar, state, path, file))
            room.batch(700)  # finishes the segment that was just copied
            return done[0]
        return add(tar, state, path, file)

    monkeypatch.setattr(backup, "_add", slowly)
    create(tmp_path / "state", tmp_path / "backup")
    room.close()
    restore(tmp_path / "backup", tmp_path / "new")
    assert len(list((tmp_path / "state" / "log").glob("*.0*.jsonl"))) == 2
    again = LogRoom(tmp_path / "new" / "log", room)
    assert again.tree.size == 730
    again.batch(700)
    again.close()
    assert again.tree.root() != room.tree.root()
    segments = [
        *sorted((tmp_path / "new" / "log").glob("*.0*.jsonl")),
        tmp_path / "new" / "log" / "log.jsonl",
    ]
    read = ((path.name, path.read_bytes().splitlines(keepends=True)) for path in segments)
    assert files.check(read, [], None).findings == ()


def test_a_key_that_steps_down_meanwhile_is_in_it_as_it_was_before(
    room: LogRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log has another name a moment later. Twice in a backup, one would overwrite the other when it is put to use."""
    state, add, done = tmp_path / "state", backup._add, []
    log = state / "log" / "log.jsonl"
    first = log.read_bytes().splitlines(keepends=True)[0]
    name = records.read_first(first).iss.rpartition(":")[2] + ".jsonl"

    def slowly(tar: tarfile.TarFile, state: Path, path: Path, file: Any) -> dict[str, Any]:
        if not done:
            done.append(add(tar, state, path, file))
            (state / "log" / name).hardlink_to(log)
            return done[0]
        return add(tar, state, path, file)

    monkeypatch.setattr(backup, "_add", slowly)
    manifest = create(state, tmp_path / "backup")
    room.close()
    assert "log/log.jsonl" in manifest["files"]
    assert f"log/{name}" not in manifest["files"]


def test_nothing_is_overwritten(room: LogRoom, tmp_path: Path) -> None:
    room.close()
    create(tmp_path / "state", tmp_path / "backup")
    with pytest.raises(BackupError, match=r"backup\.exists"):
        create(tmp_path / "state", tmp_path / "backup")
    with pytest.raises(BackupError, match=r"restore\.not_empty"):
        restore(tmp_path / "backup", tmp_path / "state")
    with pytest.raises(BackupError, match=r"backup\.absent"):
        create(tmp_path / "nowhere", tmp_path / "other")
    with pytest.raises(BackupError, match=r"backup\.unreadable"):
        restore(tmp_path / "none", tmp_path / "new")


def repacked(
    archive: Path,
    change: Callable[[str, bytes], tuple[str, bytes] | None],
    extra: tarfile.TarInfo | None = None,
) -> None:
    with tarfile.open(archive) as old:
        members = [(m.name, old.extractfile(m).read()) for m in old]  # type: ignore[union-attr]
    with tarfile.open(archive, "w") as new:
        if extra is not None:
            new.addfile(extra, io.BytesIO(bytes(extra.size)))
        for name, data in members:
            changed = change(name, data)
            if changed is not None:
                info = tarfile.TarInfo(changed[0])
                info.size = len(changed[1])
                new.addfile(info, io.BytesIO(changed[1]))


def link() -> tarfile.TarInfo:
    info = tarfile.TarInfo("log/link")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


def named(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = 3
    return info


@pytest.mark.parametrize(
    ("code", "change", "extra"),
    [
        (
            "backup.digest",
            lambda n, d: (n, d.replace(b"1", b"2", 1)) if n == "log/log.jsonl" else (n, d),
            None,
        ),
        ("backup.digest", lambda n, d: None if n.endswith("leaves.bin") else (n, d), None),
        ("backup.digest", lambda n, d: (n, d), named("log/more")),
        ("backup.encoding", lambda n, d: None if n == "manifest.json" else (n, d), None),
        ("backup.encoding", lambda n, d: (n, b"[]") if n == "manifest.json" else (n, d), None),
        ("backup.encoding", lambda n, d: (n, b"\xff") if n == "manifest.json" else (n, d), None),
        ("backup.encoding", lambda n, d: (n, d), link()),
        ("backup.encoding", lambda n, d: (n, d), named("../outside")),
        ("backup.encoding", lambda n, d: (n, d), named("log/../../outside")),
        ("backup.encoding", lambda n, d: (n, d), named("/etc/outside")),
        ("backup.encoding", lambda n, d: (n, d), named("attestation/secret")),
        ("backup.encoding", lambda n, d: (n, d), named("attestation/continuity")),
    ],
)
def test_a_backup_that_was_changed_puts_nothing_in_place(
    room: LogRoom,
    tmp_path: Path,
    code: str,
    change: Callable[[str, bytes], tuple[str, bytes] | None],
    extra: tarfile.TarInfo | None,
) -> None:
    room.close()
    create(tmp_path / "state", tmp_path / "backup")
    repacked(tmp_path / "backup", change, extra)
    with pytest.raises(RluError, match=code.replace(".", r"\.")):
        restore(tmp_path / "backup", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("cut", [1, 20_000, 60_000])
def test_a_backup_that_was_cut_off_refuses(room: LogRoom, tmp_path: Path, cut: int) -> None:
    room.close()
    create(tmp_path / "state", tmp_path / "backup")
    data = (tmp_path / "backup").read_bytes()
    at = data.index(b"manifest.json") - cut
    (tmp_path / "backup").write_bytes(data[:at])
    with pytest.raises(Malformed, match=r"backup\.encoding"):
        restore(tmp_path / "backup", tmp_path / "new")


def test_the_manifest_names_every_file(room: LogRoom, tmp_path: Path) -> None:
    room.close()
    manifest = create(tmp_path / "state", tmp_path / "backup")
    assert set(json.loads(json.dumps(manifest))["files"]) == set(contents(tmp_path / "state"))


def test_cosignatures_are_in_it_and_files_that_are_not_finished_are_not(
    room: LogRoom, tmp_path: Path
) -> None:
    room.close()
    log = tmp_path / "state" / "log"
    (log / "AAAA.cosignatures.json").write_text('{"cosignatures":[]}')
    (log / ".AAAA.cosignatures.json.4711").write_text('{"cosig')
    files = create(tmp_path / "state", tmp_path / "backup")["files"]
    assert "log/AAAA.cosignatures.json" in files
    assert not [name for name in files if "/." in name]


def test_the_lock_of_an_attestor_that_did_not_start_is_no_log(room: LogRoom, tmp_path: Path) -> None:
    room.close()
    create(tmp_path / "state", tmp_path / "backup")
    (tmp_path / "new" / "log").mkdir(parents=True)
    (tmp_path / "new" / "log" / ".lock").touch()
    restore(tmp_path / "backup", tmp_path / "new")
    assert (tmp_path / "new" / "log" / "log.jsonl").is_file()
