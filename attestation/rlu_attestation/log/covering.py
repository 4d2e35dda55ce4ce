"""Which proofs show that a bundle's statements are under a cosigned head, and how they are put together. Nothing is verified here."""

from __future__ import annotations

from collections.abc import Sequence

from rlu_attestation import cose
from rlu_attestation.bundle import Bundle, Cosigned
from rlu_attestation.cose import SignedHead
from rlu_attestation.errors import RluError

MAX_PROOFS = 256
"""More are not asked for at once: sizes of heads under which a session's receipts are, times heads that witnesses cosigned."""


def unproven(bundle: Bundle, cosigned: Sequence[Cosigned]) -> list[tuple[int, SignedHead]]:
    """Pairs of a size, of a tree that a statement's receipt is of, and a larger cosigned head that has to be shown to extend it."""
    logged = [bundle.session, *(exchange.logged for exchange in bundle.exchanges), bundle.close]
    sizes: set[int] = set()
    heads: dict[int, SignedHead] = {}
    try:
        for item in logged:
            if item is not None:
                sizes.add(cose.parse_inclusion(item.receipt).tree_size)
        for one in cosigned:
            head = cose.parse_head(one.head)
            heads.setdefault(head.tree_size, head)
    except RluError:
        return []  # the verdict says what is wrong with it
    pairs = [(size, heads[large]) for large in sorted(heads) for size in sorted(sizes) if size < large]
    return pairs[:MAX_PROOFS]


def proof_to(head: SignedHead, old_size: int, path: Sequence[bytes]) -> bytes:
    """The COSE Receipt of consistency that leads to a signed head, with that head's own signature."""
    return cose.assemble_consistency(head.protected, head.signature, old_size, head.tree_size, path)
