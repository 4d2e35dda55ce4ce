"""Public areas: what a TPM writes is read field by field, everything else refuses."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from fakes import tpm_marshal as marshal
from fakes.refusals import code_of
from fakes.tpm import private_key
from rlu_attestation.errors import Malformed, RluError, Unsupported
from rlu_attestation.tpm.constants import Alg
from rlu_attestation.tpm.public import EccKey, RsaKey, Scheme, Symmetric, name_of, parse_public

ECC = private_key("p256", "structures/ecc").public_key()
RSA = private_key("rsa2048", "structures/rsa").public_key()
assert isinstance(RSA, rsa.RSAPublicKey)


def ecc(**changes: Any) -> bytes:
    settings: dict[str, Any] = {"attributes": marshal.AK_ATTRIBUTES, "scheme": (marshal.ECDSA, "sha256")}
    return marshal.public(ECC, **(settings | changes))


def rsa_public(**changes: Any) -> bytes:
    settings: dict[str, Any] = {"attributes": marshal.AK_ATTRIBUTES, "scheme": (marshal.RSASSA, "sha256")}
    return marshal.public(RSA, **(settings | changes))


def rsa_bits(bits: int) -> bytes:
    return rsa_public()[:-264] + marshal.u16(bits) + marshal.u32(0) + marshal.sized(b"\xff" * (bits // 8))


def test_ecc_public() -> None:
    public = parse_public(ecc(auth_policy=bytes(32)))
    assert isinstance(public.key, EccKey)
    assert public.public_key() == ECC
    assert public.scheme == Scheme(Alg.ECDSA, Alg.SHA256)
    assert (public.symmetric, public.auth_policy) == (None, bytes(32))
    assert public.attributes == marshal.AK_ATTRIBUTES
    assert name_of(public) == b"\x00\x0b" + hashlib.sha256(public.raw).digest()


@pytest.mark.parametrize("exponent", [0, 3, 65537])
def test_rsa_public(exponent: int) -> None:
    public = parse_public(rsa_public(exponent=exponent, name_alg="sha384"))
    assert isinstance(public.key, RsaKey)
    assert public.key.exponent == (exponent or 65537)
    assert name_of(public) == b"\x00\x0c" + hashlib.sha384(public.raw).digest()


def test_storage_key_template_is_read_too() -> None:
    data = rsa_public(scheme=None, symmetric=bytes.fromhex("000600800043"), attributes=0x000300B2)
    assert parse_public(data).symmetric == Symmetric(Alg.AES, 128, Alg.CFB)


def test_coordinates_with_leading_zeros_cut() -> None:
    for label in range(2000):
        key = ec.derive_private_key(label + 1, ec.SECP256R1()).public_key()
        if key.public_numbers().x >> 248 == 0:
            break
    full = marshal.public(key, attributes=marshal.KEY_ATTRIBUTES, scheme=None)
    x = key.public_numbers().x.to_bytes(32, "big")
    cut = full.replace(marshal.sized(x), marshal.sized(x.lstrip(b"\x00")))
    assert len(cut) < len(full)
    assert parse_public(cut).public_key() == key


PUBLIC: dict[str, tuple[Callable[[], bytes], type[RluError]]] = {
    "empty": (lambda: b"", Malformed),
    "trailing-garbage": (lambda: ecc() + b"\x00", Malformed),
    "truncated": (lambda: ecc()[:-1], Malformed),
    "size-prefixed": (lambda: marshal.sized(ecc()), Unsupported),
    "oversize": (lambda: ecc() + bytes(5000), Malformed),
    "keyed-hash": (lambda: b"\x00\x08" + ecc()[2:], Unsupported),
    "unknown-type": (lambda: b"\x77\x77" + ecc()[2:], Unsupported),
    "unknown-name-alg": (lambda: ecc()[:2] + b"\x00\x12" + ecc()[4:], Unsupported),
    "reserved-attribute": (lambda: ecc(attributes=marshal.AK_ATTRIBUTES | 1), Malformed),
    "policy-of-another-size": (lambda: ecc(auth_policy=bytes(20)), Malformed),
    "policy-too-long": (lambda: ecc(auth_policy=bytes(65)), Malformed),
    "symmetric-xor": (lambda: ecc(symmetric=b"\x00\x0a\x00\x0b"), Unsupported),
    "symmetric-key-bits": (lambda: ecc(symmetric=bytes.fromhex("000600810043")), Malformed),
    "symmetric-mode": (lambda: ecc(symmetric=bytes.fromhex("000600800042")), Unsupported),
    "ecc-scheme-on-rsa": (lambda: rsa_public(scheme=(marshal.ECDSA, "sha256")), Unsupported),
    "rsa-scheme-on-ecc": (lambda: ecc(scheme=(marshal.RSASSA, "sha256")), Unsupported),
    "unknown-curve": (
        lambda: ecc().replace(b"\x00\x03\x00\x10\x00\x20", b"\x00\x20\x00\x10\x00\x20"),
        Unsupported,
    ),
    "kdf": (lambda: ecc().replace(b"\x00\x03\x00\x10\x00\x20", b"\x00\x03\x00\x22\x00\x20"), Unsupported),
    "point-off-curve": (lambda: ecc()[:-1] + bytes([ecc()[-1] ^ 1]), Malformed),
    "point-at-infinity": (lambda: ecc()[:-68] + marshal.sized(b"") + marshal.sized(b""), Malformed),
    "coordinate-too-long": (lambda: ecc()[:-34] + marshal.sized(bytes(33)), Malformed),
    "modulus-shorter-than-key-bits": (
        lambda: rsa_public()[:-258] + marshal.sized(b"\x80" + bytes(127)),
        Malformed,
    ),
    "rsa-512": (lambda: rsa_bits(512), Unsupported),
    "rsa-2056": (lambda: rsa_bits(2056), Unsupported),
    "modulus-without-top-bit": (lambda: rsa_public()[:-258] + marshal.sized(b"\x7f" + bytes(255)), Malformed),
    "exponent-even": (lambda: rsa_public(exponent=4), Malformed),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_refuses(name: str) -> None:
    make, error = PUBLIC[name]
    with pytest.raises(error) as refused:
        parse_public(make())
    assert refused.value.code == "tpm2.public"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    assert code_of(functools.partial(parse_public, data)) in (None, "tpm2.public")


@given(st.data())
def test_damaged_structures_raise_only_our_error(data: st.DataObject) -> None:
    changed = bytearray(data.draw(st.sampled_from((ecc(), rsa_public()))))
    for position in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=4)):
        changed[position] = data.draw(st.integers(0, 255))
    assert code_of(functools.partial(parse_public, bytes(changed))) in (None, "tpm2.public")
