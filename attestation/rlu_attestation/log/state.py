"""What an observer keeps of a log between two looks at it (FORMATS section 11.1).

The first look trusts what it sees, provided that the instance was verified against a policy; from then on every head must extend the one
that is kept. Whoever can write this file can make an observer forget.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation import cose, jose
from rlu_attestation.claims import Members
from rlu_attestation.cose import SignedHead
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.instance import Predecessor, issuer
from rlu_attestation.log.frontier import Frontier
from rlu_attestation.merkle import HASH_SIZE

VERSION = "1"
MAX_STATE = 1024 * 1024
MAX_EARLIER = 64
"""Heads kept besides the latest: what one observer can show another."""
MAX_PAST = 256
_CODE = "audit.state"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """An instance's log as one observer knows it. All heads in it are verified.

    Attributes:
        head: the latest signed head.
        start_count: the counter of starts, as the instance stated it last.
        frontier: of the tree at `head`, if this observer reads every leaf.
        earlier: signed heads before it, oldest first.
        past: instances before this one, with the final heads that this observer saw them followed at.
        former: the last of them as far as its log is known, which may go on until its sessions have ended; None for who came later.
    """

    jwk: dict[str, str]
    head: bytes
    start_count: int
    frontier: tuple[bytes, ...] | None = None
    earlier: tuple[bytes, ...] = ()
    past: tuple[Predecessor, ...] = ()
    former: State | None = None
    _parsed: SignedHead = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", cose.parse_head(self.head))

    @property
    def issuer(self) -> str:
        return issuer(jose.thumbprint(self.jwk))

    @property
    def key(self) -> ec.EllipticCurvePublicKey:
        return jose.public_key(self.jwk)

    @property
    def latest(self) -> SignedHead:
        return self._parsed

    def moved(self, head: SignedHead, start_count: int, frontier: tuple[bytes, ...] | None) -> State:
        """The state after a head that extends the one here."""
        encoded = cose.assemble_head(head.protected, head.root, head.signature)
        earlier = self.earlier
        if head.tree_size != self.latest.tree_size:
            earlier = (*earlier, self.head)[-MAX_EARLIER:]
        return replace(self, head=encoded, start_count=start_count, frontier=frontier, earlier=earlier)

    def encode(self) -> bytes:
        """The file's bytes."""
        value: dict[str, Any] = {
            "rlu_audit": VERSION,
            "jwk": self.jwk,
            "head": b64u(self.head),
            "start_count": self.start_count,
            "earlier": [b64u(head) for head in self.earlier],
            "past": [{"iss": p.issuer, "head": b64u(p.head)} for p in self.past],
        }
        if self.former is not None:
            former = self.former
            value["former"] = {
                "head": b64u(former.head),
                "jwk": former.jwk,
                "start_count": former.start_count,
            }
        if self.frontier is not None:
            value["frontier"] = b64u(b"".join(self.frontier))
        return (json.dumps(value, indent=1) + "\n").encode("ascii")


def parse(data: bytes) -> State:
    """Read a state file, and check the signatures in it.

    Raises:
        Malformed: `audit.state`.
    """
    if len(data) > MAX_STATE:
        raise Malformed(_CODE, f"longer than {MAX_STATE} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed(_CODE, "not JSON in UTF-8") from error
    try:
        return _read(value)
    except RluError as error:
        raise Malformed(_CODE, error.message) from error


def _read(value: object) -> State:
    with Members(value, "audit state") as members:
        members.exactly("rlu_audit", VERSION)
        jwk = jose.public_jwk(jose.public_key(members.mapping("jwk")))
        frontier = members.optional(members.binary, "frontier")
        state = State(
            jwk=jwk,
            head=members.binary("head"),
            start_count=members.count("start_count"),
            frontier=None if frontier is None else _hashes(frontier),
            earlier=tuple(_head(item) for item in _array(members.value("earlier"), MAX_EARLIER)),
            past=tuple(_past(item) for item in _array(members.value("past"), MAX_PAST)),
            former=members.optional(lambda name: _former(members.value(name)), "former"),
        )
    for head in (*map(cose.parse_head, state.earlier), state.latest):
        if head.issuer != state.issuer:
            raise Malformed(_CODE, "a head is of another instance")
        head.verify(state.key)
    if state.frontier is not None:
        found = Frontier(state.latest.tree_size, state.frontier)
        if found.root() != state.latest.root:
            raise Malformed(_CODE, "the frontier does not lead to the head")
    return state


def _former(value: object) -> State:
    with Members(value, "former instance") as members:
        jwk = jose.public_jwk(jose.public_key(members.mapping("jwk")))
        state = State(jwk=jwk, head=members.binary("head"), start_count=members.count("start_count"))
    if state.latest.issuer != state.issuer:
        raise Malformed(_CODE, "a head is of another instance")
    state.latest.verify(state.key)
    return state


def _hashes(data: bytes) -> tuple[bytes, ...]:
    if len(data) % HASH_SIZE:
        raise Malformed(_CODE, "a frontier consists of hashes")
    return tuple(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE))


def _array(value: object, most: int) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(_CODE, f"expected an array of at most {most}")
    return value


def _head(value: object) -> bytes:
    with Members({"head": value}, "earlier head") as members:
        return members.binary("head")


def _past(value: object) -> Predecessor:
    with Members(value, "past instance") as members:
        return Predecessor(members.text("iss"), members.binary("head"))
