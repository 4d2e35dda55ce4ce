"""Directories of sealed weights: sealed, opened, read in parts, and every way they can be damaged on the way."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlu_attestation.errors import RluError
from rlu_server.broker import sealed_files
from rlu_server.broker.errors import Misused, SealBroken
from rlu_server.broker.sealed_files import SealedReader, read_header, seal, unseal
from rlu_server.broker.sealing import HEADER, Header, SealedFile, key_id
from rlu_server.models import measure
from rlu_server.models.errors import ManifestError
from rlu_server.models.manifest import File, Manifest

KEY, SALT = bytes(range(32)), b"s" * 32
CHUNK = 1 << 12


@pytest.fixture
def model(tmp_path: Path) -> Path:
    place = tmp_path / "m"
    (place / "sub").mkdir(parents=True)
    (place / "config.json").write_text('{"model_type": "qwen3"}')
    (place / "empty.txt").touch()
    (place / "sub" / "a.safetensors").write_bytes(os.urandom(3 * CHUNK + 5))
    (place / "model.sig").write_text("a signature")
    return place


@pytest.fixture
def sealed(model: Path, tmp_path: Path) -> Path:
    seal(model, tmp_path / "s", KEY, SALT, chunk=CHUNK)
    return tmp_path / "s"


def refusal(sealed: Path, key: bytes = KEY) -> RluError:
    target = sealed.parent / "refused"
    target.mkdir()
    with pytest.raises(RluError) as caught:
        unseal(sealed, target, key)
    return caught.value


def test_there_and_back(model: Path, sealed: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    (tmp_path / "o").mkdir()
    found = unseal(sealed, tmp_path / "o", KEY, lambda *progress: seen.append(progress))
    assert found == measure(model) == measure(tmp_path / "o") == read_header(sealed).manifest
    assert max(seen) == (found.size, found.size)
    assert (tmp_path / "o" / "model.sig").read_text() == "a signature"
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "o").rglob("*.*")} <= {0o600, 0o644}
    for path in model.rglob("*.json"):
        assert path.read_bytes() not in (sealed / f"{path.name}.sealed").read_bytes()


def test_what_is_there_and_right_stays(sealed: Path, tmp_path: Path) -> None:
    target = tmp_path / "o"
    target.mkdir()
    unseal(sealed, target, KEY)
    before = (target / "config.json").stat().st_ino
    (target / "sub" / "a.safetensors").unlink()
    (target / "empty.txt").write_text("no")
    assert unseal(sealed, target, KEY) == measure(target)
    assert (target / "config.json").stat().st_ino == before


def test_parts_of_a_file(model: Path, sealed: Path) -> None:
    header = read_header(sealed)
    data = (model / "sub" / "a.safetensors").read_bytes()
    file = next(f for f in header.manifest.files if f.path == "sub/a.safetensors")
    with SealedReader(sealed, header, file, KEY) as reader:
        for start, length in ((0, 8), (CHUNK - 1, 2), (5, 2 * CHUNK), (3 * CHUNK, 100), (len(data), 1)):
            assert reader.read(start, length) == data[start : start + length]


def test_a_part_is_authentic_or_refused(sealed: Path) -> None:
    header = read_header(sealed)
    place = sealed / "sub" / "a.safetensors.sealed"
    damage(place, lambda data: data[: CHUNK + 20] + b"\0\0\0\0" + data[CHUNK + 24 :])
    file = next(f for f in header.manifest.files if f.path == "sub/a.safetensors")
    with SealedReader(sealed, header, file, KEY) as reader:
        assert len(reader.read(0, CHUNK)) == CHUNK
        with pytest.raises(SealBroken, match=r"weights\.chunk"):
            reader.read(CHUNK, 1)


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    before = path.read_bytes()
    after = change(before)
    assert after != before
    path.write_bytes(after)


BLOCK = CHUNK + 16


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data[:-1], "weights.length"),
        (lambda data: data[:BLOCK], "weights.length"),
        (lambda data: data + b"\0", "weights.length"),
        (lambda data: b"", "weights.length"),
        (lambda data: data[BLOCK : 2 * BLOCK] + data[:BLOCK] + data[2 * BLOCK :], "weights.chunk"),
        (lambda data: data[:BLOCK] + data[:BLOCK] + data[2 * BLOCK :], "weights.chunk"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "weights.chunk"),
    ],
)
def test_a_damaged_file(sealed: Path, change: Callable[[bytes], bytes], code: str) -> None:
    damage(sealed / "sub" / "a.safetensors.sealed", change)
    error = refusal(sealed)
    assert (error.code, error.exit_code) == (code, 10)


def test_files_that_changed_places(sealed: Path, tmp_path: Path) -> None:
    """Two files of one length, each with the other's content."""
    model = tmp_path / "two"
    model.mkdir()
    for name in ("a.txt", "b.txt"):
        (model / name).write_text(name)
    seal(model, tmp_path / "t", KEY, SALT)
    first, second = tmp_path / "t" / "a.txt.sealed", tmp_path / "t" / "b.txt.sealed"
    swapped = first.read_bytes(), second.read_bytes()
    second.write_bytes(swapped[0])
    first.write_bytes(swapped[1])
    assert refusal(tmp_path / "t").code == "weights.chunk"


