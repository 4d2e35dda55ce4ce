"""A fake AWS: the Nitro certificate authority (P-384), a Nitro Secure Module of an enclave and a NitroTPM, which sign documents.

It follows AWS's description of the documents on its own and shares no code with what it tests.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from fakes import asn1
from fakes.amd import b64u, single_binding
from fakes.pki import AT, YEAR
from fakes.tpm import PrivateKey, private_key

PROTECTED = cbor2.dumps({1: -35})
CREATED = AT - timedelta(seconds=30)
REGION = "eu-central-1"
POINTS = {"region": "http://crl.example/root.crl", "zone": "http://crl.example/region.crl"}


def aws_name(common_name: str) -> bytes:
    return asn1.name(
        (("2.5.4.6", "US"), ("2.5.4.10", "Amazon"), ("2.5.4.11", "AWS"), ("2.5.4.3", common_name))
    )


@dataclass(eq=False)
class Authority:
    """One certificate authority; `issuer` None makes it self-signed."""

    common_name: str
    issuer: Authority | None = None
    label: str = ""
    kind: str = "p384"
    serial: int = 0x1001
    path_length: int | None = None
    ca: bool = True
    usages: tuple[int, ...] = (0, 5, 6)
    point: str | None = None
    not_before: datetime = AT - YEAR
    not_after: datetime = AT + YEAR
    further: tuple[asn1.Extension, ...] = ()
    digest: str = "sha384"
    signer: PrivateKey | None = None
    key: PrivateKey = field(init=False)
    der: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = private_key(self.kind, f"aws/{self.label}{self.common_name}")
        parent = self.issuer or self
        items = [
            asn1.basic_constraints(self.ca, self.path_length),
            asn1.key_usage(*self.usages),
            *self.further,
        ]
        if self.point is not None:
            items.append(asn1.distribution_point(self.point))
        self.der = asn1.certificate(
            subject=aws_name(self.common_name),
            issuer=aws_name(parent.common_name),
            key=self.key.public_key(),
            signer=self.signer or parent.key,
            serial=self.serial,
            not_before=self.not_before,
            not_after=self.not_after,
            items=items,
            scheme="ecdsa" if isinstance(parent.key, ec.EllipticCurvePrivateKey) else "pkcs1",
            digest=self.digest,
        )

    def certify(self, key: asn1.PublicKey, common_name: str, **changes: Any) -> bytes:
        """A signer's certificate, valid for three hours as AWS's are."""
        values: dict[str, Any] = {
            "subject": aws_name(common_name),
            "issuer": aws_name(self.common_name),
            "key": key,
            "signer": self.key,
            "serial": 0x0193685E7FEE7D85,
            "not_before": AT - timedelta(hours=1),
            "not_after": AT + timedelta(hours=2),
            "items": [asn1.basic_constraints(False), asn1.key_usage(0, 1, critical=False)],
            "scheme": "ecdsa",
        }
        return asn1.certificate(**values | changes)

    def revoke(self, *serials: int, **changes: Any) -> bytes:
        values: dict[str, Any] = {
            "issuer": aws_name(self.common_name),
            "signer": self.key,
            "this_update": AT - timedelta(days=1),
            "next_update": AT + timedelta(days=7),
            "serials": serials,
            "scheme": "ecdsa",
        }
        return asn1.revocation_list(**values | changes)


@functools.cache
def root() -> Authority:
    return Authority("aws.nitro-enclaves")


@functools.cache
def region() -> Authority:
    name = f"280d3d43ef972f09.{REGION}.aws.nitro-enclaves"
    return Authority(name, root(), path_length=2, point=POINTS["region"], serial=0x2001)


@functools.cache
def zone() -> Authority:
    name = f"529189572cc01ee0.zonal.{REGION}.aws.nitro-enclaves"
    return Authority(name, region(), path_length=1, point=POINTS["zone"], serial=0x3001)


@functools.cache
def instance() -> Authority:
    return Authority(f"i-0fa553dad58a9f1.{REGION}.aws.nitro-enclaves", zone(), path_length=0, usages=(5,))


def issuers() -> list[Authority]:
    return [root(), region(), zone(), instance()]


@dataclass(eq=False)
class Module:
    """What signs documents: an enclave's NSM (`nitro`), or an instance's NitroTPM (`nitrotpm`)."""

    kind: str = "nitro"
    label: str = "module"

    def __post_init__(self) -> None:
        key = private_key("p384", f"module/{self.kind}/{self.label}")
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key: ec.EllipticCurvePrivateKey = key

    @property
    def module_id(self) -> str:
        return "i-0fa553dad58a9f1-" + (
            "enc0193685e7fee7d85" if self.kind == "nitro" else "tpm0000000000000000"
        )

    @property
    def pcrs_field(self) -> str:
        return "pcrs" if self.kind == "nitro" else "nitrotpm_pcrs"

    def pcrs(self) -> dict[int, bytes]:
        count = 16 if self.kind == "nitro" else 24
        return {n: bytes([n + 1]) * 48 if n < 5 else bytes(48) for n in range(count)}

    def certificate(self, **changes: Any) -> bytes:
        issuer: Authority = changes.pop("authority", None) or instance()
        key = changes.pop("key", None) or self.key.public_key()
        return issuer.certify(key, changes.pop("common_name", f"{self.module_id}.{REGION}.aws"), **changes)

    def fields(self, user_data: bytes | None = None) -> dict[str, Any]:
        """The document's members in the order AWS writes them."""
        return {
            "module_id": self.module_id,
            "digest": "SHA384",
            "timestamp": int(CREATED.timestamp() * 1000) + 387,
            self.pcrs_field: self.pcrs(),
            "certificate": self.certificate(),
            "cabundle": [authority.der for authority in issuers()],
            "public_key": None,
            "user_data": user_data,
            "nonce": None,
        }

    def sign(self, payload: bytes, digest: hashes.HashAlgorithm | None = None, **parts: Any) -> bytes:
        """COSE_Sign1 over a payload; `parts` replace what the signature covers."""
        covered = {
            "context": "Signature1",
            "protected": PROTECTED,
            "external": b"",
            "payload": payload,
        } | parts
        message = cbor2.dumps([covered[name] for name in ("context", "protected", "external", "payload")])
        r, s = utils.decode_dss_signature(self.key.sign(message, ec.ECDSA(digest or hashes.SHA384())))
        return r.to_bytes(48, "big") + s.to_bytes(48, "big")

    def document(self, fields: dict[str, Any]) -> bytes:
        payload = cbor2.dumps(fields)
        return cbor2.dumps([PROTECTED, {}, payload, self.sign(payload)])


