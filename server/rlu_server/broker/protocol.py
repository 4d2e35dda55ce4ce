"""What instance and broker say to each other (docs/broker.md, "Bytes"): RATS background check, two requests of HTTP.

    challenge      the broker's random nonce, good for one request
    key request    claims that evidence of a TEE binds: the nonce, which key is wanted for which model, and a fresh public key of the asker
    sealed key     the model key, by HPKE (RFC 9180) to that public key, bound to these very claims

The claims are bound as those of an instance statement are, under another prefix: nobody who may ask a serving instance for statements can
get evidence that binds a key request of his own. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from rlu_attestation import canonical
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import max_item
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.models import Software
from rlu_server.broker.errors import BadRequest, SealBroken
from rlu_server.broker.sealing import KEY_SIZE, key_id

PROFILE = "tag:rlu.internal,2026:key-request#1"
KEM, KDF, AEAD = 0x0020, 0x0001, 0x0002
"""DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM: the one suite, by RFC 9180's numbers."""
SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
PUBLIC_SIZE = 32
CHALLENGE_SIZE = 64
CHALLENGE_PATH = "/v1/challenge"
RELEASE_PATH = "/v1/release"
CHALLENGE_TYPE = "application/vnd.rlu.key-challenge+json"
REQUEST_TYPE = "application/vnd.rlu.key-request+json"
SEALED_TYPE = "application/vnd.rlu.sealed-key+json"
PROBLEM_TYPE = "application/problem+json"
MAX_REQUEST = 12 << 20
REFUSALS = (400, 403, 404, 413, 415, 503)
"""Statuses with which a broker says why."""
JOB = "weights"
"""What its asker is called in the journal of what left."""
MAX_ITEMS = 4
MAX_ANSWER = 16 << 10


@dataclass(frozen=True, slots=True)
class Claims:
    """Who asks, for which key, and what for."""

    challenge: bytes
    public_key: bytes
    """X25519, made for this request."""
    kid: bytes
    manifest: bytes
    """SHA-256 of the manifest of the model that these weights are."""
    software: Software

    def encode(self) -> bytes:
        """Canonical JSON: what evidence binds."""
        return canonical.encode(
            {
                "eat_nonce": b64u(self.challenge),
                "eat_profile": PROFILE,
                "rlu_gateway": {"name": self.software.name, "version": self.software.version},
                "rlu_hpke": {"aead": AEAD, "kdf": KDF, "kem": KEM, "public_key": b64u(self.public_key)},
                "rlu_weights": {"kid": b64u(self.kid), "manifest_sha256": b64u(self.manifest)},
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Claims:
        """Raises BadRequest: `broker.request`; `broker.suite`: keys are sealed with one suite only."""
        try:
            with Members(canonical.decode(data), "key request") as members:
                members.exactly("eat_profile", PROFILE)
                with members.object("rlu_gateway") as inner:
                    software = Software(inner.text("name"), inner.text("version"))
                with members.object("rlu_hpke") as inner:
                    suite = inner.count("kem"), inner.count("kdf"), inner.count("aead")
                    public_key = inner.binary("public_key", PUBLIC_SIZE)
                with members.object("rlu_weights") as inner:
                    kid, manifest = inner.binary("kid", KEY_SIZE), inner.binary("manifest_sha256", 32)
                challenge = members.binary("eat_nonce", CHALLENGE_SIZE)
        except RluError as error:
            raise BadRequest("broker.request", error.message) from error
        if suite != (KEM, KDF, AEAD):
            raise BadRequest("broker.suite", f"keys are sealed with the suite {KEM}, {KDF}, {AEAD} only")
        return cls(challenge, public_key, kid, manifest, software)


def root_of(claims: bytes) -> bytes:
    """The 32 bytes that evidence must be about: as of a statement that shares its evidence with no other."""
    return leaf_hash(hashlib.sha256(b"rlu/key-request/v1" + claims).digest())


def encode_challenge(challenge: bytes) -> bytes:
    return canonical.encode({"challenge": b64u(challenge)})


def parse_challenge(data: bytes) -> bytes:
    """Raises BadRequest (`weights.answer`)."""
    try:
        with Members(canonical.decode(data), "challenge") as members:
            return members.binary("challenge", CHALLENGE_SIZE)
    except RluError as error:
        raise BadRequest("weights.answer", f"the broker's challenge is none: {error.message}") from error


def encode_request(claims: bytes, evidence: Mapping[str, bytes]) -> bytes:
    """What is posted."""
    items = [{"data": b64u(data), "kind": kind} for kind, data in sorted(evidence.items())]
    return canonical.encode({"claims": b64u(claims), "evidence": items})


def parse_request(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The claims' bytes, and evidence items by kind; nothing of it verified. Raises BadRequest (`broker.request`)."""
    try:
        with Members(canonical.decode(data, MAX_REQUEST), "request") as members:
            claims = members.binary("claims")
            entries = members.value("evidence")
        if not isinstance(entries, list) or not 0 < len(entries) <= MAX_ITEMS:
            raise BadRequest("broker.request", f"evidence must be an array of 1 to {MAX_ITEMS} items")
        evidence: dict[str, bytes] = {}
        for entry in entries:
            kind, item = _item(entry)
            if kind in evidence:
                raise BadRequest("broker.request", f"two items are of the kind {kind}")
            evidence[kind] = item
    except BadRequest:
        raise
    except RluError as error:
        raise BadRequest("broker.request", error.message) from error
    return claims, evidence


def seal_key(key: bytes, claims: Claims) -> bytes:
    """The answer: the model key, for whoever holds the private key of these claims.

    Raises:
        BadRequest: `broker.request`: the public key is a point of small order.
    """
    try:
        public = X25519PublicKey.from_public_bytes(claims.public_key)
        sealed = SUITE.encrypt(key, public, info=_info(claims.encode()))
    except ValueError as error:
        raise BadRequest("broker.request", "the public key cannot be used") from error
    return canonical.encode({"kid": b64u(claims.kid), "sealed": b64u(sealed)})


def open_key(answer: bytes, claims: Claims, private: X25519PrivateKey) -> bytes:
    """The model key of an answer.

    Raises:
        BadRequest: `weights.answer`: the answer is not of its form.
        SealBroken: `weights.answer.key`: it is not sealed for this request, or is not the key that was asked for.
    """
    try:
        with Members(canonical.decode(answer), "sealed key") as members:
            members.exactly("kid", b64u(claims.kid))
            sealed = members.binary("sealed")
    except RluError as error:
        raise BadRequest("weights.answer", f"the broker's answer is none: {error.message}") from error
    wrong = SealBroken("weights.answer.key", "the broker's answer is not the key that was asked for")
    try:
        key = SUITE.decrypt(sealed, private, info=_info(claims.encode()))
    except (InvalidTag, ValueError) as error:
        raise wrong from error
    if len(key) != KEY_SIZE or key_id(key) != claims.kid:
        raise wrong
    return key


def _info(claims: bytes) -> bytes:
    return b"rlu/weights-key/v1" + hashlib.sha256(claims).digest()


def _item(entry: object) -> tuple[str, bytes]:
    """An item of evidence; `Members.binary` would do, but for the limit."""
    with Members(entry, "evidence") as members:
        kind, data = members.text("kind"), members.value("data")
    most = max_item(kind)
    if not isinstance(data, str) or len(data) > most * 4 // 3 + 4:
        raise BadRequest("broker.request", f"an item of this kind is base64url of at most {most} bytes")
    return kind, unb64u(data)
