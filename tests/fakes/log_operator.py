"""An operator who owns the signing key, and shows every observer the log it likes: one honest history, or several."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from fakes.deployment import Deployment
from rlu_attestation import cose, jose
from rlu_attestation.instance import InstanceClaims, Predecessor, issuer
from rlu_attestation.log.follow import follow
from rlu_attestation.log.state import State
from rlu_attestation.log.view import Seen, View
from rlu_attestation.merkle import Tree, leaf_hash

AT = 1_800_000_000


@functools.cache
def _claims() -> InstanceClaims:
    return Deployment(software_key=True).instance_claims()


def statement(label: str) -> bytes:
    """A stand-in for a statement: what counts here is its leaf hash."""
    return hashlib.sha256(label.encode()).digest()


class Operator:
    """An instance key and one history; `fork` gives another history under the same key."""

    def __init__(self, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        self.jwk = jose.public_jwk(self.key.public_key())
        self.kid = jose.thumbprint(self.jwk)
        self.issuer = issuer(self.kid)
        self.tree = Tree()
        self.statements: list[bytes] = []
        self.now = AT

    def fork(self, size: int) -> Operator:
        """The same key, and the same log up to a size."""
        other = Operator(self.key)
        other.now = self.now
        for one in self.statements[:size]:
            other.add(one)
        return other

    def add(self, *statements: bytes) -> Operator:
        for one in statements:
            self.statements.append(one)
            self.tree.append(leaf_hash(one))
        return self

    def grow(self, count: int, label: str = "honest") -> Operator:
        return self.add(*(statement(f"{label} {self.tree.size + n}") for n in range(count)))

    def claims(self, start_count: int = 1, predecessor: Predecessor | None = None) -> InstanceClaims:
        return replace(_claims(), jwk=self.jwk, start_count=start_count, predecessor=predecessor)

    def sign(self, message: bytes) -> bytes:
        r, s = utils.decode_dss_signature(self.key.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def protected(self, size: int, **changes: Any) -> bytes:
        fields = {"kid": self.kid, "issuer": self.issuer, "iat": self.now, "tree_size": size}
        return cose.head_protected(**(fields | changes))

    def head(self, size: int | None = None, **changes: Any) -> bytes:
        size = self.tree.size if size is None else size
        protected, root = self.protected(size, **changes), self.tree.root(size)
        return cose.assemble_head(protected, root, self.sign(cose.signature_input(protected, root)))

    def head_of(self, tree: Tree, **changes: Any) -> bytes:
        """A head over another tree, by this key."""
        protected, root = self.protected(tree.size, **changes), tree.root()
        return cose.assemble_head(protected, root, self.sign(cose.signature_input(protected, root)))

    def proof(self, old_size: int) -> bytes:
        size = self.tree.size
        protected = self.protected(size)
        signature = self.sign(cose.signature_input(protected, self.tree.root()))
        path = self.tree.consistency_path(old_size, size)
        return cose.assemble_consistency(protected, signature, old_size, size, path)

    def receipt(self, index: int) -> bytes:
        size = self.tree.size
        protected = self.protected(size)
        signature = self.sign(cose.signature_input(protected, self.tree.root()))
        return cose.assemble_inclusion(protected, signature, size, index, self.tree.inclusion_path(index))

    def leaves(self, start: int = 0) -> bytes:
        return b"".join(self.tree.leaf(index) for index in range(start, self.tree.size))

    def final(self) -> Predecessor:
        return Predecessor(self.issuer, self.head())

    def view(self, state: State | None = None, *, entries: bool = False, **changes: Any) -> View:
        """What an honest server would show of this history to an observer in that state."""
        old = 0 if state is None or state.issuer != self.issuer else state.latest.tree_size
        proof = self.proof(old) if 0 < old <= self.tree.size else None
        start = old if state is not None and state.frontier is not None else 0
        fields: dict[str, Any] = {
            "claims": self.claims(),
            "head": None if proof else self.head(),
            "proof": proof,
            "leaves": self.leaves(start) if entries else None,
        }
        return View(**(fields | changes))

    def seen(self, index: int, later: Operator | None = None) -> Seen:
        """A receipt of this history as it is, and what `later` says of the entry's place."""
        now = self if later is None else later
        return Seen(
            self.statements[index], self.receipt(index), now.receipt(index) if index < now.tree.size else None
        )


def known(operator: Operator, *, entries: bool = False) -> State:
    """The state of an observer who has seen this history so far."""
    report = follow(None, operator.view(entries=entries), AT, None)
    assert report.findings == ()
    assert report.state is not None
    return report.state
