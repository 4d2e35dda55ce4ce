"""Where this machine could have written something, and how each place is searched.

Files count if they changed after the test had begun: markers are fresh, so an older file cannot hold one. In memory file systems, where
writing through a mapping leaves no trace in the times, every file is read.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rlu_attestation.canary import UNPLANTED
from rlu_server.selftest import plants, system_v
from rlu_server.selftest.plants import Plants
from rlu_server.selftest.scan import Scanner, Searched, changed_files
from rlu_server.selftest.traces import Traces

MOST_BYTES = 32 << 30
"""Of changed files at one place; what is beyond is named as not searched."""
PLANT = ".rlu-canary-plant"
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
_DISKS = frozenset(
    {
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "overlay",
        "f2fs",
        "zfs",
        "nfs",
        "nfs4",
        "cifs",
        "fuseblk",
        "vfat",
        "bcachefs",
        "9p",
        "virtiofs",
    }
)
_CORES = ("/var/lib/systemd/coredump", "/var/crash", "/var/lib/apport/coredump", "/var/spool/abrt")
_JOURNALS = ("/var/log/journal", "/run/log/journal")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mounts."""

    device: str
    path: Path
    kind: str
    writable: bool


@dataclass(slots=True)
class Where:
    """What one test searches.

    Attributes:
        since: when it began.
        place: directory of everything the deployment may write; below `base`, which also holds the image.
        skip: directories that are not entered: what is searched as a disk, and the model.
        file_systems: walk every writable file system; else only the usual places.
    """

    since: float
    base: Path
    place: Path
    skip: tuple[Path, ...]
    home: Path
    file_systems: bool = True
    unsearched: dict[str, list[str]] = field(default_factory=dict)
    """Place to reasons why it, or a part of it, was not searched."""

    def cannot(self, place: str, reason: str) -> None:
        self.unsearched.setdefault(place, []).append(reason)


