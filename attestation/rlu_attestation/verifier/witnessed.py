"""Step 12, cosignatures: what witnesses saw of this log, and whether that holds the statements here (FORMATS sections 10 and 11.2).

A witness's time is an upper bound and nothing else: every entry under the head existed by then. When an entry was made, what it says, and
the instance statement, which is no entry, are not the witness's business. That a head is large proves nothing, since an operator who owns
the key can sign another log of any size: the statement's receipt must be under the very head, or a proof of consistency lead there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from rlu_attestation import cose
from rlu_attestation.cose import SignedHead
from rlu_attestation.errors import Refused, RluError, Untrusted
from rlu_attestation.log.cosignature import Cosignature, verify_cosignature
from rlu_attestation.merkle import root_from_consistency
from rlu_attestation.policy import Policy
from rlu_attestation.verdict import Sighting, Witnessed
from rlu_attestation.verifier.context import Context, SignedStatement, VerifiedLeaf
from rlu_attestation.verifier.session import verify_signer
from rlu_attestation.verifier.trail import Failed, NotApplicable


@dataclass(frozen=True, slots=True)
class Sightings:
    """What witnesses that the policy names saw.

    Attributes:
        of: how many statements of the log the bundle holds.
        seen: each sighting, with how many of those statements it is proved to be about.
        unknown: names of witnesses that the policy does not name.
    """

    of: int
    seen: tuple[tuple[Sighting, int], ...]
    unknown: tuple[str, ...]

    @property
    def complete(self) -> dict[str, Sighting]:
        """By name of the witness, its earliest sighting of all statements here."""
        found: dict[str, Sighting] = {}
        for sighting, held in self.seen:
            before = found.get(sighting.witness)
            if self.of and held == self.of and (before is None or sighting.time < before.time):
                found[sighting.witness] = sighting
        return found

    def __str__(self) -> str:
        told = [
            f"{seen.witness} saw {seen.tree_size} entries by {moment(seen.time)}, {held} of {self.of} statements here among them"
            for seen, held in self.seen
        ]
        if self.unknown:
            told.append(f"not counted, since the policy does not name them: {', '.join(self.unknown)}")
        return "; ".join(told)


def heads_beside(signed: SignedStatement, context: Context) -> tuple[SignedHead, ...]:
    """The cosigned heads that the instance signed, whoever cosigned them: they too are its word about its log."""
    found = []
    for encoded in dict.fromkeys(item.head for item in context.bundle.cosignatures):
        try:
            head = cose.parse_head(encoded)
            head.verify(signed.key)
        except RluError:
            continue  # `verify_cosignatures` says so
        found.append(head)
    return tuple(found)


def verify_cosignatures(
    signed: SignedStatement, leaves: Sequence[VerifiedLeaf | Failed], context: Context
) -> Sightings:
    """Every cosignature is on a head of this log, and those of known witnesses hold.

    Args:
        leaves: every statement of the log that the bundle holds; no two of their heads, nor of the cosigned ones, contradict each other.

    Raises:
        Malformed: `log.cosignatures.encoding`.
        Untrusted: `log.cosignatures.kid`, `.issuer`, `.head`, `.invalid`, `.future`, `.clock`.
    """
    given, policy = context.bundle.cosignatures, context.policy
    if not given:
        raise NotApplicable("the bundle holds no cosignatures")
    known = {(witness.name, witness.hash): witness for witness in policy.witnesses}
    seen: list[tuple[SignedHead, Sighting]] = []
    unknown: dict[str, None] = {}
    for item in given:
        head, cosignature = cose.parse_head(item.head), Cosignature.parse(item.line)
        verify_signer(signed, head.kid, head.issuer, head.iat, context)
        try:
            head.verify(signed.key)
        except Untrusted as error:
            raise Untrusted(
                "log.cosignatures.head", "a cosigned head is not signed by the instance"
            ) from error
        witness = known.get((cosignature.name, cosignature.key_hash))
        if witness is None:
            unknown[cosignature.name] = None
            continue
        time = verify_cosignature(head, cosignature, witness)
        _verify_time(time, head, context)
        seen.append((head, Sighting(witness.name, time, head.tree_size)))
    if not seen:
        raise NotApplicable(f"none is by a witness that the policy names; given: {', '.join(unknown)}")
    held = _held([head for head, _ in seen], leaves, context.bundle.consistency)
    return Sightings(
        len(leaves), tuple((sighting, held[head.tree_size]) for head, sighting in seen), tuple(unknown)
    )


def appraise_witnesses(found: Sightings | None, policy: Policy) -> str:
    """As many witnesses as the policy requires saw every statement here; names them.

    Raises:
        Refused: `policy.witnesses.missing`.
    """
    required = policy.witnesses_required
    if not required:
        raise NotApplicable("the policy requires no witness")
    names = sorted(found.complete) if found is not None else []
    if len(names) < required:
        raise Refused(
            "policy.witnesses.missing",
            f"expected {required} of the policy's witnesses to have seen every statement here; "
            f"found {len(names)}{': ' if names else ''}{', '.join(names)}",
        )
    return ", ".join(names)


def witnessed(found: Sightings | Failed | None, policy: Policy) -> Witnessed | None:
    """The verdict's proof of time; None: there is none.

    Where the policy requires n witnesses it trusts no n-1 of them alone, so the bound is the time at which the n-th had seen it.
    """
    if found is None or isinstance(found, Failed):
        return None
    sightings = sorted(found.complete.values(), key=lambda sighting: (sighting.time, sighting.witness))
    least = max(1, policy.witnesses_required)
    return None if len(sightings) < least else Witnessed(sightings[least - 1].time, tuple(sightings))


def moment(time: int) -> str:
    """A time in seconds since the epoch as people write it."""
    return datetime.fromtimestamp(time, timezone.utc).isoformat().replace("+00:00", "Z")


def _verify_time(time: int, head: SignedHead, context: Context) -> None:
    skew = context.policy.clock_skew_s
    if time > context.at + skew:
        raise Untrusted("log.cosignatures.future", f"cosigned {time - context.at} s after the time given")
    if time < head.iat - skew:
        raise Untrusted(
            "log.cosignatures.clock",
            f"the witness saw a head {head.iat - time} s before the server says it signed it",
        )


def _held(
    heads: Iterable[SignedHead], leaves: Sequence[VerifiedLeaf | Failed], proofs: Sequence[bytes]
) -> dict[int, int]:
    """By size of a head, how many leaves are proved to be under it. Of one size there is one root."""
    known = [leaf for leaf in leaves if not isinstance(leaf, Failed)]
    roots = {leaf.receipt.tree_size: leaf.root for leaf in known}
    sizes = Counter(leaf.receipt.tree_size for leaf in known)
    under = {head.tree_size: {head.tree_size} for head in heads}
    signed = {head.tree_size: head.root for head in heads}
    for encoded in proofs:
        try:
            proof = cose.parse_consistency(encoded)
            old, new = proof.old_size, proof.tree_size
            if old not in roots or new not in signed or old in under[new]:
                continue
            # Both roots are signed already, so that only the path counts.
            if root_from_consistency(old, roots[old], new, proof.path) == signed[new]:
                under[new].add(old)
        except RluError:
            continue  # a proof that proves nothing; another one may
    return {size: sum(sizes[old] for old in linked) for size, linked in under.items()}
