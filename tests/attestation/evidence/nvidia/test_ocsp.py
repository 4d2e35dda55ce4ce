"""OCSP responses: arbitrary bytes refuse, and a library writes what we read."""

from __future__ import annotations

import functools
from datetime import timedelta

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp as writer
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import nvidia as fake
from fakes.nvidia_changes import GPU
from fakes.nvidia_steps import MAX_AGE
from fakes.pki import AT
from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence.nvidia import Status, ocsp
from rlu_attestation.evidence.nvidia.revocation import verify_good


def path() -> list[x509.Certificate]:
    return [
        x509.parse(found.der)
        for found in (GPU.brom, fake.provisioner(), fake.identity_ca(), fake.device_root())
    ]


@pytest.mark.parametrize(
    "reason", [None, library.ReasonFlags.key_compromise, library.ReasonFlags.certificate_hold]
)
def test_what_a_library_writes(reason: library.ReasonFlags | None) -> None:
    subject, issuer = (
        library.load_der_x509_certificate(found.der) for found in (GPU.brom, fake.provisioner())
    )
    responder = fake.responder(fake.provisioner())
    certificate = library.load_der_x509_certificate(responder.der)
    good = reason is None
    builder = writer.OCSPResponseBuilder().add_response(
        cert=subject,
        issuer=issuer,
        algorithm=hashes.SHA384(),
        cert_status=writer.OCSPCertStatus.GOOD if good else writer.OCSPCertStatus.REVOKED,
        this_update=AT - timedelta(hours=1),
        next_update=AT + timedelta(hours=1),
        revocation_time=None if good else AT - timedelta(days=9),
        revocation_reason=reason,
    )
    builder = builder.responder_id(writer.OCSPResponderEncoding.HASH, certificate).certificates([certificate])
    data = builder.add_extension(library.OCSPNonce(b"nonce"), critical=False).sign(
        responder.key, hashes.SHA384()
    )
    response = ocsp.parse(data.public_bytes(fake.Encoding.DER))
    (single,) = response.singles
    expected = {None: Status.GOOD, library.ReasonFlags.certificate_hold: Status.CERTIFICATE_HOLD}
    assert single.status is expected.get(reason, Status.REVOKED)
    assert single.is_about(path()[0], path()[1])
    assert not single.is_about(path()[1], path()[2])
    if good:
        assert verify_good(path(), [response], AT, MAX_AGE, "step") == single
        return
    with pytest.raises(RluError) as refused:
        verify_good(path(), [response], AT, MAX_AGE, "step")
    assert refused.value.code == f"step.{single.status.value}"


def test_a_good_answer_beside_a_stale_one_is_enough() -> None:
    stale = ocsp.parse(fake.ocsp(GPU.brom, next_update=AT - timedelta(hours=1)))
    good = ocsp.parse(fake.ocsp(GPU.brom))
    for answers in ([stale, good], [good, stale]):
        assert verify_good(path(), answers, AT, MAX_AGE, "step") == good.singles[0]


def test_a_forged_revocation_does_not_count() -> None:
    forged = ocsp.parse(fake.ocsp(GPU.brom, status="revoked", by=fake.responder(fake.rim_root())))
    good = ocsp.parse(fake.ocsp(GPU.brom))
    assert verify_good(path(), [forged, good], AT, MAX_AGE, "step") == good.singles[0]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        ocsp.parse(data)


@functools.cache
def sample() -> bytes:
    return fake.ocsp(GPU.brom)


@settings(max_examples=200)
@given(st.integers(0, 1500), st.integers(1, 255))
def test_a_damaged_response_never_counts(position: int, change: int) -> None:
    data = bytearray(sample())
    data[position % len(data)] ^= change
    try:
        single = verify_good(path(), [ocsp.parse(bytes(data))], AT, MAX_AGE, "step")
    except RluError:
        return
    # Only the unsigned wrapper and the responder's certificate are outside the signature; the answer is the signed one.
    assert single == ocsp.parse(sample()).singles[0]
