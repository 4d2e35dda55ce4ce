"""Revocation lists: read strictly, and believed only when authentic, in scope and current."""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import asn1, aws
from fakes.pki import AT
from fakes.tpm import private_key
from rlu_attestation import crl, x509
from rlu_attestation.errors import Malformed, RluError, Untrusted

SECOND = timedelta(seconds=1)
DELTA, NUMBER = "2.5.29.27", "2.5.29.20"


def certificate(authority: aws.Authority) -> x509.Certificate:
    return x509.parse(authority.der)


def outcome(*lists: bytes, at: datetime = AT) -> str:
    """`ok`, or the code, for the region's certificate under the root."""
    found = [crl.parse(data) for data in lists]
    try:
        crl.verify_not_revoked(certificate(aws.region()), certificate(aws.root()), found, at, "step")
    except RluError as error:
        return error.code
    return "ok"


def revoke(*serials: int, **changes: Any) -> bytes:
    return aws.root().revoke(*serials, **changes)


def test_fields_agree_with_cryptography() -> None:
    key = private_key("p384", "crl/issuer")
    name = pyca.Name([pyca.NameAttribute(pyca.NameOID.COMMON_NAME, "issuer")])
    entry = pyca.RevokedCertificateBuilder().serial_number(2**64).revocation_date(AT)
    entry = entry.add_extension(pyca.CRLReason(pyca.ReasonFlags.key_compromise), critical=False)
    made = (
        pyca.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(AT)
        .next_update(AT + timedelta(days=30))
        .add_revoked_certificate(entry.build())
        .add_extension(pyca.CRLNumber(7), critical=False)
        .sign(key, hashes.SHA384())
    )
    ours = crl.parse(made.public_bytes(Encoding.DER))
    assert ours.issuer == name.public_bytes()
    assert (ours.this_update, ours.next_update) == (made.last_update_utc, made.next_update_utc)
    assert ours.revoked == {2**64}
    assert (ours.tbs, ours.signature) == (made.tbs_certlist_bytes, made.signature)
    assert [extension.oid for extension in ours.extensions] == [NUMBER]


def test_current() -> None:
    assert outcome(revoke()) == outcome(revoke(1, 2, 3)) == "ok"
    assert outcome(revoke(items=[(NUMBER, False, asn1.integer(1))])) == "ok"
    window = {"this_update": AT, "next_update": AT}
    assert outcome(revoke(**window)) == "ok"
    assert outcome(revoke(**window), at=AT - SECOND) == "step.not_yet_valid"
    assert outcome(revoke(**window), at=AT + SECOND) == "step.stale"
    assert outcome(revoke(next_update=None)) == "step.stale"


def test_none() -> None:
    assert outcome() == outcome(aws.region().revoke()) == "step.missing"


def test_one_good_list_among_others_is_enough() -> None:
    stale = revoke(next_update=AT - SECOND)
    assert outcome(stale, revoke()) == outcome(revoke(), stale) == "ok"
    assert outcome(revoke(signer=private_key("p384", "x")), revoke()) == "ok"
    assert outcome(stale, aws.region().revoke()) == "step.stale"


def test_revoked_in_any_authentic_list_is_revoked() -> None:
    serial = aws.region().serial
    for window in (
        {},
        {"next_update": AT - SECOND},
        {"this_update": AT + SECOND},
        {"next_update": None},
        {"items": [(DELTA, True, asn1.integer(1))]},
    ):
        named = revoke(serial, **window)
        assert outcome(named) == outcome(named, revoke()) == outcome(revoke(), named) == "step.revoked"
    forged = revoke(serial, signer=private_key("p384", "x"))
    assert outcome(forged) == "step.signature"
    assert outcome(forged, revoke()) == "ok"


def test_scope() -> None:
    point = aws.POINTS["region"]
    assert outcome(revoke(items=[asn1.issuing_point(point)])) == "ok"
    only_ca = b"\x82\x01\xff"
    limited: list[asn1.Extension] = [
        asn1.issuing_point("http://crl.example/other.crl"),
        asn1.issuing_point(point, only_ca),
        ("2.5.29.28", True, asn1.sequence(only_ca)),
        ("2.5.29.28", True, asn1.sequence()),
        ("2.5.29.28", True, asn1.sequence(asn1.tlv(0xA0, asn1.tlv(0xA1)))),
        (DELTA, True, asn1.integer(1)),
        ("1.2.3.4", True, asn1.NULL),
    ]
    for extension in limited:
        assert outcome(revoke(items=[extension])) == "step.scope"
    assert outcome(revoke(items=[("2.5.29.28", True, b"\x30\x03")])) == "crl.encoding"


