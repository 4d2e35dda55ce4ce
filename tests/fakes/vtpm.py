"""Virtual TPMs as clouds hand them out: a real swtpm, with keys, templates and certificates where a cloud puts them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from cryptography.hazmat.primitives.serialization import load_der_public_key
from tpm2_pytss import (
    ESYS_TR,
    TPM2B_NV_PUBLIC,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_NV,
    TPMS_NV_PUBLIC,
    TPMT_PUBLIC,
)

from fakes.asn1 import PublicKey
from rlu_server.attestor.tpm.connection import Tpm

AK_FLAGS = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign"
ECC, RSA = "ecc256:ecdsa-sha256:null", "rsa2048:rsassa-sha256:null"
BLOCK = 512


def template(algorithm: str = ECC) -> TPMT_PUBLIC:
    """Public area of a restricted signing key that needs no secret."""
    return TPMT_PUBLIC.parse(algorithm, objectAttributes=AK_FLAGS)


def write_nv(
    tpm: Tpm, index: int, data: bytes, attributes: str = "ownerwrite|authwrite|ownerread|authread"
) -> None:
    """Define an NV index and fill it, replacing one that is there."""
    if index in tpm.handles(0x01000000):
        tpm.esapi.nv_undefine_space(tpm.esapi.tr_from_tpmpublic(index))
    public = TPMS_NV_PUBLIC(
        nvIndex=index, nameAlg=0x0B, attributes=TPMA_NV.parse(attributes), dataSize=len(data)
    )
    handle = tpm.esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public))
    for offset in range(0, len(data), BLOCK):
        tpm.esapi.nv_write(handle, data[offset : offset + BLOCK], offset, ESYS_TR.RH_OWNER)
    tpm.esapi.tr_close(handle)


def make_primary(
    tpm: Tpm, algorithm: str, hierarchy: ESYS_TR = ESYS_TR.RH_ENDORSEMENT
) -> tuple[ESYS_TR, PublicKey]:
    """A primary key, and its public half for a certificate."""
    reference, public, *_ = tpm.esapi.create_primary(
        TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=template(algorithm)), hierarchy
    )
    return reference, load_der_public_key(public.publicArea.to_der())  # type: ignore[return-value]


def provision_google(
    tcti: str,
    certify: Callable[[PublicKey], bytes],
    algorithm: str = ECC,
    *,
    padding: bytes = b"",
    attributes: str = "ownerwrite|authwrite|ownerread|authread",
) -> None:
    """Template and certificate of an AK where Compute Engine has them."""
    certificate_index, template_index = (
        (0x01C10002, 0x01C10003) if algorithm == ECC else (0x01C10000, 0x01C10001)
    )
    with closing(Tpm(tcti)) as tpm:
        reference, public = make_primary(tpm, algorithm)
        tpm.flush(reference)
        write_nv(tpm, certificate_index, certify(public) + padding, attributes)
        write_nv(tpm, template_index, bytes(template(algorithm).marshal()), attributes)


def provision_azure(
    tcti: str, vouch: Callable[[PublicKey], bytes], *, size: int = 2048, handle: int = 0x81000003
) -> None:
    """AK and HCL report where Azure's paravisor has them.

    Azure's index has 2,600 bytes; swtpm's have 2,048 at most, so the fake's runtime data leaves the EK out.
    """
    with closing(Tpm(tcti)) as tpm:
        reference, public = make_primary(tpm, RSA)
        tpm.esapi.evict_control(ESYS_TR.RH_OWNER, reference, handle)
        tpm.flush(reference)
        write_nv(tpm, 0x01400001, vouch(public).ljust(size, b"\0"), "ownerwrite|ownerread")
