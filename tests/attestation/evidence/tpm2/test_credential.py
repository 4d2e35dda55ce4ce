"""MakeCredential: what it makes, a TPM that holds the EK and the named object opens, and nobody else."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fakes.tpm import FakeTpm
from rlu_attestation.errors import Unsupported
from rlu_attestation.evidence import tpm2
from rlu_attestation.evidence.tpm2.credential import kdfa, kdfe

NAME = b"\x00\x0b" + bytes(range(32))


@pytest.mark.parametrize("size", [1, 16, 32])
@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384"])
def test_the_tpm_opens_it(kind: str, size: int) -> None:
    tpm, credential = FakeTpm("credential", ek_kind=kind), secrets.token_bytes(size)
    challenge = tpm2.make_credential(tpm.ek.public_key(), NAME, credential, secrets.token_bytes)
    assert tpm.activate_credential(NAME, challenge.credential_blob, challenge.secret) == credential
    # A single byte may turn up by chance.
    assert size == 1 or credential not in challenge.credential_blob


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384"])
def test_no_other_name_no_other_tpm_no_change(kind: str) -> None:
    tpm, other = FakeTpm("credential", ek_kind=kind), FakeTpm("credential/other", ek_kind=kind)
    challenge = tpm2.make_credential(tpm.ek.public_key(), NAME, b"secret", secrets.token_bytes)
    with pytest.raises(ValueError, match="INTEGRITY"):
        tpm.activate_credential(NAME[:-1] + b"\x00", challenge.credential_blob, challenge.secret)
    with pytest.raises(ValueError):
        other.activate_credential(NAME, challenge.credential_blob, challenge.secret)
    for position in range(2, len(challenge.credential_blob)):
        changed = bytearray(challenge.credential_blob)
        changed[position] ^= 1
        with pytest.raises(ValueError):
            tpm.activate_credential(NAME, bytes(changed), challenge.secret)


def test_sizes_say_how_it_is_made() -> None:
    sizes = {}
    for kind in ("rsa2048", "p256", "p384"):
        key = FakeTpm("credential", ek_kind=kind).ek.public_key()
        made = tpm2.make_credential(key, NAME, bytes(32), secrets.token_bytes)
        sizes[kind] = (len(made.credential_blob), len(made.secret))
    # 2 + (2 + HMAC) + (2 + credential); 2 + ciphertext, or 2 + two coordinates with their sizes
    assert sizes == {"rsa2048": (70, 258), "p256": (70, 70), "p384": (86, 102)}


def test_randomness_is_an_argument() -> None:
    key = FakeTpm("credential", ek_kind="p256").ek.public_key()
    fixed = tpm2.make_credential(key, NAME, b"secret", lambda size: b"\x05" * size)
    assert fixed == tpm2.make_credential(key, NAME, b"secret", lambda size: b"\x05" * size)
    assert fixed != tpm2.make_credential(key, NAME, b"secret", lambda size: b"\x06" * size)


def test_credentials_have_1_to_32_bytes() -> None:
    key = FakeTpm("credential", ek_kind="p256").ek.public_key()
    for credential in (b"", bytes(33)):
        with pytest.raises(ValueError, match="1 to 32"):
            tpm2.make_credential(key, NAME, credential, secrets.token_bytes)


def test_other_endorsement_keys_are_named_unsupported() -> None:
    for key in (
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        rsa.generate_private_key(65537, 3072).public_key(),
    ):
        with pytest.raises(Unsupported) as refused:
            tpm2.make_credential(key, NAME, b"secret", secrets.token_bytes)
        assert refused.value.code == "ek.key"


@pytest.mark.parametrize(
    ("algorithm", "bits"), [("sha256", 128), ("sha256", 256), ("sha384", 384), ("sha256", 1024)]
)
def test_kdfa_counts_blocks(algorithm: str, bits: int) -> None:
    expected = b""
    for counter in (1, 2, 3, 4):
        message = counter.to_bytes(4, "big") + b"LABEL\x00" + b"u" + b"v" + bits.to_bytes(4, "big")
        expected += hmac.new(b"key", message, algorithm).digest()
    assert kdfa(algorithm, b"key", b"LABEL\x00", b"u", b"v", bits) == expected[: bits // 8]


def test_kdfe_is_one_hash() -> None:
    expected = hashlib.sha256(b"\x00\x00\x00\x01" + b"z" + b"USE\x00" + b"u" + b"v").digest()
    assert kdfe("sha256", b"z", b"USE\x00", b"u", b"v") == expected
