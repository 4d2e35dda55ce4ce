"""FORMATS section 9: the digest of a model changes with any byte of it, and what cannot be measured refuses."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.encoding import b64u
from rlu_server.models import ManifestError, measure


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "sub").mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(bytes(range(256)) * 9000)  # more than one buffer
    (directory / "config.json").write_text("{}")
    (directory / "sub" / "empty").touch()
    (directory / "é.txt").write_text("x")
    return directory


def test_is_the_documented_form(model: Path) -> None:
    measured = measure(model)
    names = sorted(
        (p for p in model.rglob("*") if p.is_file()), key=lambda p: str(p.relative_to(model)).encode()
    )
    expected = {
        "files": [
            {
                "path": str(p.relative_to(model)),
                "sha256": b64u(hashlib.sha256(p.read_bytes()).digest()),
                "size": p.stat().st_size,
            }
            for p in names
        ],
        "rlu_manifest": "1",
    }
    assert json.loads(measured.encode()) == expected
    assert measured.sha256 == hashlib.sha256(measured.encode()).digest()
    assert measured.size == sum(p.stat().st_size for p in names)


@pytest.mark.parametrize("position", [0, 1_500_000, -1])
def test_changes_with_one_bit_of_the_weights(model: Path, position: int) -> None:
    before = measure(model).sha256
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[position] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    assert measure(model).sha256 != before


def test_changes_with_a_name_an_addition_and_a_removal(model: Path) -> None:
    digests = {measure(model).sha256}
    (model / "config.json").rename(model / "config2.json")
    digests.add(measure(model).sha256)
    (model / "extra").touch()
    digests.add(measure(model).sha256)
    (model / "sub" / "empty").unlink()
    digests.add(measure(model).sha256)
    assert len(digests) == 4


def test_is_the_same_for_a_copy_whatever_the_times(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    for path in sorted(model.rglob("*"), reverse=True):
        target = copy / path.relative_to(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.write_bytes(path.read_bytes())
            os.utime(target, (1, 1))
    assert measure(copy).encode() == measure(model).encode()


def test_sorts_by_utf8_bytes(tmp_path: Path) -> None:
    # U+FF5E sorts after U+1F600 in UTF-16 code units, before it in UTF-8.
    for name in ("\uff5e", "\U0001f600", "a/b", "a-b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.path for file in measure(tmp_path).files] == ["a-b", "a/b", "\uff5e", "\U0001f600"]


def test_follows_links_inside_only(model: Path, tmp_path: Path) -> None:
    (model / "link.json").symlink_to("config.json")
    assert "link.json" in [file.path for file in measure(model).files]
    (tmp_path / "outside").write_text("x")
    (model / "leaves").symlink_to(tmp_path / "outside")
    with pytest.raises(ManifestError, match=r"leaves is a link that leaves"):
        measure(model)


@pytest.mark.parametrize("target", ["missing", "loop", ".", "sub"])
def test_refuses_links_to_nowhere_and_to_directories_twice(model: Path, target: str) -> None:
    (model / "loop").symlink_to(target)
    with pytest.raises(ManifestError, match=r"nowhere|twice"):
        measure(model)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.PT", "sub/x.pkl", "consolidated.00.pth"])
def test_refuses_pickles(model: Path, name: str) -> None:
    (model / name).write_bytes(b"\x80\x04N.")
    with pytest.raises(ManifestError, match="pickle"):
        measure(model)


def test_refuses_a_pickle_behind_a_link(model: Path) -> None:
    (model / "sub" / "weights.bin").write_bytes(b"\x80\x04N.")
    (model / "weights.safetensors").symlink_to("sub/weights.bin")
    (model / "sub" / "weights.bin").rename(model / "sub" / "weights.dat")
    (model / "weights.safetensors").unlink()
    (model / "weights.pt").symlink_to("sub/weights.dat")
    with pytest.raises(ManifestError, match="pickle"):
        measure(model)


def test_refuses_special_files_and_what_is_no_model(model: Path, tmp_path: Path) -> None:
    os.mkfifo(model / "pipe")
    with pytest.raises(ManifestError, match="no regular file"):
        measure(model)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "missing", model / "config.json"):
        with pytest.raises(ManifestError, match="directory of a model"):
            measure(path)


def test_refuses_a_file_that_grows_while_it_is_read(model: Path) -> None:
    def grow(done: int, total: int) -> None:
        with (model / "config.json").open("ab") as file:
            file.write(b" ")

    with pytest.raises(ManifestError, match="changed while"):
        measure(model, grow)


def test_reports_progress_to_the_end(model: Path) -> None:
    seen: list[tuple[int, int]] = []
    measured = measure(model, lambda done, total: seen.append((done, total)))
    assert max(seen) == (measured.size, measured.size)


@given(first=st.binary(max_size=64), second=st.binary(max_size=64))
def test_is_equal_only_for_equal_content(
    tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes
) -> None:
    digests = []
    for content in (first, second):
        directory = tmp_path_factory.mktemp("model")
        # A first byte that no pickle has, which would be refused.
        (directory / "a").write_bytes(b"a" + content)
        digests.append(measure(directory).sha256)
    assert (digests[0] == digests[1]) == (first == second)
