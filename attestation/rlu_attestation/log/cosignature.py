"""Witness cosignatures on signed heads, in the form of C2SP's tlog-checkpoint, signed-note and tlog-cosignature (FORMATS section 11.2).

A head of ours is a COSE_Sign1 by an ES256 key in hardware, which no C2SP note carries. What a witness signs is therefore the *checkpoint*
that says the same (origin, size, root), with an Ed25519 `cosignature/v1`: whoever has tools for these reads and verifies it with them.
A cosignature says: at this time the witness had seen no head of this log that contradicts this one. It says nothing of the log's contents.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

from rlu_attestation.cose import SignedHead
from rlu_attestation.errors import Malformed, Untrusted

ALGORITHM = 0x04
KEY_SIZE, HASH_SIZE, TIME_SIZE, SIGNATURE_SIZE = 32, 4, 8, 64
MAX_LINE = 512
MAX_TIME = 2**53
_NAME = re.compile(r"[!-*,-~]{1,128}", re.ASCII)
"""Printable ASCII without space and plus."""
_CODE = "cosignature.encoding"


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness: its name, and its raw Ed25519 public key."""

    name: str
    public: bytes

    @property
    def hash(self) -> bytes:
        """The key id: 4 bytes of SHA-256 over name, newline, algorithm and key (signed-note)."""
        data = self.name.encode("ascii") + b"\n" + bytes([ALGORITHM]) + self.public
        return hashlib.sha256(data).digest()[:HASH_SIZE]

    @property
    def text(self) -> str:
        """The verifier key in its usual spelling: name, key id, algorithm and key."""
        encoded = base64.b64encode(bytes([ALGORITHM]) + self.public).decode("ascii")
        return f"{self.name}+{self.hash.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> WitnessKey:
        """Read a verifier key.

        Raises:
            Malformed: `cosignature.encoding`.
        """
        parts = text.split("+", 2) if len(text) <= MAX_LINE else []
        if len(parts) != 3 or _NAME.fullmatch(parts[0]) is None:
            raise Malformed(_CODE, "a verifier key reads name+key id+base64")
        data = _unbase64(parts[2])
        if len(data) != 1 + KEY_SIZE or data[0] != ALGORITHM:
            raise Malformed(_CODE, "a witness has an Ed25519 key for cosignature/v1 (algorithm 4)")
        key = cls(parts[0], data[1:])
        if parts[1] != key.hash.hex():
            raise Malformed(_CODE, "the key id is not that of name and key")
        return key


@dataclass(frozen=True, slots=True)
class Cosignature:
    """One signature line, taken apart; trust it only after `verify_cosignature`."""

    name: str
    key_hash: bytes
    time: int
    signature: bytes

    @property
    def line(self) -> str:
        """The line of a signed note, without its newline."""
        data = self.key_hash + self.time.to_bytes(TIME_SIZE, "big") + self.signature
        return f"— {self.name} {base64.b64encode(data).decode('ascii')}"

    @classmethod
    def parse(cls, line: str) -> Cosignature:
        """Read a signature line.

        Raises:
            Malformed: `cosignature.encoding`.
        """
        parts = line.split(" ") if len(line) <= MAX_LINE else []
        if len(parts) != 3 or parts[0] != "—" or _NAME.fullmatch(parts[1]) is None:
            raise Malformed(_CODE, "a signature line reads: em dash, name, base64")
        data = _unbase64(parts[2])
        if len(data) != HASH_SIZE + TIME_SIZE + SIGNATURE_SIZE:
            raise Malformed(_CODE, "a cosignature/v1 has a key id, a time and 64 bytes of signature")
        time = int.from_bytes(data[HASH_SIZE : HASH_SIZE + TIME_SIZE], "big")
        if time >= MAX_TIME:
            raise Malformed(_CODE, "the time of the cosignature is beyond every calendar")
        return cls(parts[1], data[:HASH_SIZE], time, data[HASH_SIZE + TIME_SIZE :])


def checkpoint(head: SignedHead) -> bytes:
    """The checkpoint of a head: origin, size and root, a line each (tlog-checkpoint)."""
    root = base64.b64encode(head.root).decode("ascii")
    return f"{head.issuer}\n{head.tree_size}\n{root}\n".encode()


def message(head: SignedHead, time: int) -> bytes:
    """What a witness signs (tlog-cosignature)."""
    return f"cosignature/v1\ntime {time}\n".encode("ascii") + checkpoint(head)


def cosign(head: SignedHead, time: int, witness: WitnessKey, sign: Callable[[bytes], bytes]) -> Cosignature:
    """A witness's cosignature; whether it may be made is for `log.witness` to say.

    Args:
        time: seconds since the epoch, by the witness's clock.
        sign: Ed25519 by the witness's key.
    """
    return Cosignature(witness.name, witness.hash, time, sign(message(head, time)))


def verify_cosignature(head: SignedHead, cosignature: Cosignature, witness: WitnessKey) -> int:
    """Check that a witness cosigned this head. That the head itself is signed is not checked here.

    Returns:
        The time by the witness's clock: the head, and with it every leaf under it, existed then.

    Raises:
        Untrusted: `cosignature.key`: of another witness; `cosignature.invalid`: not over this head.
    """
    if cosignature.name != witness.name or not hmac.compare_digest(cosignature.key_hash, witness.hash):
        raise Untrusted("cosignature.key", "the cosignature is of another witness")
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(witness.public)
        key.verify(cosignature.signature, message(head, cosignature.time))
    except InvalidSignature as error:
        raise Untrusted("cosignature.invalid", "the witness did not sign this head") from error
    return cosignature.time


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(_CODE, "not base64") from error
    if base64.b64encode(data).decode("ascii") != text:
        raise Malformed(_CODE, "not base64 in its only spelling")
    return data
