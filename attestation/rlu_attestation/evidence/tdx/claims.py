"""What a verified TDX quote says, for a policy to judge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rlu_attestation.evidence.tdx.body import TdAttributes, TdReport
from rlu_attestation.evidence.tdx.collateral import Collateral
from rlu_attestation.evidence.tdx.item import TdxEvidence
from rlu_attestation.evidence.tdx.pck import PckExtensions
from rlu_attestation.evidence.tdx.qe_identity import QeIdentity
from rlu_attestation.evidence.tdx.quote import Quote
from rlu_attestation.evidence.tdx.status import TcbStatus
from rlu_attestation.evidence.tdx.tcb import TcbEvaluation
from rlu_attestation.evidence.tdx.tcb_info import TcbInfo


@dataclass(frozen=True, slots=True)
class TdxClaims:
    """Claims of a quote whose every step passed, except revocation, binding and event log, which the caller checks.

    Attributes:
        quote: all fields, under the specification's names.
        pck: the platform: FMSPC, PCE-ID, its certified TCB.
        tcb: the levels that were reached and what they come to.
        tcb_evaluation_data_number: the lower of those of TCB information and QE identity; it rises with every recovery of the TCB.
        earliest_issue_date: when the oldest of TCB information, QE identity and revocation lists was made.
        earliest_expiration_date: when the first of certificates, TCB information, QE identity and revocation lists ends.
    """

    quote: Quote
    pck: PckExtensions
    tcb: TcbEvaluation
    tcb_evaluation_data_number: int
    earliest_issue_date: datetime
    earliest_expiration_date: datetime

    @property
    def report(self) -> TdReport:
        return self.quote.report

    @property
    def status(self) -> TcbStatus:
        """Intel's word on the TCB; anything but UpToDate is for a policy to accept by name."""
        return self.tcb.status

    @property
    def launch_status(self) -> TcbStatus:
        """Under the TDX module that launched the TD."""
        return self.tcb.launch_status

    @property
    def current_status(self) -> TcbStatus:
        """Under the TDX module that runs now."""
        return self.tcb.current_status

    @property
    def advisory_ids(self) -> tuple[str, ...]:
        """Intel's advisories about the levels that were reached, sorted."""
        return self.tcb.advisory_ids

    @property
    def tcb_date(self) -> datetime:
        """The date of the oldest of the levels that platform, TDX module and quoting enclave reach."""
        dates = [self.tcb.platform.tcb_date, self.tcb.qe.tcb_date]
        if self.tcb.module.level is not None:
            dates.append(self.tcb.module.level.tcb_date)
        return min(dates)

    @property
    def fmspc(self) -> bytes:
        """Kind of platform, 6 bytes."""
        return self.pck.fmspc

    @property
    def td_attributes(self) -> TdAttributes:
        return self.quote.report.td_attributes

    @property
    def debug(self) -> bool:
        """The TD may be debugged or profiled by the host: nothing else in the quote means anything then."""
        return self.quote.report.td_attributes.under_debug

    @property
    def sept_ve_disable(self) -> bool:
        """The TD is stopped when the host takes a page away; without it the software inside must defend itself (OpenHCL does)."""
        return self.quote.report.td_attributes.sept_ve_disable

    @property
    def migratable(self) -> bool:
        """The TD can be moved to another machine."""
        return self.quote.report.td_attributes.migratable

    @property
    def smt_enabled(self) -> bool | None:
        """Two hardware threads share a core; None where the platform does not say."""
        return self.pck.smt_enabled

    @property
    def mr_td(self) -> bytes:
        """SHA-384 of the initial memory, 48 bytes."""
        return self.quote.report.mr_td

    @property
    def rtmr(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Runtime measurement registers 0 to 3, 48 bytes each."""
        return self.quote.report.rtmr

    @property
    def mr_seam(self) -> bytes:
        """SHA-384 of the TDX module."""
        return self.quote.report.mr_seam

    @property
    def mr_config_id(self) -> bytes:
        """48 bytes the host named at launch: configuration."""
        return self.quote.report.mr_config_id

    @property
    def mr_owner(self) -> bytes:
        """48 bytes the host named at launch: owner."""
        return self.quote.report.mr_owner

    @property
    def mr_owner_config(self) -> bytes:
        """48 bytes the host named at launch: the owner's configuration."""
        return self.quote.report.mr_owner_config

    @property
    def mr_service_td(self) -> bytes | None:
        """Hash over the TD's service TDs; None when there are none, or the report does not say."""
        found = self.quote.report.mr_service_td
        return found if found is not None and any(found) else None

    @property
    def report_data(self) -> bytes:
        """64 bytes the TD gave."""
        return self.quote.report.report_data

    @property
    def tee_tcb_svn(self) -> bytes:
        """Security version of the TDX module that launched the TD, 16 bytes."""
        return self.quote.report.tee_tcb_svn

    @property
    def tee_tcb_svn_2(self) -> bytes | None:
        """Security version of the TDX module that runs now; None where the report does not say."""
        return self.quote.report.tee_tcb_svn_2

    @property
    def pce_svn(self) -> int:
        return self.pck.tcb.pce_svn

    @property
    def qe_svn(self) -> int:
        """Security version of the quoting enclave."""
        return self.quote.qe_report.isv_svn


def claims_of(
    evidence: TdxEvidence,
    pck: PckExtensions,
    tcb_info: TcbInfo,
    identity: QeIdentity,
    evaluation: TcbEvaluation,
) -> TdxClaims:
    """Claims from what the steps proved; evidence with collateral."""
    quote, stapled = evidence.quote, evidence.collateral
    if stapled is None:
        raise ValueError("claims need collateral")
    issued, ends = _dates(quote, stapled)
    return TdxClaims(
        quote=quote,
        pck=pck,
        tcb=evaluation,
        tcb_evaluation_data_number=min(
            tcb_info.tcb_evaluation_data_number, identity.tcb_evaluation_data_number
        ),
        earliest_issue_date=min(tcb_info.issue_date, identity.issue_date, *issued),
        earliest_expiration_date=min(tcb_info.next_update, identity.next_update, *ends),
    )


def _dates(quote: Quote, stapled: Collateral) -> tuple[list[datetime], list[datetime]]:
    lists = (stapled.root_ca_crl, stapled.pck_crl)
    certificates = (
        quote.pck,
        quote.pck_ca,
        quote.root,
        *stapled.tcb_info_issuer_chain,
        *stapled.qe_identity_issuer_chain,
        *stapled.pck_crl_issuer_chain,
    )
    ends = [found.not_after for found in certificates]
    return [found.this_update for found in lists], ends + [
        found.next_update for found in lists if found.next_update is not None
    ]
