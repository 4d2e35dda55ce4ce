"""Certificates taken apart: the fields agree with an independent implementation, and what is not one certificate refuses."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from fakes import machine as machines
from fakes.asn1 import sequence, tlv
from fakes.pki import AT, YEAR, Authority, common_name
from fakes.refusals import code_of
from fakes.tpm import private_key
from rlu_attestation import x509
from rlu_attestation.errors import Malformed, RluError, Unsupported

EK = machines.vendor_intermediate().certify_ek(private_key("rsa2048", "x509/ek").public_key())


def test_fields_agree_with_cryptography() -> None:
    ours, theirs = x509.parse(EK), pyca.load_der_x509_certificate(EK)
    assert ours.raw == EK
    assert ours.tbs == theirs.tbs_certificate_bytes
    assert ours.serial == theirs.serial_number
    assert ours.version == 3
    assert ours.issuer == theirs.issuer.public_bytes()
    assert ours.subject == theirs.subject.public_bytes()
    assert (ours.not_before, ours.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
    assert ours.signature == theirs.signature
    assert ours.fingerprint == theirs.fingerprint(SHA256())
    assert ours.public_key() == theirs.public_key()
    assert ours.spki == theirs.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert [(e.oid, e.critical) for e in ours.extensions] == [
        (e.oid.dotted_string, e.critical) for e in theirs.extensions
    ]
    assert ours.basic_constraints() == (False, None)
    assert ours.key_usage() == {x509.KEY_ENCIPHERMENT}
    assert ours.extended_key_usage() == {"2.23.133.8.1"}
    assert ours.extension("1.2.3") is None


def test_authority_fields() -> None:
    ours = x509.parse(machines.vendor_intermediate().der)
    assert ours.basic_constraints() == (True, 0)
    assert ours.key_usage() == {x509.KEY_CERT_SIGN, 6}
    assert ours.extended_key_usage() is None


def test_dates_of_every_kind() -> None:
    start, end = (
        datetime(1970, 1, 1, tzinfo=timezone.utc),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc),
    )
    ours = x509.parse(Authority("dates", not_before=start, not_after=end).der)
    assert (ours.not_before, ours.not_after) == (start, end)


def test_pem_files() -> None:
    first, second = machines.vendor_root().der, machines.vendor_intermediate().der
    text = pem(first) + b"Some words about the second one\n" + pem(second)
    assert [found.raw for found in x509.parse_many(text)] == [first, second]
    assert [found.raw for found in x509.parse_many(first)] == [first]


def pem(der: bytes, label: bytes = b"CERTIFICATE") -> bytes:
    body = base64.encodebytes(der)
    return b"-----BEGIN " + label + b"-----\n" + body + b"-----END " + label + b"-----\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no certificate here",
        pem(b"not DER"),
        pem(EK)[:-10],
        pem(EK) + pem(EK)[:100],
        pem(EK, b"PRIVATE KEY"),
        pem(EK) + pem(EK, b"PRIVATE KEY"),
        pem(EK).replace(b"M", b"*", 1),
        EK + b"\n",
        pem(EK) + b"x" * x509.MAX_PEM,
    ],
)
def test_what_is_no_certificate_file_refuses(data: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        x509.parse_many(data)
    assert refused.value.code == "x509.encoding"


def test_an_oversize_certificate_refuses() -> None:
    with pytest.raises(Malformed):
        x509.parse(b"\x30\x82\xff\xff" + bytes(0xFFFF))


def test_another_signature_algorithm_outside_than_inside_refuses() -> None:
    der = machines.vendor_intermediate().der
    rsa256, rsa384 = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d01010c")
    assert der.count(rsa256) == 2
    inside, _, outside = der.partition(rsa256)
    with pytest.raises(Malformed, match="differ"):
        x509.parse(inside + rsa384 + outside)


def build(*extensions: tuple[pyca.ExtensionType, bool]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        pyca.CertificateBuilder()
        .subject_name(common_name("x"))
        .issuer_name(common_name("x"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(AT)
        .not_valid_after(AT + YEAR)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        ("2.5.29.19", "3003020101"),
        ("2.5.29.19", "30030101ff00"),
        ("2.5.29.19", "0500"),
        ("2.5.29.15", "0303"),
        ("2.5.29.15", "0302018000"),
        ("2.5.29.37", "3003020101"),
        ("2.5.29.37", "30000500"),
    ],
)
def test_garbled_extensions_that_decide_refuse(oid: str, value: str) -> None:
    if (oid, value) == ("2.5.29.19", "3003020101"):
        # cA left out and a path length: well-formed, and not an authority
        assert x509.parse(build((unrecognized(oid, value), True))).basic_constraints() == (False, 1)
        return
    with pytest.raises(Malformed):
        x509.parse(build((unrecognized(oid, value), True)))


def unrecognized(oid: str, value: str) -> pyca.UnrecognizedExtension:
    return pyca.UnrecognizedExtension(pyca.ObjectIdentifier(oid), bytes.fromhex(value))


def test_an_extension_given_twice_refuses() -> None:
    der = build((unrecognized("1.2.3.4", "0500"), False), (unrecognized("1.2.3.5", "0500"), False))
    x509.parse(der)
    with pytest.raises(Malformed, match="twice"):
        x509.parse(der.replace(bytes.fromhex("06032a0305"), bytes.fromhex("06032a0304")))


def test_a_certificate_without_extensions() -> None:
    parsed = x509.parse(build())
    assert parsed.extensions == ()
    assert (parsed.basic_constraints(), parsed.key_usage(), parsed.extended_key_usage()) == (None, None, None)


def test_serial_zero_is_read() -> None:
    # AMD's certificates have it; cryptography warns about it, and warnings are errors in these tests.
    der = build()
    serial = bytes.fromhex("a003020102" + "020101")
    assert der.count(serial) == 1
    assert x509.parse(der.replace(serial, serial[:-1] + b"\x00")).serial == 0


def test_other_kinds_of_keys_are_named_unsupported() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    der = (
        pyca.CertificateBuilder()
        .subject_name(common_name("x"))
        .issuer_name(common_name("x"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(AT)
        .not_valid_after(AT + timedelta(days=1))
        .sign(key, None)
        .public_bytes(Encoding.DER)
    )
    with pytest.raises(Unsupported) as refused:
        x509.parse(der).public_key()
    assert refused.value.code == "x509.key"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        x509.parse(data)


@given(st.data())
def test_a_damaged_certificate_raises_only_our_error(data: st.DataObject) -> None:
    changed = bytearray(EK)
    for position in data.draw(st.lists(st.integers(0, len(EK) - 1), min_size=1, max_size=4)):
        changed[position] = data.draw(st.integers(0, 255))
    code_of(lambda: x509.parse(bytes(changed)).public_key())


VERSION_3 = tlv(0xA0, b"\x02\x01\x02")
SERIAL = b"\x02\x01\x01"
ALGORITHM = sequence(bytes.fromhex("06082a8648ce3d040302"))
NAME = common_name("x").public_bytes()
DATES = (b"\x17\x0d260101000000Z", b"\x17\x0d270101000000Z")
SPKI = x509.parse(EK).spki
EXTENSIONS = tlv(0xA3, sequence(sequence(bytes.fromhex("06032a0304"), b"\x04\x00")))
SIGNATURE = b"\x03\x02\x00\xaa"


def assembled(
    *,
    version: bytes = VERSION_3,
    inner: bytes = ALGORITHM,
    algorithm: bytes = ALGORITHM,
    dates: tuple[bytes, ...] = DATES,
    after_spki: tuple[bytes, ...] = (EXTENSIONS,),
    signature: tuple[bytes, ...] = (SIGNATURE,),
    after: bytes = b"",
) -> bytes:
    tbs = sequence(version, SERIAL, inner, NAME, sequence(*dates), NAME, SPKI, *after_spki)
    return sequence(tbs, algorithm, *signature) + after


def test_an_assembled_certificate() -> None:
    assert x509.parse(assembled()).extensions == (x509.Extension("1.2.3.4", False, b""),)
    assert x509.parse(assembled(version=b"", after_spki=())).version == 1
    with_ids = (tlv(0x81, b"\x00\x01"), tlv(0x82, b"\x00\x02"))
    assert x509.parse(assembled(after_spki=(*with_ids, EXTENSIONS))).version == 3
    second = x509.parse(assembled(version=tlv(0xA0, b"\x02\x01\x01"), after_spki=with_ids))
    assert (second.version, second.extensions) == (2, ())


VARIANTS: dict[str, Callable[[], bytes]] = {
    "trailing-garbage": lambda: assembled(after=b"\x00"),
    "after-signature": lambda: assembled(signature=(SIGNATURE, b"\x05\x00")),
    "signature-missing": lambda: assembled(signature=()),
    "signature-of-seven-bits": lambda: assembled(signature=(b"\x03\x02\x01\xaa",)),
    "algorithms-differ": lambda: assembled(inner=sequence(bytes.fromhex("06082a8648ce3d040303"))),
    "algorithm-with-two-parameters": lambda: assembled(
        **dict.fromkeys(("inner", "algorithm"), sequence(OID_THEN_TWO))
    ),
    "three-dates": lambda: assembled(dates=(*DATES, DATES[0])),
    "one-date": lambda: assembled(dates=DATES[:1]),
    "version-1-written-out": lambda: assembled(version=tlv(0xA0, b"\x02\x01\x00"), after_spki=()),
    "version-4": lambda: assembled(version=tlv(0xA0, b"\x02\x01\x03")),
    "version-and-more": lambda: assembled(version=tlv(0xA0, b"\x02\x01\x02\x05\x00")),
    "version-1-with-extensions": lambda: assembled(version=b""),
    "version-2-with-extensions": lambda: assembled(version=tlv(0xA0, b"\x02\x01\x01")),
    "version-1-with-identifiers": lambda: assembled(version=b"", after_spki=(tlv(0x81, b"\x00\x01"),)),
    "after-extensions": lambda: assembled(after_spki=(EXTENSIONS, b"\x05\x00")),
    "two-lists-of-extensions": lambda: assembled(after_spki=(tlv(0xA3, 2 * sequence()),)),
    "extension-with-more": lambda: assembled(
        after_spki=(tlv(0xA3, sequence(sequence(bytes.fromhex("06032a0304"), b"\x04\x00\x05\x00"))),)
    ),
}
OID_THEN_TWO = bytes.fromhex("06082a8648ce3d040302" + "0500" + "0500")


@pytest.mark.parametrize("name", VARIANTS)
def test_other_structures_refuse(name: str) -> None:
    with pytest.raises(Malformed) as refused:
        x509.parse(VARIANTS[name]())
    assert refused.value.code == "x509.encoding"
