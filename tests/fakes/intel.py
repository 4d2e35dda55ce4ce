"""A fake Intel: root, PCK authority, TCB signing key, platforms that quote trust domains, and the collateral about them.

It follows the specifications (TDX DCAP Quoting Library API for quotes, the PCK certificate profile, PCS API version 4 for collateral) on
its own and shares no code with what it tests.
"""

from __future__ import annotations

import functools
import hashlib
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes import asn1
from fakes.amd import b64u, single_binding
from fakes.pki import AT, YEAR
from fakes.tpm import private_key

SGX = "1.2.840.113741.1.13.1"
DAY = timedelta(days=1)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
ROOT, PLATFORM_CA, PROCESSOR_CA = (
    "Intel SGX Root CA",
    "Intel SGX PCK Platform CA",
    "Intel SGX PCK Processor CA",
)
SIGNING, PCK = "Intel SGX TCB Signing", "Intel SGX PCK Certificate"

# name: offset, size
HEADER: dict[str, tuple[int, int]] = {
    "VERSION": (0, 2),
    "KEY_TYPE": (2, 2),
    "TEE_TYPE": (4, 4),
    "RESERVED_8": (8, 4),
    "QE_VENDOR_ID": (12, 16),
    "USER_DATA": (28, 20),
}
BODY: dict[str, tuple[int, int]] = {
    "TEE_TCB_SVN": (0, 16),
    "MRSEAM": (16, 48),
    "MRSIGNERSEAM": (64, 48),
    "SEAMATTRIBUTES": (112, 8),
    "TDATTRIBUTES": (120, 8),
    "XFAM": (128, 8),
    "MRTD": (136, 48),
    "MRCONFIGID": (184, 48),
    "MROWNER": (232, 48),
    "MROWNERCONFIG": (280, 48),
    "RTMR0": (328, 48),
    "RTMR1": (376, 48),
    "RTMR2": (424, 48),
    "RTMR3": (472, 48),
    "REPORTDATA": (520, 64),
    "TEE_TCB_SVN_2": (584, 16),
    "MRSERVICETD": (600, 48),
}
QE: dict[str, tuple[int, int]] = {
    "CPUSVN": (0, 16),
    "MISCSELECT": (16, 4),
    "RESERVED_20": (20, 28),
    "ATTRIBUTES": (48, 16),
    "MRENCLAVE": (64, 32),
    "RESERVED_96": (96, 32),
    "MRSIGNER": (128, 32),
    "RESERVED_160": (160, 96),
    "ISVPRODID": (256, 2),
    "ISVSVN": (258, 2),
    "RESERVED_260": (260, 60),
    "REPORT_DATA": (320, 64),
}
BODY_SIZES = {2: 584, 3: 648}
QE_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
COMPONENTS = (3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0)


def intel_name(common_name: str) -> bytes:
    return asn1.name(
        (
            ("2.5.4.3", common_name),
            ("2.5.4.10", "Intel Corporation"),
            ("2.5.4.7", "Santa Clara"),
            ("2.5.4.8", "CA"),
            ("2.5.4.6", "US"),
        )
    )


