"""NVIDIA: certificate authorities for devices, reference values and OCSP, and GPUs and switches that sign reports; all working.

Reports, certificates, RIMs and OCSP responses are written byte by byte. RIMs are written in canonical form at once, so that no XML library
takes part. Shares no code with what it tests.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes import asn1
from fakes.asn1 import sequence, tlv
from fakes.pki import AT, YEAR
from fakes.tpm import private_key

SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
DS = "http://www.w3.org/2000/09/xmldsig#"
HASH = "http://www.w3.org/2001/04/xmlenc#sha384"
RIM_MODEL = (
    "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/"
)
C14N = "http://www.w3.org/2006/12/xml-c14n11"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"

COMPOSITE_DEVICE_ID, TCB_INFO = "2.23.133.5.4.1", "2.23.133.5.4.1.1"
DMTF_OTHER_NAME, SHA384_OID = "1.3.6.1.4.1.412.274.1", "2.16.840.1.101.3.4.2.2"
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
DRIVER, GPU_INFO, VBIOS, NVDEC0, BOARD_ID, CHIP_SKU, PROJECT, PROJECT_SKU = 3, 4, 6, 11, 14, 15, 17, 18
FWID, PPCIE, PDI, GPU_PDIS, OPAQUE_VERSION, FEATURE_FLAG = 20, 21, 22, 26, 34, 36
FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=AT.tzinfo)
ZERO = bytes(48)


def digest(text: str) -> bytes:
    return hashlib.sha384(text.encode()).digest()


def nvidia_name(common_name: str, serial: str = "") -> bytes:
    attributes = [("2.5.4.6", "US"), ("2.5.4.10", "NVIDIA Corporation"), ("2.5.4.3", common_name)]
    return asn1.name([*attributes, ("2.5.4.5", serial)] if serial else attributes)


def p384(label: str) -> ec.EllipticCurvePrivateKey:
    key = private_key("p384", f"nvidia/{label}")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


@dataclass(eq=False)
class Authority:
    """Anything that has a certificate; `issuer` None makes it self-signed."""

    common_name: str
    issuer: Authority | None = None
    label: str = ""
    serial: int = 0
    name_serial: str = ""
    ca: bool = True
    usages: tuple[int, ...] = (5, 6)
    not_before: datetime = AT - 3 * YEAR
    not_after: datetime = AT + 10 * YEAR
    items: Sequence[asn1.Extension] = ()
    public: asn1.PublicKey | None = None
    signer: Authority | None = None
    digest: str = "sha384"
    key: ec.EllipticCurvePrivateKey = field(init=False)
    der: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = p384(f"{self.label}{self.common_name}{self.name_serial}")
        self.serial = self.serial or int.from_bytes(hashlib.sha256(self.common_name.encode()).digest()[:9])
        parent = self.issuer or self
        constraints = [asn1.basic_constraints(True)] if self.ca else []
        self.der = asn1.certificate(
            subject=self.name,
            issuer=parent.name,
            key=self.public or self.key.public_key(),
            signer=(self.signer or parent).key,
            serial=self.serial,
            not_before=self.not_before,
            not_after=self.not_after,
            items=[*constraints, asn1.key_usage(*self.usages), *self.items],
            scheme="ecdsa",
            digest=self.digest,
        )

    @property
    def name(self) -> bytes:
        return nvidia_name(self.common_name, self.name_serial)


def device_root(label: str = "") -> Authority:
    return _device_root(label)


def identity_ca(family: str = "GH100", label: str = "") -> Authority:
    return _identity_ca(family, label)


def provisioner(chip: str = "GH100", label: str = "") -> Authority:
    return _provisioner(chip, label)


def rim_chain(label: str = "") -> tuple[Authority, ...]:
    """Signer first, root last."""
    return _rim_chain(label)


def rim_root(label: str = "") -> Authority:
    return _rim_chain(label)[-1]


@functools.cache
def _device_root(label: str) -> Authority:
    return Authority("NVIDIA Device Identity CA", label=label, not_after=FOREVER)


@functools.cache
def _identity_ca(family: str, label: str) -> Authority:
    return Authority(f"NVIDIA {family} Identity", _device_root(label), label=label, not_after=FOREVER)


@functools.cache
def _provisioner(chip: str, label: str) -> Authority:
    family = "GB100" if chip.startswith("GB") else "GH100"
    return Authority(f"NVIDIA {chip} Provisioner ICA 1", _identity_ca(family, label), label=label)


@functools.cache
def _rim_chain(label: str) -> tuple[Authority, ...]:
    root = Authority("NVIDIA CoRIM signing Root CA", label=label)
    l2 = Authority("NVIDIA Reference Value GH100 CA", root, label=label)
    l3 = Authority("NVIDIA Reference Value L3 GH100 001", l2, label=label)
    return signer(l3, label=label), l3, l2, root


def signer(issuer: Authority, **changes: Any) -> Authority:
    values: dict[str, Any] = {"ca": False, "usages": (0,), "not_after": AT + 2 * YEAR}
    return Authority("HCC RIM L4 Signer", issuer, **values | changes)


def other_name(text: str, oid: str = DMTF_OTHER_NAME) -> asn1.Extension:
    value = tlv(0xA0, tlv(0x0C, text.encode()))
    return "2.5.29.17", False, sequence(tlv(0xA0, asn1.oid(oid), value))


def fwid(value: bytes, algorithm: str = SHA384_OID) -> bytes:
    return sequence(asn1.oid(algorithm), asn1.octets(value))


def composite(key: asn1.PublicKey, value: bytes, **changes: Any) -> asn1.Extension:
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    parts = [asn1.integer(changes.pop("version", 1)), spki, fwid(value, **changes)]
    return COMPOSITE_DEVICE_ID, False, sequence(*parts)


def tcb_info(*values: bytes) -> asn1.Extension:
    fwids = tlv(0xA6, *map(fwid, values)) if values else b""
    body = sequence(
        tlv(0x80, b"NVIDIA"), tlv(0x81, b"GB100 A01 GSP"), tlv(0x82, b"01"), fwids, tlv(0x87, b"\0\x80\0\0\1")
    )
    return TCB_INFO, False, body


def measured(device: str, count: int = 64) -> list[bytes]:
    """What a healthy device measures; every third block is unused."""
    return [ZERO if number % 3 == 2 else digest(f"{device}/{number}") for number in range(count)]


@dataclass(eq=False)
class Device:
    """A GPU, or with chip `LS_10` a switch."""

    chip: str = "GH100"
    label: str = "0"
    driver: str = "550.54.15"
    vbios: str = "96.00.74.00.1A"
    fwid: bytes | None = digest("firmware")
    switches: tuple[bytes, ...] = ()
    gpus: tuple[bytes, ...] = ()
    nvdec0: int = 0x55
    authorities: str = ""

    def __post_init__(self) -> None:
        self.key = p384(f"fmc/{self.chip}/{self.label}")
        self.brom = self.make_brom()

    def make_brom(self, **changes: Any) -> Authority:
        unit = "FSP" if self.is_switch else "GSP"
        name = changes.pop("common_name", f"{self.chip} A01 {unit} BROM")
        issuer = changes.pop("issuer", provisioner(self.chip, self.authorities))
        values: dict[str, Any] = {
            "serial": int.from_bytes(b"\x41" + self.pdi),
            "name_serial": self.pdi.hex(),
            "usages": (5,),
        }
        return Authority(name, issuer, **values | changes)

    @property
    def is_switch(self) -> bool:
        return self.chip == "LS_10"

    @property
    def product(self) -> str:
        return self.chip.replace("_", "")

    @property
    def pdi(self) -> bytes:
        return hashlib.sha256(f"{self.chip}/{self.label}".encode()).digest()[:8]

    @property
    def serial(self) -> str:
        return "48B02D" + self.pdi[:5].hex().upper()

    def leaf(self, **changes: Any) -> bytes:
        """The certificate of the key that signs reports."""
        name = changes.pop("device_name", f"NVIDIA:{self.chip}:{self.serial}")
        brom = self.brom.key.public_key()
        value = self.fwid or digest("firmware")
        extension = tcb_info(value, ZERO) if self.chip.startswith("GB") else composite(brom, value)
        items = [other_name(name)] if isinstance(name, str) else list(name)
        values: dict[str, Any] = {
            "issuer": self.brom,
            "ca": False,
            "usages": (0,),
            "items": [*items, *changes.pop("extensions", [extension])],
            "public": self.key.public_key(),
            "serial": int.from_bytes(hashlib.sha256(self.pdi).digest()[:19]),
            "not_after": FOREVER,
        }
        unit = "FSP" if self.is_switch else "GSP"
        return Authority(f"{self.chip} A01 {unit} FMC LF", **values | changes).der

    def chain(self, **changes: Any) -> list[bytes]:
        issuer = self.brom.issuer
        above = []
        while issuer is not None:
            above.append(issuer.der)
            issuer = issuer.issuer
        return [self.leaf(**changes), self.brom.der, *above]

    def measurements(self) -> list[bytes]:
        return measured(self.product, 31 if self.is_switch else 64)

    def opaque(self) -> dict[int, bytes]:
        if self.is_switch:
            found = {
                VBIOS: self.vbios.encode(),
                PDI: self.pdi,
                12: bytes(104),
                23: b"\xec\0",
                24: b"\2\0",
                25: b"\1\0",
            }
            if self.gpus:
                ports = bytes(n % len(self.gpus) for n in range(36)).ljust(64, b"\xff")
                found[GPU_PDIS] = b"".join(self.gpus).ljust(64, b"\0") + ports
            return found
        *version, last = (int(part, 16) for part in self.vbios.split("."))
        found = {
            VBIOS: bytes(reversed(version)) + bytes([last, 0, 0, 0]),
            BOARD_ID: (1079).to_bytes(4, "little"),
            CHIP_SKU: b"885".ljust(9, b"\0"),
            16: b"0\0\0\0\0",
            PROJECT: b"G520\0",
            PROJECT_SKU: b"0200\0",
            DRIVER: self.driver.encode() + b"\0",
            GPU_INFO: bytes(8),
            NVDEC0: bytes([self.nvdec0]),
            200: b"from the future",
        }
        if self.fwid is not None:
            found[FWID] = self.fwid
        if self.switches:
            links = [self.switches[n % len(self.switches)] for n in range(16)] + [bytes(8)] * 2
            found |= {PPCIE: b"\xaa", PDI: b"".join(links), OPAQUE_VERSION: b"\1\0", FEATURE_FLAG: b"\2\0"}
        else:
            found |= {PPCIE: b"\x55", OPAQUE_VERSION: b"\1\0", FEATURE_FLAG: b"\0\0"}
        return found

    def body(self, nonce: bytes, **changes: Any) -> bytes:
        """Request and response without the signature; `changes` name what is not as usual."""
        values: dict[str, Any] = {
            "request": b"\x11\xe0\x01\xff",
            "slot": b"\0",
            "response": b"\x11\x60\0\0",
            "response_nonce": hashlib.sha256(b"response" + nonce + self.pdi).digest(),
        }
        fields = self.opaque() | changes.pop("opaque", {})
        opaque = changes.pop("opaque_data", None) or b"".join(
            number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
            for number, value in fields.items()
            if value is not None
        )
        found = self.measurements()
        for index, value in changes.pop("measurements", {}).items():
            found[index] = value
        blocks = changes.pop("blocks", None) or [
            block(number, value) for number, value in enumerate(found, 1)
        ]
        count = changes.pop("count", len(blocks))
        values |= changes
        record = b"".join(blocks)
        return b"".join(
            (
                values["request"],
                nonce,
                values["slot"],
                values["response"],
                bytes([count]),
                len(record).to_bytes(3, "little"),
                record,
                values["response_nonce"],
                len(opaque).to_bytes(2, "little"),
                opaque,
            )
        )

    def sign(self, body: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        return body + raw_signature(self.key, body, algorithm)

    def report(self, nonce: bytes, **changes: Any) -> bytes:
        return self.sign(self.body(nonce, **changes))


def block(index: int, value: bytes, specification: int = 1, kind: int = 1) -> bytes:
    inner = bytes([kind]) + len(value).to_bytes(2, "little") + value
    return bytes([index, specification]) + len(inner).to_bytes(2, "little") + inner


def raw_signature(
    key: ec.EllipticCurvePrivateKey, data: bytes, algorithm: hashes.HashAlgorithm | None = None
) -> bytes:
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(algorithm or hashes.SHA384())))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def resource(index: int, values: Sequence[bytes], active: bool, /, **changes: str) -> str:
    attributes = {
        "active": str(active),
        "alternatives": str(len(values)),
        "index": str(index),
        "name": f"Measurement_{index}",
        "size": "48",
        "type": "Measurement",
    }
    attributes |= {f"ns2:Hash{number}": value.hex() for number, value in enumerate(values)}
    text = " ".join(f'{name}="{value}"' for name, value in (attributes | changes).items())
    return f"<ns0:Resource {text}></ns0:Resource>\n"


def golden(device: Device, firmware: bool) -> dict[int, list[bytes]]:
    """Reference values: the driver's are the even indexes of a GPU, the VBIOS's the odd ones; a switch's BIOS has all."""
    found = dict(enumerate(device.measurements()))
    if device.is_switch:
        return {index: [value] for index, value in found.items()}
    return {index: [digest("older"), value] for index, value in found.items() if index % 2 == firmware}


