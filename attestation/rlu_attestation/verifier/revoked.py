"""What a revoked key is still believed for: statements that are shown to lie under the last good head of its log (FORMATS section 14.2).

Who has the key can sign heads of any size and time. So neither a statement's own time nor its number counts, only that its head is the
last good one, or that a proof of consistency leads from its head to that one.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation import cose
from rlu_attestation.cose import SignedHead
from rlu_attestation.errors import Refused, RluError
from rlu_attestation.revocation import Revocation
from rlu_attestation.verifier.context import VerifiedLeaf


def appraise_revocation(
    revocation: Revocation,
    key: ec.EllipticCurvePublicKey,
    leaves: Sequence[VerifiedLeaf],
    proofs: Sequence[bytes],
) -> str:
    """Every leaf is under the last good head; says so in words.

    Args:
        key: the revoked key.
        leaves: all that the verdict is about.
        proofs: COSE Receipts of consistency.

    Raises:
        Refused: `policy.key.revoked`: nothing of the key is believed, or nothing is here that could be from before; `.beyond`: a statement
            is not under that head; `.unproven`: nothing shows that it is.
    """
    head = revocation.last_good
    if head is None:
        raise Refused("policy.key.revoked", f"key {revocation.ueid} is revoked: {revocation.reason}")
    if not leaves:
        raise Refused(
            "policy.key.revoked",
            f"key {revocation.ueid} is revoked ({revocation.reason}); only sessions from before are believed, and none is here",
        )
    last = max(leaf.receipt.leaf_index for leaf in leaves)
    if last >= head.tree_size:
        raise Refused(
            "policy.key.beyond",
            f"log entry {last} is not among the {head.tree_size} that were signed before the key was revoked",
        )
    for leaf in leaves:
        if not _under(leaf, head, key, proofs):
            raise Refused(
                "policy.key.unproven",
                f"nothing shows that log entry {leaf.receipt.leaf_index} was signed before the key was revoked: add a receipt under "
                f"the head of {head.tree_size} entries, or a proof of consistency from {leaf.receipt.tree_size} to it",
            )
    return f"revoked ({revocation.reason}); this was signed before, as is shown"


def _under(
    leaf: VerifiedLeaf, head: SignedHead, key: ec.EllipticCurvePublicKey, proofs: Sequence[bytes]
) -> bool:
    size = leaf.receipt.tree_size
    if size == head.tree_size:
        return leaf.root == head.root
    for encoded in proofs:
        try:
            proof = cose.parse_consistency(encoded)
            if (proof.old_size, proof.tree_size) != (size, head.tree_size):
                continue
            if proof.verify(key, leaf.root) == head.root:
                return True
        except RluError:
            continue  # a proof that proves nothing; another one may
    return False
