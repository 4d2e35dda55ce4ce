"""FORMATS section 5: the tree, heads and COSE Receipts. Proofs come from the naive reference of the tests, not from the code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from makers.seed import secret, sign, signing_key
from reference import merkle as naive
from rlu_attestation import cose, instance, jose

SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17)
PERTURBED = ((0, 1), (0, 2), (1, 2), (2, 3), (0, 5), (4, 5), (3, 8), (7, 8), (8, 9), (12, 13), (16, 17))
ISSUED = 1_780_000_000

Proof = dict[str, Any]


def tree() -> dict[str, Any]:
    leaves = [naive.hash_leaf(f"leaf {n}".encode()) for n in range(max(SIZES))]
    return {
        "hashes": [{"leaf": f"leaf {n}", "leaf_hash": leaf.hex()} for n, leaf in enumerate(leaves[:3])],
        "nodes": [
            {"left": leaves[0].hex(), "right": leaves[1].hex(), "node": naive.hash_node(*leaves[:2]).hex()}
        ],
        "roots": [{"size": size, "root": naive.root(leaves[:size]).hex()} for size in (0, *SIZES)],
        "inclusion": [
            case for size in SIZES for index in range(size) for case in _inclusion(leaves, index, size)
        ],
        "consistency": [
            case for size in SIZES for old in range(1, size + 1) for case in _consistency(leaves, old, size)
        ],
    }


def _inclusion(leaves: Sequence[bytes], index: int, size: int) -> list[Proof]:
    path = naive.path(index, leaves[:size])
    base = {
        "leaf": leaves[index],
        "index": index,
        "size": size,
        "path": path,
        "root": naive.root(leaves[:size]),
    }
    cases = {"happy-path": base}
    if (index, size) in PERTURBED:
        other = leaves[(index + 1) % len(leaves)]
        cases |= {
            "another-leaf": base | {"leaf": other},
            "another-root": base | {"root": naive.root([*leaves[: size - 1], other])},
            "root-of-the-leaf": base | {"root": leaves[index]} if size > 1 else base | {"root": other},
            "another-index": base | {"index": (index + 1) % size} if size > 1 else base | {"index": 1},
            "index-is-size": base | {"index": size},
            "index-is-minus-one": base | {"index": -1},
            "size-is-zero": base | {"size": 0},
            "smaller-size": base | {"size": size - 1},
            "larger-size": base | {"size": 2 * size + 1},
            "trailing-garbage": base | {"path": [*path, bytes(32)]},
            "leading-garbage": base | {"path": [bytes(32), *path]},
            "long-hash": base | {"path": [*path, bytes(33)]},
            "short-leaf": base | {"leaf": leaves[index][:31]},
        }
        if path:
            cases |= {
                "no-path": base | {"path": []},
                "cut-at-the-end": base | {"path": path[:-1]},
                "cut-at-the-start": base | {"path": path[1:]},
                "flipped-bit": base | {"path": [bytes([path[0][0] ^ 1]) + path[0][1:], *path[1:]]},
                "short-hash": base | {"path": [path[0][:31], *path[1:]]},
                "last-hash-twice": base | {"path": [*path, path[-1]]},
            }
        if len(path) > 1:
            cases |= {"reversed-path": base | {"path": path[::-1]}}
    return [_case(name, case, naive.includes) for name, case in cases.items()]


def _consistency(leaves: Sequence[bytes], old: int, size: int) -> list[Proof]:
    path = naive.proof(old, leaves[:size])
    base = {
        "old_size": old,
        "old_root": naive.root(leaves[:old]),
        "new_size": size,
        "new_root": naive.root(leaves[:size]),
        "path": path,
    }
    cases = {"happy-path": base}
    if size in (2, 5, 8, 13) and old in (1, 2, 3, 4, 6, 8, 12):
        cases |= {
            "swapped-roots": base | {"old_root": base["new_root"], "new_root": base["old_root"]},
            "another-old-root": base | {"old_root": naive.root(leaves[1 : old + 1])},
            "another-new-root": base | {"new_root": naive.root(leaves[1 : size + 1])},
            "swapped-sizes": base | {"old_size": size, "new_size": old},
            "old-size-is-zero": base | {"old_size": 0},
            "old-size-is-one-more": base | {"old_size": old + 1},
            "trailing-garbage": base | {"path": [*path, bytes(32)]},
            "short-root": base | {"old_root": naive.root(leaves[:old])[:31]},
        }
        if path:
            cases |= {
                "no-path": base | {"path": []},
                "cut-at-the-end": base | {"path": path[:-1]},
                "cut-at-the-start": base | {"path": path[1:]},
                "flipped-bit": base | {"path": [*path[:-1], bytes([path[-1][0] ^ 1]) + path[-1][1:]]},
                "short-hash": base | {"path": [path[0][:31], *path[1:]]},
            }
    return [_case(name, case, naive.extends) for name, case in cases.items()]


def _case(name: str, case: dict[str, Any], judge: Callable[..., bool]) -> Proof:
    """A case as JSON, with the naive reference's verdict on it; hashes of a wrong size are wrong whatever it says."""
    hashes = [*case["path"], *(case[key] for key in ("leaf", "root", "old_root", "new_root") if key in case)]
    valid = all(len(item) == 32 for item in hashes) and judge(*_arguments(case))
    shown = {
        key: [item.hex() for item in value]
        if key == "path"
        else value.hex()
        if isinstance(value, bytes)
        else value
        for key, value in case.items()
    }
    return {"name": name, **shown, "valid": valid}


