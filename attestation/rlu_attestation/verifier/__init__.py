"""The verification of a bundle: from bytes to a verdict, offline, with the time as an argument.

     1  statement.encoding, statement.signature     the instance statement has one reading, and the key in it signed it
     2  statement.time                              it was in force at the time given
     3  statement.nonce                             it answers the nonce
     4  evidence.digest, evidence.encoding,         the evidence is what the statement names, and about the key
        key.hardware                                as the statement describes it
     5  ek.chain … quote.eventlog, or the steps     genuine hardware holds that key, in the attested state, and answered for exactly this
        of another kind; gpu.…, nvidia.…            statement (`kinds` lists them); so did the GPUs that it names
     6  endorsement.match                           region, boundary and site are those that the registrar or the cloud endorsed
     7  channel                                     the TLS connection ends at the attested key
        continuity                                  the key before this one named it; only where the bundle shows such statements
     8  session.inclusion, .statement, .instance,   the same key signed this session, which is of the instance in the attested state,
        .time, .nonce, .channel                     answers the nonce, and was opened for the attested TLS key
     9  session.commitment_key, session.opening     the commitment key is the session's; an implicit session was opened by this request
    10  receipt.inclusion, .statement, .session,    each receipt is signed, of this session, once, and about exactly the bytes here
        .request, .forwarded, .response, .sequence
    11  close.inclusion, .statement, .session,      the session ended, and the receipts here are all it has
        .running
    12  log.head, log.heads, log.cosignatures       the head is signed; nothing signed contradicts another; what witnesses saw of the log
    13  policy.…                                    what was verified is acceptable

A step that fails does not end the verification; those that need its result are recorded as `….not_checked`. Steps 8 to 12 are absent when
the bundle holds nothing for them, and `policy.coverage` says what the verdict covers.

Not done here: time stamps (without a witness the verdict says `time: asserted`), and whether an engine produced what the gateway
reports to have relayed.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlu_attestation.verdict import Claim, Verdict
from rlu_attestation.verifier.alone import EvidenceContext, verify_evidence
from rlu_attestation.verifier.appraisal import appraise, coverage
from rlu_attestation.verifier.context import (
    Context,
    SignedStatement,
    VerifiedInstance,
    VerifiedLeaf,
    VerifiedSession,
)
from rlu_attestation.verifier.continued import check_continuity
from rlu_attestation.verifier.exchanges import check_close, check_exchanges
from rlu_attestation.verifier.instance import check_instance
from rlu_attestation.verifier.session import check_commitment_key, check_session, verify_head, verify_history
from rlu_attestation.verifier.sources import claims_of
from rlu_attestation.verifier.trail import Failed, Trail, need
from rlu_attestation.verifier.witnessed import (
    Sightings,
    appraise_witnesses,
    heads_beside,
    verify_cosignatures,
    witnessed,
)

__all__ = ["Context", "EvidenceContext", "verify", "verify_evidence"]


def verify(context: Context) -> Verdict:
    """Verify a bundle against a policy.

    Nothing is raised for what is wrong with the bundle: every finding is a step of the verdict.
    """
    trail = Trail(context.policy.waivers)
    signed, instance = check_instance(trail, context)  # 1 to 7
    check_continuity(trail, context, signed)
    session, leaves = _check_session(trail, context, signed)  # 8 to 11
    sightings = _check_log(trail, context, signed, leaves)  # 12
    claims: tuple[Claim, ...] = () if isinstance(instance, Failed) else claims_of(instance, context.policy)
    appraise(trail, context, instance, session, claims, leaves)  # 13
    if session is not None:
        trail.check("policy.witnesses", lambda: appraise_witnesses(need(sightings), context.policy), str)
    hardware = instance.hardware if isinstance(instance, VerifiedInstance) else None
    return Verdict(
        steps=trail.steps,
        claims=claims,
        covers=coverage(context.bundle),
        at=context.at,
        freshness=context.freshness,
        emulated=hardware is not None and hardware.emulated,
        policy=context.policy.digest,
        witnessed=witnessed(sightings, context.policy),
    )


def _check_session(
    trail: Trail, context: Context, signed: SignedStatement | Failed
) -> tuple[VerifiedSession | Failed | None, Sequence[VerifiedLeaf | Failed]]:
    bundle = context.bundle
    if bundle.session is None:
        return None, ()
    session = check_session(trail, context, signed, bundle.session)  # 8
    key = check_commitment_key(trail, context, session)  # 9
    exchanges = check_exchanges(trail, context, signed, session, key)  # 9 and 10
    leaves: list[VerifiedLeaf | Failed] = [session if isinstance(session, Failed) else session.leaf]
    leaves += [exchange if isinstance(exchange, Failed) else exchange.leaf for exchange in exchanges]
    if bundle.close is not None:
        leaves.append(check_close(trail, context, signed, session, exchanges, bundle.close))  # 11
    return session, leaves


def _check_log(
    trail: Trail, context: Context, signed: SignedStatement | Failed, leaves: Sequence[VerifiedLeaf | Failed]
) -> Sightings | Failed | None:
    bundle = context.bundle
    encoded = bundle.head
    if encoded is None and bundle.session is None and not bundle.cosignatures:
        return None
    verified = [leaf for leaf in leaves if isinstance(leaf, VerifiedLeaf)]
    largest = max((leaf.receipt.tree_size for leaf in verified), default=0)
    head = trail.check("log.head", lambda: verify_head(need(signed), encoded, largest, context))
    beside = () if isinstance(signed, Failed) else heads_beside(signed, context)
    known = beside if head is None or isinstance(head, Failed) else (head, *beside)
    history = trail.check("log.heads", lambda: verify_history(verified, known))

    def cosignatures() -> Sightings:
        need(history)
        return verify_cosignatures(need(signed), leaves, context)

    return trail.check("log.cosignatures", cosignatures, str)
