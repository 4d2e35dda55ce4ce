"""Signed heads and COSE Receipts (FORMATS section 5; RFC 9052, RFC 9942).

A head and all receipts under it share one protected header and one signature, over the tree's root. The only accepted encoding is the
deterministic one: what is parsed is encoded again and compared, so there are no unknown headers and no second spelling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation.errors import Malformed
from rlu_attestation.jose import SIGNATURE_SIZE, verify_es256
from rlu_attestation.merkle import HASH_SIZE, MAX_PATH, root_from_consistency, root_from_inclusion

COSE_SIGN1 = 18
ALG, KID, CWT_CLAIMS, VDS, TREE_SIZE = 1, 4, 15, 395, -65537
VDP, INCLUSION, CONSISTENCY = 396, -1, -2
ES256, RFC9162_SHA256 = -7, 1
MAX_ENCODED = 16 * 1024


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head taken apart; trust it only after `verify`."""

    kid: bytes
    issuer: str
    iat: int
    tree_size: int
    root: bytes
    protected: bytes
    signature: bytes

    def verify(self, key: ec.EllipticCurvePublicKey) -> None:
        """Raises Untrusted when the signature does not hold."""
        verify_es256(key, signature_input(self.protected, self.root), self.signature)


@dataclass(frozen=True, slots=True)
class InclusionReceipt:
    """A COSE Receipt of inclusion taken apart; trust it only after `verify`."""

    kid: bytes
    issuer: str
    iat: int
    tree_size: int
    leaf_index: int
    path: tuple[bytes, ...]
    protected: bytes
    signature: bytes

    def verify(self, key: ec.EllipticCurvePublicKey, leaf: bytes) -> bytes:
        """Check that the signed tree holds this leaf hash; returns the root.

        Raises:
            Malformed: the path does not fit the tree.
            Untrusted: the root it leads to was not signed.
        """
        root = root_from_inclusion(leaf, self.leaf_index, self.tree_size, self.path)
        verify_es256(key, signature_input(self.protected, root), self.signature)
        return root

    def head(self, root: bytes) -> bytes:
        """The signed head that this receipt was cut from."""
        return assemble_head(self.protected, root, self.signature)


@dataclass(frozen=True, slots=True)
class ConsistencyReceipt:
    """A COSE Receipt of consistency taken apart; trust it only after `verify`."""

    kid: bytes
    issuer: str
    iat: int
    old_size: int
    tree_size: int
    path: tuple[bytes, ...]
    protected: bytes
    signature: bytes

    def verify(self, key: ec.EllipticCurvePublicKey, old_root: bytes) -> bytes:
        """Check that the signed tree extends the one with this root; returns the signed root.

        Raises:
            Malformed: the path does not fit the sizes.
            Untrusted: it is not about the old root, or the root it leads to was not signed.
        """
        root = root_from_consistency(self.old_size, old_root, self.tree_size, self.path)
        verify_es256(key, signature_input(self.protected, root), self.signature)
        return root

    def head(self, root: bytes) -> bytes:
        """The signed head that this receipt was cut from."""
        return assemble_head(self.protected, root, self.signature)


def head_protected(kid: bytes, issuer: str, iat: int, tree_size: int) -> bytes:
    """The protected header of a head, encoded."""
    header = {
        ALG: ES256,
        KID: kid,
        CWT_CLAIMS: {1: issuer, 6: iat},
        VDS: RFC9162_SHA256,
        TREE_SIZE: tree_size,
    }
    return cbor2.dumps(header, canonical=True)


def signature_input(protected: bytes, root: bytes) -> bytes:
    """The Sig_structure (RFC 9052 section 4.4) whose SHA-256 the key signs."""
    return cbor2.dumps(["Signature1", protected, b"", root], canonical=True)


def assemble_head(protected: bytes, root: bytes, signature: bytes) -> bytes:
    """A signed head: the root is the payload."""
    return _sign1(protected, {}, root, signature)


def assemble_inclusion(
    protected: bytes, signature: bytes, tree_size: int, leaf_index: int, path: Sequence[bytes]
) -> bytes:
    """A receipt of inclusion."""
    proof = cbor2.dumps([tree_size, leaf_index, list(path)], canonical=True)
    return _sign1(protected, {VDP: {INCLUSION: [proof]}}, None, signature)


def assemble_consistency(
    protected: bytes, signature: bytes, old_size: int, tree_size: int, path: Sequence[bytes]
) -> bytes:
    """A receipt of consistency."""
    proof = cbor2.dumps([old_size, tree_size, list(path)], canonical=True)
    return _sign1(protected, {VDP: {CONSISTENCY: [proof]}}, None, signature)


def parse_head(data: bytes) -> SignedHead:
    """Parse a signed head.

    Raises:
        Malformed: anything but the one encoding of FORMATS section 5.
    """
    protected, unprotected, root, signature = _parse_sign1(data)
    kid, issuer, iat, size = _parse_protected(protected)
    if unprotected != {} or not isinstance(root, bytes) or len(root) != HASH_SIZE:
        raise _malformed("a head carries its 32-byte root and no unprotected header")
    if assemble_head(protected, root, signature) != data:
        raise _malformed("not in deterministic encoding")
    return SignedHead(kid, issuer, iat, size, root, protected, signature)


