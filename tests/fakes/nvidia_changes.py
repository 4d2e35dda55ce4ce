"""Ways in which NVIDIA evidence goes wrong: functions that change one thing of genuine evidence."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fakes import nvidia as fake
from fakes.nvidia import (
    PDI,
    Authority,
    Device,
    Parts,
    rim,
    rim_chain,
)
from rlu_attestation import merkle

BINDING = hashlib.sha256(b"a statement").digest()
NONCE = merkle.leaf_hash(BINDING)
SECOND = timedelta(seconds=1)

NODE = fake.hgx()
GPU, OTHER = NODE.gpus
SWITCH = NODE.switches[0]
Perturb = Callable[[Parts], None]


@dataclass(frozen=True)
class Perturbation:
    """What goes wrong, and every code it must give."""

    name: str
    perturb: Perturb
    codes: tuple[str, ...]

    def item(self) -> bytes:
        parts = genuine()
        self.perturb(parts)
        return parts.item()


@functools.cache
def _genuine() -> Parts:
    return NODE.parts(NONCE)


def genuine() -> Parts:
    """Genuine evidence of two GPUs and a switch, the caller's to change."""
    return _genuine().copy()


def signed(device: Device = GPU, nonce: bytes = NONCE, **changes: Any) -> Perturb:
    """Another report, signed by the genuine device."""

    def perturb(parts: Parts) -> None:
        found = parts.switches[0] if device.is_switch else parts.gpus[NODE.gpus.index(device)]
        found.report = device.report(nonce, **changes)

    return perturb


def opaque(device: Device = GPU, **changes: Any) -> Perturb:
    values = {getattr(fake, name): value for name, value in changes.items()}
    return signed(device, opaque=values)


def report(change: Callable[[bytes], bytes]) -> Perturb:
    def perturb(parts: Parts) -> None:
        parts.gpus[0].report = change(parts.gpus[0].report)

    return perturb


def flip(position: int, bit: int = 0) -> Perturb:
    return report(lambda data: flipped(data, position, bit))