def p256(label: str) -> ec.EllipticCurvePrivateKey:
    key = private_key("p256", f"intel/{label}")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def key_id(key: asn1.PublicKey) -> bytes:
    return hashlib.sha1(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """r ‖ s."""
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


@dataclass(eq=False)
class Authority:
    """Root, PCK authority or TCB signing key; `issuer` None makes it self-signed."""

    common_name: str
    serial: int
    issuer: Authority | None = None
    label: str = ""
    ca: bool = True
    path_length: int | None = None
    usages: tuple[int, ...] = (5, 6)
    not_before: datetime = AT - 5 * YEAR
    not_after: datetime = AT + 20 * YEAR
    kind: str = "p256"
    digest: str = "sha256"
    key: asn1.PrivateKey = field(init=False)
    der: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = private_key(self.kind, f"intel/{self.label}{self.common_name}")
        self.der = (self.issuer or self).certify(
            self.key.public_key(),
            self.common_name,
            serial=self.serial,
            not_before=self.not_before,
            not_after=self.not_after,
            usages=self.usages,
            constraints=(self.ca, self.path_length),
            digest=self.digest,
        )

    def certify(
        self,
        key: asn1.PublicKey,
        common_name: str,
        further: Sequence[asn1.Extension] = (),
        *,
        serial: int,
        not_before: datetime = AT - YEAR,
        not_after: datetime = AT + 6 * YEAR,
        usages: tuple[int, ...] = (0, 1),
        constraints: tuple[bool, int | None] | None = (False, None),
        digest: str = "sha256",
    ) -> bytes:
        """A certificate with the extensions that Intel's have."""
        items = [
            ("2.5.29.35", False, asn1.sequence(asn1.tlv(0x80, key_id(self.key.public_key())))),
            asn1.distribution_point("https://certificates.example/crl.der"),
            ("2.5.29.14", False, asn1.octets(key_id(key))),
            *([asn1.key_usage(*usages)] if usages else []),
            *([asn1.basic_constraints(*constraints)] if constraints else []),
        ]
        return asn1.certificate(
            subject=intel_name(common_name),
            issuer=intel_name(self.common_name),
            key=key,
            signer=self.key,
            serial=serial,
            not_before=not_before,
            not_after=not_after,
            items=[*items, *further],
            scheme="ecdsa" if isinstance(self.key, ec.EllipticCurvePrivateKey) else "pkcs1",
            digest=digest,
        )

    def revoke(self, *serials: int, **changes: Any) -> bytes:
        """The authority's revocation list."""
        values: dict[str, Any] = {
            "issuer": intel_name(self.common_name),
            "signer": self.key,
            "this_update": AT - 10 * DAY,
            "next_update": AT + 20 * DAY,
            "serials": serials,
            "items": [
                ("2.5.29.20", False, asn1.integer(1)),
                ("2.5.29.35", False, asn1.sequence(asn1.tlv(0x80, key_id(self.key.public_key())))),
            ],
            "scheme": "ecdsa",
            "digest": "sha256",
        }
        return asn1.revocation_list(**values | changes)


@functools.cache
def root() -> Authority:
    return Authority(ROOT, 0x1001, path_length=1)


@functools.cache
def platform_ca(processor: bool = False) -> Authority:
    name = PROCESSOR_CA if processor else PLATFORM_CA
    return Authority(name, 0x2002 if processor else 0x2001, root(), path_length=0)


@functools.cache
def signing() -> Authority:
    return Authority(SIGNING, 0x3001, root(), ca=False, usages=(0, 1))


def sgx_extension(members: Mapping[str, bytes], prefix: str = SGX) -> bytes:
    return asn1.sequence(
        *(asn1.sequence(asn1.oid(f"{prefix}.{arc}"), value) for arc, value in members.items())
    )


def text_of(value: Mapping[str, Any]) -> str:
    """JSON as Intel writes it: in the order of the specification, without white space."""
    return json.dumps(value, separators=(",", ":"))


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def level(
    sgx: Sequence[int], pcesvn: int, tdx: Sequence[int], status: str, *advisories: str
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tcb": {
            "sgxtcbcomponents": [
                {"svn": svn} | ({} if number else {"category": "BIOS", "type": "Early Microcode Update"})
                for number, svn in enumerate([*sgx, *[0] * (16 - len(sgx))])
            ],
            "pcesvn": pcesvn,
            "tdxtcbcomponents": [{"svn": svn} for svn in [*tdx, *[0] * (16 - len(tdx))]],
        },
        "tcbDate": "2024-11-13T00:00:00Z" if status == "UpToDate" else "2023-08-09T00:00:00Z",
        "tcbStatus": status,
    }
    return found | ({"advisoryIDs": list(advisories)} if advisories else {})


