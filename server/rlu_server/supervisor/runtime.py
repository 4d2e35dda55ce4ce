"""The runtime directory: in memory, limited, and gone afterwards.

As root: a tmpfs of its own, `noswap` where the kernel has that (6.4). Otherwise a directory below `$XDG_RUNTIME_DIR` or `/dev/shm`, if that
is a tmpfs; swap must then be off, which the lock checks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlu_server.supervisor.errors import Unavailable

PREFIX = "rlu-"
OWN_BYTES = 64 << 20
"""Limit of the directory itself: sockets, facts, keys. The engine's part has its own."""
LONGEST = 107 - len("/engine99/r/") - 36
"""Of the path, in bytes: the engine names Unix sockets by UUIDs, and the system's limit is 107."""
_libc = ctypes.CDLL(None, use_errno=True)
_MS_NOSUID, _MS_NODEV = 2, 4
_MNT_DETACH = 2
_TMPFS_MAGIC = 0x01021994


@dataclass(frozen=True, slots=True)
class Owners:
    """Who a directory belongs to; `None`: us."""

    uid: int | None = None
    gid: int | None = None


@dataclass(slots=True)
class Runtime:
    """A runtime directory that exists; `remove` wipes it."""

    path: Path
    mounted: bool
    """A tmpfs of ours, unmounted in the end."""
    given: bool = False
    """Made by somebody else: emptied in the end, but left."""
    own: list[Path] = field(default_factory=list)
    """One role alone: the directories that are its to empty."""
    shared: bool = False
    """Other roles have directories here: only ours are emptied."""
    facts_name: str = "facts"
    _separate: list[Path] = field(default_factory=list)

    @property
    def facts(self) -> Path:
        return self.path / self.facts_name

    def directory(self, name: str, mode: int, owners: Owners = Owners()) -> Path:
        """Make a directory beneath, with exactly this mode and owner."""
        place = self.path / name
        place.mkdir(exist_ok=True)
        if owners.uid is not None or owners.gid is not None:
            os.chown(
                place, -1 if owners.uid is None else owners.uid, -1 if owners.gid is None else owners.gid
            )
        place.chmod(mode)
        return place

    def separate(self, name: str, size: int, *, huge: bool = False) -> None:
        """Give a directory beneath a limit of its own, where we may mount: whoever fills it, fills nothing else.

        Args:
            huge: it is for large files, which huge pages make cheaper to write and to map.
        """
        place = self.path / name
        place.mkdir(exist_ok=True)
        if self.mounted and _mount_memory(place, size, huge=huge):
            self._separate.append(place)

    def drop(self, place: Path) -> None:
        """Overwrite and delete a directory beneath, and give its memory back."""
        wipe(place)
        if place in self._separate:
            self._separate.remove(place)
            _libc.umount2(os.fsencode(place), _MNT_DETACH)
        with contextlib.suppress(OSError):
            place.rmdir()

    def empty(self) -> None:
        """Overwrite and delete what is in our own directories."""
        for place in self.own:
            wipe(place)

    def remove(self) -> None:
        """Overwrite and delete everything of ours, and give the memory back."""
        if self.shared:
            self.empty()
            return
        wipe(self.path)
        for place in [*self._separate, *([self.path] if self.mounted else [])]:
            _libc.umount2(os.fsencode(place), _MNT_DETACH)
        if not self.given:
            shutil.rmtree(self.path, ignore_errors=True)


def create(configured: Path | None) -> Runtime:
    """Make the runtime directory, or take the configured one, which must be an empty tmpfs directory.

    Raises:
        Unavailable: there is no place in memory.
    """
    _remove_stale()
    if configured is not None:
        return _take(configured)
    if os.geteuid() == 0:
        runtime = _mount()
        if runtime is not None:
            return runtime
    for base in memory_directories():
        if is_tmpfs(base) and os.access(base, os.W_OK | os.X_OK):
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            path.chmod(0o711)
            _mark(path)
            return Runtime(path, mounted=False)
    raise Unavailable(
        "no directory in memory was found for sockets and scratch: start as root, set XDG_RUNTIME_DIR to a tmpfs, or set runtime_dir"
    )


def share(configured: Path | None, facts_name: str) -> Runtime:
    """The directory in which several supervisors, one for each role, have theirs (see `alone.py`).

    Args:
        facts_name: of the caller's own facts directory.

    Raises:
        Unavailable: it is not configured, or not in memory.
    """
    if configured is None:
        raise Unavailable(
            "one role alone needs runtime_dir (RLU_RUNTIME_DIR): a tmpfs at the same path for all roles"
        )
    _check_place(configured)
    return Runtime(configured, mounted=False, given=True, shared=True, facts_name=facts_name)


