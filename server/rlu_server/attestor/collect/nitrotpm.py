"""NitroTPM of an AWS EC2 instance: requests to the Nitro Secure Module through a vendor command of the virtual TPM.

AWS publishes the interface as source only (github.com/aws/NitroTPM-Tools, `nitro-tpm-attest`): an NV index of 8,192 bytes is defined, the
CBOR request written to it, command 0x20000001 sent with that index as authorisation and as object, and the answer read from the same
index, followed by padding. The index lives for one request, under an authorisation value that nobody else has. AWS's tool authorises by
an HMAC session; a password session serves as well (github.com/lockboot/vaportpm), since only the hypervisor could listen.

The kernel's resource manager passes only commands that the TPM lists; AWS's tool uses /dev/tpm0, and so should `[attestation] tcti`.
"""

from __future__ import annotations

import secrets
import struct
from contextlib import closing

from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2B_NV_PUBLIC, TPMA_NV, TPMS_NV_PUBLIC

from rlu_server.attestor.errors import AttestorError, HardwareRefused, NotReady
from rlu_server.attestor.tpm import nv, wire
from rlu_server.attestor.tpm.connection import Tpm, guard

NSM_REQUEST = 0x20000001
SIZE = 8192
FIRST_INDEX, LAST_INDEX = 0x01805300, 0x018053FF
MAX_REQUEST = 1024
RS_PW = 0x40000009
AUTH_SIZE = 32


class NitroTpm:
    """The module behind an instance's TPM; `Module` of `NitroCollector`."""

    def __init__(self, tcti: str) -> None:
        self._tcti = tcti

    def request(self, message: bytes) -> bytes:
        """Send a request and return the answer, with the padding that follows it.

        Raises:
            NotReady: the TPM does not know the command (`nitrotpm.absent`).
            HardwareUnavailable, HardwareRefused: `tpm.…`, `nitrotpm.full`.
        """
        if not 1 <= len(message) <= MAX_REQUEST:
            raise ValueError(f"a request has 1 to {MAX_REQUEST} bytes, not {len(message)}")
        with closing(Tpm(self._tcti)) as tpm:
            # The TPM drops trailing zeros of an authorisation value.
            auth, index = secrets.token_bytes(AUTH_SIZE - 1) + b"\x01", _free_index(tpm)
            public = TPMS_NV_PUBLIC(
                nvIndex=index,
                nameAlg=TPM2_ALG.SHA256,
                attributes=TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE,
                dataSize=SIZE,
            )
            with guard("nv_define_space"):
                handle = tpm.esapi.nv_define_space(auth, TPM2B_NV_PUBLIC(nvPublic=public))
            try:
                return _exchange(tpm, handle, index, auth, message)
            finally:
                with guard("nv_undefine_space"):
                    tpm.esapi.nv_undefine_space(handle)


def _exchange(tpm: Tpm, handle: ESYS_TR, index: int, auth: bytes, message: bytes) -> bytes:
    with guard("nv_write"):
        for at in range(0, len(message), nv.BLOCK):
            tpm.esapi.nv_write(handle, message[at : at + nv.BLOCK], at, handle)
    try:
        tpm.transact(nsm_request(index, auth))
    except AttestorError as error:
        if error.code == "tpm.unsupported":
            raise NotReady(
                "nitrotpm.absent",
                f"{error.message}; NitroTPM attestation needs an EC2 instance from an attestable AMI, and "
                'tcti = "device:/dev/tpm0" in [attestation]',
            ) from error
        raise
    with guard("nv_read"):
        return nv.read_all(tpm, handle, handle, SIZE)


def nsm_request(index: int, auth: bytes) -> bytes:
    """The vendor command, authorised by the index's own value."""
    area = struct.pack(">I", RS_PW) + wire.sized(b"") + b"\0" + wire.sized(auth)
    return wire.command(wire.ST_SESSIONS, NSM_REQUEST, struct.pack(">III", index, index, len(area)) + area)


def _free_index(tpm: Tpm) -> int:
    with guard("handles"):
        taken = set(tpm.handles(FIRST_INDEX))
    for index in range(FIRST_INDEX, LAST_INDEX + 1):
        if index not in taken:
            return index
    raise HardwareRefused(
        "nitrotpm.full",
        f"all NV indices from {FIRST_INDEX:#x} to {LAST_INDEX:#x} are taken; remove some with tpm2_nvundefine",
    )