@dataclass(frozen=True)
class RimParts:
    """A RIM's text in canonical form; each part can be replaced before or after it is signed."""

    payload: str
    product: str
    version: str
    edition: str = "GPU"
    payload_type: str = "direct"
    root: str = "SoftwareIdentity"
    head: str = ""
    tail: str = ""
    inside: str = ""
    transforms: tuple[str, ...] = (ENVELOPED, C14N)
    canonical: str = C14N
    signature_method: str = ECDSA_SHA384
    digest_method: str = SHA384
    uri: str = ' URI=""'
    reference: str = ""
    object: str = ""
    chain: tuple[bytes, ...] = ()
    key: ec.EllipticCurvePrivateKey | None = None
    hash: hashes.HashAlgorithm | None = None

    def document(self) -> str:
        """The document up to where its signature goes."""
        namespaces = f'xmlns="{SWID}" xmlns:ns0="{SWID}" xmlns:ns2="{HASH}"'
        meta = (
            f'<ns0:Meta xmlns:ns1="{RIM_MODEL}" PayloadType="{self.payload_type}" colloquialVersion="{self.version}" '
            f'edition="{self.edition}" product="{self.product}" revision="r1" ns1:BindingSpec="RIMIM" '
            f'ns1:PlatformManufacturerId="5703"></ns0:Meta>\n'
        )
        attributes = f'corpus="false" name="{self.product}" tagId="{digest(self.version).hex()}" tagVersion="0" version="1.0"'
        return (
            f"<{self.root} {namespaces} {attributes}>\n"
            f'<ns0:Entity name="NVIDIA Corporation" role="softwareCreator tagCreator"></ns0:Entity>\n{meta}'
            f"<ns0:Payload>\n{self.payload}</ns0:Payload>\n{self.inside}"
        )

    def signed_info(self, value: bytes) -> str:
        def method(name: str, algorithm: str) -> str:
            return f'<ds:{name} Algorithm="{algorithm}"></ds:{name}>'

        transforms = "".join(method("Transform", algorithm) for algorithm in self.transforms)
        return (
            f"{method('CanonicalizationMethod', self.canonical)}{method('SignatureMethod', self.signature_method)}"
            f"<ds:Reference{self.uri}><ds:Transforms>{transforms}</ds:Transforms>{method('DigestMethod', self.digest_method)}"
            f"<ds:DigestValue>{b64(value)}</ds:DigestValue></ds:Reference>{self.reference}</ds:SignedInfo>"
        )

    def signature(self, document: str) -> str:
        end = f"</{self.root}>"
        signed_info = self.signed_info(hashlib.sha384((document + end).encode()).digest())
        canonical = f'<ds:SignedInfo xmlns="{SWID}" xmlns:ds="{DS}" xmlns:ns0="{SWID}" xmlns:ns2="{HASH}">{signed_info}'
        value = raw_signature(self.key or rim_chain()[0].key, canonical.encode(), self.hash)
        certificates = "".join(
            f"<ds:X509Certificate>{b64(der, 64)}</ds:X509Certificate>"
            for der in self.chain or tuple(authority.der for authority in rim_chain())
        )
        return (
            f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo>{signed_info}<ds:SignatureValue>{b64(value)}</ds:SignatureValue>'
            f"<ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo>{self.object}</ds:Signature>"
        )

    def xml(self) -> bytes:
        document = self.document()
        return f"{self.head}{document}{self.signature(document)}{self.tail}</{self.root}>".encode()


