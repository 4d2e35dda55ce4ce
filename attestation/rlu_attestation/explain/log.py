"""Signed heads and COSE Receipts (FORMATS section 5)."""

from __future__ import annotations

from rlu_attestation import cose
from rlu_attestation.bundle import Cosigned
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.log.cosignature import Cosignature

_HEAD = "signed head"
_INCLUSION = "COSE Receipt of inclusion"
_CONSISTENCY = "COSE Receipt of consistency"


def explain_cose(data: bytes) -> Section:
    """A head or a receipt.

    Raises:
        Malformed: `receipt.encoding` when it is neither.
    """
    try:
        head = cose.parse_head(data)
    except Malformed:
        pass
    else:
        root = Row("payload", b64u(head.root), "root of the log's Merkle tree (RFC 9162)")
        return Section(_HEAD, (*_protected(head), root, _signature(head.signature)))
    try:
        inclusion = cose.parse_inclusion(data)
    except Malformed:
        pass
    else:
        rows = (
            Row("leaf_index", str(inclusion.leaf_index), "place of the statement in the log"),
            _path(inclusion.path),
            _signature(inclusion.signature),
        )
        return Section(_INCLUSION, (*_protected(inclusion), *rows))
    proof = cose.parse_consistency(data)
    old = Row("tree_size_1", str(proof.old_size), "the earlier log, of which this one is an extension")
    return Section(_CONSISTENCY, (*_protected(proof), old, _path(proof.path), _signature(proof.signature)))


def explain_cosigned(item: Cosigned) -> Section:
    """A witness's signature line, and the head that it is on.

    Raises:
        Malformed: `cosignature.encoding`, `receipt.encoding`.
    """
    found = Cosignature.parse(item.line)
    rows = (
        Row("name", found.name, "the witness, by its own word"),
        Row("key id", found.key_hash.hex(), "first bytes of the digest of its name and key"),
        Row("time", str(found.time), "when it had seen this head, by its clock, in seconds since the epoch"),
        Row("signature", b64u(found.signature), "over checkpoint and time; not verified here"),
    )
    return Section("cosignature/v1 of a witness", rows, (explain_cose(item.head),))


def _protected(signed: cose.SignedHead | cose.InclusionReceipt | cose.ConsistencyReceipt) -> tuple[Row, ...]:
    return (
        Row("alg", "ES256 (-7)", "ECDSA on P-256 with SHA-256"),
        Row("kid", b64u(signed.kid), "thumbprint of the instance key"),
        Row("iss", signed.issuer, "the instance whose log this is"),
        Row("iat", str(signed.iat), "signed at, by the server's clock"),
        Row("vds", "RFC9162_SHA256 (1)", "kind of the log's tree"),
        Row("tree_size", str(signed.tree_size), "leaves in the log"),
    )


def _path(path: tuple[bytes, ...]) -> Row:
    return Row(
        "path", " ".join(b64u(node) for node in path) or "empty", f"{len(path)} hashes that lead to the root"
    )


def _signature(signature: bytes) -> Row:
    return Row("signature", b64u(signature), "over the head; not verified here")