class Search:
    """Searches places and plants in them."""

    def __init__(self, scanner: Scanner, planted: Plants, where: Where) -> None:
        self._scanner = scanner
        self._plants = planted
        self._where = where
        self._segment: int | None = None

    # --- while it serves, and nothing is under way ---

    def live(self, runtime: Path, pids: Iterable[int]) -> None:
        """The runtime directory, and files that are deleted and open. Not memory: neither that of processes nor the engine's scratch."""
        self._plants.file("runtime", runtime / PLANT)
        self._tree("runtime", runtime, 0, map(str, runtime.glob("engine*")))
        self._plants.clear()
        self._deleted(pids)

    def _deleted(self, pids: Iterable[int]) -> None:
        with tempfile.TemporaryFile(dir=self._where.place) as own:
            own.write(self._plants.content("deleted_files"))
            own.flush()
            for pid in {os.getpid(), *pids, *_all_pids()}:
                with contextlib.suppress(OSError):
                    for entry in Path(f"/proc/{pid}/fd").iterdir():
                        self._deleted_file(pid, entry)

    def _deleted_file(self, pid: int, entry: Path) -> None:
        try:
            name = os.readlink(entry)
            status = entry.stat()
            # What lives in memory is memory: it is searched when the processes are gone.
            if (
                not name.endswith(" (deleted)")
                or not stat.S_ISREG(status.st_mode)
                or status.st_dev in _memory_devices()
            ):
                return
            descriptor = os.open(entry, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return
        try:
            self._scanner.descriptor("deleted_files", f"a deleted file of process {pid}", descriptor)
        finally:
            os.close(descriptor)

    def answer(self, place: str, content: bytes | None, reason: str = "") -> None:
        """Something the server handed out: metrics, exports. None: it could not be had, and why."""
        if content is None:
            self._where.cannot(place, reason)
            self._scanner.at(place)
            return
        self._scanner.content(place, place, content)
        account = self._scanner.at(place)
        size = account.size
        self._scanner.content(place, place, self._plants.content(place))
        account.items, account.size = 1, size

    # --- when it has ended ---

    def traces(self, traces: Traces, arrived: int, wanted: int) -> None:
        """What a collector of traces got, with a plant that goes there as spans do. Ends relay and collector.

        Args:
            arrived: spans that were there when `wanted` were waited for.
        """
        if arrived < wanted:
            self._where.cannot("traces", f"{arrived} of {wanted} spans arrived")
        if not traces.send(self._plants.content("traces")):
            self._where.cannot("traces", "the relay did not take the plant")
        traces.stop()  # the relay's log is on the disk, which is unmounted
        self._scanner.content("traces", "traces", traces.received)

    def plant(self) -> None:
        """Leaks on purpose, at every place that takes one."""
        where, name = self._where, f"{PLANT}-{os.getpid()}"
        self._plants.file("state", where.place / "state" / PLANT)
        self._plants.file("temporary", Path("/tmp") / name)  # noqa: S108 - this very place is to be searched
        self._plants.file("home", where.home / name)
        self._plants.file("shared_memory", Path("/dev/shm") / name)  # noqa: S108 - likewise
        self._plants.file("system_logs", Path("/var/log") / name)
        self._plants.file("core_dumps", where.place / "cwd" / f"core{PLANT}")
        if where.file_systems:
            self._plants.file("file_systems", Path("/") / name)
        self._plants.append("output", where.place / "server.log")
        self._segment = system_v.make(self._plants.content("system_v"))

    def plant_on_disk(self) -> None:
        """A file that is written, and deleted again, before the disk is searched."""
        if self._plants.file("disk", self._where.place / PLANT):
            (self._where.place / PLANT).unlink()

    def files(self) -> None:
        """Everything that is a file, or reads like one, while the place is still mounted."""
        where = self._where
        self._tree("state", where.place / "state", 0)
        self._scanner.file("output", where.place / "server.log")
        for path in {Path("/tmp"), Path("/var/tmp"), Path(tempfile.gettempdir())}:  # noqa: S108 - these very places
            self._tree("temporary", path, where.since)
        self._tree("home", where.home, where.since)
        self._tree("shared_memory", Path("/dev/shm"), 0)  # noqa: S108 - likewise
        self._tree("shared_memory", Path("/dev/mqueue"), 0)
        self._tree("system_logs", Path("/var/log"), where.since, _JOURNALS)
        for journal in _JOURNALS:
            self._tree("journal", Path(journal), where.since)
        self._cores()
        self._system_v()
        self._kernel_log()
        self._swap()
        if where.file_systems:
            self._file_systems()
        else:
            where.cannot("file_systems", "not asked for")
            self._scanner.at("file_systems")

    def clear(self) -> None:
        """Take away what was planted."""
        self._plants.clear()
        if self._segment is not None:
            system_v.remove(self._segment)
            self._segment = None

    def disk(self, image: Path) -> None:
        """The disk image, as raw bytes: files, deleted files, slack, journal."""
        self._scanner.file("disk", image)

    def runtime_gone(self, runtimes: Iterable[Path]) -> bool:
        """Whether no runtime directory was left behind; whatever was is searched."""
        left = [path for path in runtimes if path.exists()]
        for path in left:
            self._tree("runtime", path, 0)
        return not left

    # --- the places ---

    def _tree(self, place: str, root: Path, since: float, besides: Iterable[str] = ()) -> None:
        account = self._scanner.at(place)
        if not root.is_dir():
            return
        skip = self._skipping(root, besides)
        began = account.size
        mount = _mount_of(root)
        for path in changed_files(root, 0 if mount in _MEMORY else since, skip, account):
            if account.size - began > MOST_BYTES:
                self._where.cannot(place, f"{root}: more than {MOST_BYTES >> 30} GiB changed meanwhile")
                return
            self._scanner.file(place, path)

    def _skipping(self, root: Path, besides: Iterable[str]) -> Callable[[str], bool]:
        # A place that lies within what is left out is searched all the same when it is itself asked for.
        skipped = {
            str(path)
            for path in (*self._where.skip, *map(Path, besides))
            if path != root and not root.is_relative_to(path)
        }
        return lambda path: path in skipped

    def _file_systems(self) -> None:
        """Every file that changed on any file system that can be written to."""
        done: set[int] = set()
        account = self._scanner.at("file_systems")
        for mount in mounts():
            try:
                device = os.stat(mount.path).st_dev
            except OSError:
                continue
            if (
                not mount.writable
                or device in done
                or mount.kind not in _DISKS | _MEMORY
                or mount.path == Path("/dev")
            ):
                continue
            done.add(device)
            for path in changed_files(mount.path, self._where.since, self._skipping(mount.path, ()), account):
                if account.size > MOST_BYTES:
                    self._where.cannot("file_systems", f"more than {MOST_BYTES >> 30} GiB changed meanwhile")
                    return
                self._scanner.file("file_systems", path)

    def _cores(self) -> None:
        for name in _CORES:
            self._tree("core_dumps", Path(name), self._where.since)
        self._tree("core_dumps", self._where.place / "cwd", 0)
        try:
            pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
        except OSError:
            self._where.cannot("core_dumps", "/proc/sys/kernel/core_pattern cannot be read")
            return
        directory = Path(pattern).parent if pattern.startswith("/") else Path("/")
        with contextlib.suppress(OSError):
            for path in directory.iterdir():
                if (
                    path.name.startswith(Path(pattern).name[:4])
                    and path.is_file()
                    and path.lstat().st_ctime >= self._where.since
                ):
                    self._scanner.file("core_dumps", path)

    def _system_v(self) -> None:
        self._scanner.at("system_v")
        for identifier, content in system_v.segments():
            if content is None:
                self._where.cannot("system_v", f"segment {identifier} may not be read")
            else:
                self._scanner.content("system_v", f"System V segment {identifier}", content)

    def _kernel_log(self) -> None:
        account = self._scanner.at("kernel_log")
        try:
            descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._where.cannot("kernel_log", f"/dev/kmsg: {error.strerror}")
            return
        records = []
        deadline = time.monotonic() + 30
        try:
            while time.monotonic() < deadline:
                try:
                    records.append(os.read(descriptor, 1 << 16))
                except BrokenPipeError:
                    continue  # the kernel overwrote a record; the next one is there
                except BlockingIOError:
                    break
        except OSError as error:
            account.unreadable.append(f"/dev/kmsg: {error.strerror}")
        finally:
            os.close(descriptor)
        self._scanner.content("kernel_log", "/dev/kmsg", b"".join(records))

    def _swap(self) -> None:
        self._scanner.at("swap")
        try:
            lines = Path("/proc/swaps").read_text().splitlines()[1:]
        except OSError:
            self._where.cannot("swap", "/proc/swaps cannot be read")
            return
        for line in lines:
            device, _, size, *_ = line.split()
            self._scanner.file("swap", Path(os.path.realpath(device)), int(size) * 1024)


def accounts(scanner: Scanner, where: Where, planted: Plants) -> dict[str, Searched]:
    """What was read at each place, with whatever could not be, or was not shown to have been."""
    for place, account in scanner.places.items():
        if not planted.planted(place) and place not in UNPLANTED:
            where.cannot(place, "nothing could be planted there, so that a search shows nothing")
        if missed := planted.missed(place, scanner):
            where.cannot(place, f"planted and not found: {', '.join(missed)}")
        for reason in account.unreadable:
            where.cannot(place, reason)
        if account.truncated:
            where.cannot(place, f"{account.truncated} compressed streams hold more than is unpacked of one")
    return scanner.places


def leaks(scanner: Scanner) -> list[str]:
    """Findings that nobody planted: place, kind of exchange, form, where."""
    return [
        f"{hit.place}: {hit.scenario} as {'/'.join(filter(None, (hit.packing, hit.form)))}: {hit.where}"
        for hit in scanner.hits
        if not hit.scenario.startswith(plants.SCENARIO)
    ]


def mounts() -> list[Mount]:
    """The file systems that this process sees."""
    found = []
    for line in Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines():
        device, path, kind, options, *_ = line.split(" ")
        unescaped = path.encode().decode("unicode_escape")
        found.append(Mount(device, Path(unescaped), kind, "rw" in options.split(",")))
    return found


def _mount_of(path: Path) -> str:
    """The kind of file system that a path is on."""
    inside = [mount for mount in mounts() if path.is_relative_to(mount.path)]
    return max(inside, key=lambda mount: len(mount.path.parts)).kind if inside else ""


def _memory_devices() -> frozenset[int]:
    """Device numbers of file systems in memory, memfds and kernel shared memory included."""
    found = set()
    for mount in mounts():
        if mount.kind in _MEMORY:
            with contextlib.suppress(OSError):
                found.add(os.stat(mount.path).st_dev)
    descriptor = os.memfd_create("rlu-canary")
    try:
        found.add(os.fstat(descriptor).st_dev)
    finally:
        os.close(descriptor)
    return frozenset(found)


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