def b64(data: bytes, width: int = 0) -> str:
    text = base64.b64encode(data).decode()
    return "\n".join(text[at : at + width] for at in range(0, len(text), width)) if width else text


def rim(
    device: Device, firmware: bool, values: Mapping[int, Sequence[bytes]] | None = None, **changes: Any
) -> RimParts:
    """The RIM of a device's driver, or with `firmware` of its VBIOS or BIOS."""
    active = golden(device, firmware) if values is None else values
    payload = "".join(
        resource(index, active.get(index, [ZERO]), index in active)
        for index in range(max(len(device.measurements()), *(index + 1 for index in active)))
    )
    edition = "SWITCH" if device.is_switch else "GPU"
    version = device.vbios if firmware else device.driver
    return replace(RimParts(payload, device.product, version, edition), **changes)


@functools.cache
def responder(issuer: Authority) -> Authority:
    """Appointed by an authority to answer for what it issued."""
    return appointed(issuer)


def appointed(issuer: Authority, **changes: Any) -> Authority:
    purposes = changes.pop("purposes", (OCSP_SIGNING,))
    items = [("2.5.29.37", True, sequence(*map(asn1.oid, purposes)))] if purposes else []
    values: dict[str, Any] = {"ca": False, "usages": (0,), "items": items, "not_after": AT + YEAR}
    return Authority("NVIDIA OCSP Responder", issuer, **values | changes)


