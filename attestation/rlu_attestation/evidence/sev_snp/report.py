"""ATTESTATION_REPORT (SEV Secure Nested Paging Firmware ABI Specification, 56860, table "ATTESTATION_REPORT Structure"), versions 2, 3, 5.

Fields keep the specification's names. All integers are little endian. Reserved bits and bytes must be zero (POLICY bit 17: one), a version
that is not known refuses, and so does any other length than 1184 bytes. A report that parses proves nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.sev_snp.product import TCB_SIZE, TcbVersion

REPORT_SIZE = 0x4A0
SIGNED_SIZE = 0x2A0
"""The signature covers the bytes before it."""
REPORT_DATA_SIZE = 64
VMPL_HOST = 0xFFFFFFFF
"""VMPL of a report that the host requested, not the guest."""
NO_MIGRATION_AGENT = b"\xff" * 32
"""REPORT_ID_MA of a guest without a migration agent."""

_CODE = "sev-snp.report.encoding"
_RESERVED = "sev-snp.report.reserved"
_VERSIONS = (2, 3, 5)
_ECDSA_P384_SHA384 = 1
_COMPONENT_SIZE, _SCALAR_SIZE = 72, 48


class SigningKey(enum.IntEnum):
    """SIGNING_KEY: which key the firmware signed with."""

    VCEK = 0
    VLEK = 1
    NONE = 7


@dataclass(frozen=True, slots=True)
class GuestPolicy:
    """POLICY: what the guest's owner allowed; fixed at launch and enforced by the firmware."""

    raw: int
    abi_minor: int
    abi_major: int
    smt: bool
    migrate_ma: bool
    debug: bool
    single_socket: bool
    cxl_allow: bool
    mem_aes_256_xts: bool
    rapl_dis: bool
    ciphertext_hiding_dram: bool
    page_swap_disable: bool


@dataclass(frozen=True, slots=True)
class PlatformInfo:
    """PLATFORM_INFO: how the machine is configured now."""

    raw: int
    smt_en: bool
    tsme_en: bool
    ecc_en: bool
    rapl_dis: bool
    ciphertext_hiding_dram_en: bool
    alias_check_complete: bool
    tio_en: bool


@dataclass(frozen=True, slots=True)
class FirmwareVersion:
    """Version of the SEV firmware; compares in the order of release."""

    major: int
    minor: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}"


@dataclass(frozen=True, slots=True)
class AttestationReport:
    """A report taken apart; nothing of it is verified.

    `cpuid_…` exist from version 3, the mitigation vectors from version 5. `signature_r` and `signature_s` are integers.
    """

    raw: bytes
    version: int
    guest_svn: int
    policy: GuestPolicy
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algo: int
    current_tcb: TcbVersion
    platform_info: PlatformInfo
    author_key_en: bool
    mask_chip_key: bool
    signing_key: SigningKey
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: TcbVersion
    cpuid_fam_id: int | None
    cpuid_mod_id: int | None
    cpuid_step: int | None
    chip_id: bytes
    committed_tcb: TcbVersion
    current_version: FirmwareVersion
    committed_version: FirmwareVersion
    launch_tcb: TcbVersion
    launch_mit_vector: int | None
    current_mit_vector: int | None
    signature_r: int
    signature_s: int

    @property
    def signed(self) -> bytes:
        """The bytes that the signature covers."""
        return self.raw[:SIGNED_SIZE]


def parse_report(data: bytes) -> AttestationReport:
    """Take a report apart.

    Raises:
        Malformed: another length (`sev-snp.report.encoding`), or a reserved bit, byte or value (`sev-snp.report.reserved`).
        Unsupported: `sev-snp.report.version`, `sev-snp.report.algorithm`.
    """
    if len(data) != REPORT_SIZE:
        raise Malformed(_CODE, f"a report has {REPORT_SIZE} bytes, not {len(data)}")
    cursor = Cursor(data, _RESERVED, REPORT_SIZE)
    version = cursor.u32_le("VERSION")
    if version not in _VERSIONS:
        raise Unsupported("sev-snp.report.version", f"report version {version} is not one of {_VERSIONS}")
    guest_svn = cursor.u32_le("GUEST_SVN")
    policy = _policy(cursor.u64_le("POLICY"))
    family_id, image_id = cursor.take(16, "FAMILY_ID"), cursor.take(16, "IMAGE_ID")
    vmpl = cursor.u32_le("VMPL")
    if vmpl > 3 and vmpl != VMPL_HOST:
        raise Malformed(_RESERVED, f"VMPL {vmpl} does not exist")
    signature_algo = cursor.u32_le("SIGNATURE_ALGO")
    if signature_algo != _ECDSA_P384_SHA384:
        raise Unsupported(
            "sev-snp.report.algorithm", f"SIGNATURE_ALGO {signature_algo} is not ECDSA P-384 with SHA-384"
        )
    current_tcb = _tcb(cursor, "CURRENT_TCB")
    platform_info = _platform_info(cursor.u64_le("PLATFORM_INFO"))
    author_key_en, mask_chip_key, signing_key = _key_info(cursor.u32_le("SIGNING_KEY"))
    cursor.reserved(4, "bytes 4Ch to 4Fh")
    report_data, measurement = cursor.take(REPORT_DATA_SIZE, "REPORT_DATA"), cursor.take(48, "MEASUREMENT")
    host_data = cursor.take(32, "HOST_DATA")
    id_key_digest, author_key_digest = cursor.take(48, "ID_KEY_DIGEST"), cursor.take(48, "AUTHOR_KEY_DIGEST")
    report_id, report_id_ma = cursor.take(32, "REPORT_ID"), cursor.take(32, "REPORT_ID_MA")
    reported_tcb = _tcb(cursor, "REPORTED_TCB")
    family, model, stepping = _cpuid(cursor, version)
    chip_id = cursor.take(64, "CHIP_ID")
    committed_tcb = _tcb(cursor, "COMMITTED_TCB")
    current_version = _firmware(cursor, "CURRENT")
    committed_version = _firmware(cursor, "COMMITTED")
    launch_tcb = _tcb(cursor, "LAUNCH_TCB")
    launch_mit_vector, current_mit_vector = _mitigations(cursor, version)
    cursor.reserved(SIGNED_SIZE - cursor.position, "what precedes SIGNATURE")
    signature_r, signature_s = _component(cursor, "R"), _component(cursor, "S")
    cursor.reserved(cursor.remaining, "the rest of SIGNATURE")
    return AttestationReport(
        raw=data,
        version=version,
        guest_svn=guest_svn,
        policy=policy,
        family_id=family_id,
        image_id=image_id,
        vmpl=vmpl,
        signature_algo=signature_algo,
        current_tcb=current_tcb,
        platform_info=platform_info,
        author_key_en=author_key_en,
        mask_chip_key=mask_chip_key,
        signing_key=signing_key,
        report_data=report_data,
        measurement=measurement,
        host_data=host_data,
        id_key_digest=id_key_digest,
        author_key_digest=author_key_digest,
        report_id=report_id,
        report_id_ma=report_id_ma,
        reported_tcb=reported_tcb,
        cpuid_fam_id=family,
        cpuid_mod_id=model,
        cpuid_step=stepping,
        chip_id=chip_id,
        committed_tcb=committed_tcb,
        current_version=current_version,
        committed_version=committed_version,
        launch_tcb=launch_tcb,
        launch_mit_vector=launch_mit_vector,
        current_mit_vector=current_mit_vector,
        signature_r=signature_r,
        signature_s=signature_s,
    )


