"""Signed lists of revoked instance keys (FORMATS section 14.2): read, verified, merged, and made.

A list says of each key since when it is not to be believed, and up to which head of its log it still is. Whoever maintains the policy
names the key that signs lists, and the least number of a list; so a list that was taken away refuses the policy, and so does an older one
put in its place. A list carries no end of validity: what it revokes stays revoked, and the number says how new it is.

Not done here: what a revocation means for a bundle (`verifier.revoked`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from rlu_attestation import canonical, jose, revocation
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.policy_signature import PrivateKey, PublicKey, key_id
from rlu_attestation.revocation import Revocation

TYPE = "rlu-revocations+jwt"
MAX_LIST = 64 * 1024
MAX_ENTRIES = 256
SIGNATURE_SIZE = 64
_ENCODING = "revocations.encoding"


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A list whose signature verified. Only `verify` makes one from bytes.

    Attributes:
        number: rises with every list of one signer.
        issued_at: seconds since the epoch.
    """

    number: int
    issued_at: int
    entries: tuple[Revocation, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "iat": self.issued_at,
            "rlu_number": self.number,
            "rlu_revoked": [entry.to_json() for entry in self.entries],
        }


def sign(revocations: RevocationList, key: PrivateKey) -> bytes:
    """The list as a compact JWS, by ES256 or EdDSA as the key has it; the file ends with a line feed."""
    payload = canonical.encode(revocations.to_json())
    signing_input = f"{b64u(_header(key.public_key()))}.{b64u(payload)}".encode("ascii")
    if isinstance(key, Ed25519PrivateKey):
        signature = key.sign(signing_input)
    else:
        r, s = utils.decode_dss_signature(key.sign(signing_input, ec.ECDSA(SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    data = signing_input + f".{b64u(signature)}\n".encode("ascii")
    if len(data) > MAX_LIST:
        raise ValueError("the list is too long")
    return data


def verify(data: bytes, signers: Iterable[PublicKey], least: int = 0) -> RevocationList:
    """A list that one of the signers made.

    Args:
        data: the file.
        signers: keys that may sign lists.
        least: the least number that is accepted.

    Raises:
        Malformed: `revocations.encoding`.
        Untrusted: `revocations.signer`, `.invalid`; `.rolled_back`: an older list than the one that is known to exist.
    """
    try:
        signing_input, payload, signature, header = _split(data)
    except RluError as error:
        raise Malformed(_ENCODING, error.message) from error
    key = next((signer for signer in signers if _header(signer) == header), None)
    if key is None:
        raise Untrusted("revocations.signer", "the list is not signed by a key that may sign such lists")
    _verify_signature(key, signing_input, signature)
    try:
        found = _read(canonical.decode(payload, MAX_LIST))
    except RluError as error:
        raise Malformed(_ENCODING, error.message) from error
    if found.number < least:
        raise Untrusted(
            "revocations.rolled_back", f"the list has number {found.number}, and one of number {least} exists"
        )
    return found


def peek(data: bytes) -> RevocationList:
    """What a list says, without asking who signed it: for people to read.

    Raises:
        Malformed: `revocations.encoding`.
    """
    try:
        return _read(canonical.decode(_split(data)[1], MAX_LIST))
    except RluError as error:
        raise Malformed(_ENCODING, error.message) from error


def merge(lists: Iterable[RevocationList]) -> Mapping[str, Revocation]:
    """By `ueid`; of two entries about one key the stricter one counts."""
    found: dict[str, Revocation] = {}
    for revocations in lists:
        for entry in revocations.entries:
            known = found.get(entry.ueid)
            if known is None or _believed(entry) < _believed(known):
                found[entry.ueid] = entry
    return found


def _believed(entry: Revocation) -> int:
    return -1 if entry.last_good is None else entry.last_good.tree_size


def _header(key: PublicKey) -> bytes:
    algorithm = "EdDSA" if isinstance(key, Ed25519PublicKey) else "ES256"
    return canonical.encode({"alg": algorithm, "kid": b64u(key_id(key)), "typ": TYPE})


def _split(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    if len(data) > MAX_LIST:
        raise Malformed(_ENCODING, f"a list has at most {MAX_LIST} bytes")
    try:
        parts = data.removesuffix(b"\n").decode("ascii").split(".")
    except UnicodeDecodeError as error:
        raise Malformed(_ENCODING, "not a compact JWS") from error
    if len(parts) != 3:
        raise Malformed(_ENCODING, "not a compact JWS")
    header, payload, signature = map(unb64u, parts)
    if len(signature) != SIGNATURE_SIZE:
        raise Malformed(_ENCODING, "a signature has 64 bytes")
    return f"{parts[0]}.{parts[1]}".encode("ascii"), payload, signature, header


def _verify_signature(key: PublicKey, message: bytes, signature: bytes) -> None:
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        else:
            jose.verify_es256(key, message, signature)
    except (InvalidSignature, Untrusted) as error:
        raise Untrusted("revocations.invalid", "the signature on the list does not verify") from error


def _read(value: object) -> RevocationList:
    with Members(value, "revocation list") as members:
        number, issued_at = members.count("rlu_number"), members.count("iat")
        items = members.value("rlu_revoked")
    if not isinstance(items, list) or len(items) > MAX_ENTRIES:
        raise Malformed(_ENCODING, f"rlu_revoked must be an array of at most {MAX_ENTRIES}")
    entries = tuple(map(revocation.read, items))
    if len({entry.ueid for entry in entries}) != len(entries):
        raise Malformed(_ENCODING, "one key is listed twice")
    return RevocationList(number, issued_at, entries)
