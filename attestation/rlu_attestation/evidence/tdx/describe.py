"""A quote's fields as rows for people: the specification's name, the value, and what it means. Nothing here is verified."""

from __future__ import annotations

from rlu_attestation.errors import RluError
from rlu_attestation.evidence.tdx.body import BodyType, TdReport
from rlu_attestation.evidence.tdx.collateral import Collateral
from rlu_attestation.evidence.tdx.item import TdxEvidence
from rlu_attestation.evidence.tdx.pck import PckExtensions, SgxType, parse_extensions
from rlu_attestation.evidence.tdx.qe_identity import parse_qe_identity
from rlu_attestation.evidence.tdx.quote import Quote
from rlu_attestation.evidence.tdx.tcb_info import parse_tcb_info

Row = tuple[str, str, str]

_BODIES = {BodyType.TD10: "TD report 1.0", BodyType.TD15: "TD report 1.5", BodyType.SGX: "SGX enclave report"}
_ATTRIBUTES = {
    "DEBUG": "the host may read the TD's memory: never for secrets",
    "HGS_PLUS_PROF": "the TD may be profiled for hardware feedback: counts as debug",
    "PERF_PROF": "the host may profile the TD's performance: counts as debug",
    "PMT_PROF": "the host may profile the TD by platform monitoring: counts as debug",
    "ICSSD": "the TD changes how CPUID answers",
    "LASS": "linear address space separation may be used",
    "SEPT_VE_DISABLE": "the TD stops when the host takes a page away, instead of handling an exception",
    "MIGRATABLE": "the TD can be moved to another machine",
    "PKS": "supervisor protection keys may be used",
    "KL": "key locker may be used",
    "TPA": "TD partitioning with assisted attestation may be used",
    "PERFMON": "performance counters may be used",
}
_SGX_TYPES = {
    SgxType.STANDARD: "memory with integrity and replay protection",
    SgxType.SCALABLE: "scalable memory protection",
    SgxType.SCALABLE_WITH_INTEGRITY: "scalable memory protection with integrity",
}


def describe(evidence: TdxEvidence) -> list[Row]:
    """Rows of the quote, then of the PCK certificate, then of the collateral."""
    try:
        pck = _pck(parse_extensions(evidence.quote.pck))
    except RluError as error:
        pck = [("PCK certificate", "not readable", error.message)]
    return [*describe_quote(evidence.quote), *pck, *_collateral(evidence.collateral)]


def describe_quote(quote: Quote) -> list[Row]:
    """Rows of a quote."""
    qe = quote.qe_report
    return [
        ("Version", str(quote.version), "layout of the quote"),
        ("Attestation Key Type", "2", "ECDSA P-256 with SHA-256"),
        ("TEE Type", "0x81", "TDX"),
        ("QE Vendor ID", quote.qe_vendor_id.hex(), "Intel's quoting enclave"),
        ("User Data", quote.user_data.hex(), "the quoting enclave's identity on this platform"),
        ("Body type", str(int(quote.body_type)), _BODIES[quote.body_type]),
        *_report(quote.report),
        ("Attestation Key", quote.attestation_key.hex(), "public key that signed the quote, x and y"),
        ("QE CPUSVN", qe.cpu_svn.hex(), "security version of the processor under the quoting enclave"),
        ("QE MISCSELECT", qe.misc_select.hex(), "must match the QE identity where its mask is one"),
        ("QE Attributes", qe.attributes.hex(), "must match the QE identity where its mask is one"),
        ("QE MRENCLAVE", qe.mr_enclave.hex(), "measurement of the quoting enclave"),
        ("QE MRSIGNER", qe.mr_signer.hex(), "who signed the quoting enclave; must be the QE identity's"),
        ("QE ISV ProdID", str(qe.isv_prod_id), "which enclave; must be the QE identity's"),
        ("QE ISV SVN", str(qe.isv_svn), "security version of the quoting enclave"),
        ("QE Report Data", qe.report_data.hex(), "digest of attestation key and authentication data"),
        (
            "QE Authentication Data",
            quote.qe_authentication_data.hex(),
            "what the quoting enclave signed besides",
        ),
    ]


