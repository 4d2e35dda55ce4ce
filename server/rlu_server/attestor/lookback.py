"""Answers about logs of earlier instances, and about cosignatures: what needs files, and so runs in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from rlu_server.attestor import messages, reading
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.events import Event
from rlu_server.attestor.roster import Roster
from rlu_server.attestor.tiles import TiledTree

OfOneLog = (
    messages.Prove
    | messages.ProveConsistency
    | messages.ProvePath
    | messages.LatestHead
    | messages.ReadEntries
)
LookBack = OfOneLog | messages.History | messages.Cosign | messages.ReadCosignatures


def needed(request: messages.Request, roster: Roster) -> bool:
    """Is this for `answer`, rather than for a live tree?"""
    if isinstance(request, messages.ProveConsistency | messages.ReadEntries):
        return request.issuer not in (None, roster.current.issuer)
    if isinstance(request, messages.Prove | messages.ProvePath | messages.LatestHead):
        return roster.named(request.issuer) is None
    return isinstance(request, messages.History | messages.Cosign | messages.ReadCosignatures)


async def answer(request: LookBack, roster: Roster) -> messages.Answer:
    """The answer.

    Raises:
        AttestorError: `not_in_log`, `cosignature_refused`, `signer_unavailable`: the disk does not take it.
        LogCorrupt: files are damaged.
    """
    past = roster.current.past
    if roster.leaving is not None:
        past.forget()  # its log still grows
    if isinstance(request, messages.Cosign):
        return await _cosign(request, roster)
    if isinstance(request, messages.ReadCosignatures):
        if roster.named(request.issuer) is None:
            assert request.issuer is not None
            await asyncio.to_thread(past.instance, request.issuer)
        return await _cosignatures(request.id, request.issuer or roster.current.issuer, roster)
    if isinstance(request, messages.History):
        instances = await asyncio.to_thread(past.instances)
        known = [
            messages.Instance(issuer=i.issuer, jwk=i.jwk, head=i.head, tree_size=i.size)
            for i in instances[-messages.MAX_INSTANCES :]
        ]
        return messages.Instances(id=request.id, instances=known)
    assert request.issuer is not None
    return await _of_one_log(request, request.issuer, roster)


async def _of_one_log(request: OfOneLog, issuer: str, roster: Roster) -> messages.Answer:
    past = roster.current.past
    if isinstance(request, messages.LatestHead):
        found = await asyncio.to_thread(past.instance, issuer)
        return messages.Head(id=request.id, head=found.head, tree_size=found.size)
    if isinstance(request, messages.ProvePath):
        path = await asyncio.to_thread(past.path, issuer, request.old_size, request.new_size)
        return messages.Path(id=request.id, path=path)
    if isinstance(request, messages.Prove):
        proof = await asyncio.to_thread(past.inclusion, issuer, request.leaf_index)
        return messages.Proof(id=request.id, receipt=proof)
    if isinstance(request, messages.ProveConsistency):
        upto = _named_head(issuer, roster)
        proof = await asyncio.to_thread(past.consistency, issuer, request.old_size, upto)
        return messages.Proof(id=request.id, receipt=proof)

    def show(tree: TiledTree, size: int) -> messages.Entries:
        return reading.entries(request, tree, size, 0)

    return await asyncio.to_thread(past.read, issuer, show)


def _named_head(issuer: str, roster: Roster) -> bytes | None:
    """The head that our statements name of an instance whose log still grows; None for one whose log is final."""
    leaving, named = roster.leaving, roster.current.attesting.predecessor
    return named.head if leaving is not None and named is not None and leaving.issuer == issuer else None


async def _cosign(request: messages.Cosign, roster: Roster) -> messages.Answer:
    live, past = {one.issuer: one.attesting.jwk for one in roster}, roster.current.past

    def key_of(issuer: str) -> Mapping[str, str] | None:
        found = live.get(issuer)
        return found if found is not None else past.instance(issuer).jwk

    try:
        issuer = await asyncio.to_thread(roster.cosignatures.offer, request, key_of)
    except OSError as error:
        roster.current.events.emit(Event.LOG_WRITE_FAILED, f"errno.{error.errno}")
        raise AttestorError("signer_unavailable", "the disk does not take the cosignature") from error
    return await _cosignatures(request.id, issuer, roster)


async def _cosignatures(request_id: int, issuer: str, roster: Roster) -> messages.Cosignatures:
    found = await asyncio.to_thread(roster.cosignatures.of, issuer)
    heads = [messages.CosignedHead(head=one.head, line=one.line) for one in found]
    return messages.Cosignatures(id=request_id, cosignatures=heads)
