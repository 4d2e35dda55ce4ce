"""Which device a certificate chain is of, and which firmware its leaf was made for.

A chain is leaf first: FMC (made on the device, signs reports), BROM (the device's own key, certified by NVIDIA), provisioner, identity CA,
root. What NVIDIA itself certified, the BROM's and the provisioner's names, decides what the device is; the leaf is the device's own word
and only has to agree.

The leaf names the device in SPDM's form `NVIDIA:<chip>:<serial>` (DMTF DSP0274 1.1, leaf certificates) and the firmware by a FWID (TCG
DICE): in a CompositeDeviceID, 2.23.133.5.4.1, with Hopper, in a DiceTcbInfo, 2.23.133.5.4.1.1, with Blackwell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlu_attestation import der, x509
from rlu_attestation.errors import Malformed, Unsupported, Untrusted
from rlu_attestation.evidence.nvidia.opaque import FWID_SIZE, DeviceKind
from rlu_attestation.names import common_name, printable
from rlu_attestation.x509 import SUBJECT_ALTERNATIVE_NAME, Certificate

LEAF, BROM, PROVISIONER, IDENTITY, ROOT = range(5)
CHAIN_LENGTH = 5

STEP = "nvidia.identity"
FWID_STEP = "nvidia.fwid"
_DMTF_OTHER_NAME = "1.3.6.1.4.1.412.274.1"
_COMPOSITE_DEVICE_ID, _TCB_INFO = "2.23.133.5.4.1", "2.23.133.5.4.1.1"
_SHA384 = "2.16.840.1.101.3.4.2.2"
_UTF8_STRING = 0x0C
_FWIDS = 6
"""DiceTcbInfo.fwids is `[6] IMPLICIT FWIDLIST`."""

_NAME = re.compile(r"NVIDIA:(?P<chip>[A-Z0-9_]{1,16}):(?P<serial>[0-9A-F]{16})", re.ASCII)
_BROM = re.compile(r"(?P<chip>[A-Z0-9_]{1,16}) [A-Z0-9]{1,8} (GSP|FSP) BROM", re.ASCII)
_PROVISIONER = re.compile(r"NVIDIA (?P<chip>[A-Z0-9_]{1,16}) Provisioner ICA [0-9]{1,8}", re.ASCII)
_GPU = re.compile(r"G(?P<family>[A-Z])[0-9]{3}", re.ASCII)
_GPU_ARCHITECTURES = {"H": "Hopper", "B": "Blackwell"}
_SWITCHES = {"LS_10": "LS10"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What NVIDIA's certificates say a device is. It holds once the chain was verified.

    Attributes:
        kind: GPU or switch.
        chip: `GH100`, `GB100`, `LS10`; as RIMs name it. Products of one chip (H100 and H200) share it.
        architecture: `Hopper`, `Blackwell`; `LS10` of a switch.
        model: common name of the BROM's certificate, which NVIDIA's own service calls `hwmodel`.
        serial: the chip's serial number in the leaf, 16 upper-case hexadecimal digits.
        ueid: serial number of the leaf certificate, NVIDIA's `ueid` in decimal.
    """

    kind: DeviceKind
    chip: str
    architecture: str
    model: str
    serial: str
    ueid: str


def identity_of(chain: tuple[Certificate, ...]) -> Identity:
    """Read the names in a chain.

    Raises:
        Malformed: fewer than 5 certificates, or a name not of its form (`nvidia.identity.name`).
        Untrusted: the certificates name different chips (`nvidia.identity.chip`).
        Unsupported: a chip that is not known (`nvidia.identity.unknown`).
    """
    if len(chain) != CHAIN_LENGTH:
        raise Malformed(f"{STEP}.name", f"a chain has {CHAIN_LENGTH} certificates, not {len(chain)}")
    model = common_name(chain[BROM].subject, f"{STEP}.name")
    brom = _match(_BROM, model)
    provisioner = _match(_PROVISIONER, common_name(chain[PROVISIONER].subject, f"{STEP}.name"))
    leaf = _match(_NAME, _dmtf_name(chain[LEAF]))
    chips = {brom["chip"], provisioner["chip"], leaf["chip"]}
    if len(chips) != 1:
        raise Untrusted(f"{STEP}.chip", f"the certificates of one chain name {', '.join(sorted(chips))}")
    kind, chip, architecture = _chip(brom["chip"])
    return Identity(kind, chip, architecture, model, leaf["serial"], str(chain[LEAF].serial))


