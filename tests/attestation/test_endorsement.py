"""The registrar's certificate: issued, read back, and refused when anything in it is off."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fakes import machine as machines
from fakes.machine import encode
from fakes.pki import AT, YEAR
from fakes.tpm import private_key
from rlu_attestation import chain, endorsement, x509
from rlu_attestation.encoding import b64u
from rlu_attestation.endorsement import Endorsement
from rlu_attestation.errors import Malformed, RluError

ENDORSED = Endorsement(
    ak_name=b"\x00\x0b" + bytes(range(32)),
    ek_spki_sha256=bytes(range(32, 64)),
    region="eu-central-1",
    boundary="on-premises",
    site="Zürich, Rack 12",
)
FIELDS = {
    "ak_name": b64u(ENDORSED.ak_name),
    "boundary": "on-premises",
    "ek_spki_sha256": b64u(ENDORSED.ek_spki_sha256),
    "region": "eu-central-1",
    "site": "Zürich, Rack 12",
}


def test_the_extension_byte_for_byte() -> None:
    assert ENDORSED.encode() == encode(FIELDS)
    assert endorsement.parse(encode(FIELDS)) == ENDORSED


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_an_issued_certificate(kind: str) -> None:
    ak = private_key(kind, "endorsement/ak").public_key()
    der = machines.registrar().certify_ak(ENDORSED, ak)
    ours, theirs = x509.parse(der), pyca.load_der_x509_certificate(der)
    registrar = x509.parse(machines.registrar().der)
    assert chain.verify_chain(ours, [], [registrar], AT, "ak.certificate") == (ours, registrar)
    assert ours.public_key() == ak
    assert endorsement.of_certificate(ours) == ENDORSED
    assert ours.basic_constraints() == (False, None)
    assert ours.key_usage() == {x509.DIGITAL_SIGNATURE}
    assert ours.extended_key_usage() == {"2.23.133.8.3"}
    extension = theirs.extensions.get_extension_for_oid(
        pyca.ObjectIdentifier("2.25.227486024550674777818042816869759752263")
    )
    assert not extension.critical
    assert (theirs.not_valid_before_utc, theirs.not_valid_after_utc) == (AT - YEAR, AT + YEAR)


def test_a_registrar_may_not_make_further_authorities() -> None:
    registrar = x509.parse(machines.registrar().der)
    assert registrar.basic_constraints() == (True, 0)
    usage = registrar.key_usage()
    assert usage is not None
    assert x509.KEY_CERT_SIGN in usage
    assert x509.DIGITAL_SIGNATURE not in usage


def test_the_key_must_be_the_registrars() -> None:
    with pytest.raises(ValueError, match="not the key of its certificate"):
        endorsement.issue(
            ENDORSED,
            ec.generate_private_key(ec.SECP256R1()).public_key(),
            issuer=machines.registrar().der,
            issuer_key=ec.generate_private_key(ec.SECP256R1()),
            serial=1,
            not_before=AT,
            not_after=AT + timedelta(days=1),
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"ak_name": b""},
        {"ak_name": bytes(67)},
        {"ek_spki_sha256": bytes(31)},
        {"region": ""},
        {"boundary": "x" * 129},
        {"site": "line\nbreak"},
        {"site": "\x1b[31mred"},
    ],
)
def test_what_may_not_be_endorsed(changes: dict[str, object]) -> None:
    with pytest.raises(Malformed) as refused:
        replace(ENDORSED, **changes).encode()  # type: ignore[arg-type]
    assert refused.value.code == "ak.certificate.extension"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        encode({**FIELDS, "country": "CH"}),
        encode({name: FIELDS[name] for name in FIELDS if name != "site"}),
        encode({**FIELDS, "ak_name": 7}),
        encode({**FIELDS, "region": 7}),
        encode({**FIELDS, "region": None}),
        encode({**FIELDS, "ek_spki_sha256": FIELDS["ek_spki_sha256"] + "="}),
        encode(FIELDS) + b" ",
        encode(FIELDS).replace(b":", b": ", 1),
        encode({**FIELDS, "site": "x" * 5000}),
    ],
)
def test_a_garbled_extension_refuses(value: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        endorsement.parse(value)
    assert refused.value.code == "ak.certificate.extension"


def test_a_certificate_without_endorsement_refuses() -> None:
    with pytest.raises(Malformed) as refused:
        endorsement.of_certificate(x509.parse(machines.registrar().der))
    assert refused.value.code == "ak.certificate.extension"


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        endorsement.parse(data)