def test_scope_of_a_certificate_that_names_no_point() -> None:
    found = crl.parse(aws.zone().revoke(items=[asn1.issuing_point(aws.POINTS["zone"])]))
    with pytest.raises(Untrusted) as refused:
        crl.verify_not_revoked(certificate(aws.instance()), certificate(aws.zone()), [found], AT, "step")
    assert refused.value.code == "step.scope"


def test_an_issuer_that_may_not_sign_lists() -> None:
    found = crl.parse(aws.instance().revoke())
    with pytest.raises(Untrusted) as refused:
        crl.verify_not_revoked(certificate(aws.zone()), certificate(aws.instance()), [found], AT, "step")
    assert refused.value.code == "step.not_a_crl_issuer"


def test_a_time_without_a_zone_is_misuse() -> None:
    with pytest.raises(ValueError, match="time zone"):
        outcome(revoke(), at=AT.replace(tzinfo=None))


def test_malformed() -> None:
    genuine = revoke(1)
    signed = asn1.sequence(asn1.oid("1.2.840.10045.4.3.3"))
    assert genuine.count(signed) == 2
    for data in (
        b"",
        genuine[:-1],
        genuine + b"\0",
        genuine[::-1],
        revoke(1, 1),
        revoke(version=0),
        revoke(version=2),
        revoke(1, entry_items=[("2.5.29.29", True, asn1.NULL)]),
        revoke(items=[(NUMBER, False, b""), (NUMBER, False, b"")]),
        genuine.replace(signed, asn1.sequence(asn1.oid("1.2.840.10045.4.3.2")), 1),
        bytes(1024 * 1024 + 1),
    ):
        with pytest.raises(Malformed) as refused:
            crl.parse(data)
        assert refused.value.code == "crl.encoding"
    assert crl.parse(revoke(1, entry_items=[("2.5.29.21", False, b"\x0a\x01\x01")])).revoked == {1}


def test_leftovers_refuse() -> None:
    found = crl.parse(revoke())
    algorithm, signature = found.signature_algorithm, asn1.bits(found.signature)
    content = found.tbs[2 if found.tbs[1] < 0x80 else 3 :]
    assert asn1.sequence(content) == found.tbs

    def signed(*members: bytes) -> bytes:
        return asn1.sequence(asn1.sequence(content, *members), algorithm, signature)

    def extension(*leftover: bytes) -> bytes:
        return asn1.sequence(asn1.sequence(asn1.oid(NUMBER), asn1.octets(asn1.integer(1)), *leftover))

    def entry(*leftover: bytes) -> bytes:
        return asn1.sequence(asn1.sequence(asn1.integer(1), asn1.time(AT), *leftover))

    fine = [signed(), signed(asn1.tlv(0xA0, extension())), signed(entry()), signed(entry(extension()))]
    for data in fine:
        crl.parse(data)
    for data in (
        asn1.sequence(found.tbs, algorithm, signature, asn1.NULL),
        asn1.sequence(found.tbs, algorithm, asn1.bits(found.signature + b"\0", 1)),
        signed(asn1.tlv(0xA0, extension()), asn1.NULL),
        signed(asn1.tlv(0xA0, extension(), asn1.NULL)),
        signed(asn1.tlv(0xA0, extension(asn1.NULL))),
        signed(entry(extension(), asn1.NULL)),
        signed(entry(extension(asn1.NULL))),
    ):
        with pytest.raises(Malformed) as refused:
            crl.parse(data)
        assert refused.value.code == "crl.encoding"


def test_an_issuer_without_key_usage_may_sign_lists() -> None:
    found = crl.parse(revoke())
    root = certificate(aws.root())
    anyone = replace(root, extensions=tuple(e for e in root.extensions if e.oid != x509.KEY_USAGE))
    assert crl.verify_not_revoked(certificate(aws.region()), anyone, [found], AT, "step") is found


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        crl.parse(data)


@functools.cache
def sample() -> bytes:
    """Made once: signatures differ in length, and a property test needs the same bytes every time."""
    return revoke(1, 2, items=[asn1.issuing_point(aws.POINTS["region"])])


@settings(deadline=None)
@given(st.data())
def test_a_damaged_list_raises_only_our_error(data: st.DataObject) -> None:
    changed = bytearray(sample())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = crl.parse(bytes(changed))
    except RluError:
        return
    with pytest.raises(RluError):
        crl.verify_not_revoked(certificate(aws.region()), certificate(aws.root()), [found], AT, "step")
