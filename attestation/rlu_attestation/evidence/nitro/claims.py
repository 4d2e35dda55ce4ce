"""What a verified Nitro document says, for a policy to judge."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rlu_attestation.evidence.nitro.document import PCR_SIZE, AttestationDocument, Kind

ZERO_PCR = bytes(PCR_SIZE)
_IMAGE_PCRS = (0, 1, 2)
_LEAF_NAME = re.compile(r"\.([a-z]{2}(?:-[a-z]+)+-[0-9]+)\.aws", re.ASCII)


@dataclass(frozen=True, slots=True)
class NitroClaims:
    """Claims of a document whose every step passed, except time, revocation and binding, which the caller checks.

    Attributes:
        kind: an enclave (`nitro`) or an EC2 instance with NitroTPM (`nitrotpm`).
        region: the AWS region in the name that AWS's authority gave to the signer; None if that name has another form.
        document: all fields, under AWS's names.
    """

    kind: Kind
    region: str | None
    document: AttestationDocument

    @property
    def module_id(self) -> str:
        """Instance id, then the enclave's or the TPM's."""
        return self.document.module_id

    @property
    def created(self) -> datetime:
        return self.document.created

    @property
    def pcrs(self) -> Mapping[int, bytes]:
        """PCR values, SHA-384, 48 bytes each."""
        return self.document.pcrs

    @property
    def debug(self) -> bool | None:
        """Whether the enclave runs in debug mode, in which its parent reads its console; None for NitroTPM, which has no such mode.

        AWS zeroes PCR0, PCR1 and PCR2 then. An enclave counts as debugged unless all three are there and none of them is zero.
        """
        if self.kind is not Kind.NITRO:
            return None
        return any(self.document.pcrs.get(index, ZERO_PCR) == ZERO_PCR for index in _IMAGE_PCRS)

    @property
    def public_key(self) -> bytes | None:
        return self.document.public_key

    @property
    def user_data(self) -> bytes | None:
        return self.document.user_data

    @property
    def nonce(self) -> bytes | None:
        return self.document.nonce


def region_of(common_name: str, module_id: str) -> str | None:
    """The region in a signer's name `<module id>.<region>.aws`; None when it is another."""
    if not common_name.startswith(module_id):
        return None
    found = _LEAF_NAME.fullmatch(common_name, len(module_id))
    return found.group(1) if found else None