def _chip(name: str) -> tuple[DeviceKind, str, str]:
    if name in _SWITCHES:
        return DeviceKind.SWITCH, _SWITCHES[name], _SWITCHES[name]
    found = _GPU.fullmatch(name)
    if found is None or found["family"] not in _GPU_ARCHITECTURES:
        raise Unsupported(f"{STEP}.unknown", f"chip {name} is not known")
    return DeviceKind.GPU, name, _GPU_ARCHITECTURES[found["family"]]


def _match(form: re.Pattern[str], text: str) -> re.Match[str]:
    found = form.fullmatch(text)
    if found is None:
        raise Malformed(f"{STEP}.name", f"{text!r} is not a name of NVIDIA's form")
    return found


def _dmtf_name(leaf: Certificate) -> str:
    extension = leaf.extension(SUBJECT_ALTERNATIVE_NAME)
    if extension is None:
        raise Malformed(f"{STEP}.name", "the leaf does not name the device")
    outer = x509.reader(extension.value, f"{STEP}.name")
    names = outer.inside(der.SEQUENCE, "GeneralNames")
    outer.end()
    other = names.inside(der.context(0), "otherName")
    names.end()
    if other.oid("type-id") != _DMTF_OTHER_NAME:
        raise Malformed(f"{STEP}.name", "the leaf's subjectAltName is not a DMTF device name")
    value = other.inside(der.context(0), "value")
    other.end()
    content = value.element(_UTF8_STRING, "UTF8String").content
    value.end()
    return printable(content, f"{STEP}.name")


def fwid_of(leaf: Certificate) -> bytes | None:
    """SHA-384 identity of the firmware that the leaf was made for, 48 bytes; None when the leaf names none.

    Raises:
        Malformed: both extensions, or one that is not of its form (`nvidia.fwid.extension`).
    """
    composite, tcb_info = leaf.extension(_COMPOSITE_DEVICE_ID), leaf.extension(_TCB_INFO)
    if composite is not None and tcb_info is not None:
        raise Malformed(f"{FWID_STEP}.extension", "the leaf names its firmware twice")
    if composite is not None:
        return _composite_fwid(composite.value)
    return None if tcb_info is None else _tcb_info_fwid(tcb_info.value)


def _composite_fwid(value: bytes) -> bytes:
    """`CompositeDeviceID ::= SEQUENCE { version INTEGER, deviceID SubjectPublicKeyInfo, fwid FWID }`."""
    outer = x509.reader(value, f"{FWID_STEP}.extension")
    body = outer.inside(der.SEQUENCE, "CompositeDeviceID")
    outer.end()
    if body.integer("version") != 1:
        raise Malformed(f"{FWID_STEP}.extension", "CompositeDeviceID has version 1")
    body.element(der.SEQUENCE, "deviceID")
    fwid = _fwid(body)
    body.end()
    return fwid


def _tcb_info_fwid(value: bytes) -> bytes:
    """The first of DiceTcbInfo's `fwids`; its other members name vendor, model and versions once more."""
    outer = x509.reader(value, f"{FWID_STEP}.extension")
    body = outer.inside(der.SEQUENCE, "DiceTcbInfo")
    outer.end()
    while body.remaining:
        if body.next_is(der.context(_FWIDS)):
            fwids = body.inside(der.context(_FWIDS), "fwids")
            found = _fwid(fwids)
            while fwids.remaining:
                _fwid(fwids)
            return found
        body.any("DiceTcbInfo")
    raise Malformed(f"{FWID_STEP}.extension", "DiceTcbInfo names no firmware")


def _fwid(reader: der.Reader) -> bytes:
    fwid = reader.inside(der.SEQUENCE, "FWID")
    algorithm, digest = fwid.oid("hashAlg"), fwid.element(der.OCTET_STRING, "digest").content
    fwid.end()
    if algorithm != _SHA384 or len(digest) != FWID_SIZE:
        raise Malformed(f"{FWID_STEP}.extension", "a FWID is a SHA-384 digest")
    return digest