def generalized(value: datetime) -> bytes:
    return tlv(0x18, value.strftime("%Y%m%d%H%M%SZ").encode())


STATUSES = {
    "good": tlv(0x80),
    "revoked": tlv(0xA1, generalized(AT - YEAR)),
    "hold": tlv(0xA1, generalized(AT - YEAR), tlv(0xA0, tlv(0x0A, b"\6"))),
    "unknown": tlv(0x82),
    "other": tlv(0x83),
}
HASHES = {"sha1": "1.3.14.3.2.26", "sha256": "2.16.840.1.101.3.4.2.1", "sha384": SHA384_OID}


def ocsp(certificate: Authority, **changes: Any) -> bytes:
    """An answer about a certificate, by a responder that its issuer appointed."""
    issuer = changes.pop("about_issuer", certificate.issuer or certificate)
    by: Authority = changes.pop("by", None) or responder(issuer)
    name = changes.pop("hash", "sha384")
    spki = issuer.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    cert_id = sequence(
        sequence(asn1.oid(HASHES[name]), asn1.NULL),
        asn1.octets(hashlib.new(name, issuer.name).digest()),
        asn1.octets(hashlib.new(name, spki).digest()),
        asn1.integer(changes.pop("serial", certificate.serial)),
    )
    until = changes.pop("next_update", AT + timedelta(days=6))
    single = sequence(
        cert_id,
        STATUSES[changes.pop("status", "good")],
        generalized(changes.pop("this_update", AT - timedelta(days=1))),
        b"" if until is None else tlv(0xA0, generalized(until)),
        changes.pop("single_extensions", b""),
    )
    items = changes.pop("extensions", [("1.3.6.1.5.5.7.48.1.2", True, asn1.octets(b"nonce"))])
    key_hash = tlv(0xA2, asn1.octets(hashlib.sha1(spki).digest()))
    tbs = sequence(
        changes.pop("responder_id", key_hash),
        generalized(AT),
        changes.pop("singles", sequence(*[single] * changes.pop("times", 1))),
        tlv(0xA1, asn1.extensions(items)) if items else b"",
    )
    algorithm = asn1.algorithm(by.key, "ecdsa", "sha384")
    certificates = changes.pop("certificates", [by.der])
    basic = sequence(
        tbs,
        algorithm,
        asn1.bits(
            asn1.sign(by.key, changes.pop("signed", tbs), "ecdsa", "sha384")[:-1] + b"\0",
            changes.pop("unused"),
        )
        if "unused" in changes
        else asn1.bits(asn1.sign(by.key, changes.pop("signed", tbs), "ecdsa", "sha384")),
        tlv(0xA0, sequence(*certificates)) if certificates else b"",
    )
    kind = changes.pop("kind", "1.3.6.1.5.5.7.48.1.1")
    status = changes.pop("response_status", b"\0")
    assert not changes, changes
    return sequence(tlv(0x0A, status), tlv(0xA0, sequence(asn1.oid(kind), asn1.octets(basic))))


