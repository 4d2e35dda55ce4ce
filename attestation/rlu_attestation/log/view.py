"""What one look at a log showed, as `follow` takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlu_attestation.instance import InstanceClaims


@dataclass(frozen=True, slots=True)
class Seen:
    """A statement with the COSE Receipt that its holder got, and what the log says of its place now (None: nothing)."""

    statement: bytes
    receipt: bytes
    now: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one look showed.

    Attributes:
        claims: the instance's claims, verified.
        head: the latest signed head, as served; None where `proof` carries it.
        proof: COSE Receipt of consistency from the known size to the latest head, None if there is none or none was given.
        leaves: leaf hashes from the known size (0 for who reads from now on) to the latest head; None: not read.
        handover: for a new instance, COSE Receipt of consistency from the known size to the final head of the former one.
        ending: the same for the former of an instance that is known already: its last sessions ended since.
        standing: hashes that lead from the head that the statement names of the former to the larger one that is known, while it still
            has sessions.
        growth: a later head of the former than is known or named, and the hashes that lead to it.
    """

    claims: InstanceClaims
    head: bytes | None
    proof: bytes | None = None
    leaves: bytes | None = None
    handover: bytes | None = None
    ending: bytes | None = None
    standing: Sequence[bytes] | None = None
    growth: tuple[bytes, Sequence[bytes] | None] | None = None
    seen: tuple[Seen, ...] = ()
