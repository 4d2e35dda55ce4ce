"""A fake AMD: root, signing keys for VCEKs and VLEKs, chips that sign reports, and the ARK's revocation lists.

It follows the specifications (56860 for reports, 57230 for certificates) on its own and shares no code with what it tests.
"""

from __future__ import annotations

import functools
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from fakes import asn1
from fakes.pki import AT, YEAR
from fakes.tpm import PrivateKey, private_key

AMD = "1.3.6.1.4.1.3704.1."
REPORT_SIZE, SIGNED_SIZE = 1184, 672

# name: offset, size
FIELDS: dict[str, tuple[int, int]] = {
    "VERSION": (0x000, 4),
    "GUEST_SVN": (0x004, 4),
    "POLICY": (0x008, 8),
    "FAMILY_ID": (0x010, 16),
    "IMAGE_ID": (0x020, 16),
    "VMPL": (0x030, 4),
    "SIGNATURE_ALGO": (0x034, 4),
    "CURRENT_TCB": (0x038, 8),
    "PLATFORM_INFO": (0x040, 8),
    "KEY_INFO": (0x048, 4),
    "RESERVED_4C": (0x04C, 4),
    "REPORT_DATA": (0x050, 64),
    "MEASUREMENT": (0x090, 48),
    "HOST_DATA": (0x0C0, 32),
    "ID_KEY_DIGEST": (0x0E0, 48),
    "AUTHOR_KEY_DIGEST": (0x110, 48),
    "REPORT_ID": (0x140, 32),
    "REPORT_ID_MA": (0x160, 32),
    "REPORTED_TCB": (0x180, 8),
    "CPUID_FAM_ID": (0x188, 1),
    "CPUID_MOD_ID": (0x189, 1),
    "CPUID_STEP": (0x18A, 1),
    "RESERVED_18B": (0x18B, 21),
    "CHIP_ID": (0x1A0, 64),
    "COMMITTED_TCB": (0x1E0, 8),
    "CURRENT_BUILD": (0x1E8, 1),
    "CURRENT_MINOR": (0x1E9, 1),
    "CURRENT_MAJOR": (0x1EA, 1),
    "RESERVED_1EB": (0x1EB, 1),
    "COMMITTED_BUILD": (0x1EC, 1),
    "COMMITTED_MINOR": (0x1ED, 1),
    "COMMITTED_MAJOR": (0x1EE, 1),
    "RESERVED_1EF": (0x1EF, 1),
    "LAUNCH_TCB": (0x1F0, 8),
    "LAUNCH_MIT_VECTOR": (0x1F8, 8),
    "CURRENT_MIT_VECTOR": (0x200, 8),
    "RESERVED_208": (0x208, 152),
    "R": (0x2A0, 48),
    "R_PADDING": (0x2D0, 24),
    "S": (0x2E8, 48),
    "S_PADDING": (0x318, 24),
    "RESERVED_330": (0x330, 368),
}
CPUIDS = {"Milan": (0x19, 0x01, 1), "Genoa": (0x19, 0x11, 1), "Turin": (0x1A, 0x02, 1)}
TCBS = {
    "Milan": bytes([4, 0, 0, 0, 0, 0, 24, 219]),
    "Genoa": bytes([10, 0, 0, 0, 0, 0, 25, 84]),
    "Turin": bytes([1, 2, 0, 3, 0, 0, 0, 9]),
}


def amd_name(common_name: str) -> bytes:
    return asn1.name(
        (
            ("2.5.4.11", "Engineering"),
            ("2.5.4.6", "US"),
            ("2.5.4.7", "Santa Clara"),
            ("2.5.4.8", "CA"),
            ("2.5.4.10", "Advanced Micro Devices"),
            ("2.5.4.3", common_name),
        )
    )


def tcb_levels(product: str, tcb: bytes) -> dict[str, int]:
    """Security patch levels by the last arc of their extension."""
    turin = ("9", "1", "2", "3", "5", "6", "7", "8")
    order = turin if product == "Turin" else ("1", "2", "4", "5", "6", "7", "3", "8")
    return dict(zip(order, tcb, strict=True))


def vek_extensions(
    product: str, tcb: bytes, *, hwid: bytes | None = None, csp_id: str | None = None, wrapped: bool = False
) -> dict[str, bytes]:
    """AMD's extensions by suffix, as the KDS writes them; `wrapped` gives hwID as the specification has it."""
    name = "Milan-B0" if product == "Milan" and csp_id is None else product
    found = {"1": asn1.integer(1), "2": asn1.ia5(name)}
    found |= {f"3.{arc}": asn1.integer(level) for arc, level in tcb_levels(product, tcb).items()}
    if hwid is not None:
        found["4"] = asn1.octets(hwid) if wrapped else hwid
    if csp_id is not None:
        found["5"] = asn1.ia5(csp_id)
    return found


