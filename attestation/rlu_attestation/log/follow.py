"""Following a log: from what an observer knows and what it is shown to findings and a new state.

     1  instance      the same as before, with a counter of starts that did not go back, and the former's log extended as far as it is
                      shown, at last to its end; or one that names the former's final head
     2  head          signed by that instance, for its log
     3  extension     the log extends what was seen: no fork, not shrunk, proved
     4  entries       the leaves shown, if the observer reads them, are all there and lead to the signed root
     5  time          heads do not go back in time, are not from the future, and not too old
     6  receipts      what was signed elsewhere is under the head, at its place

The first look has no state; it takes the head as it is. With any finding but `log.stalled` the state stays as it was, so that the next
look finds the same again.

Not done here: whether the instance is genuine (the caller verified it), and asking (`cli`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlu_attestation import cose
from rlu_attestation.cose import SignedHead
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.instance import InstanceClaims, Predecessor
from rlu_attestation.jose import public_key
from rlu_attestation.log.finding import Finding
from rlu_attestation.log.frontier import Frontier
from rlu_attestation.log.state import MAX_PAST, State
from rlu_attestation.log.view import Seen, View
from rlu_attestation.merkle import HASH_SIZE, leaf_hash, verify_consistency

CLOCK_SKEW_S = 120


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of one look, and what is known after it."""

    findings: tuple[Finding, ...]
    state: State | None


class _Found(Exception):
    def __init__(self, code: str, detail: str, *evidence: bytes) -> None:
        super().__init__(code)
        self.finding = Finding(code, detail, evidence)


def follow(state: State | None, view: View, at: int, max_age_s: int | None) -> Report:
    """One look.

    Args:
        at: the time, in seconds since the epoch.
        max_age_s: how old the latest head may be; None: any age.
    """
    try:
        known, past, former = _instance(state, view)  # 1
        latest = _latest(known, view)  # 2, 3
        frontier = _entries(known, latest, view)  # 4
        _time(known, latest, at)  # 5
        behind = _seen(latest, view)  # 6
    except _Found as found:
        return Report((found.finding,), state)
    findings = list(behind)
    if max_age_s is not None and at - latest.iat > max_age_s:
        detail = f"the latest head is {at - latest.iat} s old, {max_age_s} are allowed"
        findings.append(Finding("log.stalled", detail, (_encoded(latest),)))
    count = view.claims.start_count
    if known is None:
        new = State(
            jwk=view.claims.jwk,
            head=_encoded(latest),
            start_count=count,
            frontier=frontier,
            past=past,
            former=former,
        )
    else:
        new = replace(known.moved(latest, count, frontier), former=former)
    return Report(tuple(findings), new)


def _instance(state: State | None, view: View) -> tuple[State | None, tuple[Predecessor, ...], State | None]:
    """The state to go on from, None when a new log begins; the instances before it; and the last of them as far as it is known."""
    claims = view.claims
    if state is None:
        return None, (), None
    if claims.issuer == state.issuer:
        if claims.start_count < state.start_count:
            detail = f"it was {state.start_count}, and is {claims.start_count}"
            raise _Found("log.start_counter", detail)
        if state.former is None:
            return state, (), None
        former = _followed(state.former, claims, view.ending, view.standing)[0]
        return state, (), _grown(former, view)
    former, named = _followed(state, claims, view.handover, None)
    return None, (*state.past, named)[-MAX_PAST:], _grown(former, view)


