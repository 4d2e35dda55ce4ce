"""Replay of the kernel's list of measurements into PCR 10 (Linux, `ima_queue.c`, `ima_crypto.c`).

The kernel extends PCR 10 in each bank with the bank's own digest of an entry's data; kernels before 5.7, and all for banks whose hash they
lack, with its SHA-1 digest and zeros. Violations extend all ones.

The list grows while a quote is made, so the quoted value may be that of a beginning; what comes after is nobody's word but the attester's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rlu_attestation.errors import Untrusted
from rlu_attestation.tpm.constants import BANKS, digest_size
from rlu_attestation.tpm.ima_log import PCR, ImaEntry, ImaLog

BOOT_AGGREGATE = "boot_aggregate"
FORMS = ("own", "sha1")
"""With what entries extend a bank: its own digest, or SHA-1's and zeros."""
_STEP = "quote.ima"
_BANK_SIZES = {BANKS[bank]: digest_size(bank) for bank in BANKS}
_AGGREGATED = (range(10), range(8))
"""PCRs under `boot_aggregate`: 0 to 9 since Linux 5.8 and not for SHA-1, else 0 to 7 (`ima_calc_boot_aggregate`)."""


@dataclass(frozen=True, slots=True)
class ImaReplay:
    """A list that leads to the quoted PCR 10.

    Attributes:
        covered: how many entries, from the first, the quoted value proves.
        later: how many follow, of which it proves nothing.
        violations: how many of the covered entries are violations.
        banks: banks in which PCR 10 was compared, each with how entries extend it: `own` digest, or `sha1` and zeros.
        boot_aggregate: bank and PCRs that the first entry is the digest of, such as `sha256:0-9`; None when not all of them were quoted.
    """

    log: ImaLog
    covered: int
    later: int
    violations: int
    banks: Mapping[str, str]
    boot_aggregate: str | None


def verify_replay(log: ImaLog, pcrs: Mapping[str, Mapping[int, bytes]]) -> ImaReplay:
    """quote.ima: PCR 10 is, in every bank quoted, the value after some prefix of the list, and its first entry the digest of the boot PCRs.

    Raises:
        Untrusted: `quote.ima.uncovered` when PCR 10 is not quoted, `.mismatch`, `.boot_aggregate`.
    """
    quoted = {bank: values[PCR] for bank, values in pcrs.items() if PCR in values}
    if not quoted:
        raise Untrusted(f"{_STEP}.uncovered", f"PCR {PCR}, which the kernel's list leads to, is not quoted")
    covered, forms = 0, {}
    for bank, value in quoted.items():
        found = _prefix(log.entries, bank, value)
        if found is None or covered not in (0, found[0]):
            raise Untrusted(
                f"{_STEP}.mismatch", f"no beginning of the kernel's list leads to PCR {bank}:{PCR}"
            )
        covered, forms[bank] = found
    entries = log.entries[:covered]
    return ImaReplay(
        log=log,
        covered=covered,
        later=len(log.entries) - covered,
        violations=sum(entry.violation for entry in entries),
        banks=forms,
        boot_aggregate=_boot_aggregate(entries[0], pcrs),
    )


def values(entries: Sequence[ImaEntry], bank: str, form: str) -> Iterator[bytes]:
    """The value of PCR 10 in a bank after each entry, where entries extend it in one of `FORMS`."""
    state = bytes(size := _BANK_SIZES[bank])
    for entry in entries:
        extended = _extended(entry, bank if form == "own" else "sha1", size)
        state = hashlib.new(bank, state + extended).digest()
        yield state


def _prefix(entries: Sequence[ImaEntry], bank: str, value: bytes) -> tuple[int, str] | None:
    """How many entries lead to a value, and in which form; None when no positive number does."""
    for form in FORMS if bank != "sha1" else FORMS[:1]:
        for number, state in enumerate(values(entries, bank, form), 1):
            if state == value:
                return number, form
    return None


def _extended(entry: ImaEntry, algorithm: str, size: int) -> bytes:
    """What an entry extends a bank of this digest size with."""
    return (
        b"\xff" * size
        if entry.violation
        else hashlib.new(algorithm, entry.hashed).digest().ljust(size, b"\0")
    )


def _boot_aggregate(first: ImaEntry, pcrs: Mapping[str, Mapping[int, bytes]]) -> str | None:
    bank = first.algorithm.rpartition(":")[2]
    if first.name != BOOT_AGGREGATE or first.violation or bank not in _BANK_SIZES:
        raise Untrusted(f"{_STEP}.boot_aggregate", "the list does not begin with the digest of the boot PCRs")
    values = pcrs.get(bank, {})
    complete = True
    for numbers in _AGGREGATED[bank == "sha1" :]:
        if not values.keys() >= set(numbers):
            complete = False
        elif hashlib.new(bank, b"".join(values[number] for number in numbers)).digest() == first.digest:
            return f"{bank}:0-{numbers[-1]}"
    if complete:
        raise Untrusted(
            f"{_STEP}.boot_aggregate",
            f"the list's first entry is not the digest of the quoted PCRs of {bank}",
        )
    return None