def _arguments(case: dict[str, Any]) -> tuple[Any, ...]:
    if "leaf" in case:
        return case["leaf"], case["index"], case["size"], case["path"], case["root"]
    return case["old_size"], case["old_root"], case["new_size"], case["new_root"], case["path"]


def heads() -> dict[str, Any]:
    key = signing_key("first")
    kid = jose.thumbprint(jose.public_jwk(key.public_key()))
    issuer = instance.issuer(kid)
    leaves = [naive.hash_leaf(f"leaf {n}".encode()) for n in range(5)]
    root = naive.root(leaves)
    protected = cose.head_protected(kid, issuer, ISSUED, 5)
    signature = sign(key, cose.signature_input(protected, root))
    path, proof = naive.path(3, leaves), naive.proof(2, leaves)
    head = cose.assemble_head(protected, root, signature)
    inclusion = cose.assemble_inclusion(protected, signature, 5, 3, path)
    consistency = cose.assemble_consistency(protected, signature, 2, 5, proof)
    return {
        "jwk": jose.public_jwk(key.public_key()),
        "kid": kid.hex(),
        "iss": issuer,
        "iat": ISSUED,
        "tree_size": 5,
        "root": root.hex(),
        "protected": protected.hex(),
        "sig_structure": cose.signature_input(protected, root).hex(),
        "signature": signature.hex(),
        "head": head.hex(),
        "inclusion": {
            "leaf": leaves[3].hex(),
            "leaf_index": 3,
            "path": [node.hex() for node in path],
            "receipt": inclusion.hex(),
        },
        "consistency": {
            "old_size": 2,
            "old_root": naive.root(leaves[:2]).hex(),
            "path": [node.hex() for node in proof],
            "receipt": consistency.hex(),
        },
        "refused": [
            {"name": name, "bytes": data.hex()}
            for name, data in _refused(protected, root, signature, kid, issuer).items()
        ],
    }


def _refused(protected: bytes, root: bytes, signature: bytes, kid: bytes, issuer: str) -> dict[str, bytes]:
    """Encodings that are no head, each in one way."""
    import cbor2

    def sign1(*parts: Any, tag: int = 18) -> bytes:
        return cbor2.dumps(cbor2.CBORTag(tag, list(parts)), canonical=True)

    def header(**changes: Any) -> bytes:
        fields: dict[Any, Any] = {1: -7, 4: kid, 15: {1: issuer, 6: ISSUED}, 395: 1, -65537: 5}
        fields.update({int(label.lstrip("l").replace("m", "-")): value for label, value in changes.items()})
        return cbor2.dumps({k: v for k, v in fields.items() if v is not None}, canonical=True)

    head = sign1(protected, {}, root, signature)
    return {
        "empty": b"",
        "untagged": cbor2.dumps([protected, {}, root, signature], canonical=True),
        "another-tag": sign1(protected, {}, root, signature, tag=98),
        "three-members": sign1(protected, {}, root),
        "trailing-garbage": head + b"\x00",
        "truncated": head[:-1],
        "unprotected-header": sign1(protected, {4: kid}, root, signature),
        "detached-root": sign1(protected, {}, None, signature),
        "short-root": sign1(protected, {}, root[:31], signature),
        "short-signature": sign1(protected, {}, root, signature[:63]),
        "protected-not-bytes": sign1({1: -7}, {}, root, signature),
        "another-algorithm": sign1(header(l1=-8), {}, root, signature),
        "another-tree-algorithm": sign1(header(l395=2), {}, root, signature),
        "unknown-header": sign1(header(l99=1), {}, root, signature),
        "no-kid": sign1(header(l4=None), {}, root, signature),
        "short-kid": sign1(header(l4=kid[:31]), {}, root, signature),
        "no-claims": sign1(header(l15=None), {}, root, signature),
        "negative-size": sign1(header(lm65537=-1), {}, root, signature),
        "size-is-true": sign1(header(lm65537=True), {}, root, signature),
        "indefinite-length": b"\xd2\x9f" + head[2:] + b"\xff",
        "long-length": b"\xd2\x98\x04" + head[2:],
        "nothing-but-zeros": bytes(len(head)),
        "random": secret("random") * 4,
    }
