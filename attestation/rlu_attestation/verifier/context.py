"""What a verification is held against, and the types that say what was proved so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation.bundle import Bundle
from rlu_attestation.cose import InclusionReceipt
from rlu_attestation.errors import Malformed
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.policy import Policy
from rlu_attestation.statements import SessionStatement
from rlu_attestation.verifier.proof import Conditions, GpuProof, HardwareProof
from rlu_attestation.verifier.trail import Failed, NotMade, need


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The input of a verification.

    Attributes:
        at: the time of every check, in seconds since the epoch.
        nonce: the nonce the caller chose itself; without it the bundle's word is taken and the verdict says so.
        channel: SHA-256 of the SubjectPublicKeyInfo the caller saw itself; without it the bundle's word is taken.
        plaintext: the caller reached the server without TLS, so that there is no channel to compare.
        insecure_accept_software_key: go on, with a waiver, when no hardware holds the key.
    """

    bundle: Bundle
    policy: Policy
    at: int
    nonce: bytes | None = None
    channel: bytes | None = None
    plaintext: bool = False
    insecure_accept_software_key: bool = False

    @property
    def conditions(self) -> Conditions:
        return Conditions(self.policy, self.at, self.bundle.collateral)

    @property
    def expected_nonce(self) -> bytes | None:
        return self.nonce if self.nonce is not None else self.bundle.nonce

    @property
    def seen_channel(self) -> bytes | None:
        if self.plaintext:
            return None
        return self.channel if self.channel is not None else self.bundle.channel

    @property
    def freshness(self) -> str:
        if self.nonce is not None:
            return "verifier"
        return "none" if self.bundle.nonce is None else "asserted"


@dataclass(frozen=True, slots=True)
class ParsedStatement:
    """An instance statement taken apart; nothing is verified."""

    kid: bytes
    claims: InstanceClaims
    binding: bytes
    profile: bytes
    signing_input: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """An instance statement whose signature verified under the key that it names. Who holds that key is not yet known."""

    claims: InstanceClaims
    key: ec.EllipticCurvePublicKey
    kid: bytes
    binding: bytes
    profile: bytes


@dataclass(frozen=True, slots=True)
class Subject:
    """What the evidence has to be about: a signed statement, or, for evidence that stands alone, data that the caller expects in it."""

    signed: SignedStatement | Failed | None
    expected: bytes | None = None

    def bound(
        self,
        step: str,
        statement: Callable[[bytes], None],
        alone: Callable[[bytes], None],
        size: int | None = None,
    ) -> str:
        """Run the check that fits.

        Args:
            step: prefix of the code.
            statement: holds the evidence against a statement's binding, 32 bytes.
            alone: holds it against the data that the caller expects.
            size: what such data has, in bytes; None: any. Nothing is padded.

        Raises:
            Malformed: `<step>.size`.
            NotMade: `<step>.unknown`: nobody says what the evidence should be about.
            RluError: what the checks raise.
        """
        if self.signed is not None:
            statement(need(self.signed).binding)
            return "this statement"
        if not self.expected:  # absent and empty data alike say nothing
            raise NotMade(
                f"{step}.unknown",
                "nobody says what this evidence should be about, so it may be anybody's: pass --report-data",
            )
        if size not in (None, len(self.expected)):
            raise Malformed(f"{step}.size", f"such evidence is about {size} bytes, not {len(self.expected)}")
        alone(self.expected)
        return "the data you expect"


@dataclass(frozen=True, slots=True)
class VerifiedInstance:
    """A signed statement whose key hardware speaks for, or a software key that the caller accepts (`None`).

    `gpus` is what the GPUs' own evidence proved; None without such evidence.
    """

    signed: SignedStatement
    hardware: HardwareProof | None
    gpus: GpuProof | None = None

    @property
    def claims(self) -> InstanceClaims:
        return self.signed.claims


@dataclass(frozen=True, slots=True)
class VerifiedLeaf:
    """A statement that the log of the signing instance holds, under a signed head."""

    statement: bytes
    leaf: bytes
    receipt: InclusionReceipt
    root: bytes


@dataclass(frozen=True, slots=True)
class VerifiedSession:
    """A session statement that the instance signed."""

    statement: SessionStatement
    leaf: VerifiedLeaf
