"""TPM structures: what a TPM writes is read field by field, everything else refuses."""

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
from fakes.tpm import FakeTpm, private_key
from rlu_attestation.errors import Malformed, RluError, Unsupported
from rlu_attestation.evidence import tpm2
from rlu_attestation.evidence.tpm2.structures import (
    CertifyInfo,
    EccKey,
    QuoteInfo,
    RsaKey,
    Scheme,
    Symmetric,
)

ECC = private_key("p256", "structures/ecc").public_key()
RSA = private_key("rsa2048", "structures/rsa").public_key()
assert isinstance(RSA, rsa.RSAPublicKey)
SIGNER = b"\x00\x0b" + bytes(range(32))


def ecc(**changes: Any) -> bytes:
    settings: dict[str, Any] = {"attributes": marshal.AK_ATTRIBUTES, "scheme": (marshal.ECDSA, "sha256")}
    return marshal.public(ECC, **(settings | changes))


def rsa_public(**changes: Any) -> bytes:
    settings: dict[str, Any] = {"attributes": marshal.AK_ATTRIBUTES, "scheme": (marshal.RSASSA, "sha256")}
    return marshal.public(RSA, **(settings | changes))


def quote(selection: bytes | None = None, **changes: Any) -> bytes:
    attested = (
        marshal.selection({"sha256": (0, 7, 23)}) if selection is None else selection
    ) + marshal.sized(bytes(32))
    return marshal.attest(attested, **({"kind": marshal.QUOTE, "signer": SIGNER} | changes))


