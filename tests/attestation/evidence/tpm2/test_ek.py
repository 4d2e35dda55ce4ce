"""EK certificates: padding in NV, and what they say about the TPM."""

from __future__ import annotations

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from fakes import machine as machines
from fakes.pki import AT, YEAR, common_name
from fakes.refusals import code_of
from fakes.tpm import private_key
from rlu_attestation import x509
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import tpm2

EK = machines.vendor_intermediate().certify_ek(private_key("p256", "ek/ek").public_key())


@pytest.mark.parametrize("padding", [b"", b"\xff", b"\xff" * 700, b"\x00" * 700])
def test_padding_is_trimmed(padding: bytes) -> None:
    assert tpm2.trim_nv(EK + padding) == EK


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 1600,
        bytes(1600),
        EK[:-1],
        EK + b"\x01",
        EK + b"\xff\x00",
        EK + b"\xff" * 10 + b"\x30",
        EK + b"\xff" * 16384,
        b"\x30\x81",
        b"\x30\x03abc",
        b"\x30\x80" + EK,
        b"\x30\x84\x00\x00\x00\x01\x00",
    ],
)
def test_anything_else_in_nv_refuses(data: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        tpm2.trim_nv(data)
    assert refused.value.code == "tpm2.ek_nv"


@given(st.binary(max_size=100))
def test_arbitrary_nv_raises_only_our_error(data: bytes) -> None:
    assert code_of(lambda: tpm2.trim_nv(data)) in (None, "tpm2.ek_nv")


def with_names(*names: pyca.GeneralName) -> x509.Certificate:
    return with_extension(pyca.SubjectAlternativeName(names))


def with_extension(value: pyca.ExtensionType) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        pyca.CertificateBuilder()
        .subject_name(common_name("x"))
        .issuer_name(common_name("x"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(AT)
        .not_valid_after(AT + YEAR)
        .add_extension(value, critical=True)
    )
    return x509.parse(builder.sign(key, SHA256()).public_bytes(Encoding.DER))


def directory(*pairs: tuple[str, str]) -> pyca.DirectoryName:
    attributes = [pyca.NameAttribute(pyca.ObjectIdentifier(oid), text) for oid, text in pairs]
    return pyca.DirectoryName(pyca.Name(attributes))


MAKER, MODEL, VERSION = "2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"


def test_one_multi_valued_name_as_stmicroelectronics_writes_it() -> None:
    pairs = ((MAKER, "id:53544D20"), (MODEL, "ST33"), (VERSION, "id:0049"))
    rdn = pyca.RelativeDistinguishedName(
        [pyca.NameAttribute(pyca.ObjectIdentifier(oid), text) for oid, text in pairs]
    )
    vendor = tpm2.vendor_of(with_names(pyca.DirectoryName(pyca.Name([rdn]))))
    assert (vendor.vendor, vendor.model, vendor.version) == ("STMicroelectronics", "ST33", "id:0049")


def test_other_names_beside_it_are_passed_over() -> None:
    names = (pyca.DNSName("host.example"), directory((MODEL, "M"), ("2.5.4.3", "a common name")))
    vendor = tpm2.vendor_of(with_names(*names))
    assert (vendor.manufacturer, vendor.vendor, vendor.model, vendor.version) == ("", "", "M", "")


def test_a_certificate_that_says_nothing() -> None:
    nothing = with_extension(pyca.BasicConstraints(False, None))
    assert tpm2.vendor_of(nothing) == tpm2.TpmVendor("", "", "", "", emulator=False)


@pytest.mark.parametrize(
    "names",
    [
        (directory((MODEL, "one"), (MODEL, "two")),),
        (directory((MODEL, "one")), directory((MODEL, "two"))),
        (directory((MODEL, "line\nbreak")),),
        (directory((MODEL, "\x1b[2Jcleared")),),
        (directory((MODEL, "x" * 257)),),
    ],
)
def test_ambiguous_or_unprintable_attributes_refuse(names: tuple[pyca.GeneralName, ...]) -> None:
    with pytest.raises(Malformed) as refused:
        tpm2.vendor_of(with_names(*names))
    assert refused.value.code == "ek.vendor.encoding"


def tlv(tag: str, *parts: str) -> str:
    content = "".join(parts)
    return f"{tag}{len(content) // 2:02x}{content}"


PAIR = "060567810502" + "02" + "0c0141"  # tpmModel, "A"


def garbled_name(pair: str = PAIR, after_pair: str = "", after_name: str = "", after_names: str = "") -> str:
    rdns = tlv("30", tlv("31", tlv("30", pair, after_pair)))
    return tlv("30", tlv("a4", rdns, after_name)) + after_names


@pytest.mark.parametrize(
    "value",
    [
        garbled_name(after_pair="0500"),
        garbled_name(after_name="0500"),
        garbled_name(after_names="0500"),
        garbled_name(PAIR[:-6] + "040141"),
        garbled_name(PAIR[:-6] + "1e020041"),
        garbled_name(PAIR[:-6] + "0c01ff"),
    ],
)
def test_leftovers_and_other_types_in_the_name_refuse(value: str) -> None:
    def vendor(text: str) -> tpm2.TpmVendor:
        oid = pyca.ObjectIdentifier("2.5.29.17")
        return tpm2.vendor_of(with_extension(pyca.UnrecognizedExtension(oid, bytes.fromhex(text))))

    assert vendor(garbled_name()).model == "A"
    assert code_of(lambda: vendor(value)) == "ek.vendor.encoding"


@given(st.binary(max_size=60))
def test_arbitrary_alternative_names_raise_only_our_error(value: bytes) -> None:
    garbled = pyca.UnrecognizedExtension(pyca.ObjectIdentifier("2.5.29.17"), value)
    certificate = with_extension(garbled)
    assert code_of(lambda: tpm2.vendor_of(certificate)) in (None, "ek.vendor.encoding")