def _followed(
    former: State, claims: InstanceClaims, proof: bytes | None, standing: Sequence[bytes] | None
) -> tuple[State, Predecessor]:
    """What is known of an instance once the one that follows it has named a head of it, which extends what was known.

    While the former has sessions the head named is the one at which its key stepped down, and more may be known.
    """
    named = claims.predecessor
    if named is None or named.issuer != former.issuer:
        detail = f"{claims.issuer} names {'no predecessor' if named is None else named.issuer}, expected {former.issuer}"
        raise _Found("log.predecessor", detail, former.head)
    final = _signed(former, named.head, "log.predecessor")
    if final.tree_size < former.latest.tree_size and standing is not None:
        _leads(final, former.latest, standing)
        return State(jwk=former.jwk, head=former.head, start_count=former.start_count), named
    if proof is None or final.tree_size <= former.latest.tree_size:
        _extends(former, final)
    elif (shown := _extended(former, proof)).tree_size > final.tree_size:
        # A key that stepped down ends its sessions in its log: the next statement names the head that it got to.
        detail = f"the log was proved up to {shown.tree_size} entries, the instance named {final.tree_size}: ask again"
        raise _Found("log.unproven", detail, former.head, named.head)
    elif shown.root != final.root:
        raise _Found(
            "log.fork", "the final head is not that of the log that was proved", former.head, named.head
        )
    return State(jwk=former.jwk, head=named.head, start_count=former.start_count), named


def _grown(former: State, view: View) -> State:
    """The former with the later head that is shown of it."""
    if view.growth is None:
        return former
    encoded, path = view.growth
    later = _signed(former, encoded, "log.head.invalid")
    if later.tree_size <= former.latest.tree_size:
        _extends(former, later)
        return former
    if later.iat < former.latest.iat:
        detail = f"a head of time {later.iat} follows one of {former.latest.iat}"
        raise _Found("log.clock", detail, former.head, encoded)
    _leads(former.latest, later, path)
    return State(jwk=former.jwk, head=encoded, start_count=former.start_count)


def _leads(small: SignedHead, large: SignedHead, path: Sequence[bytes] | None) -> None:
    """The larger tree, of one log and signed, extends the smaller one."""
    if not small.tree_size:
        return
    evidence = (_encoded(small), _encoded(large))
    sizes = f"from {small.tree_size} to {large.tree_size} entries"
    if path is None:
        raise _Found("log.unproven", f"no proof was given {sizes}", *evidence)
    try:
        verify_consistency(small.tree_size, small.root, large.tree_size, large.root, path)
    except Untrusted as error:
        raise _Found(
            "log.fork", f"the proof does not lead {sizes}: two logs were signed", *evidence
        ) from error
    except Malformed as error:
        raise _Found("log.unproven", f"the proof {sizes} cannot be read", *evidence) from error


def _latest(known: State | None, view: View) -> SignedHead:
    if known is None:
        if view.head is None:
            raise _Found("log.unproven", "the server showed no head")
        return _signed(view.claims, view.head, "log.head.invalid")
    if view.proof is not None:
        try:
            return _extended(known, view.proof)
        except _Found as found:
            if view.head is None:
                raise
            # The head that is served beside a proof that fails shows what was signed.
            evidence = (*found.finding.evidence, view.head)
            raise _Found(found.finding.code, found.finding.detail, *evidence) from found
    if view.head is None:
        raise _Found("log.unproven", "the server showed neither a head nor a proof", known.head)
    head = _signed(view.claims, view.head, "log.head.invalid")
    _extends(known, head)
    return head


def _extended(state: State, encoded: bytes) -> SignedHead:
    """The signed head that a proof of consistency leads to from the known one."""
    known = state.latest
    try:
        receipt = cose.parse_consistency(encoded)
    except Malformed as error:
        raise _Found("log.unproven", f"the proof cannot be read: {error.message}", state.head) from error
    if receipt.issuer != state.issuer or receipt.old_size != known.tree_size:
        raise _Found("log.unproven", "the proof is about another log or size", state.head, encoded)
    try:
        root = receipt.verify(state.key, known.root)
    except RluError as error:
        detail = f"the log of {receipt.tree_size} entries does not extend the one of {known.tree_size} that was seen"
        raise _Found("log.fork", detail, state.head, encoded) from error
    return cose.parse_head(receipt.head(root))


