"""What the gateway checks before it lets a session's first byte go (design P1).

A statement of the attestor is believed only after this module: the instance's own statement under the key it presents, and each
session's statement by its inclusion under a signed head, with every claim equal to what was asked for. A head covers a whole batch, so
the last signature that verified is remembered and its receipts cost only hashing.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation import canonical, jose
from rlu_attestation.channel import Channel
from rlu_attestation.cose import InclusionReceipt, parse_inclusion, signature_input
from rlu_attestation.errors import Untrusted
from rlu_attestation.instance import InstanceClaims, profile_digest
from rlu_attestation.merkle import leaf_hash, root_from_inclusion
from rlu_attestation.statements import Content, SessionStatement


@dataclass(frozen=True, slots=True)
class Instance:
    """An attestor that has shown a statement signed by the key it names. Only `verify_instance` makes one."""

    key: ec.EllipticCurvePublicKey
    thumbprint: bytes
    issuer: str
    profile_digest: bytes
    channel: Channel
    key_created: int = 0
    """When the key was made, as the attestor says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a session statement has to say."""

    tenant: str
    principal: str
    nonce: bytes | None
    client_key: bytes | None
    commitment_key: bytes
    opening: Content | None
    ttl_s: int
    policies: tuple[str, ...]


def verify_instance(
    statement: str, jwk: dict[str, str], issuer: str, profile: bytes, channel: Channel
) -> Instance:
    """Check the attestor's introduction.

    Args:
        channel: this gateway's own TLS key, which the statement must name.

    Raises:
        RluError: malformed, wrong signature, or about another key or channel.
    """
    jws = jose.jws_parse(statement)
    key = jose.public_key(jwk)
    thumbprint = jose.thumbprint(jwk)
    if jws.kid != thumbprint:
        raise Untrusted("instance.key", "the statement is not by the key that was presented")
    jose.verify_es256(key, jws.signing_input, jws.signature)
    claims = InstanceClaims.parse(jws.payload)
    if claims.jwk != jwk or claims.issuer != issuer:
        raise Untrusted("instance.key", "the statement is about another key")
    if claims.tls != channel:
        raise Untrusted("instance.channel", "the statement names another TLS key than ours")
    if profile_digest(canonical.decode(jws.payload)) != profile:
        raise Untrusted("instance.profile", "the profile digest is not that of the statement")
    return Instance(key, thumbprint, issuer, profile, channel, claims.key_created)


class SessionVerifier:
    """Checks the session statements of one instance."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._verified: tuple[bytes, bytes, bytes] | None = None

    def verify(
        self, session: str, statement: bytes, leaf_index: int, receipt: bytes, asked: Asked, asked_at: float
    ) -> SessionStatement:
        """The session's statement, now trusted. It may have ended on its way: one second is a session's time, too.

        Args:
            asked_at: when it was asked for, seconds since the epoch.

        Raises:
            RluError: any part is malformed, unsigned, or not what was asked for.
        """
        parsed = SessionStatement.parse(statement)
        self._verify_inclusion(parse_inclusion(receipt), statement, leaf_index)
        claims = (
            ("iss", parsed.issuer == self.instance.issuer),
            ("jti", parsed.session == session),
            ("rlu_instance", parsed.instance == self.instance.profile_digest),
            ("rlu_channel", parsed.channel == self.instance.channel),
            ("rlu_tenant", parsed.tenant == asked.tenant),
            ("rlu_principal", parsed.principal == asked.principal),
            ("eat_nonce", parsed.nonce == asked.nonce),
            ("cnf", parsed.client_key == asked.client_key),
            ("rlu_commitment_key", parsed.commitment_key == asked.commitment_key),
            ("rlu_opening", parsed.opening == asked.opening),
            ("rlu_policies", parsed.policies == asked.policies),
            ("exp", asked_at < parsed.expires_at <= parsed.issued_at + asked.ttl_s),
        )
        wrong = [name for name, holds in claims if not holds]
        if wrong:
            raise Untrusted("session.claims", f"not what was asked for: {', '.join(wrong)}")
        return parsed

    def _verify_inclusion(self, receipt: InclusionReceipt, statement: bytes, leaf_index: int) -> None:
        if receipt.kid != self.instance.thumbprint or receipt.issuer != self.instance.issuer:
            raise Untrusted("session.head", "the head is not by this instance")
        if receipt.leaf_index != leaf_index:
            raise Untrusted("session.head", "the proof is for another leaf")
        root = root_from_inclusion(leaf_hash(statement), receipt.leaf_index, receipt.tree_size, receipt.path)
        signed = (receipt.protected, root, receipt.signature)
        if signed != self._verified:
            jose.verify_es256(self.instance.key, signature_input(receipt.protected, root), receipt.signature)
            self._verified = signed
