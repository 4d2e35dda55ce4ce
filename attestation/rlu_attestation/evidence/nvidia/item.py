"""The evidence item `nvidia` (FORMATS section 4.5): all GPUs and NVSwitches of one node, with what endorses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from rlu_attestation import canonical, x509
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import NVIDIA, max_item
from rlu_attestation.evidence.binding import BindingPath, parse_binding
from rlu_attestation.evidence.nvidia import ocsp
from rlu_attestation.evidence.nvidia.opaque import DeviceKind
from rlu_attestation.evidence.nvidia.report import Report, parse_report
from rlu_attestation.evidence.nvidia.rim import Rim, parse_rim
from rlu_attestation.x509 import Certificate

KIND = NVIDIA
MAX_DEVICES, MAX_RIMS, MAX_OCSP = 32, 32, 256
_MAX_CHAIN = 8
_CODE = "nvidia.item"
_KEYS = frozenset({"kind", "gpus", "switches", "rims", "ocsp", "binding"})


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU or switch: its report and its certificates, leaf first, root last.

    Attributes:
        name: `gpu 0`, `switch 3`: where it stands in the item, for messages.
    """

    name: str
    kind: DeviceKind
    report: Report
    chain: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class DeviceParts:
    """What a device's driver hands out: the report, and the certificates in DER, leaf first."""

    report: bytes
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class NvidiaEvidence:
    """Well-formed evidence of a node. Nothing of it is verified until each step has passed.

    Attributes:
        rims: reference values; those that no device needs are never looked at.
        ocsp: stapled answers about certificates of devices and of RIM signers.
        binding: where the statement's binding is in the tree whose root is every report's nonce; None for reports without an item.
    """

    gpus: tuple[Device, ...]
    switches: tuple[Device, ...]
    rims: tuple[Rim, ...]
    ocsp: tuple[ocsp.Response, ...]
    binding: BindingPath | None

    @property
    def devices(self) -> tuple[Device, ...]:
        return (*self.gpus, *self.switches)


def parse(data: bytes) -> NvidiaEvidence:
    """Read an evidence item.

    Raises:
        Malformed: `statement.encoding`, `nvidia.item`, `encoding.base64url`, `x509.encoding`, `nvidia.report.…`, `nvidia.rim.…`,
            `nvidia.ocsp.…`.
        Unsupported: `nvidia.report.…`, `nvidia.rim.…`, `nvidia.ocsp.…` for what is not implemented.
    """
    item = canonical.decode(data, max_item(KIND))
    if item.get("kind") != KIND:
        raise Malformed(_CODE, "not an evidence item of kind nvidia")
    if item.keys() != _KEYS:
        raise Malformed(_CODE, f"an item has exactly the keys {', '.join(sorted(_KEYS))}")
    return from_parts(
        [_device(value) for value in _array(item["gpus"], MAX_DEVICES, "gpus")],
        [_device(value) for value in _array(item["switches"], MAX_DEVICES, "switches")],
        rims=[_bytes(value) for value in _array(item["rims"], MAX_RIMS, "rims")],
        ocsp_der=[_bytes(value) for value in _array(item["ocsp"], MAX_OCSP, "ocsp")],
        binding=parse_binding(item["binding"], _CODE),
    )


def from_parts(
    gpus: Sequence[DeviceParts],
    switches: Sequence[DeviceParts] = (),
    *,
    rims: Sequence[bytes] = (),
    ocsp_der: Sequence[bytes] = (),
    binding: BindingPath | None = None,
) -> NvidiaEvidence:
    """Evidence from bare reports and their endorsements; raises what `parse` raises."""
    if not gpus and not switches:
        raise Malformed(_CODE, "an item holds at least one device")
    return NvidiaEvidence(
        gpus=_devices(gpus, DeviceKind.GPU),
        switches=_devices(switches, DeviceKind.SWITCH),
        rims=tuple(parse_rim(rim) for rim in rims),
        ocsp=tuple(ocsp.parse(response) for response in ocsp_der),
        binding=binding,
    )


def encode(
    *,
    gpus: Sequence[DeviceParts],
    switches: Sequence[DeviceParts] = (),
    rims: Sequence[bytes] = (),
    ocsp_der: Sequence[bytes] = (),
    binding: BindingPath,
) -> bytes:
    """Put an item together: certificates and OCSP responses in DER, RIMs as the XML that NVIDIA serves.

    Raises:
        RluError: something that `parse` would refuse.
    """
    data = canonical.encode(
        {
            "kind": KIND,
            "gpus": [_device_json(device) for device in gpus],
            "switches": [_device_json(device) for device in switches],
            "rims": [b64u(rim) for rim in rims],
            "ocsp": [b64u(response) for response in ocsp_der],
            "binding": binding.to_json(),
        }
    )
    parse(data)
    return data


def _devices(parts: Sequence[DeviceParts], kind: DeviceKind) -> tuple[Device, ...]:
    return tuple(
        Device(
            name=f"{kind.value} {number}",
            kind=kind,
            report=parse_report(device.report, kind),
            chain=tuple(x509.parse(certificate) for certificate in device.chain),
        )
        for number, device in enumerate(parts)
    )


def _device(value: object) -> DeviceParts:
    if not isinstance(value, dict) or value.keys() != {"report", "certificate_chain"}:
        raise Malformed(_CODE, "a device has exactly the keys certificate_chain, report")
    chain = _array(value["certificate_chain"], _MAX_CHAIN, "certificate_chain")
    if not chain:
        raise Malformed(_CODE, "a device has certificates")
    return DeviceParts(_bytes(value["report"]), tuple(_bytes(certificate) for certificate in chain))


def _device_json(device: DeviceParts) -> dict[str, Any]:
    return {"report": b64u(device.report), "certificate_chain": [b64u(der) for der in device.chain]}


def _array(value: object, most: int, name: str) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(_CODE, f"{name} is an array of at most {most}")
    return value


def _bytes(value: object) -> bytes:
    return unb64u(cast(str, value))  # unb64u refuses what is not a string
