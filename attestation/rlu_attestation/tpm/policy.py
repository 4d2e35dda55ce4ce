"""Digests over PCRs and the authorization policy they make (TPM 2.0 Library Part 1 section 19, Part 3 `TPM2_PolicyPCR`).

The attestor computes a key's `authPolicy` with these before it makes the key; the verifier computes it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rlu_attestation.errors import Untrusted
from rlu_attestation.tpm.attest import PcrSelection, parse_pcr_selection
from rlu_attestation.tpm.constants import BANKS, Alg, Command, digest

PcrValues = Mapping[str, Mapping[int, bytes]]
"""Bank name (`sha256`) to PCR number to value."""

_SELECT_BYTES = 3


def selection_bytes(bank: Alg, pcrs: Iterable[int]) -> bytes:
    """A marshalled TPML_PCR_SELECTION of one bank."""
    bits = 0
    for pcr in pcrs:
        if not 0 <= pcr < 8 * _SELECT_BYTES:
            raise ValueError("PCRs are numbered 0 to 23")
        bits |= 1 << pcr
    head = (1).to_bytes(4, "big") + bank.to_bytes(2, "big") + bytes([_SELECT_BYTES])
    return head + bits.to_bytes(_SELECT_BYTES, "little")


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
