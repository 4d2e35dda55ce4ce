"""A working configfs-tsm (Documentation/ABI/testing/configfs-tsm-report) on a mount of its own, signing with a fake vendor's chip.

    with ConfigfsTsm(snp(chip)) as tsm:
        TsmReports(tsm.path)

It behaves as Linux does: a directory a report, `inblob` committed when its file is closed and errors of that dropped, the report made at
the first read after a write, `generation` the count of writes. `failures` holds errors to give, by operation (`mkdir`, `rmdir`, or an
attribute's name), each once; `intruder` is called after each `inblob` that was committed.
"""

from __future__ import annotations

import errno
import struct
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from fakes import amd
from fakes.fuse import Mount, Node

GUIDS = {
    "vcek": "63da758d-e664-4564-adc5-f4b93be8accd",
    "vlek": "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
    "ask": "4ab7b379-bbac-4fe4-a02f-05aef327c782",
    "ark": "c0b406a4-a803-4952-9743-3fb6014cd0ae",
    "crl": "92f81bc3-5811-4d3d-97ff-d19f88dc67ea",
}


@dataclass
class Provider:
    """What a guest driver registers: its name, and how it makes a report and its supplement."""

    name: str
    report: Callable[[bytes, int], bytes]
    auxblob: bytes | None = None
    privlevel_floor: int | None = None
    sizes: range = range(1, 65)


def certificate_table(**certificates: bytes | None) -> bytes:
    """The table of the GHCB specification, by the names of `GUIDS`."""
    present = {name: der for name, der in certificates.items() if der is not None}
    offset, table, data = 24 * (len(present) + 1), b"", b""
    for name, der in present.items():
        table += UUID(GUIDS[name]).bytes + struct.pack("<II", offset + len(data), len(der))
        data += der
    return table + bytes(24) + data


def snp(chip: amd.Chip, *, table: bytes | None = None, floor: int = 0) -> Provider:
    """`sev_guest` on a chip; the host hands out VEK, ASK and ARK unless another table is given."""
    if table is None:
        vek = {"vcek" if chip.csp_id is None else "vlek": chip.certificate()}
        table = certificate_table(**vek, ask=chip.issuer.der, ark=amd.ark(chip.product).der)
    return Provider(
        "sev_guest",
        lambda data, level: chip.report(data.ljust(64, b"\0"), VMPL=level),
        auxblob=table,
        privlevel_floor=floor,
    )


@dataclass(eq=False)
class _Attribute:
    mode: int
    shown: Callable[[], bytes] | None = None
    stored: Callable[[bytes], None] | None = None
    closed: Callable[[], None] | None = None

    def read(self) -> bytes:
        if self.shown is None:
            raise OSError(errno.EACCES, "write only")
        return self.shown()

    def write(self, data: bytes) -> None:
        if self.stored is None:
            raise OSError(errno.EACCES, "read only")
        self.stored(data)

    def flush(self) -> None:
        if self.closed is not None:
            self.closed()

    def ioctl(self, command: int, argument: bytes, caller: int) -> bytes:
        raise OSError(errno.ENOTTY, "an attribute")


@dataclass(eq=False)
class Report:
    """One report's directory."""

    tsm: ConfigfsTsm
    generation: int = 0
    privlevel: int = 0
    inblob: bytes = b""
    attributes: dict[str, Node] = field(init=False)
    _pending: bytes = b""
    _made: tuple[int, bytes] | None = None

    def __post_init__(self) -> None:
        provider = self.tsm.provider
        self.attributes = {
            "inblob": _Attribute(0o200, stored=self._receive, closed=self._commit),
            "outblob": _Attribute(0o400, shown=self._outblob),
            "generation": _Attribute(0o444, shown=lambda: self._show("generation", str(self.generation))),
            "provider": _Attribute(0o444, shown=lambda: self._show("provider", provider.name)),
        }
        if provider.auxblob is not None:
            self.attributes["auxblob"] = _Attribute(0o400, shown=self._auxblob)
        if provider.privlevel_floor is not None:
            floor = str(provider.privlevel_floor)
            self.attributes["privlevel"] = _Attribute(0o200, stored=self._set_privlevel)
            self.attributes["privlevel_floor"] = _Attribute(
                0o444, shown=lambda: self._show("privlevel_floor", floor)
            )

    def entries(self) -> dict[str, Node]:
        return self.attributes

    def mkdir(self, name: str) -> None:
        raise OSError(errno.EPERM, name)

    rmdir = mkdir

    def store_inblob(self, data: bytes) -> None:
        """What the kernel does when an `inblob` is complete; also how another program interferes."""
        self.inblob = data
        self.generation += 1

    def _show(self, name: str, text: str) -> bytes:
        self.tsm.fail(name)
        return f"{text}\n".encode()

    def _receive(self, data: bytes) -> None:
        self.tsm.fail("inblob")
        if len(data) > 64:
            raise OSError(errno.EFBIG, "inblob")
        self._pending += data

    def _commit(self) -> None:
        pending, self._pending = self._pending, b""
        if not pending:
            return
        try:
            self.tsm.fail("commit")
        except OSError:
            return  # the kernel has nobody to tell
        self.store_inblob(pending)
        if self.tsm.intruder is not None:
            self.tsm.intruder(self)

    def _set_privlevel(self, data: bytes) -> None:
        self.tsm.fail("privlevel")
        level, floor = int(data), self.tsm.provider.privlevel_floor
        if floor is None or not floor <= level <= 3:
            raise OSError(errno.EINVAL, "privlevel")
        self.privlevel = level
        self.generation += 1

    def _make(self) -> bytes:
        if not self.inblob or len(self.inblob) not in self.tsm.provider.sizes:
            raise OSError(errno.EINVAL, "inblob")
        if self._made is None or self._made[0] != self.generation:
            floor = self.tsm.provider.privlevel_floor or 0
            if self.privlevel < floor:
                raise OSError(errno.EINVAL, "privlevel")
            self._made = self.generation, self.tsm.provider.report(self.inblob, self.privlevel)
        return self._made[1]

    def _outblob(self) -> bytes:
        self.tsm.fail("outblob")
        return self._make()

    def _auxblob(self) -> bytes:
        self.tsm.fail("auxblob")
        self._make()
        return self.tsm.provider.auxblob or b""


@dataclass(eq=False)
class ConfigfsTsm:
    """The `report` directory; a context manager that mounts it. `provider` None: no guest driver is loaded."""

    provider: Provider
    loaded: bool = True
    failures: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    intruder: Callable[[Report], None] | None = None
    reports: dict[str, Node] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._mount = Mount(self)

    @property
    def path(self) -> Path:
        return self._mount.path

    def __enter__(self) -> ConfigfsTsm:
        self._mount.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._mount.__exit__()

    def fail(self, operation: str) -> None:
        if self.failures[operation]:
            number = self.failures[operation].pop(0)
            if number:
                raise OSError(number, operation)

    def entries(self) -> dict[str, Node]:
        return self.reports

    def mkdir(self, name: str) -> None:
        self.fail("mkdir")
        if not self.loaded:
            raise OSError(errno.ENXIO, name)
        if name in self.reports:
            raise OSError(errno.EEXIST, name)
        self.made.append(name)
        self.reports[name] = Report(self)

    def rmdir(self, name: str) -> None:
        self.fail("rmdir")
        if name not in self.reports:
            raise OSError(errno.ENOENT, name)
        del self.reports[name]