def test_a_file_of_an_older_sealing(model: Path, sealed: Path, tmp_path: Path) -> None:
    seal(model, tmp_path / "again", KEY, b"t" * 32, chunk=CHUNK)
    shutil.copy(sealed / "config.json.sealed", tmp_path / "again" / "config.json.sealed")
    assert refusal(tmp_path / "again").code == "weights.chunk"


def test_a_header_that_lies(sealed: Path) -> None:
    """The header is bound by every chunk, so that a new name, size or digest opens nothing."""
    damage(sealed / HEADER, lambda data: data.replace(b"config.json", b"comfig.json"))
    (sealed / "config.json.sealed").rename(sealed / "comfig.json.sealed")
    assert refusal(sealed).code == "weights.chunk"


def test_a_model_that_changes_while_it_is_sealed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = sealed_files._read_at

    def other(handle: int, buffer: memoryview, offset: int) -> int:
        got = genuine(handle, buffer, offset)
        buffer[:1] = bytes([buffer[0] ^ 1]) if len(buffer) else b""
        return got

    with monkeypatch.context() as patch:
        patch.setattr(sealed_files, "_read_at", other)
        with pytest.raises(ManifestError) as caught:
            seal(model, tmp_path / "s", KEY, SALT)
    assert caught.value.code == "model.changed"
    assert not (tmp_path / "s").exists()
    assert list(tmp_path.glob(".*")) == []


def test_a_sealer_that_lies(tmp_path: Path) -> None:
    """Who has the key can seal other bytes under a digest, and every tag is right; opening compares."""
    data = b"other weights"
    named = File("a.safetensors", len(data), hashlib.sha256(b"these weights").digest())
    header = Header(key_id(KEY), SALT, CHUNK, Manifest((named,)))
    sealed = tmp_path / "s"
    sealed.mkdir()
    out = bytearray(len(data) + 16)
    SealedFile(header, named, KEY).seal(0, memoryview(data), memoryview(out))
    (sealed / "a.safetensors.sealed").write_bytes(out)
    (sealed / HEADER).write_bytes(header.encode())
    error = refusal(sealed)
    assert (error.code, error.exit_code) == ("weights.digest", 10)


def test_missing(sealed: Path) -> None:
    (sealed / "empty.txt.sealed").unlink()
    assert refusal(sealed).code == "weights.missing"


def test_another_key(sealed: Path) -> None:
    assert refusal(sealed, b"K" * 32).code == "weights.key"


def test_no_sealed_model(model: Path) -> None:
    error = refusal(model)
    assert (error.code, error.exit_code) == ("weights.none", 2)


def test_what_is_not_sealed(model: Path, sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(Misused, match=r"weights\.target"):
        seal(model, sealed, KEY, SALT)
    with pytest.raises(Misused, match=r"weights\.target"):
        seal(model, model / "sealed", KEY, SALT)
    with pytest.raises(Misused, match=r"weights\.sealed_already"):
        seal(sealed, tmp_path / "t", KEY, SALT)
    (model / "code.py").touch()
    with pytest.raises(ManifestError, match=r"model\.code"):
        seal(model, tmp_path / "t", KEY, SALT)
    assert not (tmp_path / "t").exists()


def test_a_link_in_the_target_is_not_followed(sealed: Path, tmp_path: Path) -> None:
    target, outside = tmp_path / "o", tmp_path / "outside"
    target.mkdir()
    outside.write_text("mine")
    (target / "config.json").symlink_to(outside)
    unseal(sealed, target, KEY)
    assert outside.read_text() == "mine"
    assert not (target / "config.json").is_symlink()
