"""Evidence of an Azure VM gone wrong in one way at a time, by name, with all the codes that the steps must give, in their order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fakes import azure
from fakes.amd import Chip, b64u
from fakes.azure import AzureTpm, Parts, Scene, Vm, compact, jwk, report_data, runtime
from fakes.tpm import private_key
from fakes.tpm_perturbations import BINDING, SHARED, flip

__all__ = ["BINDING", "PERTURBATIONS", "TDX", "scene"]

Perturb = Callable[[Scene], Parts]
AZURE = "azure-vtpm."
HCL, RUNTIME, ITEM = (
    ["parse: azure-vtpm.hcl.encoding"],
    ["parse: azure-vtpm.runtime.encoding"],
    ["parse: azure-vtpm.item"],
)
MISMATCH, NAME = [f"{AZURE}runtime_data.mismatch"], [f"{AZURE}ak.name"]
SIGNED = ["key.certify.signature", "quote.signature.invalid"]


def scene(hardware: str = "sev-snp") -> Scene:
    machine = Vm(hardware=hardware)
    return Scene(machine, machine.parts(BINDING))


def header(**changes: Any) -> Perturb:
    """Another field of the HCL report, which nothing signs."""
    return lambda s: s.with_hcl(**changes)


def raw(change: Callable[[bytes], bytes]) -> Perturb:
    """The HCL report's bytes changed."""
    return lambda s: replace(s.parts, further={"hcl_report": b64u(change(s.parts.hcl.data))})


def said(ak: dict[str, Any] | None = None, **changes: Any) -> Perturb:
    """Other runtime data, for which the hardware vouches."""
    return lambda s: s.with_runtime(compact(runtime(s.tpm, ak, **changes)))


def text(change: Callable[[bytes], bytes]) -> Perturb:
    """The same with its bytes changed, for which the hardware vouches."""
    return lambda s: s.with_runtime(change(compact(runtime(s.tpm))))


def forged(change: Callable[[dict[str, Any]], None]) -> Perturb:
    """Runtime data changed after the hardware vouched for it."""

    def perturb(s: Scene) -> Parts:
        value = json.loads(s.parts.hcl.runtime)
        change(value)
        return s.with_hcl(runtime=compact(value))

    return perturb


