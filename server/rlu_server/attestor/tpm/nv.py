"""Reading what a TPM's maker or a cloud left in its NV memory."""

from __future__ import annotations

from tpm2_pytss import ESYS_TR, TPM2_RC, TPMA_NV, TSS2_Exception
from tpm2_pytss.utils import NoSuchIndex

from rlu_server.attestor.tpm.connection import Tpm

BLOCK = 512
MAX_SIZE = 16 * 1024


def read(tpm: Tpm, index: int) -> bytes:
    """All of an NV index that may be read without a secret: by its own empty authorisation, or else by the owner's.

    Raises:
        NoSuchIndex: it is not defined.
        TSS2_Exception: anything else the library says.
    """
    try:
        handle = tpm.esapi.tr_from_tpmpublic(index)
    except TSS2_Exception as error:
        if int(error.error) == int(TPM2_RC.HANDLE):
            raise NoSuchIndex(index) from error
        raise
    try:
        public, _ = tpm.esapi.nv_read_public(handle)
        by_itself = int(public.nvPublic.attributes) & int(TPMA_NV.AUTHREAD)
        reader = handle if by_itself else ESYS_TR.RH_OWNER
        return read_all(tpm, handle, reader, min(int(public.nvPublic.dataSize), MAX_SIZE))
    finally:
        tpm.esapi.tr_close(handle)


def read_all(tpm: Tpm, handle: ESYS_TR, reader: ESYS_TR, size: int) -> bytes:
    """The first `size` bytes of an index, in blocks that every TPM allows.

    Args:
        reader: whose authorisation it takes: the owner's, or the index's own.
    """
    data = b""
    while len(data) < size:
        block = min(BLOCK, size - len(data))
        data += bytes(tpm.esapi.nv_read(handle, block, len(data), reader))
    return data
