"""The appraisal policy: what a relying party accepts. `policy_file` reads it from TOML, `appraisal` applies it.

It refuses by default: a rule that is left out accepts nothing, and what is to be accepted unseen is written `"any"`. Settings called
`unsafe_…` accept what a check found wanting; the verdict then says *waived*, never *verified*. Every rule, with an example, is in
`attestation/policy.example.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.instance import PostureValue
from rlu_attestation.log.cosignature import WitnessKey
from rlu_attestation.profiles import Profile
from rlu_attestation.revocation import Revocation
from rlu_attestation.verdict import Source

ACCEPT = (
    "hardware_profiles",
    "regions",
    "boundaries",
    "sites",
    "models",
    "engines",
    "engine_arguments",
    "gateways",
    "gateway_images",
    "debug_states",
)
"""Rules of `[accept]`: each a list of values, or "any"."""

Accepted = frozenset[str] | None
"""Values that are accepted; `None` accepts any, the empty set (a rule left out) none."""


class PolicyError(RluError):
    """The policy itself is unusable; nothing was verified."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Bound:
    """What one posture key must be: exactly a value, one of several, or within limits."""

    values: tuple[PostureValue, ...] = ()
    at_least: int | None = None
    at_most: int | None = None

    def accepts(self, value: PostureValue | None) -> bool:
        if value is None:
            return False
        if self.values:
            # True == 1 in Python, but a posture that says 1 does not say true.
            return any(type(value) is type(wanted) and value == wanted for wanted in self.values)
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    def __str__(self) -> str:
        limits = ((">=", self.at_least), ("<=", self.at_most))
        return " or ".join(map(spell, self.values)) or " and ".join(
            f"{sign} {limit}" for sign, limit in limits if limit is not None
        )


@dataclass(frozen=True, slots=True)
class CanaryRule:
    """How old the last canary test may be, in seconds, and what it may have found."""

    max_age_s: int
    results: frozenset[str] = frozenset({"clean"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbRule:
    """What security versions a kind of evidence must have; a rule that is left out accepts none.

    Attributes:
        minimum: product line to component to the least version; None accepts any.
        statuses: the vendor's words that are accepted; None accepts any.
        advisories: advisories that may apply; None accepts any.
        evaluation: the least TCB evaluation data number.
    """

    minimum: Mapping[str, Mapping[str, int]] | None = field(default_factory=dict)
    statuses: Accepted = frozenset()
    advisories: Accepted = frozenset()
    evaluation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRule:
    """What GPUs must be; a rule that is left out accepts none.

    Attributes:
        count: how many; None accepts any number.
        names, drivers, vbios, modes: accepted values.
        memory_mib: the least memory of one GPU.
    """

    count: int | None = None
    memory_mib: int = 0
    names: Accepted = frozenset()
    drivers: Accepted = frozenset()
    vbios: Accepted = frozenset()
    modes: Accepted = frozenset()


ANY_TCB = TcbRule(minimum=None, statuses=None, advisories=None)
ANY_GPU = GpuRule(names=None, drivers=None, vbios=None, modes=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy as read. `Policy()` is the empty policy, which accepts nothing.

    Attributes:
        ek_roots: certificates of TPM vendors' CAs.
        registrars: certificates of registrars.
        accept: by rule of `ACCEPT`; a rule that is absent accepts nothing.
        roots: kind of evidence to further roots, beside those pinned.
        revoked_keys: `ueid`s of instance keys that are accepted no more.
        revocations: the same by signed lists, by `ueid`: up to which head of its log a key is still believed.
        witnesses: keys of witnesses whose cosignatures count.
        witnesses_required: how many of them must have seen every statement of the log that a bundle holds.
        hazards: settings of a TEE that are accepted although they weaken it.
        profiles: by name, beside those built in.
        pcrs: bank to PCR to accepted values; `None` accepts any.
        measurements: kind of evidence to name to accepted values; `None` for a kind accepts any.
        tcb: by kind of evidence.
        gpus: None accepts no GPU at all.
        terminators: SPKI digests of TLS terminators that may stand before the attested key.
        lock: role to posture key to bound; `None` accepts any posture of that role, an absent role none.
        canary: None asks for no canary test.
        model_signers: key ids, base64url, one of which must have signed every model; None asks for no signature.
        minimum_source: by claim; `default_source` for the others.
        waivers: step id to reason.
        require: what must be covered, of `COVERAGE`.
        digest: SHA-256 of the file.
    """

    ek_roots: tuple[x509.Certificate, ...] = ()
    registrars: tuple[x509.Certificate, ...] = ()
    unsafe_accept_emulated_tpm: bool = False
    unsafe_accept_unverified_boot: bool = False
    roots: Mapping[str, tuple[x509.Certificate, ...]] = field(default_factory=dict)
    revoked_keys: frozenset[str] = frozenset()
    revocations: Mapping[str, Revocation] = field(default_factory=dict)
    witnesses: tuple[WitnessKey, ...] = ()
    witnesses_required: int = 0
    hazards: frozenset[str] = frozenset()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    max_statement_age_s: int = 3600
    max_evidence_age_s: int = 3600
    max_revocation_age_s: int = 7 * 86400
    max_session_age_s: int = 86400
    max_key_age_s: int = 100 * 86400
    clock_skew_s: int = 60
    accept: Mapping[str, Accepted] = field(default_factory=dict)
    pcrs: Mapping[str, Mapping[int, frozenset[bytes]]] | None = field(default_factory=dict)
    measurements: Mapping[str, Mapping[str, frozenset[bytes]] | None] = field(default_factory=dict)
    tcb: Mapping[str, TcbRule] = field(default_factory=dict)
    gpus: GpuRule | None = None
    channel_origins: frozenset[str] = frozenset()
    terminators: frozenset[bytes] = frozenset()
    lock: Mapping[str, Mapping[str, Bound] | None] = field(default_factory=dict)
    canary: CanaryRule | None = None
    model_signers: frozenset[str] | None = None
    minimum_source: Mapping[str, Source] = field(default_factory=dict)
    default_source: Source = Source.ENDORSED
    waivers: Mapping[str, str] = field(default_factory=dict)
    require: frozenset[str] = frozenset({"instance"})
    digest: bytes = b""


def spell(value: PostureValue | None) -> str:
    """A posture value as TOML writes it."""
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else f'"{value}"'
