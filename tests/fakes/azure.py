"""A fake Azure: confidential VMs whose paravisor keeps a virtual TPM and reports its keys, on the fake hardware of AMD and Intel.

It follows Microsoft's documentation and real reports on its own and shares no code with what it tests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from fakes import amd, intel
from fakes import tpm_marshal as marshal
from fakes.amd import Chip, b64u
from fakes.intel import Platform
from fakes.machine import Measured, TpmParts
from fakes.tpm import FakeTpm
from fakes.tpm_perturbations import TpmScene

NV_SIZE = 2600
TPM_RH_ENDORSEMENT = 0x4000000B
HASHES = {0x04: "sha1", 0x0B: "sha256", 0x0C: "sha384", 0x0D: "sha512"}
CHIP, PLATFORM = Chip(), Platform()
PARAVISOR = {"sev-snp": bytes(range(48)), "tdx": b"\x11" * 48}
"""What the fake hardware measures at launch."""
SETTINGS: Mapping[str, Any] = {
    "console-enabled": True,
    "secure-boot": True,
    "tpm-enabled": True,
    "tpm-persisted": False,
    "vmUniqueId": "26F8BC30-774E-4290-8E7A-535F3B672AEE",
}
TD_FIELDS: Mapping[str, tuple[int, int, int]] = {
    "TEE_TCB_SVN": (264, 0, 16),
    "MRSEAM": (280, 16, 48),
    "MRSIGNERSEAM": (328, 64, 48),
    "SEAMATTRIBUTES": (376, 112, 8),
    "TDATTRIBUTES": (512, 120, 8),
    "XFAM": (520, 128, 8),
    "MRTD": (528, 136, 48),
    "MRCONFIGID": (576, 184, 48),
    "MROWNER": (624, 232, 48),
    "MROWNERCONFIG": (672, 280, 48),
    "RTMR0": (720, 328, 48),
    "RTMR1": (768, 376, 48),
    "RTMR2": (816, 424, 48),
    "RTMR3": (864, 472, 48),
    "REPORTDATA": (128, 520, 64),
}
"""Offsets in a TDREPORT and in a quote's body, and size."""


def le32(value: int) -> bytes:
    return value.to_bytes(4, "little")


@dataclass
class AzureTpm(FakeTpm):
    """A virtual TPM, whose AK is a primary key of the endorsement hierarchy."""

    label: str = "azure"
    ak_kind: str = "rsa2048"
    ak_scheme: int = marshal.RSASSA

    def qualified_name(self, public: bytes) -> bytes:
        algorithm = HASHES.get(int.from_bytes(public[2:4], "big"), "sha256")
        name = self.name(public, algorithm)
        return name[:2] + hashlib.new(algorithm, TPM_RH_ENDORSEMENT.to_bytes(4, "big") + name).digest()