@dataclass
class Authority:
    """ARK or ASK; `issuer` None makes it self-signed."""

    common_name: str
    serial: int
    issuer: Authority | None = None
    kind: str = "rsa2048"
    label: str = ""
    path_length: int | None = None
    ca: bool = True
    usages: tuple[int, ...] = (5, 6)
    not_before: datetime = AT - 5 * YEAR
    not_after: datetime = AT + 20 * YEAR
    scheme: str = "pss"
    digest: str = "sha384"
    key: PrivateKey = field(init=False)
    der: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = private_key(self.kind, f"amd/{self.label}{self.common_name}")
        parent = self.issuer or self
        point = asn1.distribution_point("https://kdsintf.example/crl")
        self.der = asn1.certificate(
            subject=amd_name(self.common_name),
            issuer=amd_name(parent.common_name),
            key=self.key.public_key(),
            signer=parent.key,
            serial=self.serial,
            not_before=self.not_before,
            not_after=self.not_after,
            items=[asn1.basic_constraints(self.ca, self.path_length), asn1.key_usage(*self.usages), point],
            scheme=self.scheme,
            digest=self.digest,
        )

    def certify(
        self,
        key: asn1.PublicKey,
        common_name: str,
        extensions: Mapping[str, bytes],
        *,
        serial: int = 0,
        not_before: datetime = AT - YEAR,
        not_after: datetime = AT + 6 * YEAR,
        further: Sequence[asn1.Extension] = (),
        scheme: str = "pss",
        digest: str = "sha384",
        signer: PrivateKey | None = None,
    ) -> bytes:
        """A VCEK or VLEK certificate; serial number 0, as AMD's have."""
        items = [(AMD + suffix, False, value) for suffix, value in extensions.items()]
        return asn1.certificate(
            subject=amd_name(common_name),
            issuer=amd_name(self.common_name),
            key=key,
            signer=signer or self.key,
            serial=serial,
            not_before=not_before,
            not_after=not_after,
            items=[*items, *further],
            scheme=scheme,
            digest=digest,
        )

    def revoke(self, *serials: int, **changes: Any) -> bytes:
        """The authority's revocation list."""
        values: dict[str, Any] = {
            "issuer": amd_name(self.common_name),
            "signer": self.key,
            "this_update": AT - YEAR / 2,
            "next_update": AT + YEAR / 2,
            "serials": serials,
        }
        return asn1.revocation_list(**values | changes)


@functools.cache
def ark(product: str = "Milan") -> Authority:
    """A root; Milan's has the 4096 bits that AMD's have."""
    return Authority(
        f"ARK-{product}", 0x10000, kind="rsa4096" if product == "Milan" else "rsa2048", label="root/"
    )


@functools.cache
def ask(product: str = "Milan", vlek: bool = False) -> Authority:
    name = f"SEV-VLEK-{product}" if vlek else f"SEV-{product}"
    return Authority(name, 0x10101 if vlek else 0x10001, ark(product), path_length=0, usages=(5,))