def svn_level(isvsvn: int, status: str, *advisories: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tcb": {"isvsvn": isvsvn},
        "tcbDate": "2024-03-13T00:00:00Z" if status == "UpToDate" else "2023-02-15T00:00:00Z",
        "tcbStatus": status,
    }
    return found | ({"advisoryIDs": list(advisories)} if advisories else {})


MODULE = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}


def tcb_info(**changes: Any) -> dict[str, Any]:
    """TCB information for the usual platform; a change to None removes a member."""
    found = {
        "id": "TDX",
        "version": 3,
        "issueDate": stamp(AT - 10 * DAY),
        "nextUpdate": stamp(AT + 20 * DAY),
        "fmspc": "90C06F000000",
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 18,
        "tdxModule": MODULE,
        "tdxModuleIdentities": [
            {"id": "TDX_03", **MODULE, "tcbLevels": [svn_level(3, "UpToDate")]},
            {
                "id": "TDX_01",
                **MODULE,
                "tcbLevels": [
                    svn_level(6, "UpToDate"),
                    svn_level(4, "OutOfDate", "INTEL-SA-01036"),
                    svn_level(2, "Revoked"),
                ],
            },
        ],
        "tcbLevels": [
            level(COMPONENTS, 13, (5, 0, 3), "UpToDate"),
            level((2, 2, 2, 2, 3, 1, 0, 5), 13, (5, 0, 2), "OutOfDate", "INTEL-SA-00960", "INTEL-SA-00837"),
            level((1, 1, 1, 1, 1, 1, 0, 1), 5, (3, 0, 1), "Revoked"),
        ],
    } | changes
    return {name: value for name, value in found.items() if value is not None}


def qe_identity(**changes: Any) -> dict[str, Any]:
    """The identity of the usual quoting enclave; a change to None removes a member."""
    found = {
        "id": "TD_QE",
        "version": 2,
        "issueDate": stamp(AT - 5 * DAY),
        "nextUpdate": stamp(AT + 25 * DAY),
        "tcbEvaluationDataNumber": 17,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_SIGNER.hex().upper(),
        "isvprodid": 2,
        "tcbLevels": [
            svn_level(4, "UpToDate"),
            svn_level(2, "OutOfDate", "INTEL-SA-00837"),
            svn_level(1, "Revoked"),
        ],
    } | changes
    return {name: value for name, value in found.items() if value is not None}