def b64u(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def single_binding() -> dict[str, Any]:
    return {"leaf_index": 0, "path": [], "tree_size": 1}


@dataclass
class DeviceParts:
    report: bytes
    chain: list[bytes]

    def json(self) -> dict[str, Any]:
        return {"report": b64u(self.report), "certificate_chain": [b64u(der) for der in self.chain]}


@dataclass
class Parts:
    """What an evidence item holds; each part can be replaced."""

    gpus: list[DeviceParts]
    switches: list[DeviceParts]
    rims: list[bytes]
    ocsp: list[bytes]
    binding: Any = field(default_factory=single_binding)
    further: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> Parts:
        def devices(found: list[DeviceParts]) -> list[DeviceParts]:
            return [DeviceParts(device.report, list(device.chain)) for device in found]

        return Parts(
            devices(self.gpus),
            devices(self.switches),
            list(self.rims),
            list(self.ocsp),
            dict(self.binding),
            dict(self.further),
        )

    def item(self) -> bytes:
        value: dict[str, Any] = {
            "kind": "nvidia",
            "gpus": [device.json() for device in self.gpus],
            "switches": [device.json() for device in self.switches],
            "rims": [b64u(found) for found in self.rims],
            "ocsp": [b64u(found) for found in self.ocsp],
            "binding": self.binding,
        }
        value = {name: found for name, found in (value | self.further).items() if found is not None}
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, eq=False)
class Node:
    """A machine with GPUs and switches of one kind each."""

    gpus: tuple[Device, ...]
    switches: tuple[Device, ...] = ()

    @property
    def devices(self) -> tuple[Device, ...]:
        return (*self.gpus, *self.switches)

    def authorities(self) -> list[Authority]:
        """Everyone whose certificate NVIDIA could revoke."""
        found: dict[bytes, Authority] = {}
        starts = [device.brom for device in self.devices] + [rim_chain()[0]]
        for start in starts:
            authority: Authority | None = start
            while authority is not None and authority.issuer is not None:
                found.setdefault(authority.der, authority)
                authority = authority.issuer
        return list(found.values())

    def parts(self, nonce: bytes) -> Parts:
        def of(device: Device) -> DeviceParts:
            return DeviceParts(device.report(nonce), device.chain())

        rims = [rim(self.gpus[0], False), rim(self.gpus[0], True)] if self.gpus else []
        rims += [rim(self.switches[0], True)] if self.switches else []
        return Parts(
            [of(device) for device in self.gpus],
            [of(device) for device in self.switches],
            [found.xml() for found in rims],
            [ocsp(authority) for authority in self.authorities()],
        )


def hgx(gpus: int = 2, switches: int = 1, chip: str = "GH100", **changes: Any) -> Node:
    """A node in protected PCIe mode: every GPU wired to every switch."""
    ids = tuple(Device("LS_10", f"switch {n}").pdi for n in range(switches))
    found = tuple(Device(chip, f"gpu {n}", switches=ids, **changes) for n in range(gpus))
    seen = tuple(device.pdi for device in found)
    return Node(
        found,
        tuple(
            Device("LS_10", f"switch {n}", vbios="96.10.55.00.01", fwid=None, gpus=seen)
            for n in range(switches)
        ),
    )