def flipped(data: bytes, position: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def leaf(device: Device = GPU, **changes: Any) -> Perturb:
    def perturb(parts: Parts) -> None:
        found = parts.switches[0] if device.is_switch else parts.gpus[NODE.gpus.index(device)]
        found.chain[0] = device.leaf(**changes)

    return perturb


def chain(change: Callable[[list[bytes]], list[bytes]]) -> Perturb:
    def perturb(parts: Parts) -> None:
        parts.gpus[0].chain = change(parts.gpus[0].chain)

    return perturb


def brom(**changes: Any) -> Perturb:
    """Another certificate for the same device key, with an answer that it is good."""

    def perturb(parts: Parts) -> None:
        found = GPU.make_brom(
            **{name: value() if callable(value) else value for name, value in changes.items()}
        )
        parts.gpus[0].chain[1] = found.der
        parts.ocsp.append(fake.ocsp(found))

    return perturb


def rims(position: int, **changes: Any) -> Perturb:
    """Another RIM for the driver (0), the VBIOS (1) or the switch's BIOS (2)."""

    def perturb(parts: Parts) -> None:
        device = SWITCH if position == 2 else GPU
        parts.rims[position] = rim(device, position > 0, **made(changes)).xml()

    return perturb


def made(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value() if callable(value) else value for name, value in changes.items()}


def text(before: str, after: str, position: int = 0) -> Perturb:
    """The RIM's text changed after it was signed."""

    def perturb(parts: Parts) -> None:
        changed = parts.rims[position].replace(before.encode(), after.encode(), 1)
        assert changed != parts.rims[position], before
        parts.rims[position] = changed

    return perturb


def signers(*authorities: Callable[[], Authority], **more: Any) -> Perturb:
    """A RIM with other certificates, signed by the first's key; NVIDIA's own answers cover only the genuine ones."""

    def perturb(parts: Parts) -> None:
        found = [authority() for authority in authorities]
        rims(0, chain=tuple(one.der for one in found), key=found[0].key, **more)(parts)
        parts.ocsp.extend(fake.ocsp(one) for one in found if one.issuer is not None)

    return perturb


def l4(**changes: Any) -> Callable[[], Authority]:
    return lambda: fake.signer(rim_chain()[1], **changes)


L3, L2, TOP = (lambda: rim_chain()[1]), (lambda: rim_chain()[2]), (lambda: rim_chain()[3])


def answers(which: Callable[[], Authority], **changes: Any) -> Perturb:
    """Another answer about a certificate, in the place of the genuine one."""

    def perturb(parts: Parts) -> None:
        authority = which()
        position = [found.der for found in NODE.authorities()].index(authority.der)
        parts.ocsp[position] = fake.ocsp(authority, **made(changes))

    return perturb


def without(which: Callable[[], Authority]) -> Perturb:
    def perturb(parts: Parts) -> None:
        parts.ocsp.pop([found.der for found in NODE.authorities()].index(which().der))

    return perturb


def also(which: Callable[[], Authority], **changes: Any) -> Perturb:
    return lambda parts: parts.ocsp.append(fake.ocsp(which(), **made(changes)))


def further(**members: Any) -> Perturb:
    return lambda parts: parts.further.update(members)


def both(*perturbs: Perturb) -> Perturb:
    def perturb(parts: Parts) -> None:
        for one in perturbs:
            one(parts)

    return perturb


def golden(
    firmware: bool, change: dict[int, list[bytes] | None], device: Device = GPU
) -> dict[int, list[bytes]]:
    found: dict[int, Any] = fake.golden(device, firmware) | change
    return {index: values for index, values in found.items() if values is not None}


@functools.cache
def impostor(device: Device) -> Device:
    """The same names under a root of someone else."""
    return Device(device.chip, device.label, switches=device.switches, authorities="impostor/")


def this_brom() -> Authority:
    return GPU.brom


def repeat_gpu(parts: Parts) -> None:
    parts.gpus.append(parts.gpus[0])


def eight_of_one(parts: Parts) -> None:
    parts.gpus = [
        fake.DeviceParts(GPU.report(NONCE, response_nonce=bytes([n]) * 32), GPU.chain()) for n in range(8)
    ]


def two_leaves(parts: Parts) -> None:
    """The second report by another key that the same device certified."""
    twin = Device(label=OTHER.label + "'", switches=GPU.switches)
    twin.brom = GPU.brom
    parts.gpus[1] = fake.DeviceParts(twin.report(NONCE), [twin.leaf(), *parts.gpus[0].chain[1:]])


def switch_twice(parts: Parts) -> None:
    twin = Device("LS_10", "another switch", vbios=SWITCH.vbios, fwid=None, gpus=SWITCH.gpus)
    parts.switches.append(fake.DeviceParts(twin.report(NONCE, opaque={PDI: SWITCH.pdi}), twin.chain()))
    parts.ocsp.append(fake.ocsp(twin.brom))


def swap_reports(parts: Parts) -> None:
    first, second = parts.gpus
    first.report, second.report = second.report, first.report


def under_another_root(parts: Parts) -> None:
    other = impostor(GPU)
    parts.gpus[0] = fake.DeviceParts(other.report(NONCE), other.chain())
    above: Authority | None = other.brom
    while above is not None and above.issuer is not None:
        parts.ocsp.append(fake.ocsp(above))
        above = above.issuer


def swap_kinds(parts: Parts) -> None:
    """A GPU's certificates under a switch's report."""
    parts.switches[0].chain = parts.gpus[0].chain
    parts.gpus.pop(0)


REPORT, ITEM, OPAQUE = "parse: nvidia.report.encoding", "parse: nvidia.item", "parse: nvidia.report.opaque"
MEASUREMENTS, RESERVED = "parse: nvidia.report.measurements", "parse: nvidia.report.reserved"
XML, XMLDSIG, CONTENT = "parse: nvidia.rim.encoding", "parse: nvidia.rim.xmldsig", "parse: nvidia.rim.content"
ALGORITHM, OCSP = "parse: nvidia.rim.algorithm", "parse: nvidia.ocsp.encoding"
INVALID, MISMATCH = "nvidia.signature.invalid", "nvidia.measurements.mismatch"
TWICE, MISSING = "nvidia.devices.twice", "nvidia.revocation.missing"
NAME = "nvidia.identity.name"