def rsa_bits(bits: int) -> bytes:
    return rsa_public()[:-264] + marshal.u16(bits) + marshal.u32(0) + marshal.sized(b"\xff" * (bits // 8))


def test_ecc_public() -> None:
    public = tpm2.parse_public(ecc(auth_policy=bytes(32)))
    assert isinstance(public.key, EccKey)
    assert public.public_key() == ECC
    assert public.scheme == Scheme(tpm2.Alg.ECDSA, tpm2.Alg.SHA256)
    assert (public.symmetric, public.auth_policy) == (None, bytes(32))
    assert public.attributes == marshal.AK_ATTRIBUTES
    assert tpm2.name_of(public) == b"\x00\x0b" + hashlib.sha256(public.raw).digest()


@pytest.mark.parametrize("exponent", [0, 3, 65537])
def test_rsa_public(exponent: int) -> None:
    public = tpm2.parse_public(rsa_public(exponent=exponent, name_alg="sha384"))
    assert isinstance(public.key, RsaKey)
    assert public.key.exponent == (exponent or 65537)
    assert tpm2.name_of(public) == b"\x00\x0c" + hashlib.sha384(public.raw).digest()


def test_storage_key_template_is_read_too() -> None:
    data = rsa_public(scheme=None, symmetric=bytes.fromhex("000600800043"), attributes=0x000300B2)
    assert tpm2.parse_public(data).symmetric == Symmetric(tpm2.Alg.AES, 128, tpm2.Alg.CFB)


def test_coordinates_with_leading_zeros_cut() -> None:
    for label in range(2000):
        key = ec.derive_private_key(label + 1, ec.SECP256R1()).public_key()
        if key.public_numbers().x >> 248 == 0:
            break
    full = marshal.public(key, attributes=marshal.KEY_ATTRIBUTES, scheme=None)
    x = key.public_numbers().x.to_bytes(32, "big")
    cut = full.replace(marshal.sized(x), marshal.sized(x.lstrip(b"\x00")))
    assert len(cut) < len(full)
    assert tpm2.parse_public(cut).public_key() == key


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
        tpm2.parse_public(make())
    assert refused.value.code == "tpm2.public"


def test_quote() -> None:
    attest = tpm2.parse_attest(
        quote(extra_data=b"nonce", clock=5, reset_count=6, restart_count=7, safe=0, firmware=8)
    )
    assert isinstance(attest.attested, QuoteInfo)
    assert attest.attested.pcr_select.banks == ((tpm2.Alg.SHA256, (0, 7, 23)),)
    assert attest.attested.pcr_select.raw == marshal.selection({"sha256": (0, 7, 23)})
    assert attest.attested.pcr_digest == bytes(32)
    assert (attest.qualified_signer, attest.extra_data, attest.firmware_version) == (SIGNER, b"nonce", 8)
    clock = attest.clock_info
    assert (clock.clock, clock.reset_count, clock.restart_count, clock.safe) == (5, 6, 7, False)


def test_certify() -> None:
    data = marshal.attest(
        marshal.sized(b"name") + marshal.sized(b"qualified"), kind=marshal.CERTIFY, signer=SIGNER
    )
    assert tpm2.parse_attest(data).attested == CertifyInfo(b"name", b"qualified")


def test_several_banks_keep_their_order() -> None:
    data = quote(marshal.selection({"sha384": (1,), "sha1": (), "sha256": (2, 31)}, size=4))
    attested = tpm2.parse_attest(data).attested
    assert isinstance(attested, QuoteInfo)
    expected = ((tpm2.Alg.SHA384, (1,)), (tpm2.Alg.SHA1, ()), (tpm2.Alg.SHA256, (2, 31)))
    assert attested.pcr_select.banks == expected


ATTEST: dict[str, tuple[Callable[[], bytes], type[RluError]]] = {
    "empty": (lambda: b"", Malformed),
    "trailing-garbage": (lambda: quote() + b"\x00", Malformed),
    "truncated": (lambda: quote()[:-1], Malformed),
    "another-magic": (lambda: quote(magic=0xFF544346), Malformed),
    "magic-reversed": (lambda: quote(magic=0x474354FF), Malformed),
    "type-time": (lambda: quote(kind=0x8019), Unsupported),
    "type-creation": (lambda: quote(kind=0x801A), Unsupported),
    "signer-too-long": (lambda: quote(signer=bytes(67)), Malformed),
    "extra-data-too-long": (lambda: quote(extra_data=bytes(65)), Malformed),
    "safe-is-2": (lambda: quote(safe=2), Malformed),
    "selection-of-two-bytes": (lambda: quote(marshal.selection({"sha256": (0,)}, size=2)), Malformed),
    "selection-of-five-bytes": (lambda: quote(marshal.selection({"sha256": (0,)}, size=5)), Malformed),
    "bank-twice": (
        lambda: quote(b"\x00\x00\x00\x02" + 2 * marshal.selection({"sha256": (0,)})[4:]),
        Malformed,
    ),
    "seventeen-banks": (
        lambda: quote(b"\x00\x00\x00\x11" + 17 * marshal.selection({"sha256": (0,)})[4:]),
        Malformed,
    ),
    "four-billion-banks": (lambda: quote(b"\xff\xff\xff\xff"), Malformed),
    "unknown-bank": (lambda: quote(b"\x00\x00\x00\x01\x00\x12\x03\x01\x00\x00"), Unsupported),
}


@pytest.mark.parametrize("name", ATTEST)
def test_attest_refuses(name: str) -> None:
    make, error = ATTEST[name]
    with pytest.raises(error) as refused:
        tpm2.parse_attest(make())
    assert refused.value.code == "tpm2.attest"


def test_signatures() -> None:
    signature = tpm2.parse_signature(b"\x00\x18\x00\x0b\x00\x02\x01\x00\x00\x01\x07")
    assert (signature.scheme, signature.hash, signature.r, signature.s) == (
        tpm2.Alg.ECDSA,
        tpm2.Alg.SHA256,
        256,
        7,
    )
    signature = tpm2.parse_signature(marshal.rsa_signature(marshal.RSAPSS, "sha384", b"abc"))
    assert (signature.scheme, signature.hash, signature.rsa) == (tpm2.Alg.RSAPSS, tpm2.Alg.SHA384, b"abc")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", Malformed),
        (b"\x00\x18\x00\x0b\x00\x02\x01\x00\x00\x01\x07\x00", Malformed),
        (b"\x00\x18\x00\x0b\x00\x02\x01\x00\x00\x01", Malformed),
        (b"\x00\x10", Unsupported),
        (b"\x00\x1a\x00\x0b\x00\x01\x01\x00\x01\x07", Unsupported),
        (b"\x00\x05\x00\x0b" + bytes(32), Unsupported),
        (b"\x00\x18\x00\x12\x00\x01\x01\x00\x01\x07", Unsupported),
        (b"\x00\x18\x00\x0b" + marshal.sized(bytes(67)) + marshal.sized(b"\x01"), Malformed),
        (marshal.rsa_signature(marshal.RSASSA, "sha256", bytes(513)), Malformed),
    ],
)
def test_signature_refuses(data: bytes, error: type[RluError]) -> None:
    with pytest.raises(error) as refused:
        tpm2.parse_signature(data)
    assert refused.value.code == "tpm2.signature"


def test_pcr_selection_on_its_own() -> None:
    raw = tpm2.selection_bytes(tpm2.Alg.SHA256, (0, 9, 23))
    assert raw == marshal.selection({"sha256": (0, 9, 23)})
    assert tpm2.parse_pcr_selection(raw).raw == raw
    with pytest.raises(Malformed) as refused:
        tpm2.parse_pcr_selection(raw + b"\x00")
    assert refused.value.code == "tpm2.pcr_selection"
    with pytest.raises(ValueError, match="0 to 23"):
        tpm2.selection_bytes(tpm2.Alg.SHA256, (24,))


PARSERS: tuple[Callable[[bytes], object], ...] = (
    tpm2.parse_public,
    tpm2.parse_attest,
    tpm2.parse_signature,
    tpm2.parse_pcr_selection,
)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    for parse in PARSERS:
        assert (code_of(functools.partial(parse, data)) or "tpm2.").startswith("tpm2.")


@given(st.data())
def test_damaged_structures_raise_only_our_error(data: st.DataObject) -> None:
    tpm = FakeTpm("structures")
    tpm.create_key({"sha256": (0,)})
    seeds = (ecc(), rsa_public(), quote(), tpm.certify()[0], tpm.certify()[1])
    changed = bytearray(data.draw(st.sampled_from(seeds)))
    for position in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=4)):
        changed[position] = data.draw(st.integers(0, 255))
    for parse in PARSERS:
        code_of(functools.partial(parse, bytes(changed)))