def indefinite(fields: dict[str, Any]) -> bytes:
    """The map as newer modules write it: of indefinite length."""
    return (
        b"\xbf" + b"".join(cbor2.dumps(name) + cbor2.dumps(value) for name, value in fields.items()) + b"\xff"
    )


@dataclass
class Parts:
    """What an evidence item holds; each part can be replaced."""

    kind: str
    document: bytes
    crls: Sequence[bytes] | None
    binding: Any = field(default_factory=single_binding)
    further: dict[str, Any] = field(default_factory=dict)

    def item(self) -> bytes:
        value: dict[str, Any] = {"kind": self.kind, "document": b64u(self.document), "binding": self.binding}
        if self.crls is not None:
            value["crls"] = [b64u(found) for found in self.crls]
        value |= self.further
        value = {name: found for name, found in value.items() if found is not None}
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def crls() -> list[bytes]:
    """Current lists of the authorities whose certificates name one."""
    return [root().revoke(0x666), region().revoke()]


def parts(module: Module, user_data: bytes | None) -> Parts:
    """Genuine evidence of a module; made once for each, and the caller's to change."""
    return replace(_parts(module, user_data))


@functools.cache
def _parts(module: Module, user_data: bytes | None) -> Parts:
    return Parts(module.kind, module.document(module.fields(user_data)), crls())
