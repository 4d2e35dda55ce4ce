"""A report's fields as rows for people: the specification's name, the value, and what it means. Nothing here is verified."""

from __future__ import annotations

from rlu_attestation.errors import RluError
from rlu_attestation.evidence.sev_snp.item import SevSnpEvidence
from rlu_attestation.evidence.sev_snp.product import ProductLine, TcbVersion, product_of_cpuid
from rlu_attestation.evidence.sev_snp.report import (
    NO_MIGRATION_AGENT,
    VMPL_HOST,
    AttestationReport,
    SigningKey,
)
from rlu_attestation.evidence.sev_snp.vek import VekExtensions, parse_extensions

Row = tuple[str, str, str]

_KEYS = {
    SigningKey.VCEK: "the chip's own key",
    SigningKey.VLEK: "a key AMD issued to the cloud provider",
    SigningKey.NONE: "the report is not signed and proves nothing",
}


def describe(evidence: SevSnpEvidence) -> list[Row]:
    """Rows of the report, then of the VEK certificate."""
    try:
        extensions = parse_extensions(evidence.vek)
    except RluError as error:
        return [*describe_report(evidence.report), ("VEK certificate", "not readable", error.message)]
    return [*describe_report(evidence.report, extensions.product), *_vek(extensions)]


def describe_report(report: AttestationReport, product: ProductLine | None = None) -> list[Row]:
    """Rows of a report; version 2 does not say its product line, so TCBs are taken apart only when that is given."""
    product = _product(report) or product
    return [
        ("VERSION", str(report.version), "layout of the report"),
        ("GUEST_SVN", str(report.guest_svn), "the guest image's security version, from its ID block"),
        *_policy(report),
        ("FAMILY_ID", report.family_id.hex(), "the guest owner's name for a family of images"),
        ("IMAGE_ID", report.image_id.hex(), "the guest owner's name for the image"),
        ("VMPL", *_vmpl(report.vmpl)),
        ("SIGNATURE_ALGO", str(report.signature_algo), "ECDSA P-384 with SHA-384"),
        _tcb("CURRENT_TCB", report.current_tcb, product, "what runs now"),
        *_platform(report),
        ("AUTHOR_KEY_EN", _bit(report.author_key_en), "AUTHOR_KEY_DIGEST is meaningful"),
        ("MASK_CHIP_KEY", _bit(report.mask_chip_key), "the firmware does not sign with the chip's own key"),
        ("SIGNING_KEY", report.signing_key.name, _KEYS[report.signing_key]),
        ("REPORT_DATA", report.report_data.hex(), "what the guest asked to be signed"),
        ("MEASUREMENT", report.measurement.hex(), "launch digest of the guest's initial memory"),
        ("HOST_DATA", report.host_data.hex(), "what the host gave at launch"),
        ("ID_KEY_DIGEST", report.id_key_digest.hex(), "key that signed the ID block; zero without one"),
        ("AUTHOR_KEY_DIGEST", report.author_key_digest.hex(), "key that certified the ID key"),
        ("REPORT_ID", report.report_id.hex(), "identity of this run of the guest"),
        ("REPORT_ID_MA", report.report_id_ma.hex(), _migration(report)),
        _tcb("REPORTED_TCB", report.reported_tcb, product, "what the signing key was derived for"),
        *_cpuid(report, product),
        (
            "CHIP_ID",
            report.chip_id.hex(),
            "identity of the processor" if any(report.chip_id) else "masked by the host",
        ),
        _tcb("COMMITTED_TCB", report.committed_tcb, product, "what the host can no longer roll back"),
        ("CURRENT_VERSION", str(report.current_version), "firmware that runs"),
        ("COMMITTED_VERSION", str(report.committed_version), "oldest firmware the host can go back to"),
        _tcb("LAUNCH_TCB", report.launch_tcb, product, "what ran when the guest started"),
        *_mitigations(report),
    ]


def _policy(report: AttestationReport) -> list[Row]:
    policy = report.policy
    return [
        ("POLICY", f"{policy.raw:#x}", "what the guest's owner allowed at launch"),
        (
            "POLICY.ABI",
            f"{policy.abi_major}.{policy.abi_minor}",
            "lowest firmware interface that may run the guest",
        ),
        ("POLICY.SMT", _bit(policy.smt), "the host may use two threads a core"),
        ("POLICY.MIGRATE_MA", _bit(policy.migrate_ma), "a migration agent may be associated"),
        ("POLICY.DEBUG", _bit(policy.debug), "the host may read the guest's memory: never for secrets"),
        ("POLICY.SINGLE_SOCKET", _bit(policy.single_socket), "the guest stays on one socket"),
        ("POLICY.CXL_ALLOW", _bit(policy.cxl_allow), "memory behind CXL is allowed"),
        ("POLICY.MEM_AES_256_XTS", _bit(policy.mem_aes_256_xts), "memory encryption must be AES-256-XTS"),
        ("POLICY.RAPL_DIS", _bit(policy.rapl_dis), "power readings must be off, against a side channel"),
        (
            "POLICY.CIPHERTEXT_HIDING_DRAM",
            _bit(policy.ciphertext_hiding_dram),
            "ciphertext must be hidden from the host",
        ),
        ("POLICY.PAGE_SWAP_DISABLE", _bit(policy.page_swap_disable), "the host may not move or swap pages"),
    ]


