"""What the verifier takes from evidence of any kind, in one form: the rooms of `kinds` fill it in, the policy judges it.

A `HardwareProof` exists only when every step of its kind passed: whoever holds one may believe it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from rlu_attestation import crl, x509
from rlu_attestation.bundle import Collateral
from rlu_attestation.policy import Policy
from rlu_attestation.verdict import Claim, Source

PcrBanks = Mapping[str, Mapping[int, bytes]]
LOWER_VMPL = "lower-vmpl"
"""The hazard that what asked for the report is not what was measured."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What every check of evidence is held against.

    Attributes:
        at: seconds since the epoch.
        collateral: what the caller, or the bundle, brings beside the evidence. Each piece is signed by who made it.
    """

    policy: Policy
    at: int
    collateral: tuple[Collateral, ...] = ()

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.at, timezone.utc)

    def roots(self, kind: str) -> tuple[x509.Certificate, ...]:
        """Roots that the policy adds to those pinned for a kind."""
        return self.policy.roots.get(kind, ())

    def of(self, kind: str) -> tuple[bytes, ...]:
        """Pieces of collateral of one kind."""
        return tuple(piece.data for piece in self.collateral if piece.kind == kind)

    def crls(self) -> tuple[crl.CertificateList, ...]:
        """Revocation lists beside the evidence. Raises Malformed."""
        return tuple(crl.parse(data) for data in self.of("x509-crl"))


@dataclass(frozen=True, slots=True)
class Tcb:
    """Security versions of what the evidence rests on.

    Attributes:
        kind: of evidence, by which the policy names its rule: `sev-snp` or `tdx`.
        line: the product line whose layout `levels` has, in lower case; empty where there is none.
        levels: component to security version.
        status: the vendor's word for it, such as `UpToDate`; None where it has none.
        current: the same for what runs now, where that is newer firmware than what launched the guest; None where it is the same.
        advisories: the vendor's advisories that apply.
    """

    kind: str
    line: str = ""
    levels: Mapping[str, int] | None = None
    status: str | None = None
    current: str | None = None
    advisories: tuple[str, ...] = ()
    evaluation: int | None = None

    def __str__(self) -> str:
        levels = " ".join(f"{name}={level}" for name, level in (self.levels or {}).items())
        advisories = f"advisories {', '.join(self.advisories)}" if self.advisories else ""
        number = "" if self.evaluation is None else f"evaluation {self.evaluation}"
        current = "" if self.current is None else f"now {self.current}"
        return " ".join(
            part for part in (self.line, levels, self.status, current, number, advisories) if part
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where the machine stands, as somebody the policy trusts says; `None`: nobody said."""

    region: str | None = None
    boundary: str | None = None
    site: str | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU whose report verified: the vendor's names and versions, as the evidence has them."""

    model: str
    chip: str
    driver: str
    vbios: str
    measured: bool
    """Its measurements are the vendor's reference values."""
    protected: bool | None = None
    """It says that it runs in protected PCIe mode; None where it does not say."""


@dataclass(frozen=True, slots=True)
class GpuProof:
    """What the GPUs' own evidence proved: genuine devices answered for this statement; not, by itself, that they are in this machine."""

    gpus: tuple[Gpu, ...]
    switches: int

    def describe(self) -> tuple[str, ...]:
        """Each device in words."""
        gpus = (
            f"NVIDIA {g.model}, driver {g.driver}, VBIOS {g.vbios}, {'measured' if g.measured else 'not measured'}"
            for g in self.gpus
        )
        return (*gpus, *([f"{self.switches} NVSwitches"] if self.switches else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareProof:
    """What evidence proved of the hardware that speaks for a key.

    Attributes:
        kind: of evidence.
        what: the hardware in words, for people.
        claims: further claims, each with its source.
        pcrs: of a TPM, as quoted.
        measurements: name to value, for kinds whose reference values a policy names by `[measurements.<kind>]`.
        tcb: None where the kind has no notion of it.
        debug: whether the hardware lets others look into the running system; None: this evidence cannot tell.
        hazards: name to what is wrong with it: settings that a policy must accept by name.
        place: who endorsed where it stands.
        source: how well the hardware itself is known: `endorsed` where a cloud's software plays it.
        isolated: a TEE whose measurements cover the software, so that what that software states is as good as the measurements.
        emulated: software pretends to be the hardware.
    """

    kind: str
    what: str
    claims: tuple[Claim, ...] = ()
    pcrs: PcrBanks | None = None
    measurements: Mapping[str, bytes] | None = None
    tcb: Tcb | None = None
    debug: bool | None = None
    hazards: Mapping[str, str] | None = None
    place: Place = Place()
    source: Source = Source.HARDWARE
    isolated: bool = False
    emulated: bool = False
