"""Signatures on policies: two algorithms, and one thing wrong at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rlu_attestation import canonical, jose, policy_signature
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.policy import PolicyError
from rlu_attestation.policy_signature import PrivateKey, sign, verify_signature

DIGEST = bytes(range(32))
KEYS: dict[str, PrivateKey] = {
    "ES256": ec.derive_private_key(7, ec.SECP256R1()),
    "Ed25519": Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32),
}
OTHERS: dict[str, PrivateKey] = {
    "ES256": ec.derive_private_key(8, ec.SECP256R1()),
    "Ed25519": Ed25519PrivateKey.from_private_bytes(bytes([8]) * 32),
}
SIGNED = {name: sign(DIGEST, key) for name, key in KEYS.items()}
algorithms = pytest.mark.parametrize("alg", sorted(KEYS))


def pem(key: PrivateKey | X25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Any) -> bytes:
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded


@algorithms
def test_what_is_signed_verifies(alg: str) -> None:
    verify_signature(DIGEST, SIGNED[alg], KEYS[alg].public_key())
    verify_signature(DIGEST, SIGNED[alg] + b"\n", KEYS[alg].public_key())
    value = json.loads(SIGNED[alg])
    assert value["alg"] == alg
    assert value["policy_sha256"] == b64u(DIGEST)
    assert sorted(value) == ["alg", "kid", "policy_sha256", "signature"]


def test_the_bytes_that_are_signed_are_those_of_formats() -> None:
    value = json.loads(SIGNED["Ed25519"])
    signature = unb64u(value.pop("signature"))
    message = b"rlu/policy-signature/v1\x00" + canonical.encode(value)
    key = KEYS["Ed25519"].public_key()
    assert not isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, message)


def test_key_ids_are_thumbprints() -> None:
    """RFC 8037 appendix A.3 gives the thumbprint of its Ed25519 key."""
    key = policy_signature.Ed25519PublicKey.from_public_bytes(
        unb64u("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    )
    assert b64u(policy_signature.key_id(key)) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    elliptic = KEYS["ES256"].public_key()
    assert isinstance(elliptic, ec.EllipticCurvePublicKey)
    assert policy_signature.key_id(elliptic) == jose.thumbprint(jose.public_jwk(elliptic))


def changed(**members: object) -> Callable[[str], bytes]:
    return lambda alg: canonical.encode({**json.loads(SIGNED[alg]), **members})


PERTURBATIONS: dict[str, tuple[Callable[[str], bytes], type[RluError], str]] = {
    "empty": (lambda alg: b"", Malformed, "encoding"),
    "truncated": (lambda alg: SIGNED[alg][:-1], Malformed, "encoding"),
    "trailing-garbage": (lambda alg: SIGNED[alg] + b" ", Malformed, "encoding"),
    "two-line-breaks": (lambda alg: SIGNED[alg] + b"\n\n", Malformed, "encoding"),
    "not-canonical": (lambda alg: SIGNED[alg].replace(b'":"', b'": "'), Malformed, "encoding"),
    "duplicate-key": (lambda alg: SIGNED[alg][:-1] + b',"alg":"ES256"}', Malformed, "encoding"),
    "unknown-member": (changed(at=1), Malformed, "encoding"),
    "too-long": (changed(alg="x" * 5000), Malformed, "encoding"),
    "signature-absent": (
        lambda alg: canonical.encode({k: v for k, v in json.loads(SIGNED[alg]).items() if k != "signature"}),
        Malformed,
        "encoding",
    ),
    "signature-short": (changed(signature=b64u(bytes(63))), Malformed, "encoding"),
    "signature-zero": (changed(signature=b64u(bytes(64))), Untrusted, "invalid"),
    "algorithm-none": (changed(alg="none"), Untrusted, "algorithm"),
    "algorithm-confused": (
        lambda alg: changed(alg="Ed25519" if alg == "ES256" else "ES256")(alg),
        Untrusted,
        "algorithm",
    ),
    "another-kid": (changed(kid=b64u(bytes(32))), Untrusted, "kid"),
    "another-key": (lambda alg: sign(DIGEST, OTHERS[alg]), Untrusted, "kid"),
    "another-key-same-kid": (
        lambda alg: changed(signature=json.loads(sign(DIGEST, OTHERS[alg]))["signature"])(alg),
        Untrusted,
        "invalid",
    ),
    "another-policy": (lambda alg: sign(bytes(32), KEYS[alg]), Untrusted, "digest"),
    "digest-rewritten": (
        lambda alg: canonical.encode(
            {**json.loads(sign(bytes(32), KEYS[alg])), "policy_sha256": b64u(DIGEST)}
        ),
        Untrusted,
        "invalid",
    ),
}


@algorithms
@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
def test_perturbations(alg: str, name: str) -> None:
    perturb, kind, code = PERTURBATIONS[name]
    with pytest.raises(kind) as caught:
        verify_signature(DIGEST, perturb(alg), KEYS[alg].public_key())
    assert caught.value.code == f"policy.signature.{code}"


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from(sorted(KEYS)))
def test_arbitrary_bytes_raise_only_our_errors(data: bytes, alg: str) -> None:
    with pytest.raises(RluError):
        verify_signature(DIGEST, data, KEYS[alg].public_key())


def test_a_digest_has_32_bytes() -> None:
    for call in (
        lambda: sign(b"", KEYS["ES256"]),
        lambda: verify_signature(b"", SIGNED["ES256"], KEYS["ES256"].public_key()),
    ):
        with pytest.raises(ValueError, match="32 bytes"):
            call()


@algorithms
def test_keys_from_pem(alg: str) -> None:
    private = policy_signature.load_private_key(pem(KEYS[alg]))
    public = policy_signature.load_public_key(public_pem(KEYS[alg]))
    verify_signature(DIGEST, sign(DIGEST, private), public)


UNUSABLE = {
    "garbage": b"garbage",
    "empty": b"",
    "another-curve": pem(ec.derive_private_key(7, ec.SECP384R1())),
    "another-curve-public": public_pem(ec.derive_private_key(7, ec.SECP384R1())),
    "another-kind": pem(X25519PrivateKey.from_private_bytes(bytes(32))),
    "another-kind-public": public_pem(X25519PrivateKey.from_private_bytes(bytes(32))),
    "encrypted": KEYS["ES256"].private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    ),
}


@pytest.mark.parametrize("name", sorted(UNUSABLE))
def test_unusable_keys(name: str) -> None:
    for load in (policy_signature.load_private_key, policy_signature.load_public_key):
        with pytest.raises(PolicyError) as caught:
            load(UNUSABLE[name])
        assert (caught.value.code, caught.value.exit_code) == ("policy.key", 2)
