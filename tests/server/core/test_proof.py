"""The gateway believes its attestor nothing: one thing wrong at a time, each refused (P1)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from rlu_attestation import canonical, cose, jose
from rlu_attestation.channel import Channel
from rlu_attestation.errors import RluError, Untrusted
from rlu_attestation.instance import InstanceClaims, profile_digest
from rlu_attestation.merkle import Tree, leaf_hash
from rlu_attestation.models import Software
from rlu_attestation.statements import Content, SessionStatement
from rlu_server.core.proof import Asked, SessionVerifier, verify_instance

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
JWK = jose.public_jwk(KEY.public_key())
KID = jose.thumbprint(JWK)
CHANNEL = Channel("gateway-memory", bytes(32))
SESSION = "A" * 22
ASKED = Asked(
    tenant="t",
    principal="p",
    nonce=None,
    client_key=None,
    commitment_key=bytes(32),
    opening=Content(3, bytes(32)),
    ttl_s=100,
    policies=(),
)
CLAIMS = InstanceClaims(
    jwk=JWK,
    issued_at=1000,
    expires_at=2000,
    nonce=None,
    oemboot=False,
    dbgstat="enabled",
    key_hardware="none",
    key_created=0,
    tls=CHANNEL,
    model_name="m",
    model_manifest=bytes(32),
    engine=Software("vllm", "0"),
    gateway=Software("rlu", "0"),
    hardware_profile="x",
    lock={},
    region="r",
    boundary="b",
    site="s",
    start_count=1,
)


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def introduce(key: ec.EllipticCurvePrivateKey = KEY, **changes: Any) -> dict[str, Any]:
    """Arguments of `verify_instance`."""
    payload = CLAIMS.encode()
    signing_input = jose.jws_signing_input(KID, payload)
    arguments = {
        "statement": jose.jws_assemble(signing_input, sign(key, signing_input)),
        "jwk": JWK,
        "issuer": CLAIMS.issuer,
        "profile": profile_digest(canonical.decode(payload)),
        "channel": CHANNEL,
    }
    return arguments | changes


def statement(**changes: Any) -> bytes:
    genuine = SessionStatement(
        issuer=CLAIMS.issuer,
        session=SESSION,
        issued_at=1000,
        expires_at=1100,
        instance=introduce()["profile"],
        nonce=None,
        client_key=None,
        tenant="t",
        principal="p",
        channel=CHANNEL,
        commitment_key=bytes(32),
        opening=ASKED.opening,
        blind=bytes(16),
    )
    return dataclasses.replace(genuine, **changes).encode()


def receipt(
    data: bytes, key: ec.EllipticCurvePrivateKey = KEY, kid: bytes = KID, issuer: str = CLAIMS.issuer
) -> bytes:
    """A receipt for the second of three leaves."""
    tree = Tree()
    for leaf in (b"before", data, b"after"):
        tree.append(leaf_hash(leaf))
    protected = cose.head_protected(kid, issuer, 1000, tree.size)
    signature = sign(key, cose.signature_input(protected, tree.root()))
    return cose.assemble_inclusion(protected, signature, tree.size, 1, tree.inclusion_path(1))


def verify(data: bytes, proof: bytes, leaf_index: int = 1, asked_at: float = 1000.5) -> SessionStatement:
    return SessionVerifier(verify_instance(**introduce())).verify(
        SESSION, data, leaf_index, proof, ASKED, asked_at
    )


def test_a_genuine_session_is_believed() -> None:
    data = statement()
    assert verify(data, receipt(data)) == SessionStatement.parse(data)


def test_one_head_serves_a_batch_but_another_is_verified_anew() -> None:
    data = statement()
    verifier = SessionVerifier(verify_instance(**introduce()))
    for _ in range(2):
        verifier.verify(SESSION, data, 1, receipt(data), ASKED, 1000.5)
    with pytest.raises(Untrusted) as refused:
        verifier.verify(SESSION, data, 1, receipt(data, key=OTHER), ASKED, 1000.5)
    assert refused.value.code == "signature.invalid"


@pytest.mark.parametrize(
    ("proof", "code"),
    [
        (receipt(statement(), key=OTHER), "signature.invalid"),
        (receipt(statement(blind=b"1" * 16)), "signature.invalid"),
        (receipt(statement(), kid=bytes(32)), "session.head"),
        (receipt(statement(), issuer="urn:rlu:instance:other"), "session.head"),
    ],
    ids=["head-by-another-key", "leaf-of-another-statement", "other-kid", "other-issuer"],
)
def test_a_proof_that_does_not_hold_is_refused(proof: bytes, code: str) -> None:
    with pytest.raises(RluError) as refused:
        verify(statement(), proof)
    assert refused.value.code == code


def test_the_leaf_must_be_the_one_announced() -> None:
    with pytest.raises(Untrusted) as refused:
        verify(statement(), receipt(statement()), leaf_index=2)
    assert refused.value.code == "session.head"


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"issuer": "urn:rlu:instance:other"}, "iss"),
        ({"session": "B" * 21 + "A"}, "jti"),
        ({"instance": bytes(32)}, "rlu_instance"),
        ({"channel": Channel("provisioned", bytes(32))}, "rlu_channel"),
        ({"tenant": "u"}, "rlu_tenant"),
        ({"principal": "q"}, "rlu_principal"),
        ({"nonce": b"12345678"}, "eat_nonce"),
        ({"client_key": bytes(32)}, "cnf"),
        ({"commitment_key": b"1" * 32}, "rlu_commitment_key"),
        ({"opening": None}, "rlu_opening"),
        ({"policies": ("p",)}, "rlu_policies"),
        ({"expires_at": 1101}, "exp"),
        ({"expires_at": 1000}, "exp"),
    ],
)
def test_a_statement_other_than_asked_for_is_refused(changes: dict[str, Any], claim: str) -> None:
    data = statement(**changes)
    with pytest.raises(Untrusted) as refused:
        verify(data, receipt(data))
    assert (refused.value.code, refused.value.message) == (
        "session.claims",
        f"not what was asked for: {claim}",
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (introduce(key=OTHER), "signature.invalid"),
        (introduce(jwk=jose.public_jwk(OTHER.public_key())), "instance.key"),
        (introduce(issuer="urn:rlu:instance:other"), "instance.key"),
        (introduce(channel=Channel("gateway-memory", b"1" * 32)), "instance.channel"),
        (introduce(profile=bytes(32)), "instance.profile"),
    ],
    ids=["forged", "other-key", "other-issuer", "other-channel", "other-profile"],
)
def test_an_introduction_that_does_not_hold_is_refused(arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(RluError) as refused:
        verify_instance(**arguments)
    assert refused.value.code == code
