"""A witness's cosignature as it goes to the attestor: taken apart into numbers, digests and signatures, so that it carries no text."""

from __future__ import annotations

from rlu_attestation import cose
from rlu_attestation.errors import RluError
from rlu_attestation.log.cosignature import Cosignature
from rlu_server.attestor.messages import Cosign
from rlu_server.core.errors import GatewayError


def taken_apart(request_id: int, head: bytes, line: str) -> Cosign:
    """The message that brings a cosignature. Nothing is verified here.

    Args:
        head: the signed head.
        line: signature line of a C2SP signed note.

    Raises:
        GatewayError: `cosignature_refused`: one of them cannot be read.
    """
    try:
        signed, cosignature = cose.parse_head(head), Cosignature.parse(line)
    except RluError as error:
        raise GatewayError("cosignature_refused") from error
    return Cosign(
        id=request_id,
        issuer=signed.issuer,
        signed_at=signed.iat,
        tree_size=signed.tree_size,
        root=signed.root,
        signature=signed.signature,
        witness=cosignature.key_hash,
        time=cosignature.time,
        cosignature=cosignature.signature,
    )
