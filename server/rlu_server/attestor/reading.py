"""What the log shows to those who ask: heads, proofs, leaf hashes, and for the export what is kept beside each leaf. No statement."""

from __future__ import annotations

from typing import cast

from rlu_attestation import cose
from rlu_server.attestor import messages
from rlu_server.attestor.committer import SignedTree
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.tiles import Meta, TiledTree

LogRequest = (
    messages.Prove
    | messages.ProveConsistency
    | messages.ProvePath
    | messages.LatestHead
    | messages.ReadLeaves
    | messages.ReadEntries
)


def show(request: LogRequest, signed: SignedTree, tree: TiledTree, floor: int) -> messages.Answer:
    """The answer, never beyond the signed head.

    Args:
        floor: entries before it were given up, and are passed over in the export.

    Raises:
        AttestorError: `not_in_log`.
        LogCorrupt: the files are damaged.
    """
    if isinstance(request, messages.LatestHead):
        return messages.Head(id=request.id, head=signed.head, tree_size=signed.size)
    if isinstance(request, messages.Prove):
        if request.leaf_index >= signed.size:
            raise AttestorError("not_in_log", "the log has no such leaf under a signed head")
        path = tree.inclusion_path(request.leaf_index, signed.size)
        return messages.Proof(id=request.id, receipt=inclusion(signed, request.leaf_index, path))
    if isinstance(request, messages.ProveConsistency):
        if not 0 < request.old_size <= signed.size:
            raise AttestorError("not_in_log", "the log has no head of that size")
        path = tree.consistency_path(request.old_size, signed.size)
        proof = cose.assemble_consistency(
            signed.protected, signed.signature, request.old_size, signed.size, path
        )
        return messages.Proof(id=request.id, receipt=proof)
    if isinstance(request, messages.ProvePath):
        if not 0 < request.old_size <= request.new_size <= signed.size:
            raise AttestorError("not_in_log", "the log has no head of that size")
        path = tree.consistency_path(request.old_size, request.new_size)
        return messages.Path(id=request.id, path=path)
    if request.start > signed.size:
        raise AttestorError("not_in_log", "the log has no such leaf under a signed head")
    if isinstance(request, messages.ReadLeaves):
        end = min(request.start + request.count, signed.size)
        return messages.Leaves(id=request.id, start=request.start, leaves=tree.leaves(request.start, end))
    return entries(request, tree, signed.size, floor)


def entries(request: messages.ReadEntries, tree: TiledTree, size: int, floor: int) -> messages.Entries:
    """Entries for the export, of a tree of which so many leaves are signed.

    Raises:
        AttestorError: `not_in_log`.
    """
    if request.start > size:
        raise AttestorError("not_in_log", "the log has no such leaf under a signed head")
    start = max(request.start, floor)
    end = min(start + request.count, size)
    leaves, metas = tree.leaves(start, end), tree.metas(start, end)
    found = [_entry(leaves[32 * n : 32 * n + 32], meta) for n, meta in enumerate(metas)]
    return messages.Entries(id=request.id, start=start, tree_size=size, entries=found)


def inclusion(signed: SignedTree, index: int, path: list[bytes]) -> bytes:
    """A COSE Receipt under a signed head."""
    return cose.assemble_inclusion(signed.protected, signed.signature, signed.size, index, path)


def _entry(leaf: bytes, meta: Meta) -> messages.LogEntry:
    return messages.LogEntry(
        leaf=leaf,
        kind=cast(messages.Kind, meta.kind),
        iat=meta.iat,
        status=meta.status,
        usage=meta.usage,
        first=meta.first,
    )
