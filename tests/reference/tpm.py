"""A second verifier of what a TPM signed, written naively: slices, and one function that says true or why not.

It exists to disagree with the real one. It shares no code with it. AKs are those of clouds: RSA with RSASSA, RSAPSS, or ECDSA.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

HASHES = {
    0x0B: ("sha256", hashes.SHA256()),
    0x0C: ("sha384", hashes.SHA384()),
    0x0D: ("sha512", hashes.SHA512()),
}
BANKS = {0x04: "sha1", 0x0B: "sha256", 0x0C: "sha384", 0x0D: "sha512"}


class Rejected(Exception):
    """Why the naive verifier says no."""


def need(condition: bool, reason: str) -> None:
    if not condition:
        raise Rejected(reason)


def short(data: bytes, at: int) -> int:
    need(len(data) >= at + 2, "short")
    return int(struct.unpack_from(">H", data, at)[0])


def sized(data: bytes, at: int) -> tuple[bytes, int]:
    size = short(data, at)
    need(len(data) >= at + 2 + size, "short")
    return data[at + 2 : at + 2 + size], at + 2 + size


def public(data: bytes) -> dict[str, Any]:
    """TPMT_PUBLIC of an RSA or ECC signing key."""
    need(len(data) > 16, "short")
    kind, name_alg, attributes = struct.unpack_from(">HHI", data)
    need(not attributes & 0xFFF0F009, "reserved attributes")
    policy, at = sized(data, 8)
    need(short(data, at) == 0x10, "symmetric")
    scheme = short(data, at + 2)
    digest = 0
    at += 4
    if scheme != 0x10:
        digest = short(data, at)
        at += 2
    key: Any
    if kind == 0x01:
        need(len(data) >= at + 6, "short")
        bits, exponent = struct.unpack_from(">HI", data, at)
        modulus, at = sized(data, at + 6)
        need(len(modulus) * 8 == bits and bits >= 2048, "bits")
        key = rsa.RSAPublicNumbers(exponent or 65537, int.from_bytes(modulus, "big")).public_key()
    else:
        need(kind == 0x23, "kind")
        curve = {3: ec.SECP256R1(), 4: ec.SECP384R1()}[short(data, at)]
        need(short(data, at + 2) == 0x10, "kdf")
        x, at = sized(data, at + 4)
        y, at = sized(data, at)
        key = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve
        ).public_key()
    need(at == len(data), "left over")
    return {
        "alg": name_alg,
        "attributes": attributes,
        "policy": policy,
        "scheme": (scheme, digest),
        "key": key,
    }


def name(data: bytes) -> bytes:
    return data[2:4] + hashlib.new(HASHES[short(data, 2)][0], data).digest()


def attest(data: bytes) -> dict[str, Any]:
    """TPMS_ATTEST."""
    need(data[:4] == b"\xffTCG", "magic")
    signer, at = sized(data, 6)
    extra, at = sized(data, at)
    need(len(data) >= at + 25 and data[at + 16] < 2, "clock")
    found = {
        "kind": short(data, 4),
        "signer": signer,
        "extra": extra,
        "resets": data[at + 8 : at + 12],
        "firmware": data[at + 17 : at + 25],
    }
    at += 25
    if found["kind"] == 0x8017:
        found["name"], at = sized(data, at)
        _, at = sized(data, at)
    else:
        need(found["kind"] == 0x8018, "kind")
        start, count = at, int.from_bytes(data[at : at + 4], "big")
        need(count <= 16, "banks")
        at += 4
        selected = []
        for _ in range(count):
            bank, size = short(data, at), data[at + 2]
            bits = int.from_bytes(data[at + 3 : at + 3 + size], "little")
            selected.append((BANKS[bank], [n for n in range(8 * size) if bits >> n & 1]))
            at += 3 + size
        found["selection"], found["selected"] = data[start:at], selected
        found["digest"], at = sized(data, at)
    need(at == len(data), "left over")
    return found


def signed(ak: Mapping[str, Any], message: bytes, signature: bytes) -> str:
    """The name of the hash that the AK signed with."""
    scheme, digest = short(signature, 0), short(signature, 2)
    need((scheme, digest) == ak["scheme"] and digest in HASHES, "scheme")
    hash_name, algorithm = HASHES[digest]
    try:
        if scheme == 0x18:
            r, at = sized(signature, 4)
            s, at = sized(signature, at)
            der = utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
            ak["key"].verify(der, message, ec.ECDSA(algorithm))
        else:
            raw, at = sized(signature, 4)
            pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
            ak["key"].verify(raw, message, padding.PKCS1v15() if scheme == 0x14 else pss, algorithm)
    except InvalidSignature as error:
        raise Rejected("signature") from error
    need(at == len(signature), "left over")
    return hash_name


def verify(parts: Any, root: bytes) -> dict[str, Any]:
    """Everything from the AK on, for parts with the members of an item; `root` is what the quote must carry."""
    try:
        return _verify(parts, root)
    except (KeyError, IndexError, struct.error, ValueError) as error:
        raise Rejected("garbled") from error


def _verify(parts: Any, root: bytes) -> dict[str, Any]:
    ak, key = public(parts.ak_public), public(parts.key_public)
    need(ak["attributes"] & 0x50032 == 0x50032 and not ak["attributes"] & 0x20000, "AK attributes")
    need(ak["alg"] in HASHES and ak["scheme"][0] in (0x14, 0x16, 0x18), "AK scheme")
    need(key["attributes"] == 0x40432 and key["alg"] == 0x0B, "key attributes")
    need(key["scheme"] in ((0x10, 0), (0x18, 0x0B)), "key scheme")
    need(
        isinstance(key["key"], ec.EllipticCurvePublicKey) and key["key"].curve.name == "secp256r1",
        "key curve",
    )
    certified, quoted = attest(parts.certify[0]), attest(parts.quote[0])
    signed(ak, *parts.certify)
    hash_name = signed(ak, *parts.quote)
    need(certified["kind"] == 0x8017 and certified["name"] == name(parts.key_public), "certified")
    need(not certified["extra"], "extra data")
    need(quoted["kind"] == 0x8018 and quoted["extra"] == root, "binding")
    selected = {bank: numbers for bank, numbers in quoted["selected"] if numbers}
    need(
        {bank: sorted(values) for bank, values in parts.pcrs.items()} == selected and bool(selected),
        "selection",
    )
    values = b"".join(parts.pcrs[bank][n] for bank, numbers in quoted["selected"] for n in numbers)
    need(hashlib.new(hash_name, values).digest() == quoted["digest"], "digest")
    policy = hashlib.sha256(
        bytes(32) + bytes.fromhex("0000017f") + quoted["selection"] + hashlib.sha256(values).digest()
    ).digest()
    need(key["policy"] == hashlib.sha256(policy + bytes.fromhex("0000016b")).digest(), "policy")
    need(all(certified[k] == quoted[k] for k in ("signer", "resets", "firmware")), "clock")
    return {"key": key["key"], "ak": ak["key"], "pcrs": parts.pcrs}
