"""Common names out of distinguished names."""

from __future__ import annotations

import pytest

from fakes import asn1
from fakes.amd import amd_name
from rlu_attestation.errors import Malformed
from rlu_attestation.names import common_name, printable

CN = "2.5.4.3"


def test_common_name() -> None:
    assert common_name(amd_name("SEV-VCEK"), "code") == "SEV-VCEK"
    for tag in (0x0C, 0x13, 0x16):
        pair = asn1.sequence(asn1.oid(CN), asn1.tlv(tag, b"x"))
        assert common_name(asn1.sequence(asn1.tlv(0x31, pair)), "code") == "x"


@pytest.mark.parametrize(
    "attributes",
    [
        (),
        (("2.5.4.10", "x"),),
        ((CN, "a"), (CN, "b")),
        ((CN, ""),),
        ((CN, "a\n"),),
        ((CN, "é"),),
        ((CN, "x" * 129),),
    ],
)
def test_anything_but_one_printable_name_refuses(attributes: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(Malformed) as refused:
        common_name(asn1.name(attributes), "code")
    assert refused.value.code == "code"


def test_a_name_of_another_type_of_string_is_none() -> None:
    pair = asn1.sequence(asn1.oid(CN), asn1.tlv(0x1E, b"\0x"))
    with pytest.raises(Malformed):
        common_name(asn1.sequence(asn1.tlv(0x31, pair)), "code")


PAIR = asn1.oid(CN) + asn1.tlv(0x0C, b"x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        asn1.tlv(0x31),
        asn1.name(((CN, "x"),)) + b"\0",
        asn1.sequence(asn1.tlv(0x31, asn1.sequence(PAIR, asn1.NULL))),
        asn1.sequence(asn1.tlv(0x31, asn1.sequence(PAIR)), asn1.NULL),
        asn1.sequence(asn1.tlv(0x31, asn1.sequence(PAIR)[:-1])),
    ],
)
def test_what_is_no_name_refuses(data: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        common_name(data, "code")
    assert refused.value.code == "x509.encoding"


def test_printable() -> None:
    assert printable(b"x" * 128, "code") == "x" * 128
    for content in (b"", b"x" * 129, b"\x7f", b"\xff"):
        with pytest.raises(Malformed):
            printable(content, "code")
