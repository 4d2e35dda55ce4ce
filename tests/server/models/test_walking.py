"""Which files count, and what shows that something changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rlu_server.models import ManifestError, measure
from rlu_server.models.walking import walk


def names(directory: Path) -> list[str]:
    return [file.path for file in walk(directory).files]


def test_every_file_counts_but_the_signature(model: Path) -> None:
    (model / "model.sig").write_text("x")
    (model / "sub" / "model.sig").write_text("x")
    (model / "empty directory").mkdir()
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_text("x")
    assert names(model) == [
        ".git/HEAD",
        "LICENSE",
        "config.json",
        "model.safetensors",
        "sub/.hidden",
        "sub/model.sig",
        "two\nlines é.txt",
    ]


def test_the_signature_may_be_anything(model: Path) -> None:
    before = measure(model)
    (model / "model.sig").symlink_to("nowhere")
    assert measure(model) == before


def test_hard_links_are_files_and_sparse_ones_are_read(model: Path) -> None:
    os.link(model / "LICENSE", model / "COPYING")
    with (model / "sparse").open("wb") as file:
        file.truncate(3 << 20)
    files = {file.path: file for file in measure(model).files}
    assert files["COPYING"].sha256 == files["LICENSE"].sha256
    (model / "sparse").write_bytes(bytes(3 << 20))
    assert measure(model).files == tuple(files.values())


def test_names_that_are_not_utf8_refuse(model: Path) -> None:
    (Path(os.fsdecode(bytes(model) + b"/\xff"))).touch()
    with pytest.raises(ManifestError) as caught:
        walk(model)
    assert caught.value.code == "model.name"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda m: (m / "x").symlink_to("/etc/hostname"), "model.link"),
        (lambda m: (m / "x").symlink_to("missing"), "model.link"),
        (lambda m: (m / "x").symlink_to("x"), "model.link"),
        (lambda m: (m / "x").symlink_to("sub"), "model.link"),
        (lambda m: (m / "x").symlink_to("../model/config.json/../.."), "model.link"),
        (lambda m: os.mkfifo(m / "sub" / "x"), "model.special_file"),
    ],
)
def test_refuses(make: Callable[[Path], object], code: str, model: Path) -> None:
    make(model)
    with pytest.raises(ManifestError) as caught:
        walk(model)
    assert (caught.value.code, caught.value.exit_code) == (code, 10)


def restored(model: Path) -> None:
    """Written and put back, with its times: only the kernel's own stamp tells."""
    file = model / "config.json"
    before, status = file.read_bytes(), file.stat()
    file.write_bytes(b"{ }")
    file.write_bytes(before)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def swapped(model: Path) -> None:
    """The directory itself, away and back."""
    (away := model.with_name("away")).parent.mkdir(exist_ok=True)
    model.rename(away)
    model.mkdir()
    model.rmdir()
    away.rename(model)


def replaced(model: Path) -> None:
    copy = model / "sub" / "copy"
    copy.write_bytes((model / "LICENSE").read_bytes())
    copy.replace(model / "LICENSE")


@pytest.mark.parametrize(
    "change",
    [
        restored,
        replaced,
        swapped,
        lambda m: (m / "config.json").write_text("{ }"),
        lambda m: (m / "new").touch(),
        lambda m: (m / "LICENSE").unlink(),
        lambda m: (m / "sub").rename(m / "sub2"),
        lambda m: (m / "link").unlink(),
        lambda m: [(m / "link").unlink(), (m / "link").symlink_to("LICENSE")],
    ],
    ids=["restored", "replaced", "swapped", "written", "added", "removed", "renamed", "unlinked", "relinked"],
)
def test_a_change_shows_in_the_stamps(change: Callable[[Path], object], model: Path) -> None:
    (model / "link").symlink_to("config.json")
    measure(model)  # waits until what was just written can be told from what is written now
    before = walk(model)
    assert walk(model) == before
    change(model)
    assert walk(model) != before
