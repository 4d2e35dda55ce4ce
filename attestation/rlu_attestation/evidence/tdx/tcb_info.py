"""TCB information for TDX, version 3: which security versions Intel vouches for (Intel PCS API version 4, "Get TDX TCB Info").

Published for each FMSPC. Levels are listed from the newest down, and a platform is at the first one it reaches; a list in another order
refuses, because verifiers that sort it would then find another level than those that do not. Nothing here is verified.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime

from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.tdx import signed_json
from rlu_attestation.evidence.tdx.signed_json import Fields
from rlu_attestation.evidence.tdx.status import LEVEL_STATUSES, SVN_STATUSES, TcbStatus, status_of

CODE = "tdx.tcb_info.encoding"
_COMPONENTS = 16
_MAX_LEVELS, _MAX_IDENTITIES, _MAX_ADVISORIES = 64, 32, 256


@dataclass(frozen=True, slots=True)
class SvnLevel:
    """One level of a module or enclave that has a single security version."""

    isv_svn: int
    tcb_date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TdxModule:
    """A TDX module: its signer (zero: Intel), and its attributes where the mask is one."""

    mr_signer: bytes
    attributes: bytes
    attributes_mask: bytes


@dataclass(frozen=True, slots=True)
class TdxModuleIdentity:
    """A module of one major version, `id` being `TDX_` and that version in hexadecimal."""

    id: str
    module: TdxModule
    levels: tuple[SvnLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbLevel:
    """A level of the platform: SVNs that each must be reached."""

    sgx_components: tuple[int, ...]
    pce_svn: int
    tdx_components: tuple[int, ...]
    tcb_date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """TCB information of one FMSPC."""

    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pce_id: bytes
    tcb_evaluation_data_number: int
    tdx_module: TdxModule
    tdx_module_identities: tuple[TdxModuleIdentity, ...]
    levels: tuple[TcbLevel, ...]

    def identity(self, major: int) -> TdxModuleIdentity | None:
        """The identity of modules of a major version."""
        name = f"TDX_{major:02X}"
        return next((found for found in self.tdx_module_identities if found.id.upper() == name), None)


def parse_tcb_info(text: str) -> TcbInfo:
    """Read TCB information.

    Raises:
        Malformed: `tdx.tcb_info.encoding`.
        Unsupported: of SGX or another version (`tdx.tcb_info.version`), a status (`tdx.tcb_info.status`) or a member
            (`tdx.tcb_info.encoding.member`) that is not known.
    """
    fields = signed_json.read(text, CODE, "TCB information")
    name, version = fields.text("id"), fields.number("version", 0xFFFF)
    if (name, version) != ("TDX", 3):
        raise Unsupported(
            "tdx.tcb_info.version", f"TCB information {name!r} version {version} is not TDX version 3"
        )
    issue_date, next_update = fields.time("issueDate"), fields.time("nextUpdate")
    fmspc, pce_id = fields.hexadecimal("fmspc", 6), fields.hexadecimal("pceId", 2)
    if fields.number("tcbType", 0xFF) != 0:
        raise Unsupported("tdx.tcb_info.version", "only tcbType 0 is known")
    number = fields.number("tcbEvaluationDataNumber", 0xFFFFFFFF)
    module = fields.nested("tdxModule")
    tdx_module = _module(module)
    module.end()
    identities: tuple[TdxModuleIdentity, ...] = ()
    if "tdxModuleIdentities" in fields:
        identities = tuple(_identity(item) for item in fields.objects("tdxModuleIdentities", _MAX_IDENTITIES))
    if len({identity.id.upper() for identity in identities}) != len(identities):
        raise Malformed(CODE, "a TDX module identity occurs twice")
    levels = tuple(_level(item) for item in fields.objects("tcbLevels", _MAX_LEVELS))
    fields.end()
    if not levels:
        raise Malformed(CODE, "TCB information without levels")
    if not _descending(levels):
        raise Malformed(CODE, "the TCB levels are not listed from the newest down")
    return TcbInfo(issue_date, next_update, fmspc, pce_id, number, tdx_module, identities, levels)


def svn_levels(fields: Fields, code: str, encoding: str) -> tuple[SvnLevel, ...]:
    """The `tcbLevels` of a module or enclave identity; `code` is that of an unknown status, `encoding` of any other fault."""
    found = tuple(_svn_level(item, code) for item in fields.objects("tcbLevels", _MAX_LEVELS))
    if any(newer.isv_svn <= older.isv_svn for newer, older in itertools.pairwise(found)):
        raise Malformed(encoding, "the levels of a module or enclave are not listed from the newest down")
    return found


def _svn_level(fields: Fields, code: str) -> SvnLevel:
    tcb = fields.nested("tcb")
    svn = tcb.number("isvsvn", 0xFFFF)
    tcb.end()
    status = status_of(fields.text("tcbStatus"), SVN_STATUSES, code)
    level = SvnLevel(svn, fields.time("tcbDate"), status, fields.texts("advisoryIDs", _MAX_ADVISORIES))
    fields.end()
    return level


def _module(fields: Fields) -> TdxModule:
    return TdxModule(
        fields.hexadecimal("mrsigner", 48),
        fields.hexadecimal("attributes", 8),
        fields.hexadecimal("attributesMask", 8),
    )


def _identity(fields: Fields) -> TdxModuleIdentity:
    found = TdxModuleIdentity(
        fields.text("id"), _module(fields), svn_levels(fields, "tdx.tcb_info.status", CODE)
    )
    fields.end()
    return found


def _level(fields: Fields) -> TcbLevel:
    tcb = fields.nested("tcb")
    sgx, pce_svn = _components(tcb, "sgxtcbcomponents"), tcb.number("pcesvn", 0xFFFF)
    tdx = _components(tcb, "tdxtcbcomponents")
    tcb.end()
    status = status_of(fields.text("tcbStatus"), LEVEL_STATUSES, "tdx.tcb_info.status")
    tcb_date, advisories = fields.time("tcbDate"), fields.texts("advisoryIDs", _MAX_ADVISORIES)
    fields.end()
    return TcbLevel(sgx, pce_svn, tdx, tcb_date, status, advisories)


def _components(tcb: Fields, name: str) -> tuple[int, ...]:
    found = []
    for component in tcb.objects(name, _COMPONENTS):
        found.append(component.number("svn", 0xFF))
        component.skip("category", "type")
        component.end()
    if len(found) != _COMPONENTS:
        raise Malformed(CODE, f"{name} has {len(found)} components, not {_COMPONENTS}")
    return tuple(found)


def _descending(levels: tuple[TcbLevel, ...]) -> bool:
    """By SGX components, and among equals by PCESVN and TDX components, whichever of the two comes first."""
    orders = (
        [(level.sgx_components, level.pce_svn, level.tdx_components) for level in levels],
        [(level.sgx_components, level.tdx_components, level.pce_svn) for level in levels],
    )
    return any(order == sorted(order, reverse=True) for order in orders)
