"""Where a platform stands among the levels of its TCB information (Intel PCS API version 4, "Get TDX TCB Info": the algorithm; Intel's
Quote Verification Library, sections 4.1.2.4.11 and 4.1.2.4.17).

A level is reached when every SGX component and the PCE's SVN in the PCK certificate, and every TDX component in TEE_TCB_SVN, is at or above
the level's. Modules of a major version (TEE_TCB_SVN[1]) above 0 are rated by an identity of their own, and the first two TDX components,
which are their version, are then not compared. TD report 1.5 also names the module that runs now; it is rated alike, and must be supported.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence.tdx.pck import PckTcb
from rlu_attestation.evidence.tdx.status import TcbStatus, converge, relaunch
from rlu_attestation.evidence.tdx.tcb_info import SvnLevel, TcbInfo, TcbLevel, TdxModule

STEP = "tdx.tcb"
MINOR, MAJOR = 0, 1
"""Where TEE_TCB_SVN has the TDX module's version."""


@dataclass(frozen=True, slots=True)
class ModuleLevel:
    """What the TCB information says of a TDX module.

    Attributes:
        id: the identity's name; `TDX` for modules of major version 0, which the platform's levels rate.
        level: the identity's level that the module reaches; None for major version 0.
    """

    id: str
    module: TdxModule
    level: SvnLevel | None

    @property
    def status(self) -> TcbStatus:
        return TcbStatus.UP_TO_DATE if self.level is None else self.level.status


@dataclass(frozen=True, slots=True)
class TcbEvaluation:
    """The levels that platform, module and quoting enclave reach, and what they come to.

    Attributes:
        status: of the TD: as it was launched, and with advice to launch it again.
        launch_status, current_status: under the module that launched it, and under the one that runs now (the same for TD report 1.0).
        platform, module, qe: the levels that gave `launch_status`.
        advisory_ids: Intel's advisories about those levels, sorted.
    """

    status: TcbStatus
    launch_status: TcbStatus
    current_status: TcbStatus
    platform: TcbLevel
    module: ModuleLevel
    qe: SvnLevel
    advisory_ids: tuple[str, ...]


def svn_level(levels: tuple[SvnLevel, ...], isv_svn: int) -> SvnLevel | None:
    """The first level that a security version reaches."""
    return next((level for level in levels if isv_svn >= level.isv_svn), None)


def module_level(tcb_info: TcbInfo, tee_tcb_svn: bytes, step: str) -> ModuleLevel:
    """The TDX module's identity and level.

    Raises:
        Untrusted: `<step>.unknown`, `.unsupported`, `.revoked`.
    """
    major = tee_tcb_svn[MAJOR]
    if major == 0:
        return ModuleLevel("TDX", tcb_info.tdx_module, None)
    identity = tcb_info.identity(major)
    if identity is None:
        raise Untrusted(
            f"{step}.unknown", f"the TCB information has no identity for TDX modules of version {major}"
        )
    level = svn_level(identity.levels, tee_tcb_svn[MINOR])
    if level is None:
        raise Untrusted(
            f"{step}.unsupported",
            f"TDX module {major}.{tee_tcb_svn[MINOR]} is below every level of {identity.id}",
        )
    if level.status is TcbStatus.REVOKED:
        raise Untrusted(f"{step}.revoked", f"TDX module {major}.{tee_tcb_svn[MINOR]} is revoked")
    return ModuleLevel(identity.id, identity.module, level)


def platform_level(tcb_info: TcbInfo, tcb: PckTcb, tee_tcb_svn: bytes, step: str) -> TcbLevel:
    """The first level of the platform that is reached.

    Raises:
        Untrusted: `<step>.unsupported`, `.revoked`.
    """
    skipped = 2 if tee_tcb_svn[MAJOR] else 0
    for level in tcb_info.levels:
        if (
            _reaches(tcb.components, level.sgx_components)
            and tcb.pce_svn >= level.pce_svn
            and _reaches(tuple(tee_tcb_svn[skipped:]), level.tdx_components[skipped:])
        ):
            if level.status is TcbStatus.REVOKED:
                raise Untrusted(f"{step}.revoked", "Intel has revoked the platform's TCB level")
            return level
    raise Untrusted(f"{step}.unsupported", "the platform is below every TCB level that Intel vouches for")


def evaluate(
    tcb_info: TcbInfo,
    tcb: PckTcb,
    module: ModuleLevel,
    qe: SvnLevel,
    tee_tcb_svn: bytes,
    tee_tcb_svn_2: bytes | None,
) -> TcbEvaluation:
    """Rate a TD.

    Args:
        tcb_info: authentic, and of this platform.
        tcb: the platform's, from its PCK certificate.
        module, qe: the levels of the launching TDX module and of the quoting enclave.
        tee_tcb_svn, tee_tcb_svn_2: of the module that launched the TD, and of the one that runs now, if the report says.

    Raises:
        Untrusted: `tdx.tcb.unsupported`, `.revoked`; for the module that runs now `tdx.tcb.current.unknown`, `.unsupported`, `.revoked`.
    """
    platform = platform_level(tcb_info, tcb, tee_tcb_svn, STEP)
    launched = converge(converge(platform.status, module.status), qe.status)
    current = launched
    if tee_tcb_svn_2 is not None:
        now = f"{STEP}.current"
        module_now = module_level(tcb_info, tee_tcb_svn_2, now)
        platform_now = platform_level(tcb_info, tcb, tee_tcb_svn_2, now)
        current = converge(converge(platform_now.status, module_now.status), qe.status)
    advisories = {*platform.advisory_ids, *qe.advisory_ids}
    if module.level is not None:
        advisories |= set(module.level.advisory_ids)
    return TcbEvaluation(
        status=relaunch(launched, current),
        launch_status=launched,
        current_status=current,
        platform=platform,
        module=module,
        qe=qe,
        advisory_ids=tuple(sorted(advisories)),
    )


def _reaches(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    return all(have >= needed for have, needed in zip(ours, theirs, strict=True))