@dataclass(eq=False)
class Chip:
    """A processor (or, with `csp_id`, a provider's VLEK) that signs reports."""

    product: str = "Milan"
    label: str = "chip"
    csp_id: str | None = None
    tcb: bytes = b""
    version: int = 3

    def __post_init__(self) -> None:
        self.tcb = self.tcb or TCBS[self.product]
        key = private_key("p384", f"vek/{self.product}/{self.label}/{self.csp_id}")
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key: ec.EllipticCurvePrivateKey = key

    @property
    def hwid(self) -> bytes:
        digest = hashes.Hash(hashes.SHA512())
        digest.update(self.label.encode())
        return digest.finalize()[: 8 if self.product == "Turin" else 64]

    @property
    def issuer(self) -> Authority:
        return ask(self.product, self.csp_id is not None)

    @property
    def common_name(self) -> str:
        return "SEV-VCEK" if self.csp_id is None else "SEV-VLEK"

    def extensions(self, **changes: Any) -> dict[str, bytes]:
        values: dict[str, Any] = {"hwid": self.hwid if self.csp_id is None else None, "csp_id": self.csp_id}
        return vek_extensions(
            changes.pop("product", self.product), changes.pop("tcb", self.tcb), **values | changes
        )

    def certificate(self, **changes: Any) -> bytes:
        """The VCEK's or VLEK's certificate."""
        issuer: Authority = changes.pop("issuer", self.issuer)
        key = changes.pop("key", self.key.public_key())
        name = changes.pop("common_name", self.common_name)
        found = changes.pop("extensions", None) or self.extensions()
        return issuer.certify(key, name, found, **changes)

    def body(self, report_data: bytes = bytes(64), **fields: int | bytes) -> bytes:
        """A report without its signature; `fields` by their names replace the usual values."""
        values: dict[str, int | bytes] = {
            "VERSION": self.version,
            "GUEST_SVN": 3,
            "POLICY": 0x3001F,
            "FAMILY_ID": b"family".ljust(16, b"\0"),
            "IMAGE_ID": b"image".ljust(16, b"\0"),
            "VMPL": 0,
            "SIGNATURE_ALGO": 1,
            "CURRENT_TCB": self.tcb,
            "PLATFORM_INFO": 0x25,
            "KEY_INFO": 0 if self.csp_id is None else 1 << 2,
            "REPORT_DATA": report_data,
            "MEASUREMENT": bytes(range(48)),
            "HOST_DATA": b"\x07" * 32,
            "ID_KEY_DIGEST": bytes(48),
            "AUTHOR_KEY_DIGEST": bytes(48),
            "REPORT_ID": b"\x09" * 32,
            "REPORT_ID_MA": b"\xff" * 32,
            "REPORTED_TCB": self.tcb,
            "CHIP_ID": bytes(64) if self.csp_id is not None else self.hwid.ljust(64, b"\0"),
            "COMMITTED_TCB": self.tcb,
            "CURRENT_BUILD": 29,
            "CURRENT_MINOR": 55,
            "CURRENT_MAJOR": 1,
            "COMMITTED_BUILD": 29,
            "COMMITTED_MINOR": 55,
            "COMMITTED_MAJOR": 1,
            "LAUNCH_TCB": self.tcb,
        }
        if self.version >= 3:
            values |= dict(
                zip(("CPUID_FAM_ID", "CPUID_MOD_ID", "CPUID_STEP"), CPUIDS[self.product], strict=True)
            )
        if self.version >= 5:
            values |= {"LAUNCH_MIT_VECTOR": 1, "CURRENT_MIT_VECTOR": 1}
        report = bytearray(REPORT_SIZE)
        for name, value in (values | fields).items():
            put(report, name, value)
        return bytes(report)

    def sign(self, body: bytes, digest: hashes.HashAlgorithm | None = None) -> bytes:
        """Sign a report as the firmware does: r and s, little endian, 72 bytes each."""
        r, s = utils.decode_dss_signature(
            self.key.sign(body[:SIGNED_SIZE], ec.ECDSA(digest or hashes.SHA384()))
        )
        signature = r.to_bytes(72, "little") + s.to_bytes(72, "little")
        return body[:SIGNED_SIZE] + signature.ljust(512, b"\0")

    def report(self, report_data: bytes = bytes(64), **fields: int | bytes) -> bytes:
        return self.sign(self.body(report_data, **fields))


def put(report: bytearray, name: str, value: int | bytes) -> None:
    offset, size = FIELDS[name]
    data = value.to_bytes(size, "little") if isinstance(value, int) else value
    assert len(data) == size, name
    report[offset : offset + size] = data


def flip(report: bytes, name: str, bit: int = 0) -> bytes:
    """One bit of a field changed, without signing again."""
    offset, _ = FIELDS[name]
    changed = bytearray(report)
    changed[offset + bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def b64u(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def single_binding() -> dict[str, Any]:
    return {"leaf_index": 0, "path": [], "tree_size": 1}


@dataclass
class Parts:
    """What an evidence item holds; each part can be replaced."""

    report: bytes
    vek: bytes
    ask: bytes
    ark: bytes
    crl: bytes | None
    binding: Any = field(default_factory=single_binding)
    further: dict[str, Any] = field(default_factory=dict)

    def item(self) -> bytes:
        value: dict[str, Any] = {
            "kind": "sev-snp",
            "report": b64u(self.report),
            "vek_certificate": b64u(self.vek),
            "ask_certificate": b64u(self.ask),
            "ark_certificate": b64u(self.ark),
            "binding": self.binding,
        }
        if self.crl is not None:
            value["crl"] = b64u(self.crl)
        value |= self.further
        value = {name: found for name, found in value.items() if found is not None}
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def parts(chip: Chip, report_data: bytes) -> Parts:
    """Genuine evidence of a chip; made once for each, and the caller's to change."""
    return replace(_parts(chip, report_data))


@functools.cache
def _parts(chip: Chip, report_data: bytes) -> Parts:
    root = ark(chip.product)
    return Parts(chip.report(report_data), chip.certificate(), chip.issuer.der, root.der, root.revoke(0x666))
