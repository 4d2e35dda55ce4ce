"""Reports through configfs-tsm (Linux 6.7, Documentation/ABI/testing/configfs-tsm-report): SEV-SNP and TDX guests.

A report is a directory below `/sys/kernel/config/tsm/report`: made, its `inblob` written, its `outblob` read, removed. Rules kept here:

- Every report gets a directory of its own under a random name, so nobody who keeps to the interface can come between write and read.
- `generation` counts the writes. It is read before the first and after the last access and must have risen by exactly our writes: the
  kernel commits `inblob` when the file is closed and drops the error if that fails, and a stranger may write to our directory. Either
  shows here, and the report is made anew.
- `privlevel` is written only where the floor is above 0 (SEV-SNP beneath a secure VM service module).
- Busy, interrupted and timed out are tried again, `ATTEMPTS` times in all.

What a report says is not checked here, only that it answers this request by the kernel's own account.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rlu_server.attestor.collect.collector import ABSENT, PASSING, blame, read_bounded
from rlu_server.attestor.errors import HardwareRefused, HardwareUnavailable, NotReady

REPORTS = Path("/sys/kernel/config/tsm/report")
MODULES = {"sev_guest": "sev-guest", "tdx_guest": "tdx-guest"}
"""Provider and the kernel module that registers it."""
MAX_INBLOB = 64
MAX_BLOB = 256 * 1024
"""Bound on what is read of `outblob` and `auxblob`; the kernel's own has been 32 KiB and grows."""
MAX_TEXT = 256
ATTEMPTS = 5
FIRST_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class TsmReport:
    """What the provider answered; `auxblob` is empty where there is none."""

    outblob: bytes
    auxblob: bytes


class _Raced(Exception):
    """The report may not be the answer to this request."""


class TsmReports:
    """The report interface of the running kernel."""

    def __init__(self, directory: Path = REPORTS, sleep: Callable[[float], None] = time.sleep) -> None:
        self._directory = directory
        self._sleep = sleep

    def report(self, provider: str, inblob: bytes) -> TsmReport:
        """A report by `provider` over 1 to 64 bytes.

        Raises:
            NotReady: no such interface, no access, or another provider (`tsm.absent`, `tsm.denied`, `tsm.provider`).
            HardwareUnavailable: busy, or disturbed, at every attempt (`tsm.busy`, `tsm.raced`).
            HardwareRefused: the provider failed (`tsm.failed`).
        """
        if not 1 <= len(inblob) <= MAX_INBLOB:
            raise ValueError(f"inblob has 1 to {MAX_INBLOB} bytes, not {len(inblob)}")
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(FIRST_PAUSE_S * 2**attempt)
            last = attempt == ATTEMPTS - 1
            try:
                return self._attempt(provider, inblob)
            except _Raced as error:
                if last:
                    raise HardwareUnavailable(
                        "tsm.raced",
                        f"{self._directory}: another program writes to our reports, or the provider takes no requests ({error}); "
                        "look for one that uses the directory, then try again",
                    ) from error
            except OSError as error:
                if last or error.errno not in PASSING:
                    raise blame(error, str(self._directory), "tsm", _remedies(provider)) from error
        raise AssertionError("unreachable")

    def _attempt(self, provider: str, inblob: bytes) -> TsmReport:
        with self._entry() as entry:
            self._check_provider(entry, provider)
            expected = _generation(entry) + self._write_privlevel(entry)
            _write(entry / "inblob", inblob)
            expected += 1
            if (found := _generation(entry)) != expected:
                raise _Raced(f"generation {found} after the request, expected {expected}")
            outblob = read_bounded(entry / "outblob", MAX_BLOB)
            auxblob = _optional(entry / "auxblob")
            if (found := _generation(entry)) != expected:
                raise _Raced(f"generation {found} after the report, expected {expected}")
        if not outblob:
            raise HardwareRefused("tsm.failed", f"{self._directory}: {provider} gave an empty report")
        return TsmReport(outblob, auxblob)

    @contextmanager
    def _entry(self) -> Iterator[Path]:
        entry = self._directory / f"rlu-{secrets.token_hex(8)}"
        entry.mkdir()
        try:
            yield entry
        finally:
            # One that stays behind costs a little kernel memory and disturbs nobody.
            with suppress(OSError):
                entry.rmdir()

    def _check_provider(self, entry: Path, provider: str) -> None:
        found = _text(entry / "provider")
        if found != provider:
            raise NotReady(
                "tsm.provider",
                f"{self._directory}: reports here come from {found!r}, not {provider!r}; "
                "set [attestation] key to the kind of this machine",
            )

    def _write_privlevel(self, entry: Path) -> int:
        """Writes made: 1 if this guest may not ask for a report at level 0, else 0."""
        floor = _optional(entry / "privlevel_floor").strip()
        if floor in (b"", b"0"):
            return 0
        _write(entry / "privlevel", floor)
        return 1


def _remedies(provider: str) -> dict[str, str]:
    return {
        "absent": f"load the kernel module ({MODULES.get(provider, provider)}) and mount configfs at /sys/kernel/config; "
        "in a container, mount that directory into it",
        "denied": "the attestor needs to write below this directory: give it to the attestor's user, or run the attestor as root",
    }


def _generation(entry: Path) -> int:
    text = _text(entry / "generation")
    if not text.isascii() or not text.isdigit():
        raise HardwareRefused("tsm.failed", f"{entry.parent}: generation is no number; is this configfs-tsm?")
    return int(text)


def _text(path: Path) -> str:
    return read_bounded(path, MAX_TEXT).decode("utf-8", "replace").strip()


def _optional(path: Path) -> bytes:
    """An attribute that not every provider shows."""
    try:
        return read_bounded(path, MAX_BLOB)
    except OSError as error:
        if error.errno in ABSENT:
            return b""
        raise


def _write(path: Path, data: bytes) -> None:
    """One write(2), which is one request to the kernel."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        written = os.write(descriptor, data)
    finally:
        os.close(descriptor)
    if written != len(data):
        raise _Raced(f"{path.name} took {written} bytes of {len(data)}")