@dataclass(eq=False)
class Platform:
    """A machine whose TDX module reports and whose quoting enclave quotes; `body` 2 is TD report 1.0, 3 is 1.5."""

    version: int = 4
    body: int = 2
    processor: bool = False
    label: str = "platform"

    @property
    def issuer(self) -> Authority:
        return platform_ca(self.processor)

    @property
    def pck_key(self) -> ec.EllipticCurvePrivateKey:
        return p256(f"pck/{self.label}")

    @property
    def attestation_key(self) -> ec.EllipticCurvePrivateKey:
        return p256(f"attestation/{self.label}")

    def tcb(self, components: Sequence[int] = COMPONENTS, pcesvn: int = 13) -> bytes:
        members = {str(n + 1): asn1.integer(svn) for n, svn in enumerate(components)}
        members |= {"17": asn1.integer(pcesvn), "18": asn1.octets(bytes(components))}
        return sgx_extension(members, f"{SGX}.2")

    def members(self, **changes: bytes | None) -> dict[str, bytes]:
        """Intel's extension by the last arc; `m2=…` replaces a member, None removes it."""
        found: dict[str, bytes | None] = {
            "1": asn1.octets(hashlib.sha256(self.label.encode()).digest()[:16]),
            "2": self.tcb(),
            "3": asn1.octets(bytes(2)),
            "4": asn1.octets(bytes.fromhex("90c06f000000")),
            "5": asn1.tlv(0x0A, b"\0" if self.processor else b"\1"),
        }
        if not self.processor:
            found["6"] = asn1.octets(bytes(range(16)))
            found["7"] = sgx_extension({str(n): b"\x01\x01\xff" for n in (1, 2, 3)}, f"{SGX}.7")
        found |= {name.removeprefix("m"): value for name, value in changes.items()}
        return {name: value for name, value in found.items() if value is not None}

    def certificate(self, **changes: Any) -> bytes:
        """The PCK certificate."""
        issuer: Authority = changes.pop("issuer", self.issuer)
        key = changes.pop("key", self.pck_key.public_key())
        name = changes.pop("common_name", PCK)
        extension = changes.pop("extension", None) or sgx_extension(changes.pop("members", self.members()))
        further = [(SGX, False, extension), *changes.pop("further", ())]
        return issuer.certify(key, name, further, **{"serial": 0x4001} | changes)

    def chain(self) -> list[bytes]:
        return [self.certificate(), self.issuer.der, root().der]

    def signed(self, report_data: bytes = bytes(64), **fields: int | bytes) -> bytes:
        """Header and body; `fields` by their names replace the usual values."""
        values: dict[str, int | bytes] = {
            "VERSION": self.version,
            "KEY_TYPE": 2,
            "TEE_TYPE": 0x81,
            "QE_VENDOR_ID": VENDOR,
            "USER_DATA": b"\x0b" * 16 + bytes(4),
            "TEE_TCB_SVN": bytes([6, 1, 3]).ljust(16, b"\0"),
            "MRSEAM": bytes(range(48)),
            "TDATTRIBUTES": 1 << 28,
            "XFAM": 0x642E7,
            "MRTD": b"\x11" * 48,
            "MRCONFIGID": b"\x12" * 48,
            "MROWNER": b"\x13" * 48,
            "MROWNERCONFIG": b"\x14" * 48,
            "RTMR0": b"\x20" * 48,
            "RTMR1": b"\x21" * 48,
            "RTMR2": b"\x22" * 48,
            "REPORTDATA": report_data,
        }
        if self.body == 3:
            values |= {"TEE_TCB_SVN_2": bytes([7, 1, 4]).ljust(16, b"\0")}
        header, body = bytearray(48), bytearray(BODY_SIZES[self.body])
        for name, value in (values | fields).items():
            put(header if name in HEADER else body, HEADER | BODY, name, value)
        if self.version == 4:
            return bytes(header + body)
        descriptor = self.body.to_bytes(2, "little") + len(body).to_bytes(4, "little")
        return bytes(header) + descriptor + bytes(body)

    def qe_report(self, auth: bytes, key: bytes, **fields: int | bytes) -> bytes:
        values: dict[str, int | bytes] = {
            "CPUSVN": bytes(range(16)),
            "ATTRIBUTES": bytes.fromhex("1500000000000000e700000000000000"),
            "MRENCLAVE": b"\x31" * 32,
            "MRSIGNER": QE_SIGNER,
            "ISVPRODID": 2,
            "ISVSVN": 6,
            "REPORT_DATA": hashlib.sha256(key + auth).digest() + bytes(32),
        }
        report = bytearray(384)
        for name, value in (values | fields).items():
            put(report, QE, name, value)
        return bytes(report)

    def quote(self, report_data: bytes = bytes(64), **fields: int | bytes) -> Quote:
        """A quote, in its parts."""
        signed = self.signed(report_data, **fields)
        auth, key = bytes(range(32)), point(self.attestation_key)
        report = self.qe_report(auth, key)
        return Quote(
            signed=signed,
            signature=raw_signature(self.attestation_key, signed),
            attestation_key=key,
            qe_report=report,
            qe_report_signature=raw_signature(self.pck_key, report),
            auth=auth,
            chain=pem(*self.chain()),
        )


