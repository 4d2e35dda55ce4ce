"""What a verified SEV-SNP report says, for a policy to judge."""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.evidence.sev_snp.product import ProductLine, TcbParts
from rlu_attestation.evidence.sev_snp.report import (
    NO_MIGRATION_AGENT,
    AttestationReport,
    FirmwareVersion,
    GuestPolicy,
    PlatformInfo,
    SigningKey,
)


@dataclass(frozen=True, slots=True)
class SevSnpClaims:
    """Claims of a report whose every step passed, except revocation and binding, which the caller checks.

    Attributes:
        product: the line of processors.
        signing_key: VCEK (the chip's own) or VLEK (loaded by a provider).
        csp_id: the provider that the VLEK was issued to; None with a VCEK.
        reported_tcb: what the signing key was derived for, the one to hold against a minimum. The firmware never reports more than it
            has committed to.
        current_tcb, committed_tcb, launch_tcb: what runs, what cannot be rolled back any more, and what ran when the guest started.
        report: all fields, under the specification's names.
    """

    product: ProductLine
    signing_key: SigningKey
    csp_id: str | None
    current_tcb: TcbParts
    reported_tcb: TcbParts
    committed_tcb: TcbParts
    launch_tcb: TcbParts
    report: AttestationReport

    @property
    def debug_allowed(self) -> bool:
        """The host may read and write the guest's memory: nothing else in the report means anything then."""
        return self.report.policy.debug

    @property
    def migration_agent_allowed(self) -> bool:
        """A migration agent may be associated, which could export the guest's secrets."""
        return self.report.policy.migrate_ma

    @property
    def migration_agent(self) -> bytes | None:
        """REPORT_ID of the migration agent; None when there is none."""
        return None if self.report.report_id_ma == NO_MIGRATION_AGENT else self.report.report_id_ma

    @property
    def policy(self) -> GuestPolicy:
        return self.report.policy

    @property
    def platform_info(self) -> PlatformInfo:
        return self.report.platform_info

    @property
    def smt_enabled(self) -> bool:
        """Two hardware threads share a core on this machine."""
        return self.report.platform_info.smt_en

    @property
    def provisional_firmware(self) -> bool:
        """The running firmware is not yet committed: the host could still go back to an older one."""
        return (
            self.report.current_version != self.report.committed_version
            or self.report.current_tcb != self.report.committed_tcb
        )

    @property
    def vmpl(self) -> int:
        """Privilege level that requested the report; 0 is the highest."""
        return self.report.vmpl

    @property
    def guest_svn(self) -> int:
        return self.report.guest_svn

    @property
    def measurement(self) -> bytes:
        """SHA-384 launch digest, 48 bytes."""
        return self.report.measurement

    @property
    def host_data(self) -> bytes:
        """32 bytes the host gave at launch."""
        return self.report.host_data

    @property
    def report_data(self) -> bytes:
        """64 bytes the guest gave."""
        return self.report.report_data

    @property
    def id_key_digest(self) -> bytes | None:
        """SHA-384 of the key that signed the launch's ID block; None when the guest started without one."""
        return self.report.id_key_digest if any(self.report.id_key_digest) else None

    @property
    def author_key_digest(self) -> bytes | None:
        """SHA-384 of the key that certified the ID key; None without one."""
        return self.report.author_key_digest if self.report.author_key_en else None

    @property
    def chip_id(self) -> bytes | None:
        """The chip's identity, 64 bytes; None when the host masks it."""
        return self.report.chip_id if any(self.report.chip_id) else None

    @property
    def firmware(self) -> FirmwareVersion:
        """Version of the running firmware."""
        return self.report.current_version
