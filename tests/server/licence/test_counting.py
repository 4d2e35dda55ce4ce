"""Counting instances: different ones, of this licence, at this time, signed by their own keys."""

from __future__ import annotations

import hashlib

import pytest

from fakes.deployment import AT, Deployment
from fakes.machine import Machine
from fakes.tpm import FakeTpm
from rlu_attestation.errors import RluError
from rlu_attestation.mentions import LicenceMention
from rlu_server.licence.counting import serving

NAME = hashlib.sha256(b"licence").digest()
MENTION = LicenceMention(NAME, AT + 1000)
ONE = Deployment(software_key=True)
TWO = Deployment(machine=Machine(tpm=FakeTpm(label="another")), software_key=True)


def test_instances_are_counted_once() -> None:
    statements = [
        ONE.attestation(licence=MENTION)[0],
        ONE.attestation(licence=MENTION, nonce=None)[0],
        TWO.attestation(licence=MENTION)[0],
        TWO.attestation()[0],
        TWO.attestation(licence=LicenceMention(bytes(32), AT))[0],
    ]
    counted = serving(statements, NAME, AT)
    assert len(counted) == 2
    assert counted == {claims.ueid for claims in (ONE.instance_claims(), TWO.instance_claims())}
    assert serving(statements, NAME, AT + 10**6) == set()
    assert serving(statements[3:], NAME, AT) == set()


def test_statements_that_are_not_signed_by_their_own_key() -> None:
    header, _, signature = ONE.attestation(licence=MENTION)[0].split(".")
    altered = ONE.attestation(licence=LicenceMention(NAME, AT + 2000))[0].split(".")[1]
    with pytest.raises(RluError, match=r"signature\.invalid"):
        serving([f"{header}.{altered}.{signature}"], NAME, AT)
    with pytest.raises(RluError, match=r"licence\.statement"):
        serving([TWO.jws(ONE.instance_claims(licence=MENTION).encode())], NAME, AT)