def _platform(report: AttestationReport) -> list[Row]:
    info = report.platform_info
    return [
        ("PLATFORM_INFO", f"{info.raw:#x}", "how the machine is configured"),
        ("PLATFORM_INFO.SMT_EN", _bit(info.smt_en), "two threads share a core"),
        ("PLATFORM_INFO.TSME_EN", _bit(info.tsme_en), "all memory is encrypted transparently"),
        ("PLATFORM_INFO.ECC_EN", _bit(info.ecc_en), "memory has error correction"),
        ("PLATFORM_INFO.RAPL_DIS", _bit(info.rapl_dis), "power readings are off"),
        (
            "PLATFORM_INFO.CIPHERTEXT_HIDING_DRAM_EN",
            _bit(info.ciphertext_hiding_dram_en),
            "the host cannot read ciphertext",
        ),
        (
            "PLATFORM_INFO.ALIAS_CHECK_COMPLETE",
            _bit(info.alias_check_complete),
            "memory was checked for aliases (BadRAM)",
        ),
        ("PLATFORM_INFO.TIO_EN", _bit(info.tio_en), "trusted I/O is on"),
    ]


def _vek(extensions: VekExtensions) -> list[Row]:
    tcb = (
        str(extensions.tcb.parts(extensions.product))
        if not _reserved(extensions)
        else extensions.tcb.raw.hex()
    )
    rows = [
        ("VEK certificate", extensions.kind.name, _KEYS[extensions.kind]),
        ("productName", extensions.product_name, f"product line {extensions.product.value}"),
        ("TCB of the certificate", tcb, "must be REPORTED_TCB"),
    ]
    if extensions.hwid is not None:
        rows.append(("hwID", extensions.hwid.hex(), "must be CHIP_ID"))
    if extensions.csp_id is not None:
        rows.append(("cspID", extensions.csp_id, "the provider that the key was issued to"))
    return rows


def _reserved(extensions: VekExtensions) -> bool:
    try:
        extensions.tcb.parts(extensions.product)
    except RluError:
        return True
    return False


def _tcb(name: str, tcb: TcbVersion, product: ProductLine | None, meaning: str) -> Row:
    if product is None:
        return name, tcb.raw.hex(), meaning
    try:
        return name, f"{tcb.raw.hex()} ({tcb.parts(product)})", meaning
    except RluError as error:
        return name, tcb.raw.hex(), error.message


def _cpuid(report: AttestationReport, product: ProductLine | None) -> list[Row]:
    if report.cpuid_fam_id is None or report.cpuid_mod_id is None or report.cpuid_step is None:
        return []
    line = (
        "not a known product line"
        if _product(report) is None or product is None
        else f"product line {product.value}"
    )
    return [
        ("CPUID_FAM_ID", f"{report.cpuid_fam_id:#x}", "CPU family"),
        ("CPUID_MOD_ID", f"{report.cpuid_mod_id:#x}", line),
        ("CPUID_STEP", f"{report.cpuid_step:#x}", "CPU stepping"),
    ]


def _product(report: AttestationReport) -> ProductLine | None:
    if report.cpuid_fam_id is None or report.cpuid_mod_id is None:
        return None
    try:
        return product_of_cpuid(report.cpuid_fam_id, report.cpuid_mod_id)
    except RluError:
        return None


def _mitigations(report: AttestationReport) -> list[Row]:
    if report.launch_mit_vector is None or report.current_mit_vector is None:
        return []
    return [
        (
            "LAUNCH_MIT_VECTOR",
            f"{report.launch_mit_vector:#x}",
            "mitigations in force when the guest started",
        ),
        ("CURRENT_MIT_VECTOR", f"{report.current_mit_vector:#x}", "mitigations in force now"),
    ]


def _vmpl(vmpl: int) -> tuple[str, str]:
    if vmpl == VMPL_HOST:
        return "host", "the host requested the report, not the guest"
    return str(vmpl), "privilege level that requested the report; 0 is the highest"


def _migration(report: AttestationReport) -> str:
    return (
        "no migration agent"
        if report.report_id_ma == NO_MIGRATION_AGENT
        else "REPORT_ID of the migration agent"
    )


def _bit(value: bool) -> str:
    return "1" if value else "0"
