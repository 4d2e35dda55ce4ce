"""Steps 1 to 7: the instance statement, its evidence, and the channel. Who made this statement, what holds its key, and is it fresh?"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rlu_attestation import canonical, jose
from rlu_attestation.bundle import EvidenceItem
from rlu_attestation.channel import Channel
from rlu_attestation.errors import Malformed, Refused, Unsupported, Untrusted
from rlu_attestation.evidence import MAX_ITEM, kind_of
from rlu_attestation.instance import KEY_HARDWARE, InstanceClaims, binding, claims_bytes, profile_digest
from rlu_attestation.verifier.context import (
    Context,
    ParsedStatement,
    SignedStatement,
    Subject,
    VerifiedInstance,
)
from rlu_attestation.verifier.gpus import KIND as GPU_KIND
from rlu_attestation.verifier.gpus import check_gpus
from rlu_attestation.verifier.kinds import ROOMS
from rlu_attestation.verifier.proof import HardwareProof
from rlu_attestation.verifier.trail import Failed, NotApplicable, NotMade, Trail, Waived, need

NONE = "none"
T = TypeVar("T")
GPU_KINDS = frozenset({GPU_KIND})
"""Evidence of devices beside the one that speaks for the key."""


def check_instance(
    trail: Trail, context: Context
) -> tuple[SignedStatement | Failed, VerifiedInstance | Failed]:
    """Run the steps. The second result is a `Failed` unless hardware speaks for the key, or the caller accepts a software key."""
    # 1 statement
    parsed = trail.check("statement.encoding", lambda: parse_statement(context.bundle.statement))
    signed = trail.check("statement.signature", lambda: verify_statement(need(parsed)))
    # 2 time
    trail.check("statement.time", lambda: verify_time(need(signed).claims, context), str)
    # 3 nonce
    trail.check("statement.nonce", lambda: verify_nonce(need(signed).claims.nonce, context, "statement"), str)
    # 4 evidence
    items = trail.check(
        "evidence.digest", lambda: verify_digests(need(signed).claims, context.bundle.evidence), _kinds
    )
    kind = trail.check(
        "key.hardware", lambda: verify_hardware(need(signed).claims, need(items), context), str
    )
    # 5 the hardware that holds the key, and the GPUs
    hardware = _check_hardware(trail, context, signed, items, kind)
    gpus = check_gpus(trail, context, signed, items)
    instance: VerifiedInstance | Failed
    if isinstance(hardware, Failed):
        instance = hardware
    else:
        instance = VerifiedInstance(need(signed), hardware, None if isinstance(gpus, Failed) else gpus)
    # 6 endorsement
    trail.check("endorsement.match", lambda: verify_place(need(instance)), str)
    # 7 channel
    trail.check("channel", lambda: verify_channel(need(signed).claims.tls, context), str)
    return signed, instance


def _check_hardware(
    trail: Trail,
    context: Context,
    signed: SignedStatement | Failed,
    items: Mapping[str, bytes] | Failed,
    kind: str | Failed,
) -> HardwareProof | Failed | None:
    """The steps of the kind that speaks for the key; None for a software key that the caller accepts."""
    if isinstance(kind, Failed) or kind == NONE:
        software = trail.check("evidence.encoding", lambda: verify_nothing(need(kind), need(items)))
        return kind if isinstance(kind, Failed) else software
    room = ROOMS[kind]
    held = trail.check(
        "evidence.encoding", lambda: parse_evidence(kind, need(items)[kind], room.parse), _named
    )
    return room.check(trail, context.conditions, Subject(signed), held)


def parse_statement(text: str) -> ParsedStatement:
    """Step 1: take the statement apart. Raises Malformed."""
    jws = jose.jws_parse(text)
    claims = InstanceClaims.parse(jws.payload)
    payload = canonical.decode(jws.payload)
    return ParsedStatement(
        jws.kid,
        claims,
        binding(claims_bytes(payload)),
        profile_digest(payload),
        jws.signing_input,
        jws.signature,
    )


def verify_statement(parsed: ParsedStatement) -> SignedStatement:
    """Step 1: the key named in `cnf` made the signature.

    Raises:
        Untrusted: `statement.signature.kid`, `.invalid`.
    """
    if not hmac.compare_digest(parsed.kid, jose.thumbprint(parsed.claims.jwk)):
        raise Untrusted("statement.signature.kid", "the header names another key than the claims")
    key = jose.public_key(parsed.claims.jwk)
    jose.verify_es256(key, parsed.signing_input, parsed.signature)
    return SignedStatement(parsed.claims, key, parsed.kid, parsed.binding, parsed.profile)


def verify_time(claims: InstanceClaims, context: Context) -> str:
    """Step 2: issued before the time of verification, not expired, and no older than the policy allows.

    Raises:
        Untrusted: `statement.time.window`, `.future`, `.expired`.
        Refused: `statement.time.age`.
    """
    verify_window("statement.time", claims.issued_at, claims.expires_at, context)
    age, most = context.at - claims.issued_at, context.policy.max_statement_age_s
    if age > most + context.policy.clock_skew_s:
        raise Refused("statement.time.age", f"issued {age} s ago, the policy accepts {most} s")
    return f"issued {age} s before the time given"


def verify_window(step: str, issued: int, expires: int, context: Context) -> None:
    """Raises Untrusted: `<step>.window`, `.future`, `.expired`."""
    skew = context.policy.clock_skew_s
    if expires <= issued:
        raise Untrusted(f"{step}.window", "it expires before it was issued")
    if issued > context.at + skew:
        raise Untrusted(f"{step}.future", f"issued {issued - context.at} s after the time given")
    if context.at > expires + skew:
        raise Untrusted(f"{step}.expired", f"expired {context.at - expires} s before the time given")


def verify_nonce(found: bytes | None, context: Context, statement: str) -> str:
    """Step 3 (and that of a session): the statement carries the nonce.

    Raises:
        Untrusted: `<statement>.nonce.mismatch`.
        NotMade: `.absent` in the statement, `.unknown` to the verifier.
    """
    expected = context.expected_nonce
    if expected is None:
        raise NotMade(
            f"{statement}.nonce.unknown", "neither the caller nor the bundle says which nonce was sent"
        )
    if found is None:
        raise NotMade(
            f"{statement}.nonce.absent", "the statement answers no nonce, so nothing shows when it was made"
        )
    if not hmac.compare_digest(expected, found):
        raise Untrusted(f"{statement}.nonce.mismatch", "the statement answers another nonce")
    return (
        "your nonce"
        if context.nonce is not None
        else "the nonce in the bundle: fresh only for who made the bundle"
    )


def verify_digests(claims: InstanceClaims, items: Sequence[EvidenceItem]) -> Mapping[str, bytes]:
    """Step 4: every item is named in `submods` with its digest, and every one named is here. Returns items by kind.

    Raises:
        Untrusted: `evidence.digest.missing`, `.unnamed`, `.twice`, `.mismatch`.
    """
    found: dict[str, bytes] = {}
    for item in items:
        if item.kind in found:
            raise Untrusted("evidence.digest.twice", "two items are of one kind")
        expected = claims.evidence.get(item.kind)
        if expected is None:
            raise Untrusted(
                "evidence.digest.unnamed", "an item is of a kind that the statement does not name"
            )
        if not hmac.compare_digest(expected, hashlib.sha256(item.data).digest()):
            raise Untrusted(
                "evidence.digest.mismatch", f"the item of kind {item.kind} is not the one that was signed"
            )
        found[item.kind] = item.data
    missing = sorted(claims.evidence.keys() - found.keys())
    if missing or not found:
        raise Untrusted(
            "evidence.digest.missing", f"evidence is not here: {', '.join(missing) or 'none is named'}"
        )
    return found


def parse_evidence(kind: str, data: bytes, parse: Callable[[bytes], T]) -> T:
    """Step 4: take the item of the key's hardware apart.

    Raises:
        Malformed: `evidence.encoding` and a cause.
        Unsupported: what its parser raises.
    """
    if kind_of(data) != kind:
        raise Malformed("evidence.encoding.kind", "an item is of another kind than the statement says")
    return parse(data)


def verify_nothing(kind: str, items: Mapping[str, bytes]) -> None:
    """Step 4: the item of a software key, whose kind is `none`, holds nothing.

    Raises:
        Malformed: `evidence.encoding.none`.
    """
    if canonical.decode(items[kind], MAX_ITEM) != {"kind": kind}:
        raise Malformed("evidence.encoding.none", "an item of kind none holds nothing else")


def verify_hardware(claims: InstanceClaims, items: Mapping[str, bytes], context: Context) -> str:
    """Step 4: evidence of the kind that the statement names for its key is here, and no other but that of GPUs; returns the kind.

    Raises:
        Untrusted: `key.hardware.evidence`.
        Unsupported: `key.hardware.kind`.
        Refused: `key.hardware.software`, unless the caller accepts it (`Waived`).
    """
    others = set(items) - {claims.key_hardware} - GPU_KINDS
    unknown = sorted(others - set(KEY_HARDWARE))
    if unknown:
        raise Unsupported("key.hardware.kind", "evidence is of a kind that this version does not verify")
    if others or claims.key_hardware not in items:
        raise Untrusted(
            "key.hardware.evidence", "the statement says one thing of its key, the evidence another"
        )
    if claims.key_hardware != NONE:
        return claims.key_hardware
    code = "key.hardware.software"
    if context.insecure_accept_software_key:
        raise Waived(
            code,
            "a software key, accepted by --insecure-accept-software-key: whoever copies it can sign as this instance",
            NONE,
        )
    raise Refused(code, "a software key: whoever copies it can sign as this instance")


def verify_place(instance: VerifiedInstance) -> str:
    """Step 6: region, boundary and site are those that somebody endorsed, as far as somebody did.

    Raises:
        Untrusted: `endorsement.match.differs`.
    """
    if instance.hardware is None:
        raise NotApplicable("nobody endorses a software key")
    claims, place = instance.claims, instance.hardware.place
    pairs = [
        (name, getattr(claims, name), endorsed)
        for name, endorsed in (("region", place.region), ("boundary", place.boundary), ("site", place.site))
        if endorsed is not None
    ]
    if not pairs:
        raise NotApplicable("this evidence says nothing of where the machine stands")
    wrong = [
        f"{name}: stated {stated!r}, endorsed {known!r}" for name, stated, known in pairs if stated != known
    ]
    if wrong:
        raise Untrusted("endorsement.match.differs", "; ".join(wrong))
    return f"{', '.join(f'{name} {stated}' for name, stated, _ in pairs)}, by {place.by}"


def verify_channel(stated: Channel, context: Context) -> str:
    """Step 7: the key of the TLS connection is the attested one.

    Raises:
        Untrusted: `channel.mismatch`.
        NotMade: `channel.plaintext`, `channel.unknown`.
        Waived: `channel.terminated`, at a terminator that the policy pins.
    """
    if stated.spki_sha256 is None:
        raise NotMade(
            "channel.plaintext", "the server speaks plain HTTP: anyone on the way can read and change it"
        )
    seen = context.seen_channel
    if seen is None:
        raise NotMade("channel.unknown", "nobody recorded the TLS key of the connection")
    if hmac.compare_digest(stated.spki_sha256, seen):
        return "as you saw it" if context.channel is not None else "as the maker of the bundle saw it"
    if seen in context.policy.terminators:
        raise Waived(
            "channel.terminated",
            "the connection ends at a terminator that the policy pins, which can read and change it",
        )
    raise Untrusted("channel.mismatch", "the connection ends at another key than the attested one")


def _kinds(items: Mapping[str, bytes]) -> str:
    return ", ".join(sorted(items))


def _named(held: object) -> str:
    return type(held).__name__