def _extends(state: State, head: SignedHead) -> None:
    """Without a proof only the same tree can be accepted."""
    known, evidence = state.latest, (state.head, _encoded(head))
    if head.tree_size < known.tree_size:
        detail = f"{known.tree_size} entries were seen, the signed head now has {head.tree_size}"
        raise _Found("log.shrunk", detail, *evidence)
    if head.tree_size == known.tree_size:
        if head.root != known.root:
            raise _Found("log.fork", f"two signed heads over {head.tree_size} entries differ", *evidence)
    elif known.tree_size:
        detail = f"no proof was given from {known.tree_size} to {head.tree_size} entries"
        raise _Found("log.unproven", detail, *evidence)


def _entries(known: State | None, latest: SignedHead, view: View) -> tuple[bytes, ...] | None:
    if view.leaves is None:
        return None
    has = known is not None and known.frontier is not None
    frontier = (
        Frontier(known.latest.tree_size, known.frontier or ()) if known is not None and has else Frontier()
    )
    shown = len(view.leaves) // HASH_SIZE
    if len(view.leaves) % HASH_SIZE or frontier.size + shown != latest.tree_size:
        detail = f"{latest.tree_size - frontier.size} entries were signed since, {shown} are shown"
        raise _Found("log.gap", detail, _encoded(latest))
    frontier.extend(view.leaves)
    if frontier.root() != latest.root:
        detail = f"the {frontier.size} entries shown do not lead to the signed root"
        raise _Found("log.rewritten", detail, _encoded(latest))
    return frontier.nodes


def _time(known: State | None, latest: SignedHead, at: int) -> None:
    if known is not None and latest.iat < known.latest.iat:
        detail = f"a head of time {latest.iat} follows one of {known.latest.iat}"
        raise _Found("log.clock", detail, known.head, _encoded(latest))
    if latest.iat > at + CLOCK_SKEW_S:
        raise _Found("log.clock", f"the head is {latest.iat - at} s from the future", _encoded(latest))


def _seen(latest: SignedHead, view: View) -> list[Finding]:
    stalled: list[Finding] = []
    for item in view.seen:
        leaf = leaf_hash(item.statement)
        try:
            receipt = cose.parse_inclusion(item.receipt)
            if receipt.issuer != view.claims.issuer:
                continue
            root = receipt.verify(public_key(view.claims.jwk), leaf)
        except RluError:
            continue  # not signed by this instance: `rlu verify` says so of the bundle, and it shows nothing of the log
        evidence = (receipt.head(root), _encoded(latest))
        if receipt.tree_size == latest.tree_size and root != latest.root:
            raise _Found("log.fork", f"two trees of {latest.tree_size} entries were signed", *evidence)
        if receipt.tree_size > latest.tree_size:
            detail = (
                f"a receipt is under a head of {receipt.tree_size} entries, the log shows {latest.tree_size}"
            )
            stalled.append(Finding("log.stalled", detail, evidence))
        elif not _at_its_place(view, item, leaf, receipt.leaf_index):
            detail = f"entry {receipt.leaf_index} is not the one that a receipt was given for"
            raise _Found("log.rewritten", detail, *evidence)
    return stalled


def _at_its_place(view: View, item: Seen, leaf: bytes, index: int) -> bool:
    try:
        now = cose.parse_inclusion(b"" if item.now is None else item.now)
        now.verify(public_key(view.claims.jwk), leaf)
    except RluError:
        return False
    return now.leaf_index == index and now.issuer == view.claims.issuer


def _signed(instance: State | InstanceClaims, encoded: bytes, code: str) -> SignedHead:
    try:
        head = cose.parse_head(encoded)
        if head.issuer != instance.issuer:
            raise _Found(code, f"the head is of {head.issuer}", encoded)
        head.verify(public_key(instance.jwk))
    except RluError as error:
        raise _Found(code, f"the head is not signed by the instance: {error.message}", encoded) from error
    return head


def _encoded(head: SignedHead) -> bytes:
    return cose.assemble_head(head.protected, head.root, head.signature)
