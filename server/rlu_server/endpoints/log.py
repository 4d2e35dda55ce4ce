"""The log's heads, proofs and leaf hashes for those who follow it, its entries for the export, and witnesses' cosignatures.

Heads and proofs need an API key; they hold no content, but how fast a log grows is nobody's business outside. Entries say, in buckets, how
much every tenant used, so only the exporter that the settings name gets them.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_server.attestor.messages import MAX_ENTRIES, MAX_LEAVES
from rlu_server.core.errors import GatewayError
from rlu_server.endpoints.access import Caller, Gateway
from rlu_server.endpoints.models import (
    Cosignature,
    Cosignatures,
    CosignedHead,
    ExportState,
    LogEntries,
    LogEntry,
    LogHead,
    LogHistory,
    LogInstance,
    LogLeaves,
    LogPath,
    LogProof,
)

MAX_SIZE = 2**53 - 1
MAX_HEAD = 1024
"""Characters of a head; ours have about 430."""
Index = Annotated[int, Query(ge=0, le=MAX_SIZE)]
Earlier = Annotated[
    str | None, Query(pattern=r"^urn:rlu:instance:[A-Za-z0-9_-]{44}$", description="an earlier instance")
]

router = APIRouter(prefix="/v1/rlu/log", tags=["log"])


@router.get("/head")
async def log_head(_caller: Caller, gateway: Gateway, issuer: Earlier = None) -> LogHead:
    """The latest signed head of this instance's log, or of an earlier one's: the final one, unless it still has sessions."""
    head, size = await gateway.head(issuer)
    return LogHead(head=b64u(head), tree_size=size)


@router.get("/proof")
async def log_proof(_caller: Caller, gateway: Gateway, leaf_index: Index) -> LogProof:
    """COSE Receipt of inclusion of a leaf under the latest head."""
    return LogProof(receipt=b64u(await gateway.inclusion(leaf_index)))


@router.get("/consistency")
async def log_consistency(
    _caller: Caller,
    gateway: Gateway,
    old_size: Index,
    issuer: Earlier = None,
) -> LogProof:
    """COSE Receipt of consistency between an earlier size and the latest head, or the final head of an earlier instance."""
    return LogProof(receipt=b64u(await gateway.consistency(old_size, issuer)))


@router.get("/path")
async def log_path(
    _caller: Caller, gateway: Gateway, old_size: Index, new_size: Index, issuer: Earlier = None
) -> LogPath:
    """Proof that the tree of one size extends that of another; the roots are for the caller to know from signed heads."""
    return LogPath(path=[b64u(node) for node in await gateway.path(old_size, new_size, issuer)])


@router.get("/leaves")
async def log_leaves(
    _caller: Caller,
    gateway: Gateway,
    start: Index,
    count: Annotated[int, Query(ge=1, le=MAX_LEAVES)] = MAX_LEAVES,
) -> LogLeaves:
    """Leaf hashes from an index on, 32 bytes each, as far as the latest head reaches."""
    return LogLeaves(start=start, leaves=b64u(await gateway.leaves(start, count)))


@router.get("/history")
async def log_history(_caller: Caller, gateway: Gateway) -> LogHistory:
    """The instances before this one, with their keys and final heads."""
    return LogHistory(
        instances=[
            LogInstance(issuer=i.issuer, jwk=i.jwk, head=b64u(i.head), tree_size=i.tree_size)
            for i in await gateway.history()
        ]
    )


@router.get("/entries")
async def log_entries(
    caller: Caller,
    gateway: Gateway,
    start: Index,
    count: Annotated[int, Query(ge=1, le=MAX_ENTRIES)] = MAX_ENTRIES,
    issuer: Earlier = None,
) -> LogEntries:
    """Entries for the export. `start` in the answer is later than asked for when entries were given up; a gap entry says which."""
    found = await gateway.entries(caller, start, count, issuer)
    return LogEntries(
        start=found.start,
        tree_size=found.tree_size,
        entries=[
            LogEntry(
                leaf=b64u(entry.leaf),
                kind=entry.kind,
                iat=entry.iat,
                status=entry.status or None,
                usage=list(entry.usage) if entry.kind == "receipt" else None,
                first=entry.first if entry.kind == "gap" else None,
            )
            for entry in found.entries
        ],
    )


@router.post("/exported")
async def log_exported(asked: ExportState, caller: Caller, gateway: Gateway) -> ExportState:
    """Everything before `size` has arrived where the exporter takes it."""
    return ExportState(size=await gateway.exported(caller, asked.size))


@router.get("/cosignatures")
async def cosignatures(_caller: Caller, gateway: Gateway, issuer: Earlier = None) -> Cosignatures:
    """The witnesses' latest cosignatures on heads of this instance or an earlier one, each with the head it is on."""
    found = await gateway.cosignatures(issuer)
    return Cosignatures(cosignatures=[CosignedHead(head=b64u(c.head), cosignature=c.line) for c in found])


@router.post("/cosignatures", status_code=204)
async def cosign(asked: Cosignature, _caller: Caller, gateway: Gateway) -> None:
    """A witness brings its cosignature on a head of this instance's log, or of an earlier one's."""
    try:
        head = unb64u(asked.head) if len(asked.head) <= MAX_HEAD else b""
    except Malformed:
        head = b""
    if not head:
        raise GatewayError("cosignature_refused")
    await gateway.cosign(head, asked.cosignature)
