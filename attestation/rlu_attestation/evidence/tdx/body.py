"""The body of a TDX quote: what the TDX module reports of a trust domain ("TDX DCAP Quoting Library API", appendix A.3.2 and A.4.3).

TD report 1.0 has 584 bytes; 1.5 appends what changed for TD-preserving updates of the module. Fields keep the specification's names.
Reserved bits of TDATTRIBUTES and XFAM must be zero, XFAM's bits 0 and 1 one, and SEAMATTRIBUTES zero.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed

REPORT_DATA_SIZE = 64
SVN_SIZE = 16
_HASH = 48
_RESERVED = "tdx.quote.reserved"


class BodyType(enum.IntEnum):
    """What a version 5 quote says its body is; version 4 has TD 1.0 only."""

    SGX = 1
    TD10 = 2
    TD15 = 3


BODY_SIZES = {BodyType.TD10: 584, BodyType.TD15: 648}

_ATTRIBUTES = {
    "debug": 0,
    "hgs_plus_prof": 4,
    "perf_prof": 5,
    "pmt_prof": 6,
    "icssd": 16,
    "lass": 27,
    "sept_ve_disable": 28,
    "migratable": 29,
    "pks": 30,
    "kl": 31,
    "tpa": 62,
    "perfmon": 63,
}
_KNOWN_ATTRIBUTES = sum(1 << bit for bit in _ATTRIBUTES.values())
_TUD = 0xFF
_XFAM_ONES = 0x3
_KNOWN_XFAM = 0x6DBE7 | 1 << 19
"""x87, SSE, AVX, AVX-512, PT, PKU, CET, ULI, LBR, AMX, and APX."""


@dataclass(frozen=True, slots=True)
class TdAttributes:
    """TDATTRIBUTES: how the TD was configured at launch (Intel TDX Module ABI, "ATTRIBUTES").

    Attributes:
        debug: the host may read and write the TD's state and memory.
        hgs_plus_prof, perf_prof, pmt_prof: the TD may be profiled; with `debug` they are the group "TD under debug".
        icssd: CPUID answers are not virtualised as usual.
        lass: linear address space separation may be used.
        sept_ve_disable: a page that is taken away stops the TD instead of raising an exception that could be abused.
        migratable: the TD can be moved to another machine by a migration TD.
        pks, kl, tpa, perfmon: protection keys, key locker, TPA, performance counters may be used.
    """

    raw: int
    debug: bool
    hgs_plus_prof: bool
    perf_prof: bool
    pmt_prof: bool
    icssd: bool
    lass: bool
    sept_ve_disable: bool
    migratable: bool
    pks: bool
    kl: bool
    tpa: bool
    perfmon: bool

    @property
    def under_debug(self) -> bool:
        """Any bit of the group TUD: Intel says that such a TD is not to be trusted."""
        return bool(self.raw & _TUD)


@dataclass(frozen=True, slots=True)
class TdReport:
    """A TD report taken apart; nothing of it is verified.

    Attributes:
        tee_tcb_svn: security version of the TDX module that launched the TD: minor, major, microcode patch, then reserved components.
        mr_seam, mr_signer_seam, seam_attributes: that module's measurement, signer (zero: Intel) and attributes.
        td_attributes, xfam: configuration of the TD.
        mr_td: measurement of the initial memory (the firmware).
        mr_config_id, mr_owner, mr_owner_config: what the host named at launch; software inside decides what they mean.
        rtmr: the four runtime measurement registers.
        report_data: 64 bytes the TD asked to be signed.
        tee_tcb_svn_2: of the module that runs now; TD report 1.5 only.
        mr_service_td: hash over the service TDs that are bound to this one, such as a migration TD; TD report 1.5 only.
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: TdAttributes
    xfam: int
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn_2: bytes | None
    mr_service_td: bytes | None

    @property
    def raw(self) -> bytes:
        """The fields of TD report 1.0 as they stand in the quote, 584 bytes."""
        configuration = self.td_attributes.raw.to_bytes(8, "little") + self.xfam.to_bytes(8, "little")
        return b"".join(
            (
                self.tee_tcb_svn,
                self.mr_seam,
                self.mr_signer_seam,
                self.seam_attributes,
                configuration,
                self.mr_td,
                self.mr_config_id,
                self.mr_owner,
                self.mr_owner_config,
                *self.rtmr,
                self.report_data,
            )
        )


def read_td_report(cursor: Cursor, body_type: BodyType) -> TdReport:
    """Read a TD report at the cursor.

    Raises:
        Malformed: too short (the cursor's code), or a reserved bit (`tdx.quote.reserved`).
    """
    tee_tcb_svn = cursor.take(SVN_SIZE, "TEE_TCB_SVN")
    mr_seam, mr_signer_seam = cursor.take(_HASH, "MRSEAM"), cursor.take(_HASH, "MRSIGNERSEAM")
    seam_attributes = cursor.take(8, "SEAMATTRIBUTES")
    if any(seam_attributes):
        raise Malformed(_RESERVED, f"SEAMATTRIBUTES {seam_attributes.hex()} are not zero")
    td_attributes = _attributes(cursor.u64_le("TDATTRIBUTES"))
    xfam = _xfam(cursor.u64_le("XFAM"))
    mr_td, mr_config_id = cursor.take(_HASH, "MRTD"), cursor.take(_HASH, "MRCONFIGID")
    mr_owner, mr_owner_config = cursor.take(_HASH, "MROWNER"), cursor.take(_HASH, "MROWNERCONFIG")
    rtmr0, rtmr1, rtmr2, rtmr3 = (cursor.take(_HASH, f"RTMR{n}") for n in range(4))
    report_data = cursor.take(REPORT_DATA_SIZE, "REPORTDATA")
    later = body_type is BodyType.TD15
    return TdReport(
        tee_tcb_svn=tee_tcb_svn,
        mr_seam=mr_seam,
        mr_signer_seam=mr_signer_seam,
        seam_attributes=seam_attributes,
        td_attributes=td_attributes,
        xfam=xfam,
        mr_td=mr_td,
        mr_config_id=mr_config_id,
        mr_owner=mr_owner,
        mr_owner_config=mr_owner_config,
        rtmr=(rtmr0, rtmr1, rtmr2, rtmr3),
        report_data=report_data,
        tee_tcb_svn_2=cursor.take(SVN_SIZE, "TEE_TCB_SVN_2") if later else None,
        mr_service_td=cursor.take(_HASH, "MRSERVICETD") if later else None,
    )


def _attributes(raw: int) -> TdAttributes:
    if raw & ~_KNOWN_ATTRIBUTES:
        raise Malformed(_RESERVED, f"TDATTRIBUTES {raw:#x} have reserved bits set")
    return TdAttributes(raw=raw, **{name: bool(raw >> bit & 1) for name, bit in _ATTRIBUTES.items()})


def _xfam(raw: int) -> int:
    if raw & ~_KNOWN_XFAM:
        raise Malformed(_RESERVED, f"XFAM {raw:#x} has reserved bits set")
    if raw & _XFAM_ONES != _XFAM_ONES:
        raise Malformed(_RESERVED, f"XFAM {raw:#x} lacks bits 0 and 1, which must be one")
    return raw
