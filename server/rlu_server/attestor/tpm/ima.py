"""The kernel's list of what it measured (IMA), read beside a quote and cut to what the quote proves.

The kernel appends to the list and then extends PCR 10, so that a list read *after* a quote begins with everything that the quoted value
covers. PCR 10 may have grown between any two commands to the TPM: its quoted value is therefore looked for among those that the list leads
to, by the digest in the quote, and never read from the TPM.

Read is `binary_runtime_measurements`, which every kernel with IMA has. Since Linux 6.10 there is one list more for each bank
(`…_measurements_sha256`), with the same entries under other digests; verifiers need none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rlu_attestation.errors import RluError
from rlu_attestation.tpm import ima, ima_log
from rlu_attestation.tpm.attest import QuoteInfo, parse_attest, parse_signature
from rlu_attestation.tpm.constants import digest
from rlu_attestation.tpm.ima_log import PCR
from rlu_server.attestor.errors import HardwareRefused, NotReady

__all__ = ["LIST", "MAX_LIST", "PCR", "covered", "present", "read"]

LIST = Path("/sys/kernel/security/ima/binary_runtime_measurements")
MAX_LIST = 1024 * 1024
"""Bytes of a list that fits into an evidence item, and with it into an answer that clients take; some 8,000 measurements."""
BANK = "sha256"
REMEDY = "or take 10 from [attestation] pcrs"


def present() -> Path | None:
    """Where the list is; None where the kernel has none, and so never extends its PCR."""
    try:
        LIST.stat()
    except PermissionError:
        return LIST  # reading it will say so
    except OSError:
        return None
    return LIST


def read(path: Path) -> bytes:
    """The list as it is now.

    Raises:
        NotReady: it cannot be read (`ima.list`), or is too long (`ima.size`).
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LIST + 1)
    except OSError as error:
        raise NotReady(
            "ima.list",
            f"{path}: {error.strerror}; let the attestor's user read the kernel's list of measurements, {REMEDY}",
        ) from error
    if len(data) > MAX_LIST:
        raise NotReady(
            "ima.size",
            f"{path} is longer than {MAX_LIST} bytes; let the kernel's IMA policy measure less and reboot, {REMEDY}",
        )
    return data


def covered(
    data: bytes, quote: tuple[bytes, bytes], others: Mapping[int, bytes]
) -> tuple[bytes, dict[int, bytes]]:
    """The beginning of the list that leads to a quote, and the quoted values with PCR 10 among them.

    Args:
        data: the list, read after the quote.
        quote: TPMS_ATTEST and TPMT_SIGNATURE of a quote of the SHA-256 bank.
        others: values of all quoted PCRs but 10.

    Raises:
        HardwareRefused: no beginning leads to it (`ima.mismatch`), or the list has what verifiers do not read (`ima.form`).
    """
    try:
        log = ima_log.parse(data)
    except RluError as error:
        raise HardwareRefused(
            "ima.form",
            f"the kernel's list of measurements has something that verifiers do not read: {error.message}; "
            f"change the kernel's IMA policy or template, {REMEDY}",
        ) from error
    is_quoted = _matcher(quote, others)
    for form in ima.FORMS:
        for end, value in zip(log.ends, ima.values(log.entries, BANK, form), strict=True):
            if is_quoted(value):
                return data[:end], {**others, PCR: value}
    raise HardwareRefused(
        "ima.mismatch",
        f"no beginning of the kernel's list of measurements leads to PCR {PCR} as it was quoted: a kernel that was started by another "
        f"without a reset (kexec), or something else that extends the PCR; reset the machine, {REMEDY}",
    )


def _matcher(quote: tuple[bytes, bytes], others: Mapping[int, bytes]) -> Callable[[bytes], bool]:
    """Whether a quote was made with some value in PCR 10."""
    quoted = parse_attest(quote[0]).attested
    assert isinstance(quoted, QuoteInfo)
    # The TPM hashes the values with the hash of the AK's signature scheme (Part 3, TPM2_Quote).
    algorithm = parse_signature(quote[1]).hash
    before = b"".join(others[pcr] for pcr in sorted(others) if pcr < PCR)
    after = b"".join(others[pcr] for pcr in sorted(others) if pcr > PCR)
    expected = quoted.pcr_digest
    return lambda value: digest(algorithm, before + value + after) == expected