def _report(report: TdReport) -> list[Row]:
    rows = [
        ("TEE_TCB_SVN", *_svn(report.tee_tcb_svn, "launched the TD")),
        ("MRSEAM", report.mr_seam.hex(), "measurement of the TDX module"),
        ("MRSIGNERSEAM", report.mr_signer_seam.hex(), "who signed the TDX module; zero is Intel"),
        ("SEAMATTRIBUTES", report.seam_attributes.hex(), "the TDX module's configuration"),
        ("TDATTRIBUTES", f"{report.td_attributes.raw:#x}", "how the TD was configured at launch"),
        *(
            (f"TDATTRIBUTES.{name}", "1" if getattr(report.td_attributes, name.lower()) else "0", meaning)
            for name, meaning in _ATTRIBUTES.items()
        ),
        ("XFAM", f"{report.xfam:#x}", "extended features of the processor that the TD may use"),
        ("MRTD", report.mr_td.hex(), "measurement of the TD's initial memory: its firmware"),
        ("MRCONFIGID", report.mr_config_id.hex(), "configuration, as the host named it at launch"),
        ("MROWNER", report.mr_owner.hex(), "owner, as the host named it at launch"),
        ("MROWNERCONFIG", report.mr_owner_config.hex(), "the owner's configuration, as the host named it"),
        *((f"RTMR{n}", found.hex(), "runtime measurement register") for n, found in enumerate(report.rtmr)),
        ("REPORTDATA", report.report_data.hex(), "what the TD asked to be signed"),
    ]
    if report.tee_tcb_svn_2 is not None:
        rows.append(("TEE_TCB_SVN_2", *_svn(report.tee_tcb_svn_2, "runs now")))
    if report.mr_service_td is not None:
        rows.append(
            ("MRSERVICETD", report.mr_service_td.hex(), "service TDs bound to this one; zero is none")
        )
    return rows


def _svn(svn: bytes, when: str) -> tuple[str, str]:
    return svn.hex(), f"TDX module {svn[1]}.{svn[0]} with microcode patch {svn[2]} {when}"


def _pck(pck: PckExtensions) -> list[Row]:
    rows = [
        ("FMSPC", pck.fmspc.hex(), "kind of platform; TCB information must be for it"),
        ("PCE-ID", pck.pce_id.hex(), "provisioning enclave; TCB information must be for it"),
        ("PPID", pck.ppid.hex(), "identity of the platform"),
        (
            "TCB components",
            " ".join(map(str, pck.tcb.components)),
            "security versions the PCK was certified for",
        ),
        ("PCESVN", str(pck.tcb.pce_svn), "security version of the provisioning enclave"),
        ("CPUSVN", pck.tcb.cpu_svn.hex(), "the same components, as the processor encodes them"),
        ("SGX Type", pck.sgx_type.name, _SGX_TYPES[pck.sgx_type]),
    ]
    if pck.platform_instance_id is not None:
        rows.append(
            ("Platform Instance ID", pck.platform_instance_id.hex(), "of a platform of several packages")
        )
    for name, value, meaning in (
        ("Dynamic Platform", pck.dynamic_platform, "packages can be added or replaced"),
        ("Cached Keys", pck.cached_keys, "Intel's registration service keeps the platform's root keys"),
        ("SMT Enabled", pck.smt_enabled, "two threads share a core"),
    ):
        if value is not None:
            rows.append((name, "1" if value else "0", meaning))
    return rows


def _collateral(stapled: Collateral | None) -> list[Row]:
    if stapled is None:
        return [("Collateral", "none", "nothing can be said about the platform's TCB")]
    rows: list[Row] = []
    try:
        info = parse_tcb_info(stapled.tcb_info)
    except RluError as error:
        rows.append(("TCB information", "not readable", error.message))
    else:
        rows += [
            ("tcbInfo.fmspc", info.fmspc.hex(), "must be the PCK's FMSPC"),
            ("tcbInfo.issueDate", info.issue_date.isoformat(), "made by Intel at"),
            ("tcbInfo.nextUpdate", info.next_update.isoformat(), "to be renewed by"),
            (
                "tcbInfo.tcbEvaluationDataNumber",
                str(info.tcb_evaluation_data_number),
                "rises with TCB recoveries",
            ),
            ("tcbInfo.tcbLevels", str(len(info.levels)), f"newest: {info.levels[0].status.value}"),
            *(
                (f"tcbInfo.{found.id}", str(len(found.levels)), "levels of TDX modules of this major version")
                for found in info.tdx_module_identities
            ),
        ]
    try:
        identity = parse_qe_identity(stapled.qe_identity)
    except RluError as error:
        rows.append(("QE identity", "not readable", error.message))
    else:
        rows += [
            ("enclaveIdentity.mrsigner", identity.mr_signer.hex(), "who signs the quoting enclave"),
            ("enclaveIdentity.issueDate", identity.issue_date.isoformat(), "made by Intel at"),
            ("enclaveIdentity.nextUpdate", identity.next_update.isoformat(), "to be renewed by"),
            (
                "enclaveIdentity.tcbEvaluationDataNumber",
                str(identity.tcb_evaluation_data_number),
                "rises with TCB recoveries",
            ),
        ]
    for name, found in (("PCK CRL", stapled.pck_crl), ("Root CA CRL", stapled.root_ca_crl)):
        until = "without an end" if found.next_update is None else f"to {found.next_update.isoformat()}"
        meaning = f"certificates revoked, from {found.this_update.isoformat()} {until}"
        rows.append((name, str(len(found.revoked)), meaning))
    return rows
