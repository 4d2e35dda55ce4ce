"""Certificates and revocation lists written byte by byte, to be what real ones are and libraries refuse to make.

Serial number 0, any extension, any algorithm. Shares no code with what it tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
Extension = tuple[str, bool, bytes]

NULL = b"\x05\x00"
_HASH_OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_ECDSA_OIDS = {"sha1": "1.2.840.10045.4.1", "sha256": "1.2.840.10045.4.3.2", "sha384": "1.2.840.10045.4.3.3"}
_PKCS1_OIDS = {
    "sha1": "1.2.840.113549.1.1.5",
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
}


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def sequence(*contents: bytes) -> bytes:
    return tlv(0x30, *contents)


def integer(value: int) -> bytes:
    size = max(1, (value if value >= 0 else ~value).bit_length() // 8 + 1)
    return tlv(0x02, value.to_bytes(size, "big", signed=True))


def oid(dotted: str) -> bytes:
    first, second, *others = map(int, dotted.split("."))
    content = b""
    for arc in (40 * first + second, *others):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        content += bytes(reversed(groups))
    return tlv(0x06, content)


def octets(value: bytes) -> bytes:
    return tlv(0x04, value)


def ia5(text: str) -> bytes:
    return tlv(0x16, text.encode())


def bits(value: bytes, unused: int = 0) -> bytes:
    return tlv(0x03, bytes([unused]) + value)


def time(value: datetime) -> bytes:
    if value.year < 2050:
        return tlv(0x17, value.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, value.strftime("%Y%m%d%H%M%SZ").encode())


def name(attributes: Iterable[tuple[str, str]]) -> bytes:
    """A distinguished name of UTF8Strings."""
    return sequence(*(tlv(0x31, sequence(oid(kind), tlv(0x0C, text.encode()))) for kind, text in attributes))


def basic_constraints(ca: bool, path_length: int | None = None) -> Extension:
    inner = (b"\x01\x01\xff" if ca else b"") + (b"" if path_length is None else integer(path_length))
    return "2.5.29.19", True, sequence(inner)


def key_usage(*numbers: int, critical: bool = True) -> Extension:
    value = sum(0x8000 >> number for number in numbers)
    unused = (value & -value).bit_length() - 1 if value else 0
    content = value.to_bytes(2, "big")
    return "2.5.29.15", critical, bits(content[: 1 if unused >= 8 else 2], unused % 8)


def distribution_point(uri: str) -> Extension:
    full_name = tlv(0xA0, tlv(0x86, uri.encode()))
    return "2.5.29.31", False, sequence(sequence(tlv(0xA0, full_name)))


def issuing_point(uri: str, *further: bytes) -> Extension:
    full_name = tlv(0xA0, tlv(0x86, uri.encode()))
    return "2.5.29.28", True, sequence(tlv(0xA0, full_name), *further)


def extensions(items: Iterable[Extension]) -> bytes:
    return sequence(
        *(
            sequence(oid(kind), b"\x01\x01\xff" if critical else b"", octets(value))
            for kind, critical, value in items
        )
    )


def algorithm(key: PrivateKey, scheme: str, digest: str) -> bytes:
    """AlgorithmIdentifier of a signature: `pss`, `pkcs1` or `ecdsa`."""
    if scheme == "pss":
        hash_id = sequence(oid(_HASH_OIDS[digest]), NULL)
        parameters = sequence(
            tlv(0xA0, hash_id),
            tlv(0xA1, sequence(oid("1.2.840.113549.1.1.8"), hash_id)),
            tlv(0xA2, integer(_HASHES[digest].digest_size)),
        )
        return sequence(oid("1.2.840.113549.1.1.10"), parameters)
    if scheme == "pkcs1":
        return sequence(oid(_PKCS1_OIDS[digest]), NULL)
    return sequence(oid(_ECDSA_OIDS[digest]))


def sign(key: PrivateKey, data: bytes, scheme: str, digest: str) -> bytes:
    algorithm_ = _HASHES[digest]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(algorithm_))
    if scheme == "pss":
        return key.sign(data, padding.PSS(padding.MGF1(algorithm_), algorithm_.digest_size), algorithm_)
    return key.sign(data, padding.PKCS1v15(), algorithm_)


def certificate(
    *,
    subject: bytes,
    issuer: bytes,
    key: PublicKey,
    signer: PrivateKey,
    serial: int,
    not_before: datetime,
    not_after: datetime,
    items: Sequence[Extension],
    scheme: str = "pss",
    digest: str = "sha384",
) -> bytes:
    """A version 3 certificate in DER."""
    algorithm_id = algorithm(signer, scheme, digest)
    tbs = sequence(
        tlv(0xA0, integer(2)),
        integer(serial),
        algorithm_id,
        issuer,
        sequence(time(not_before), time(not_after)),
        subject,
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        tlv(0xA3, extensions(items)) if items else b"",
    )
    return sequence(tbs, algorithm_id, bits(sign(signer, tbs, scheme, digest)))


def revocation_list(
    *,
    issuer: bytes,
    signer: PrivateKey,
    this_update: datetime,
    next_update: datetime | None,
    serials: Sequence[int] = (),
    items: Sequence[Extension] = (),
    entry_items: Sequence[Extension] = (),
    scheme: str = "pss",
    digest: str = "sha384",
    version: int = 1,
) -> bytes:
    """A version 2 revocation list in DER."""
    algorithm_id = algorithm(signer, scheme, digest)
    entry_extensions = extensions(entry_items) if entry_items else b""
    entries = [sequence(integer(serial), time(this_update), entry_extensions) for serial in serials]
    tbs = sequence(
        integer(version),
        algorithm_id,
        issuer,
        time(this_update),
        b"" if next_update is None else time(next_update),
        sequence(*entries) if entries else b"",
        tlv(0xA0, extensions(items)) if items else b"",
    )
    return sequence(tbs, algorithm_id, bits(sign(signer, tbs, scheme, digest)))
