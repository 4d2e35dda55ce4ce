"""What `rlu policy init` looks at: a server, a bundle, an evidence item, or bare evidence and what endorses it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rlu_attestation import bundle as bundles
from rlu_attestation.assemble import assemble, join, read_piece, recognise
from rlu_attestation.assemble.pieces import MAX_PIECE
from rlu_attestation.errors import RluError, Unsupported
from rlu_attestation.evidence import kind_of
from rlu_attestation.files import read
from rlu_attestation.policy import Policy
from rlu_attestation.policy_draft import Observation, observe, observe_evidence
from rlu_attestation.verifier import Context, EvidenceContext
from rlu_attestation.verifier.kinds import ROOMS


def look(
    source: str,
    policy: Policy,
    at: int,
    nonce: bytes | None,
    beside: Sequence[Path] = (),
    expected: bytes | None = None,
) -> Observation:
    """Collect what a source shows; of the policy only trust anchors and times count.

    Args:
        nonce: that a server or bundle should have answered.
        beside: files that endorse bare evidence.
        expected: what bare evidence should be about.

    Raises:
        Unsupported: `policy.draft.kind`: evidence of a kind that stands for no key.
        RluError: what reading the source raises.
    """
    if source.startswith(("https://", "http://")):
        return _server(source, policy, at, nonce)
    path = Path(source)
    data = read(path, bundles.MAX_BUNDLE)
    kind = recognise(data) or _item_kind(data)
    if kind is None:
        return observe(Context(bundle=bundles.parse(data), policy=policy, at=at, nonce=nonce), path.name)
    if kind not in ROOMS:
        raise Unsupported("policy.draft.kind", f"no policy is drafted from evidence of kind {kind} alone")
    pieces = join(read_piece(read(file, MAX_PIECE)) for file in beside)
    assembled = assemble(kind, data, pieces)
    context = EvidenceContext(
        kind=kind,
        evidence=assembled.evidence,
        policy=policy,
        at=at,
        expected=expected,
        collateral=assembled.collateral,
    )
    return observe_evidence(context, path.name, hashlib.sha256(data).digest())


def _server(url: str, policy: Policy, at: int, nonce: bytes | None) -> Observation:
    # Imported here: a file is looked at without any of the network's modules.
    from rlu_attestation.client import Client

    with Client(url) as client:
        bundle = client.attestation(nonce or b"")
        context = Context(
            bundle=bundle,
            policy=policy,
            at=at,
            nonce=nonce,
            channel=client.spki_sha256,
            plaintext=client.plaintext,
        )
        return observe(context, url)


def _item_kind(data: bytes) -> str | None:
    """The kind of an evidence item; None for what is no item."""
    try:
        return kind_of(data)
    except RluError:
        return None