def is_tmpfs(path: Path) -> bool:
    """By the kernel's word (statfs), not by name."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        return False
    return int.from_bytes(buffer.raw[:4], "little") == _TMPFS_MAGIC


def wipe(path: Path) -> None:
    """Overwrite every regular file with zeros, then delete it: tmpfs pages go back to the kernel without our content in them."""
    for directory, _, files in os.walk(path, topdown=False):
        for name in files:
            file = Path(directory) / name
            try:
                status = file.lstat()
                if stat.S_ISREG(status.st_mode):
                    _zero(file)
                file.unlink()
            except OSError:
                continue  # gone, or not ours to write; unmounting frees it
        if Path(directory) != path:
            try:
                os.rmdir(directory)
            except OSError:
                continue


def overwrite(handle: int) -> None:
    """Zeros over all of a file that is open for writing."""
    block, left = memoryview(bytes(1 << 20)), os.fstat(handle).st_size
    os.lseek(handle, 0, os.SEEK_SET)
    while left > 0:
        left -= os.write(handle, block[:left])


def _zero(file: Path) -> None:
    with file.open("r+b", buffering=0) as opened:
        overwrite(opened.fileno())


def _check_place(path: Path) -> None:
    if not path.is_dir():
        raise Unavailable(f"runtime_dir {path} is no directory; make it on a tmpfs, or leave runtime_dir out")
    if not is_tmpfs(path):
        raise Unavailable(
            f"runtime_dir {path} is not in memory; mount a tmpfs there, or leave runtime_dir out"
        )
    if len(os.fsencode(path)) > LONGEST:
        raise Unavailable(
            f"runtime_dir {path} is too long for Unix sockets beneath it: at most {LONGEST} bytes"
        )


def _take(path: Path) -> Runtime:
    _check_place(path)
    strange = [entry.name for entry in path.iterdir() if not _OURS.fullmatch(entry.name)]
    if strange:
        raise Unavailable(f"runtime_dir {path} holds {strange[0]}; it must be empty, because it is wiped")
    wipe(path)
    path.chmod(0o711)
    _mark(path)
    return Runtime(path, mounted=False, given=True)


_OURS = re.compile(r"attestor|engine(?:[1-9]\d?)?|gateway|facts|keys|weights\d+-[0-9a-f]{8}|\.supervisor")


def _mount() -> Runtime | None:
    base = Path("/run") if os.access("/run", os.W_OK) else Path(tempfile.gettempdir())
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    if not _mount_memory(path, OWN_BYTES):
        path.rmdir()
        return None
    _mark(path)
    return Runtime(path, mounted=True)


def _mount_memory(place: Path, size: int, *, huge: bool = False) -> bool:
    usual = f"mode=0711,size={size}"
    pages = (",huge=within_size", "") if huge else ("",)
    for options in (f"{usual}{swap}{page}" for swap in (",noswap", "") for page in pages):
        flags = _MS_NOSUID | _MS_NODEV
        if _libc.mount(b"rlu", os.fsencode(place), b"tmpfs", flags, options.encode()) == 0:
            return True
    return False


def memory_directories() -> Sequence[Path]:
    """Where memory file systems usually are, for whoever may not mount one."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    return [*([Path(given)] if given else []), Path("/dev/shm")]  # noqa: S108 - a memory file system is what is wanted


def _mark(path: Path) -> None:
    """Whose it is: process id and that process's start time, which together are never reused."""
    mark = path / ".supervisor"
    mark.write_text(f"{os.getpid()} {_start_time(os.getpid())}\n")
    mark.chmod(0o600)


def _start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat, in clock ticks since boot; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""


def in_use() -> Iterator[Path]:
    """Runtime directories whose supervisor is alive, as far as we may see them."""
    for path in _candidates():
        with contextlib.suppress(OSError, ValueError):
            pid, started = (path / ".supervisor").read_text().split()
            if _start_time(int(pid)) == started:
                yield path


def _candidates() -> Iterator[Path]:
    for base in {Path("/run"), Path(tempfile.gettempdir()), *memory_directories()}:
        yield from base.glob(f"{PREFIX}*")


def _remove_stale() -> None:
    """Wipe what supervisors of ours that were killed left behind."""
    for path in _candidates():
        try:
            if path.lstat().st_uid != os.geteuid() or not stat.S_ISDIR(path.lstat().st_mode):
                continue
            pid, started = (path / ".supervisor").read_text().split()
        except (OSError, ValueError):
            continue
        if _start_time(int(pid)) != started:
            stale = Runtime(path, mounted=os.path.ismount(path))
            with contextlib.suppress(FileNotFoundError):  # another supervisor that starts now takes it away
                stale._separate += [inner for inner in path.iterdir() if os.path.ismount(inner)]
                stale.remove()