def parse_inclusion(data: bytes) -> InclusionReceipt:
    """Parse a receipt of inclusion. Raises Malformed as `parse_head` does."""
    protected, unprotected, payload, signature = _parse_sign1(data)
    kid, issuer, iat, size = _parse_protected(protected)
    tree_size, index, path = _parse_proof(unprotected, payload, INCLUSION)
    if tree_size != size:
        raise _malformed("the proof's tree size is not the signed one")
    if assemble_inclusion(protected, signature, tree_size, index, path) != data:
        raise _malformed("not in deterministic encoding")
    return InclusionReceipt(kid, issuer, iat, size, index, tuple(path), protected, signature)


def parse_consistency(data: bytes) -> ConsistencyReceipt:
    """Parse a receipt of consistency. Raises Malformed as `parse_head` does."""
    protected, unprotected, payload, signature = _parse_sign1(data)
    kid, issuer, iat, size = _parse_protected(protected)
    old_size, tree_size, path = _parse_proof(unprotected, payload, CONSISTENCY)
    if tree_size != size:
        raise _malformed("the proof's tree size is not the signed one")
    if assemble_consistency(protected, signature, old_size, tree_size, path) != data:
        raise _malformed("not in deterministic encoding")
    return ConsistencyReceipt(kid, issuer, iat, old_size, size, tuple(path), protected, signature)


def _sign1(protected: bytes, unprotected: dict[int, Any], payload: bytes | None, signature: bytes) -> bytes:
    return cbor2.dumps(
        cbor2.CBORTag(COSE_SIGN1, [protected, unprotected, payload, signature]), canonical=True
    )


def _parse_sign1(data: bytes) -> tuple[bytes, object, object, bytes]:
    value = _load(data)
    if not isinstance(value, cbor2.CBORTag) or value.tag != COSE_SIGN1:
        raise _malformed("not a tagged COSE_Sign1")
    # cbor2 hands out what is inside a tag as tuples and immutable mappings.
    parts = value.value
    if not isinstance(parts, (list, tuple)) or len(parts) != 4:
        raise _malformed("a COSE_Sign1 has four members")
    protected, unprotected, payload, signature = parts
    if (
        not isinstance(protected, bytes)
        or not isinstance(signature, bytes)
        or len(signature) != SIGNATURE_SIZE
    ):
        raise _malformed("the protected header or the signature has the wrong form")
    return protected, unprotected, payload, signature


def _parse_protected(protected: bytes) -> tuple[bytes, str, int, int]:
    header = _load(protected)
    if not isinstance(header, Mapping):
        raise _malformed("the protected header is not a map")
    kid, claims, size = header.get(KID), header.get(CWT_CLAIMS), header.get(TREE_SIZE)
    if not isinstance(kid, bytes) or len(kid) != HASH_SIZE or not isinstance(claims, Mapping):
        raise _malformed("kid or CWT claims are missing")
    issuer, iat = claims.get(1), claims.get(6)
    if not isinstance(issuer, str) or not _is_count(iat) or not _is_count(size):
        raise _malformed("issuer, issue time or tree size is missing")
    iat, size = cast(int, iat), cast(int, size)
    if head_protected(kid, issuer, iat, size) != protected:
        raise _malformed("the protected header must be exactly that of a signed head")
    return kid, issuer, iat, size


def _parse_proof(unprotected: object, payload: object, kind: int) -> tuple[int, int, list[bytes]]:
    proofs = unprotected.get(VDP) if isinstance(unprotected, Mapping) and len(unprotected) == 1 else None
    encoded = proofs.get(kind) if isinstance(proofs, Mapping) and len(proofs) == 1 else None
    if (
        payload is not None
        or not isinstance(encoded, (list, tuple))
        or len(encoded) != 1
        or not isinstance(encoded[0], bytes)
    ):
        raise _malformed("not a receipt with one proof of the expected kind")
    proof = _load(encoded[0])
    if (
        not isinstance(proof, (list, tuple))
        or len(proof) != 3
        or not _is_count(proof[0])
        or not _is_count(proof[1])
    ):
        raise _malformed("the proof is not [size, index or size, path]")
    path = proof[2]
    if not isinstance(path, (list, tuple)) or len(path) > MAX_PATH:
        raise _malformed("the proof's path is not a short array")
    if not all(isinstance(node, bytes) and len(node) == HASH_SIZE for node in path):
        raise _malformed("the proof's path holds something other than hashes")
    return proof[0], proof[1], list(path)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _load(data: bytes) -> object:
    if len(data) > MAX_ENCODED:
        raise _malformed(f"longer than {MAX_ENCODED} bytes")
    try:
        return cbor2.loads(data)
    except Exception as error:  # cbor2 raises many kinds on hostile input; all mean the same here
        raise _malformed("not CBOR") from error


def _malformed(message: str) -> Malformed:
    return Malformed("receipt.encoding", message)
