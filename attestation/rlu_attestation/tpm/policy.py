"""Digests over PCRs and the authorization policy they make (TPM 2.0 Library Part 1 section 19, Part 3 `TPM2_PolicyPCR`).

The attestor computes a key's `authPolicy` with these before it makes the key; the verifier computes it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rlu_attestation.errors import Untrusted
from rlu_attestation.tpm.attest import PcrSelection, parse_pcr_selection
from rlu_attestation.tpm.constants import BANKS, Alg, Command, digest

PcrValues = Mapping[str, Mapping[int, bytes]]
"""Bank name (`sha256`) to PCR number to value."""

_SELECT_BYTES = 3


def selection_bytes(bank: Alg, pcrs: Iterable[int]) -> bytes:
    """A marshalled TPML_PCR_SELECTION of one bank."""
    numbers = tuple(pcrs)
    if not all(0 <= number < 8 * _SELECT_BYTES for number in numbers):
        raise ValueError("PCRs are numbered 0 to 23")
    return _selection(((bank, numbers),))


def without_pcr(
    selection: PcrSelection, values: PcrValues, number: int
) -> tuple[PcrSelection, dict[str, dict[int, bytes]]]:
    """A selection, and the values beside it, without one PCR in every bank; banks stay, of three bytes each if that is enough."""
    banks = [(bank, tuple(pcr for pcr in pcrs if pcr != number)) for bank, pcrs in selection.banks]
    kept = {bank: {n: value for n, value in found.items() if n != number} for bank, found in values.items()}
    return parse_pcr_selection(_selection(banks)), {bank: found for bank, found in kept.items() if found}


def _selection(banks: Sequence[tuple[Alg, Sequence[int]]]) -> bytes:
    size = max((_SELECT_BYTES, *(pcr // 8 + 1 for _, pcrs in banks for pcr in pcrs)))
    marshalled = len(banks).to_bytes(4, "big")
    for bank, pcrs in banks:
        bits = sum(1 << pcr for pcr in set(pcrs))
        marshalled += bank.to_bytes(2, "big") + bytes([size]) + bits.to_bytes(size, "little")
    return marshalled


def pcr_digest(
    algorithm: Alg, selection: PcrSelection, values: PcrValues, code: str = "quote.pcrs.selection"
) -> bytes:
    """Digest of the selected values in the selection's order.

    Raises:
        Untrusted: `code` when the values are not exactly those selected.
    """
    selected = {BANKS[bank]: set(pcrs) for bank, pcrs in selection.banks if pcrs}
    if selected != {bank: set(found) for bank, found in values.items()}:
        raise Untrusted(code, "the PCR values beside the quote are not those that it selects")
    return digest(
        algorithm, b"".join(values[BANKS[bank]][pcr] for bank, pcrs in selection.banks for pcr in pcrs)
    )


def key_policy(selection: bytes, digest_of_pcrs: bytes) -> bytes:
    """The `authPolicy` of an instance key: PolicyPCR, then PolicyAuthValue (FORMATS section 4).

    Args:
        selection: marshalled TPML_PCR_SELECTION.
        digest_of_pcrs: SHA-256 digest of the selected values, 32 bytes.
    """
    parse_pcr_selection(selection)
    if len(digest_of_pcrs) != 32:
        raise ValueError("the policy session hashes with SHA-256")
    with_pcrs = digest(
        Alg.SHA256, bytes(32) + Command.POLICY_PCR.to_bytes(4, "big") + selection + digest_of_pcrs
    )
    return digest(Alg.SHA256, with_pcrs + Command.POLICY_AUTH_VALUE.to_bytes(4, "big"))