def _policy(raw: int) -> GuestPolicy:
    if raw >> 26:
        raise Malformed(_RESERVED, f"POLICY {raw:#x} has reserved bits set")
    if not raw & 1 << 17:
        raise Malformed(_RESERVED, f"POLICY {raw:#x} lacks bit 17, which must be one")
    return GuestPolicy(
        raw=raw,
        abi_minor=raw & 0xFF,
        abi_major=raw >> 8 & 0xFF,
        smt=bool(raw & 1 << 16),
        migrate_ma=bool(raw & 1 << 18),
        debug=bool(raw & 1 << 19),
        single_socket=bool(raw & 1 << 20),
        cxl_allow=bool(raw & 1 << 21),
        mem_aes_256_xts=bool(raw & 1 << 22),
        rapl_dis=bool(raw & 1 << 23),
        ciphertext_hiding_dram=bool(raw & 1 << 24),
        page_swap_disable=bool(raw & 1 << 25),
    )


def _platform_info(raw: int) -> PlatformInfo:
    if raw & 1 << 6 or raw >> 8:
        raise Malformed(_RESERVED, f"PLATFORM_INFO {raw:#x} has reserved bits set")
    return PlatformInfo(
        raw=raw,
        smt_en=bool(raw & 1),
        tsme_en=bool(raw & 1 << 1),
        ecc_en=bool(raw & 1 << 2),
        rapl_dis=bool(raw & 1 << 3),
        ciphertext_hiding_dram_en=bool(raw & 1 << 4),
        alias_check_complete=bool(raw & 1 << 5),
        tio_en=bool(raw & 1 << 7),
    )


def _key_info(raw: int) -> tuple[bool, bool, SigningKey]:
    """AUTHOR_KEY_EN, MASK_CHIP_KEY and SIGNING_KEY, which share one word."""
    try:
        signing_key = SigningKey(raw >> 2 & 7)
    except ValueError as error:
        raise Malformed(_RESERVED, f"SIGNING_KEY {raw >> 2 & 7} is reserved") from error
    if raw >> 5:
        raise Malformed(_RESERVED, f"the word of SIGNING_KEY, {raw:#x}, has reserved bits set")
    return bool(raw & 1), bool(raw & 2), signing_key


def _cpuid(cursor: Cursor, version: int) -> tuple[int, int, int] | tuple[None, None, None]:
    if version < 3:
        cursor.reserved(24, "bytes 188h to 19Fh")
        return None, None, None
    found = cursor.u8("CPUID_FAM_ID"), cursor.u8("CPUID_MOD_ID"), cursor.u8("CPUID_STEP")
    cursor.reserved(21, "bytes 18Bh to 19Fh")
    return found


def _mitigations(cursor: Cursor, version: int) -> tuple[int, int] | tuple[None, None]:
    if version < 5:
        return None, None
    return cursor.u64_le("LAUNCH_MIT_VECTOR"), cursor.u64_le("CURRENT_MIT_VECTOR")


def _tcb(cursor: Cursor, field: str) -> TcbVersion:
    return TcbVersion(cursor.take(TCB_SIZE, field))


def _firmware(cursor: Cursor, field: str) -> FirmwareVersion:
    build, minor, major = (
        cursor.u8(f"{field}_BUILD"),
        cursor.u8(f"{field}_MINOR"),
        cursor.u8(f"{field}_MAJOR"),
    )
    cursor.reserved(1, f"the byte after {field}_MAJOR")
    return FirmwareVersion(major, minor, build)


def _component(cursor: Cursor, field: str) -> int:
    """R or S of the signature: 72 bytes, little endian, of which a P-384 scalar fills 48."""
    scalar = int.from_bytes(cursor.take(_SCALAR_SIZE, field), "little")
    cursor.reserved(_COMPONENT_SIZE - _SCALAR_SIZE, f"the padding of {field}")
    return scalar
