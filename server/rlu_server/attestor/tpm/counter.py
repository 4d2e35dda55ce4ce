"""The counter of attestor starts: a TPM NV counter, which can be raised and never set back.

Deleting and defining it again does not help either: a new NV counter begins above every value that any counter of this TPM ever had.
"""

from __future__ import annotations

from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2_NT, TPM2B_NV_PUBLIC, TPMA_NV, TPMS_NV_PUBLIC

from rlu_server.attestor.tpm.connection import Tpm, guard

INDEX = 0x01805255
"""In the range that the TPM's owner hands out (TCG registry of reserved handles, section 2.2.2)."""
SIZE = 8


def increment(tpm: Tpm) -> int:
    """Raise the counter, defining it first if the TPM lacks it, and return its value."""
    with guard("nv_counter"):
        index = tpm.esapi.tr_from_tpmpublic(INDEX) if INDEX in tpm.handles(INDEX) else _define(tpm)
        tpm.esapi.nv_increment(index, ESYS_TR.RH_OWNER)
        value = bytes(tpm.esapi.nv_read(index, SIZE, 0, ESYS_TR.RH_OWNER))
        tpm.esapi.tr_close(index)
    return int.from_bytes(value, "big")


def _define(tpm: Tpm) -> ESYS_TR:
    attributes = TPMA_NV.OWNERWRITE | TPMA_NV.OWNERREAD | TPMA_NV.AUTHREAD | TPMA_NV.NO_DA
    attributes |= TPM2_NT.COUNTER << TPMA_NV.TPM2_NT_SHIFT
    public = TPMS_NV_PUBLIC(nvIndex=INDEX, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=SIZE)
    return tpm.esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public), ESYS_TR.RH_OWNER)