@dataclass(frozen=True)
class Quote:
    """The parts of a quote, put together by `data`."""

    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_report_signature: bytes
    auth: bytes
    chain: bytes
    outer_type: int = 6
    inner_type: int = 5
    tail: bytes = b""
    outer_tail: bytes = b""
    inner_tail: bytes = b""

    @property
    def data(self) -> bytes:
        inner = self.inner_type.to_bytes(2, "little") + _sized(self.chain, 4)
        outer = self.qe_report + self.qe_report_signature + _sized(self.auth, 2) + inner + self.inner_tail
        data = (
            self.signature + self.attestation_key + self.outer_type.to_bytes(2, "little") + _sized(outer, 4)
        )
        return self.signed + _sized(data + self.outer_tail, 4) + self.tail

    def with_qe(self, platform: Platform, **fields: int | bytes) -> Quote:
        """The quoting enclave reports otherwise, and the PCK signs that."""
        report = bytearray(self.qe_report)
        for name, value in fields.items():
            put(report, QE, name, value)
        return replace(
            self,
            qe_report=bytes(report),
            qe_report_signature=raw_signature(platform.pck_key, bytes(report)),
        )


def _sized(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "little") + data


def put(target: bytearray, fields: Mapping[str, tuple[int, int]], name: str, value: int | bytes) -> None:
    offset, size = fields[name]
    data = value.to_bytes(size, "little") if isinstance(value, int) else value
    assert len(data) == size, name
    target[offset : offset + size] = data


def pem(*certificates: bytes) -> bytes:
    return b"".join(ssl.DER_cert_to_PEM_cert(found).encode() for found in certificates) + b"\0"


@dataclass
class Parts:
    """What an evidence item holds; each part can be replaced."""

    quote: Quote
    collateral: dict[str, Any] | None
    binding: Any = field(default_factory=single_binding)
    event_log: bytes | None = None
    further: dict[str, Any] = field(default_factory=dict)

    def item(self) -> bytes:
        value: dict[str, Any] = {"kind": "tdx", "quote": b64u(self.quote.data), "binding": self.binding}
        if self.collateral is not None:
            value["collateral"] = {name: _json(found) for name, found in self.collateral.items()}
        if self.event_log is not None:
            value["event_log"] = b64u(self.event_log)
        value |= self.further
        value = {name: found for name, found in value.items() if found is not None}
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def pccs(self) -> bytes:
        """The collateral as PCCS clients store it."""
        assert self.collateral is not None
        return json.dumps({name: _pccs(value) for name, value in self.collateral.items()}).encode()


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return b64u(value)
    return [_json(item) for item in value] if isinstance(value, list) else value


def _pccs(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return pem(*value).rstrip(b"\0").decode() if isinstance(value, list) else str(value)


def signed_text(text: str, name: str, signer: Authority | None = None) -> dict[str, Any]:
    """The members of collateral about a text that Intel signed."""
    signer = signer or signing()
    assert isinstance(signer.key, ec.EllipticCurvePrivateKey)
    return {
        name: text,
        f"{name}_signature": raw_signature(signer.key, text.encode()),
        f"{name}_issuer_chain": [signer.der, root().der],
    }


def collateral(processor: bool = False, **changes: Any) -> dict[str, Any]:
    """Genuine collateral; `changes` replace members."""
    issuer = platform_ca(processor)
    found: dict[str, Any] = {
        "root_ca_crl": root().revoke(),
        "pck_crl": issuer.revoke(0x666),
        "pck_crl_issuer_chain": [issuer.der, root().der],
    }
    found |= signed_text(text_of(tcb_info()), "tcb_info")
    found |= signed_text(text_of(qe_identity()), "qe_identity")
    return found | changes


def parts(platform: Platform, report_data: bytes) -> Parts:
    """Genuine evidence of a platform; made once for each, and the caller's to change."""
    found = _parts(platform, report_data)
    return replace(found, collateral=dict(found.collateral or {}))


@functools.cache
def _parts(platform: Platform, report_data: bytes) -> Parts:
    return Parts(platform.quote(report_data), collateral(platform.processor))