def jwk(key: rsa.RSAPublicKey, kid: str, use: str, **changes: Any) -> dict[str, Any]:
    numbers = key.public_numbers()
    found = {
        "kid": kid,
        "key_ops": [use],
        "kty": "RSA",
        "e": b64u(numbers.e.to_bytes(3, "big")),
        "n": b64u(numbers.n.to_bytes(key.key_size // 8, "big")),
    }
    return {name: value for name, value in (found | changes).items() if value is not None}


def runtime(tpm: FakeTpm, ak: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Runtime data as an object; `ak` changes members of the AK's JWK, None in `changes` leaves a member out."""
    key, ek = tpm.ak.public_key(), tpm.ek.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert isinstance(ek, rsa.RSAPublicKey)
    found = {
        "keys": [jwk(key, "HCLAkPub", "sign", **(ak or {})), jwk(ek, "HCLEkPub", "encrypt")],
        "vm-configuration": dict(SETTINGS),
        "user-data": "00" * 64,
    }
    return {name: value for name, value in (found | changes).items() if value is not None}


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def report_data(data: bytes) -> bytes:
    return hashlib.sha256(data).digest() + bytes(32)


def td_report(body: bytes) -> bytes:
    """The TDREPORT that a quote's body was made of."""
    report = bytearray(1024)
    report[0] = 0x81
    for ours, theirs, size in TD_FIELDS.values():
        report[ours : ours + size] = body[theirs : theirs + size]
    return bytes(report)


@dataclass(frozen=True)
class Hcl:
    """The parts of an HCL report, put together by `data`; sizes that are None are what they should be."""

    hardware: bytes
    runtime: bytes
    report_type: int
    signature: bytes = b"HCLA"
    version: int = 2
    report_size: int | None = None
    request_type: int = 2
    status: int = 0
    reserved: bytes = bytes(12)
    data_size: int | None = None
    runtime_version: int = 1
    hash_type: int = 1
    runtime_size: int | None = None
    tail: bytes = b""

    @property
    def data(self) -> bytes:
        size = len(self.runtime) if self.runtime_size is None else self.runtime_size
        head = le32(len(self.runtime) + 20 if self.data_size is None else self.data_size)
        numbers = (self.runtime_version, self.report_type, self.hash_type, size)
        body = self.hardware.ljust(1184, b"\0") + head + b"".join(map(le32, numbers)) + self.runtime
        total = 32 + len(body) if self.report_size is None else self.report_size
        start = (
            self.signature + le32(self.version) + le32(total) + le32(self.request_type) + le32(self.status)
        )
        return start + self.reserved + body + self.tail


@dataclass(frozen=True, kw_only=True)
class Parts(TpmParts):
    """Fields of an item of kind `azure-vtpm`."""

    hcl: Hcl
    hardware: Mapping[str, Any]
    further: Mapping[str, Any] = field(default_factory=dict)

    def item(self) -> dict[str, Any]:
        fields = self.members() | {
            "kind": "azure-vtpm",
            "hcl_report": b64u(self.hcl.data),
            "hardware": {name: value for name, value in self.hardware.items() if value is not None},
        }
        return {key: value for key, value in (fields | dict(self.further)).items() if value is not None}


@dataclass
class Vm(Measured):
    """A confidential VM."""

    tpm: FakeTpm = field(default_factory=AzureTpm)
    hardware: str = "sev-snp"

    def vouch(self, runtime_data: bytes, **fields: int | bytes) -> dict[str, Any]:
        """`hcl` and `hardware` of an item for some runtime data; `fields` are of the hardware's report."""
        if self.hardware == "sev-snp":
            return self.vouch_by(CHIP.report(report_data(runtime_data), **fields), runtime_data)
        quote = PLATFORM.quote(report_data(runtime_data), **fields)
        return self.vouch_by(td_report(quote.signed[48:]), runtime_data) | {
            "hardware": {"kind": "tdx", "quote": b64u(quote.data), "collateral": collateral()}
        }

    def vouch_by(self, hardware_report: bytes, runtime_data: bytes) -> dict[str, Any]:
        """The same with a hardware report that is given."""
        if self.hardware == "tdx":
            return {"hcl": Hcl(hardware_report, runtime_data, 4)}
        genuine = amd.parts(CHIP, bytes(64))
        beside = {
            "kind": "sev-snp",
            "vek_certificate": b64u(genuine.vek),
            "ask_certificate": b64u(genuine.ask),
            "ark_certificate": b64u(genuine.ark),
            "crl": b64u(genuine.crl or b""),
        }
        return {"hcl": Hcl(hardware_report, runtime_data, 2), "hardware": beside}

    def parts(self, binding: bytes, before: tuple[bytes, ...] = (), after: tuple[bytes, ...] = ()) -> Parts:
        return Parts(**self.vouch(compact(runtime(self.tpm))), **self.tpm_parts(binding, before, after))


def collateral() -> dict[str, Any]:
    """Intel's collateral as an item of kind `tdx` has it."""
    item = json.loads(intel.parts(PLATFORM, bytes(64)).item())
    found: dict[str, Any] = item["collateral"]
    return found


@dataclass
class Scene(TpmScene):
    """What a perturbation works on."""

    machine: Vm
    parts: Parts

    def vouched(self, parts: TpmParts, name_alg: str) -> TpmParts:
        return parts  # the runtime data names the bare key

    def with_runtime(self, data: bytes, **fields: int | bytes) -> Parts:
        """Other runtime data, for which the hardware vouches."""
        return replace(self.parts, **self.machine.vouch(data, **fields))

    def with_hcl(self, **changes: Any) -> Parts:
        return replace(self.parts, hcl=replace(self.parts.hcl, **changes))
