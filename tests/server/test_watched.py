"""A file that is replaced, removed, damaged, and cannot be read for a moment."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.descriptors import none_free
from rlu_attestation.errors import Malformed
from rlu_server import watched
from rlu_server.watched import WatchedFile, stamp


class Taker:
    """Takes over what is not `bad`."""

    def __init__(self, path: Path) -> None:
        self.file = WatchedFile(path, 8)
        self.got: list[bytes | None] = []
        self.fails: OSError | None = None

    def look(self) -> int | str:
        """What it says: 0, a code, or an error's number."""
        try:
            self.file.look(self._load, lambda: self._take(None))
        except Malformed as error:
            return error.code
        except OSError as error:
            return error.errno or -1
        return 0

    def _load(self, data: bytes) -> None:
        if data == b"bad":
            raise Malformed("test.bad", "bad")
        self._take(data)

    def _take(self, data: bytes | None) -> None:
        if self.fails is not None:
            raise self.fails
        self.got.append(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def taker(path: Path) -> Taker:
    return Taker(path)


def put(path: Path, data: bytes) -> None:
    new = path.with_name("new")
    new.write_bytes(data)
    new.replace(path)


def test_each_change_once(path: Path, taker: Taker) -> None:
    looks = []
    for data in (None, b"one", b"bad", b"a long one", None, b"one"):
        path.unlink(missing_ok=True)
        if data is not None:
            put(path, data)
        looks += [taker.look(), taker.look()]
    assert looks == [0, 0, 0, 0, "test.bad", 0, 0, 0, 0, 0, 0, 0]
    assert taker.got == [None, b"one", b"a long on", None, b"one"]


def test_what_cannot_be_read_is_tried_again(path: Path, taker: Taker) -> None:
    put(path, b"one")
    taker.look()
    put(path, b"two")
    with none_free():
        looks = [taker.look(), taker.look()]
    assert (looks, taker.got) == ([errno.EMFILE, 0], [b"one"])
    assert (taker.look(), taker.got) == (0, [b"one", b"two"])


def test_another_change_that_cannot_be_read_is_told_again(path: Path, taker: Taker) -> None:
    for _ in range(2):
        put(path, b"one")
        with none_free():
            looks = [taker.look(), taker.look()]
        assert looks == [errno.EMFILE, 0]


@pytest.mark.parametrize("data", [b"one", None])
def test_what_cannot_be_taken_over_is_tried_again(path: Path, taker: Taker, data: bytes | None) -> None:
    put(path, b"before")
    taker.look()
    path.unlink()
    if data is not None:
        put(path, data)
    taker.fails = OSError(errno.ENOMEM, "")
    assert [taker.look(), taker.look()] == [errno.ENOMEM, 0]
    taker.fails = None
    assert (taker.look(), taker.got) == (0, [b"before", data])


def test_a_path_that_cannot_be_followed_is_not_a_file_that_is_gone(path: Path, taker: Taker) -> None:
    path.symlink_to(path)
    assert [taker.look(), taker.look(), taker.got] == [errno.ELOOP, 0, []]


@pytest.fixture
def in_between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something happen once, between the look at a file and what follows."""

    def arrange(happens: Callable[[], object]) -> None:
        def late(path: Path) -> watched.Stamp | None:
            found = stamp(path)
            monkeypatch.setattr(watched, "stamp", stamp)
            happens()
            return found

        monkeypatch.setattr(watched, "stamp", late)

    return arrange


def test_removed_before_it_was_read(
    path: Path, taker: Taker, in_between: Callable[[Callable[[], object]], None]
) -> None:
    put(path, b"one")
    taker.look()
    put(path, b"two")
    in_between(path.unlink)
    assert (taker.look(), taker.got) == (0, [b"one"])
    put(path, b"three")
    assert (taker.look(), taker.got) == (0, [b"one", b"three"])


def test_replaced_before_it_was_read(
    path: Path, taker: Taker, in_between: Callable[[Callable[[], object]], None]
) -> None:
    put(path, b"one")
    in_between(lambda: put(path, b"three"))
    assert [taker.look(), taker.look()] == [0, 0]
    assert taker.got[-1] == b"three"


def test_a_link_that_is_replaced_on_the_way_is_no_file_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kubelet replaces a Secret: the link `..data` first, then it removes where that led."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "file").write_text(version)
    (tmp_path / "..data").symlink_to("1")
    path = tmp_path / "file"
    path.symlink_to("..data/file")
    before = stamp(path)
    really = Path.stat

    def overtaken(self: Path, **more: bool) -> object:
        monkeypatch.setattr(Path, "stat", really)
        (tmp_path / "new").symlink_to("2")
        (tmp_path / "new").replace(tmp_path / "..data")
        (tmp_path / "1" / "file").unlink()
        return (tmp_path / "1" / "file").stat()

    monkeypatch.setattr(Path, "stat", overtaken)
    after = stamp(path)
    assert after is not None
    assert after != before
    path.unlink()
    assert stamp(path) is None
