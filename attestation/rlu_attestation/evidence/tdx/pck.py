"""PCK certificates and Intel's extension in them, 1.2.840.113741.1.13.1 (PCK certificate profile specification, sections 1.3.4 and 1.3.5).

A PCK belongs to one platform at one TCB: the extension names both. Members beyond those that the profile defines refuse, and so does one
given twice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rlu_attestation import der
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.x509 import Certificate

SGX_EXTENSION = "1.2.840.113741.1.13.1"
COMPONENTS = 16

_CODE = "tdx.pck.extension"
_ENUMERATED = 0x0A
_PPID, _TCB, _PCEID, _FMSPC, _SGX_TYPE, _INSTANCE, _CONFIGURATION = "1", "2", "3", "4", "5", "6", "7"
_REQUIRED = frozenset({_PPID, _TCB, _PCEID, _FMSPC, _SGX_TYPE})
_OPTIONAL = frozenset({_INSTANCE, _CONFIGURATION})
_PCESVN, _CPUSVN = "17", "18"
_SETTINGS = {"1": "dynamic_platform", "2": "cached_keys", "3": "smt_enabled"}


class SgxType(enum.IntEnum):
    """How the platform protects memory against hardware attacks."""

    STANDARD = 0
    SCALABLE = 1
    SCALABLE_WITH_INTEGRITY = 2


@dataclass(frozen=True, slots=True)
class PckTcb:
    """The TCB that the PCK was certified for: 16 component SVNs, the PCE's SVN, and the raw CPUSVN."""

    components: tuple[int, ...]
    pce_svn: int
    cpu_svn: bytes


@dataclass(frozen=True, slots=True)
class PckExtensions:
    """What the extension says. It holds once the certificate's chain was verified.

    Attributes:
        ppid: the platform's identity, 16 bytes (zero where Intel withholds it).
        fmspc: family, model, stepping, platform type and custom SKU; TCB information is published for each.
        platform_instance_id: of multi-package platforms only.
        dynamic_platform, cached_keys, smt_enabled: multi-package platforms may say how they are configured; None where they do not.
    """

    ppid: bytes
    tcb: PckTcb
    pce_id: bytes
    fmspc: bytes
    sgx_type: SgxType
    platform_instance_id: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None


def parse_extensions(certificate: Certificate) -> PckExtensions:
    """Read Intel's extension.

    Raises:
        Malformed: missing, or not of its form (`tdx.pck.extension`).
        Unsupported: a member that is not defined (`tdx.pck.extension_unknown`).
    """
    extension = certificate.extension(SGX_EXTENSION)
    if extension is None:
        raise Malformed(_CODE, f"the certificate lacks extension {SGX_EXTENSION}")
    outer = der.Reader(extension.value, _CODE, len(extension.value))
    found = _members(outer.inside(der.SEQUENCE, "SGX extensions"), SGX_EXTENSION)
    outer.end()
    if not found.keys() >= _REQUIRED:
        raise Malformed(_CODE, "the extension lacks a member that the profile requires")
    if not found.keys() <= _REQUIRED | _OPTIONAL:
        raise Unsupported("tdx.pck.extension_unknown", "the extension has a member that is not known")
    settings = _settings(found.get(_CONFIGURATION))
    return PckExtensions(
        ppid=_octets(found[_PPID], 16, "PPID"),
        tcb=_tcb(found[_TCB]),
        pce_id=_octets(found[_PCEID], 2, "PCE-ID"),
        fmspc=_octets(found[_FMSPC], 6, "FMSPC"),
        sgx_type=_sgx_type(found[_SGX_TYPE]),
        platform_instance_id=_octets(found[_INSTANCE], 16, "Platform Instance ID")
        if _INSTANCE in found
        else None,
        dynamic_platform=settings.get("dynamic_platform"),
        cached_keys=settings.get("cached_keys"),
        smt_enabled=settings.get("smt_enabled"),
    )


def _members(body: der.Reader, prefix: str) -> dict[str, der.Element]:
    """Pairs of an object identifier beneath `prefix` and a value, by the last arc."""
    found: dict[str, der.Element] = {}
    while body.remaining:
        pair = body.inside(der.SEQUENCE, "SGX extension member")
        oid, value = pair.oid("type"), pair.any("value")
        pair.end()
        arc = oid.removeprefix(f"{prefix}.")
        if arc == oid or arc in found:
            raise Malformed(_CODE, f"member {oid} does not belong here or occurs twice")
        found[arc] = value
    return found


def _nested(element: der.Element, arc: str) -> dict[str, der.Element]:
    if element.tag != der.SEQUENCE:
        raise Malformed(_CODE, f"member {arc} is not a sequence")
    body = der.Reader(element.content, _CODE, len(element.content))
    return _members(body, f"{SGX_EXTENSION}.{arc}")


def _octets(element: der.Element, size: int, field: str) -> bytes:
    if element.tag != der.OCTET_STRING or len(element.content) != size:
        raise Malformed(_CODE, f"{field} is not an octet string of {size} bytes")
    return element.content


def _integer(element: der.Element, maximum: int, field: str) -> int:
    value = der.Reader(element.raw, _CODE, len(element.raw)).integer(field)
    if not 0 <= value <= maximum:
        raise Malformed(_CODE, f"{field} {value} is not between 0 and {maximum}")
    return value


def _tcb(element: der.Element) -> PckTcb:
    found = _nested(element, _TCB)
    names = [str(number) for number in range(1, COMPONENTS + 1)]
    if found.keys() != {*names, _PCESVN, _CPUSVN}:
        raise Malformed(_CODE, "the TCB does not have exactly 16 components, PCESVN and CPUSVN")
    return PckTcb(
        components=tuple(_integer(found[name], 0xFF, f"component {name}") for name in names),
        pce_svn=_integer(found[_PCESVN], 0xFFFF, "PCESVN"),
        cpu_svn=_octets(found[_CPUSVN], 16, "CPUSVN"),
    )


def _sgx_type(element: der.Element) -> SgxType:
    if element.tag != _ENUMERATED or len(element.content) != 1:
        raise Malformed(_CODE, "SGX Type is not an enumeration of one byte")
    try:
        return SgxType(element.content[0])
    except ValueError as error:
        raise Unsupported(
            "tdx.pck.extension_unknown", f"SGX type {element.content[0]} is not known"
        ) from error


def _settings(element: der.Element | None) -> dict[str, bool]:
    if element is None:
        return {}
    found = _nested(element, _CONFIGURATION)
    if not found.keys() <= _SETTINGS.keys():
        raise Unsupported("tdx.pck.extension_unknown", "the configuration has a member that is not known")
    return {
        _SETTINGS[arc]: der.Reader(value.raw, _CODE, len(value.raw)).boolean(_SETTINGS[arc])
        for arc, value in found.items()
    }
