"""A kernel that measures files: it extends PCR 10 of a fake TPM and writes its list, in both forms, as Linux does.

It follows `security/integrity/ima` on its own and shares no code with what it tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from fakes.tpm import FakeTpm

PCR = 10
BOOT = tuple(range(11))
"""PCRs that a quote selects when everything is to be compared."""


def le32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def sized(data: bytes) -> bytes:
    return le32(len(data)) + data


@dataclass(frozen=True)
class Entry:
    """One line: its fields in binary and as text."""

    template: str
    fields: tuple[bytes, ...]
    words: tuple[str, ...]
    violation: bool = False
    pcr: int = PCR

    @property
    def data(self) -> bytes:
        if self.template == "ima":
            return self.fields[0] + sized(self.fields[1].rstrip(b"\0"))
        return b"".join(map(sized, self.fields))

    def digest(self, algorithm: str) -> bytes:
        if self.template == "ima":
            return hashlib.new(algorithm, self.fields[0] + self.fields[1].ljust(256, b"\0")).digest()
        return hashlib.new(algorithm, self.data).digest()

    @property
    def listed(self) -> bytes:
        return bytes(20) if self.violation else self.digest("sha1")

    def binary(self) -> bytes:
        name = self.template.encode()
        data = self.data if self.template == "ima" else sized(self.data)
        return le32(self.pcr) + self.listed + sized(name) + data

    def text(self) -> bytes:
        words = (f"{self.pcr:2d}", self.listed.hex(), self.template, *self.words)
        return " ".join(words).encode("utf-8", "surrogateescape") + b"\n"


def entry(
    template: str,
    name: str,
    digest: bytes,
    algorithm: str = "sha256",
    further: bytes = b"",
    violation: bool = False,
    of: str = "ima",
) -> Entry:
    """An entry of one of the kernel's templates."""
    path = name.replace(" ", "_")
    raw_name = path.encode("utf-8", "surrogateescape") + b"\0"
    if template == "ima":
        return Entry(template, (digest, raw_name), (digest.hex(), path), violation)
    kind = f"{of}:" if template.endswith("v2") else ""
    fields = [f"{kind}{algorithm}:".encode() + b"\0" + digest, raw_name]
    words = [f"{kind}{algorithm}:{digest.hex()}", path]
    if template not in ("ima-ng", "ima-ngv2"):
        fields.append(further)
        words.append(further.hex())
    return Entry(template, tuple(fields), tuple(words), violation)


@dataclass
class FakeIma:
    """The kernel of a machine that has booted; `padded` extends all banks with SHA-1 and zeros, as kernels before 5.7 do."""

    tpm: FakeTpm
    bank: str = "sha256"
    template: str = "ima-ng"
    padded: bool = False
    aggregated: int | None = None
    entries: list[Entry] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        count = self.aggregated or (8 if self.bank == "sha1" else 10)
        digest = hashlib.new(self.bank, b"".join(self.tpm.pcrs[self.bank][:count])).digest()
        self.record(entry(self.template, "boot_aggregate", digest, self.bank))

    def measure(self, name: str, content: bytes, template: str = "", **changes: object) -> Entry:
        """A file is read or run."""
        template = template or self.template
        algorithm = "sha1" if template == "ima" else str(changes.pop("algorithm", "sha256"))
        digest = hashlib.new(algorithm, content).digest()
        return self.record(entry(template, name, digest, algorithm, **changes))  # type: ignore[arg-type]

    def violate(self, name: str) -> Entry:
        """A file is read while it is open for writing."""
        size = 20 if self.template == "ima" else 32
        return self.record(entry(self.template, name, bytes(size), violation=True))

    def record(self, found: Entry) -> Entry:
        self.entries.append(found)
        for bank, values in self.tpm.pcrs.items():
            size = hashlib.new(bank).digest_size
            extended = found.digest("sha1" if self.padded else bank).ljust(size, b"\0")
            extended = b"\xff" * size if found.violation else extended
            values[PCR] = hashlib.new(bank, values[PCR] + extended).digest()
        return found

    def binary(self) -> bytes:
        return b"".join(found.binary() for found in self.entries)

    def text(self) -> bytes:
        return b"".join(found.text() for found in self.entries)


FORMS: dict[str, Callable[[FakeIma], bytes]] = {"binary": FakeIma.binary, "ascii": FakeIma.text}


def booted(banks: tuple[str, ...] = ("sha256",)) -> FakeTpm:
    """A TPM whose boot PCRs firmware extended."""
    tpm = FakeTpm("ima", banks=banks)
    for pcr in range(10):
        tpm.measure(pcr, f"firmware of {pcr}".encode())
    return tpm


def kernel(template: str = "ima-ng", bank: str = "sha256", **changes: bool) -> FakeIma:
    """A machine that ran a few things."""
    banks = ("sha256",) if bank == "sha256" else (bank, "sha256")
    running = FakeIma(booted(banks), bank=bank, template=template, **changes)
    running.measure("/sbin/init", b"init")
    running.measure("/usr/bin/a name with spaces", b"tool")
    running.violate("/var/log/messages")
    running.measure("/usr/bin/python3", b"python")
    return running


def quoted(running: FakeIma, *numbers: int) -> dict[str, dict[int, bytes]]:
    """Values as a quote has them now."""
    return running.tpm.values(dict.fromkeys(running.tpm.banks, numbers or BOOT))
