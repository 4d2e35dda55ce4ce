"""FORMATS section 10, `cosignatures`: members for the bundle of `bundle.json`, with the codes and the time that they lead to.

Put together from the specifications, not by the code they check.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.deployment import AT
from makers.seed import secret
from makers.statements import _made
from reference import merkle as naive
from rlu_attestation import cose
from rlu_attestation.encoding import b64u

ONE, TWO, STRANGER = "witness.example/one", "witness.example/two", "stranger.example"


class _Log:
    """A log with a root for each size, signed by the deployment."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves
        self.deployment = _made()[0]

    def signed(self, size: int, iat: int = AT - 1) -> tuple[bytes, bytes, bytes]:
        protected = self.deployment.protected(size, iat=iat)
        root = naive.root(self.leaves[:size])
        return protected, root, self.deployment.sign(cose.signature_input(protected, root))

    def cosigned(self, name: str, time: int, size: int, iat: int = AT - 1) -> dict[str, str]:
        protected, root, signature = self.signed(size, iat)
        text = f"{self.deployment.issuer}\n{size}\n{base64.b64encode(root).decode()}\n"
        made = _key(name).sign(f"cosignature/v1\ntime {time}\n{text}".encode())
        data = base64.b64encode(_key_id(name) + time.to_bytes(8, "big") + made).decode()
        return {
            "cosignature": f"— {name} {data}",
            "head": b64u(cose.assemble_head(protected, root, signature)),
        }

    def consistency(self, old: int, size: int) -> str:
        protected, _, signature = self.signed(size)
        path = naive.proof(old, self.leaves[:size])
        return b64u(cose.assemble_consistency(protected, signature, old, size, path))


def witnessed() -> dict[str, Any]:
    deployment, bundle = _made()
    leaves = [naive.hash_leaf(leaf) for leaf in deployment.leaves]
    end = len(leaves)
    logged = [bundle.session, *(exchange.logged for exchange in bundle.exchanges), bundle.close]
    sizes = sorted({cose.parse_inclusion(item.receipt).tree_size for item in logged if item is not None})
    later = _Log([*leaves, *(naive.hash_leaf(f"later {n}".encode()) for n in range(4))])
    forked = _Log([naive.hash_leaf(f"forked {n}".encode()) for n in range(end + 4)])
    proofs = [later.consistency(old, end + 4) for old in sizes]
    good = later.cosigned(ONE, AT - 1, end + 4)
    second = later.cosigned(TWO, AT + 7, end + 4)
    wrong = {**good, "cosignature": later.cosigned(ONE, AT - 1, end + 3)["cosignature"]}
    short = {**good, "cosignature": good["cosignature"][:-4]}
    missing = ["policy.witnesses.missing"]

    def case(
        name: str,
        given: list[dict[str, str]],
        by: int | None = None,
        codes: tuple[str, ...] | list[str] = (),
        consistency: list[str] = proofs,
        required: int = 1,
    ) -> dict[str, Any]:
        found = {"cosignatures": given, "consistency": consistency, "required": required}
        return {"name": name, **found, "codes": list(codes), "witnessed_by": by}

    return {
        "at": AT,
        "witnesses": [_text(ONE), _text(TWO)],
        "cases": [
            case("one witness", [good], AT - 1),
            case("two witnesses", [second, good], AT + 7, required=2),
            case("two witnesses, one required", [second, good], AT - 1),
            case("the earlier of two by one witness", [later.cosigned(ONE, AT, end + 4), good], AT - 1),
            case("one of two that are required", [good], codes=missing, required=2),
            case(
                "one witness twice is one",
                [good, later.cosigned(ONE, AT, end + 4)],
                None,
                missing,
                required=2,
            ),
            case("nobody the policy names", [later.cosigned(STRANGER, AT, end + 4)], codes=missing),
            case("none", [], codes=missing),
            case("none, and none required", [], required=0),
            case("no proof from the receipts' heads", [good], codes=missing, consistency=[]),
            case("no proof for one receipt", [good], codes=missing, consistency=proofs[1:]),
            case("a head before the close", [later.cosigned(ONE, AT, sizes[0])], codes=missing),
            case(
                "a larger log that never held the session", [forked.cosigned(ONE, AT, end + 4)], codes=missing
            ),
            case("another root of one size", [forked.cosigned(ONE, AT, end)], codes=["log.heads.fork"]),
            case("a cosignature of another head", [wrong], codes=["log.cosignatures.invalid"]),
            case("a line that is cut", [short], codes=["log.cosignatures.encoding"]),
            case("of the future", [later.cosigned(ONE, AT + 61, end + 4)], codes=["log.cosignatures.future"]),
            case(
                "before the head was signed",
                [later.cosigned(ONE, AT - 62, end + 4)],
                codes=["log.cosignatures.clock"],
            ),
        ],
    }


def _key(name: str) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(secret(f"witness/{name}"))


def _public(name: str) -> bytes:
    return _key(name).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _key_id(name: str) -> bytes:
    return hashlib.sha256(name.encode() + b"\n\x04" + _public(name)).digest()[:4]


def _text(name: str) -> str:
    return f"{name}+{_key_id(name).hex()}+{base64.b64encode(bytes([4]) + _public(name)).decode()}"