def setting(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda found: found["vm-configuration"].update({name: value})


def keys(change: Callable[[list[Any]], list[Any]]) -> Perturb:
    """Another array of keys, for which the hardware vouches."""
    return lambda s: s.with_runtime(compact(runtime(s.tpm, keys=change(runtime(s.tpm)["keys"]))))


def report(**fields: int | bytes) -> Perturb:
    """Another hardware report for the genuine runtime data."""
    return lambda s: s.with_runtime(s.parts.hcl.runtime, **fields)


def hardware(**changes: Any) -> Perturb:
    return lambda s: replace(s.parts, hardware={**s.parts.hardware, **changes})


def other_key() -> Any:
    return private_key("rsa2048", "azure/another key").public_key()


def own_ak_in_a_guests_report(s: Scene) -> Parts:
    """The guest's own system asks for a report over runtime data that names a key of its own."""
    return s.with_runtime(s.parts.hcl.runtime, VMPL=2)


def of_another_vm(s: Scene) -> Parts:
    """A genuine HCL report, of another VM."""
    other = Vm(AzureTpm("another"), hardware=s.machine.hardware)
    return replace(s.parts, **other.vouch(compact(runtime(other.tpm))))


def everything_of_another_vm(s: Scene) -> Parts:
    return Vm(AzureTpm("another"), hardware=s.machine.hardware).parts(bytes(32))


def ak_of_another_vm(s: Scene) -> Parts:
    return replace(s.parts, ak_public=Vm(AzureTpm("another")).tpm.ak_public)


def by_another_chip(s: Scene) -> Parts:
    hcl = s.parts.hcl
    return s.with_hcl(hardware=Chip(label="another").report(report_data(hcl.runtime)))


def report_data_of(change: Callable[[bytes], bytes]) -> Perturb:
    """The hardware signs something else than the digest and zeros."""

    def perturb(s: Scene) -> Parts:
        data = s.parts.hcl.runtime
        signed = azure.CHIP.report(change(report_data(data)))
        return replace(s.parts, **s.machine.vouch_by(signed, data))

    return perturb


PERTURBATIONS: dict[str, tuple[Perturb, list[str]]] = {
    # the HCL report's form
    "hcl-signature": (header(signature=b"HCLB"), HCL),
    "hcl-version-0": (header(version=0), HCL),
    "hcl-version-3": (header(version=3), HCL),
    "hcl-report-size-less": (header(report_size=2000), HCL),
    "hcl-request-type": (header(request_type=1), HCL),
    "hcl-status": (header(status=1), HCL),
    "hcl-reserved-bit-set": (header(reserved=b"\0" * 11 + b"\x80"), HCL),
    "hcl-data-size": (header(data_size=20), HCL),
    "hcl-runtime-version-2": (header(runtime_version=2), HCL),
    "hcl-report-type-0": (header(report_type=0), HCL),
    "hcl-report-type-vbs": (header(report_type=3), HCL),
    "hcl-report-type-5": (header(report_type=5), HCL),
    "hcl-hash-type-0": (header(hash_type=0), HCL),
    "hcl-hash-type-sha384": (header(hash_type=2), HCL),
    "hcl-runtime-size-less": (header(runtime_size=10), HCL),
    "hcl-runtime-size-huge": (header(runtime_size=2**32 - 1), HCL),
    "hcl-trailing-garbage": (header(tail=b"x"), HCL),
    "hcl-padded": (raw(lambda data: data.ljust(azure.NV_SIZE, b"\0")), HCL),
    "hcl-truncated": (raw(lambda data: data[:-1]), HCL),
    "hcl-header-only": (raw(lambda data: data[:32]), HCL),
    "hcl-empty": (raw(lambda data: b""), HCL),
    "hcl-oversize": (raw(lambda data: data + bytes(20_000)), HCL),
    "hcl-of-tdx-beside-amds-certificates": (header(report_type=4, hardware=bytes(1024)), ITEM),
    # the runtime data's form
    "runtime-empty": (text(lambda data: b""), RUNTIME),
    "runtime-not-json": (text(lambda data: data[:-1]), RUNTIME),
    "runtime-trailing-zero": (text(lambda data: data + b"\0"), RUNTIME),
    "runtime-array": (text(lambda data: b"[" + data + b"]"), RUNTIME),
    "runtime-key-twice": (text(lambda data: data[:-1] + b',"keys":[]}'), RUNTIME),
    "runtime-inner-key-twice": (
        text(lambda data: data.replace(b'"secure-boot":true', b'"secure-boot":false,"secure-boot":true')),
        RUNTIME,
    ),
    "runtime-not-utf8": (text(lambda data: data.replace(b"vmUniqueId", b"vmUnique\xff")), RUNTIME),
    "runtime-deep": (text(lambda data: data[:-1] + b',"x":' + b"[" * 4000 + b"]" * 4000 + b"}"), RUNTIME),
    "runtime-fraction": (said(**{"vm-configuration": {"x": 1.5}}), RUNTIME),
    "runtime-not-a-number": (text(lambda data: data[:-1] + b',"x":NaN}'), RUNTIME),
    "runtime-huge-integer": (said(**{"vm-configuration": {"x": 10**30}}), RUNTIME),
    "keys-missing": (said(keys=None), RUNTIME),
    "keys-an-object": (said(keys={}), RUNTIME),
    "keys-none": (keys(lambda found: []), RUNTIME),
    "keys-nine": (keys(lambda found: found[:1] + found[1:] * 8), RUNTIME),
    "key-a-string": (keys(lambda found: [*found, "x"]), RUNTIME),
    "key-without-kid": (keys(lambda found: [*found, {"kty": "RSA"}]), RUNTIME),
    "ak-missing": (keys(lambda found: found[1:]), RUNTIME),
    "ak-twice": (keys(lambda found: [found[0], *found]), RUNTIME),
    "ak-on-a-curve": (said({"kty": "EC"}), RUNTIME),
    "ak-for-encryption": (said({"key_ops": ["encrypt"]}), RUNTIME),
    "ak-for-both": (said({"key_ops": ["sign", "encrypt"]}), RUNTIME),
    "ak-without-operations": (said({"key_ops": None}), RUNTIME),
    "ak-without-modulus": (said({"n": None}), RUNTIME),
    "ak-modulus-a-number": (said({"n": 7}), RUNTIME),
    "ak-modulus-padded": (said({"n": b64u(b"\xc0" + bytes(254) + b"\1") + "="}), RUNTIME),
    "ak-modulus-short": (said({"n": b64u(b"\xc0" + bytes(126) + b"\1")}), RUNTIME),
    "ak-modulus-huge": (said({"n": b64u(b"\xc0" + bytes(1600) + b"\1")}), RUNTIME),
    "ak-exponent-even": (said({"e": b64u(b"\1\0\2")}), RUNTIME),
    "ak-exponent-one": (said({"e": b64u(b"\1")}), RUNTIME),
    "settings-an-array": (said(**{"vm-configuration": []}), RUNTIME),
    "settings-too-many": (said(**{"vm-configuration": {str(n): n for n in range(65)}}), RUNTIME),
    "setting-name-with-a-line-break": (said(**{"vm-configuration": {"a\nb": True}}), RUNTIME),
    "setting-too-long": (said(**{"vm-configuration": {"a": "x" * 257}}), RUNTIME),
    "setting-with-an-escape": (said(**{"vm-configuration": {"a": "\x1b[2J"}}), RUNTIME),
    "user-data-short": (said(**{"user-data": "00" * 63}), RUNTIME),
    "user-data-not-hex": (said(**{"user-data": "zz" * 64}), RUNTIME),
    "user-data-with-spaces": (said(**{"user-data": "00 " * 42 + "00"}), RUNTIME),
    "user-data-a-number": (said(**{"user-data": 7}), RUNTIME),
    # azure-vtpm.runtime_data
    "user-data-forged": (forged(lambda found: found.update({"user-data": "01" * 64})), MISMATCH),
    "secure-boot-forged": (forged(setting("secure-boot", False)), MISMATCH),
    "setting-added": (forged(setting("extra", True)), MISMATCH),
    "vm-forged": (forged(setting("vmUniqueId", "00000000-0000-0000-0000-000000000000")), MISMATCH),
    "ak-forged": (
        forged(lambda found: found["keys"].__setitem__(0, jwk(other_key(), "HCLAkPub", "sign"))),
        [*MISMATCH, f"{AZURE}ak.key"],
    ),
    "white-space-added": (
        lambda s: s.with_hcl(runtime=json.dumps(json.loads(s.parts.hcl.runtime)).encode()),
        MISMATCH,
    ),
    "report-of-other-runtime-data": (
        report_data_of(lambda data: hashlib.sha256(b"x").digest() + bytes(32)),
        MISMATCH,
    ),
    "report-data-with-a-tail": (report_data_of(lambda data: data[:32] + b"\1" + bytes(31)), MISMATCH),
    "report-data-after-zeros": (report_data_of(lambda data: bytes(32) + data[:32]), MISMATCH),
    "report-data-empty": (report_data_of(lambda data: bytes(64)), MISMATCH),
    # azure-vtpm.vmpl, azure-vtpm.paravisor
    "report-by-the-guest": (own_ak_in_a_guests_report, [f"{AZURE}vmpl.guest"]),
    "report-at-vmpl-1": (report(VMPL=1), [f"{AZURE}vmpl.guest"]),
    "paravisor-of-somebody": (report(MEASUREMENT=b"\x77" * 48), [f"{AZURE}paravisor.mismatch"]),
    "paravisor-flipped": (
        report(MEASUREMENT=flip(azure.PARAVISOR["sev-snp"])),
        [f"{AZURE}paravisor.mismatch"],
    ),
    # the hardware under it
    "hardware-report-flipped": (
        lambda s: s.with_hcl(hardware=flip(s.parts.hcl.hardware, 0x90)),
        ["sev-snp.signature.invalid"],
    ),
    "hardware-report-of-another-chip": (by_another_chip, ["sev-snp.chip_id.mismatch"]),
    "hardware-report-by-the-host": (report(VMPL=0xFFFFFFFF), ["sev-snp.vmpl.host"]),
    "hardware-of-no-kind": (hardware(kind="none"), ITEM),
    "hardware-of-another-kind": (hardware(kind="tdx"), ITEM),
    "hardware-without-root": (hardware(ark_certificate=None), ITEM),
    "hardware-with-a-report": (hardware(report="AAAA"), ITEM),
    "hardware-an-array": (lambda s: replace(s.parts, further={"hardware": []}), ITEM),
    # azure-vtpm.ak
    "hcl-of-another-vm": (of_another_vm, [f"{AZURE}ak.key"]),
    "ak-of-another-vm": (ak_of_another_vm, [f"{AZURE}ak.key", *SIGNED]),
    "everything-of-another-vm": (everything_of_another_vm, ["quote.binding.mismatch"]),
    # form
    "item-unknown-key": (lambda s: replace(s.parts, further={"report": "AAAA"}), ITEM),
    "item-without-hcl": (lambda s: replace(s.parts, further={"hcl_report": None}), ITEM),
    "item-of-another-kind": (lambda s: replace(s.parts, further={"kind": "tpm2"}), ITEM),
}


def with_name(name: str, codes: list[str]) -> list[str]:
    """What the shared table expects, and that a quote by another name is noticed here first."""
    return [*NAME, *codes] if name == "quote-of-another-hierarchy" else codes


PERTURBATIONS |= {name: (perturb, with_name(name, codes)) for name, (perturb, codes) in SHARED.items()}

TDX: dict[str, tuple[Perturb, list[str]]] = {
    "tdx-quote-for-other-runtime-data": (
        lambda s: replace(
            s.parts, hardware={**s.parts.hardware, "quote": b64u(azure.PLATFORM.quote(bytes(64)).data)}
        ),
        [f"{AZURE}runtime_data.mismatch", f"{AZURE}td_report.mismatch"],
    ),
    "tdx-runtime-forged": (forged(setting("secure-boot", False)), MISMATCH),
    "tdx-report-padding": (
        lambda s: s.with_hcl(hardware=s.parts.hcl.hardware.ljust(1183, b"\0") + b"\1"),
        HCL,
    ),
    "tdx-paravisor-of-somebody": (report(MRTD=b"\x77" * 48), [f"{AZURE}paravisor.mismatch"]),
    "tdx-quote-flipped": (
        lambda s: replace(
            s.parts,
            hardware={
                **s.parts.hardware,
                "quote": b64u(flip(azure.PLATFORM.quote(report_data(s.parts.hcl.runtime)).data, 200)),
            },
        ),
        ["tdx.signature.invalid"],
    ),
    "tdx-without-collateral": (hardware(collateral=None), ["tdx.collateral.missing"]),
    "tdx-collateral-an-array": (hardware(collateral=[]), ITEM),
    "tdx-without-quote": (hardware(quote=None), ITEM),
    "tdx-ak-of-another-vm": (ak_of_another_vm, [f"{AZURE}ak.key", *SIGNED]),
    "tdx-hcl-of-another-vm": (of_another_vm, [f"{AZURE}ak.key"]),
} | {
    f"tdx-report-other-{name.lower().replace('_', '-')}": (
        lambda s, at=offset: s.with_hcl(hardware=flip(s.parts.hcl.hardware, at)),
        [f"{AZURE}td_report.mismatch"],
    )
    for name, (offset, _, _) in azure.TD_FIELDS.items()
}
"""The same over a VM on TDX."""
