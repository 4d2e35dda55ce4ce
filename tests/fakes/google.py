"""A fake Google: its two hierarchies for keys of virtual TPMs, and instances with certified AKs.

It follows Google's documentation and certificates on its own and shares no code with what it tests.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from fakes import asn1
from fakes import tpm_marshal as marshal
from fakes.amd import b64u
from fakes.machine import Measured, TpmParts
from fakes.pki import AT, YEAR
from fakes.tpm import FakeTpm, PrivateKey, private_key
from fakes.tpm_perturbations import TpmScene

IDENTITY = "1.3.6.1.4.1.11129.2.1.21"
INSTANCE: Mapping[str, Any] = {
    "zone": "europe-west4-b",
    "project_number": 117443520873,
    "project_id": "example.com:inference",
    "instance_id": 5780123456789012345,
    "instance_name": "gpu-node-7",
    "properties": (3, True, True, False, False, False),
}
EK_PURPOSE = "2.23.133.8.1"


def name(common_name: str) -> bytes:
    return asn1.name((("2.5.4.6", "US"), ("2.5.4.10", "Google LLC"), ("2.5.4.3", common_name)))


def utf8(text: str) -> bytes:
    return asn1.tlv(0x0C, text.encode())


def boolean(value: bool) -> bytes:
    return asn1.tlv(0x01, b"\xff" if value else b"\0")


def identity(further: bytes = b"", **changes: Any) -> bytes:
    """The instance identity; `properties` None leaves them out, and a None in them leaves that one out."""
    values = {**INSTANCE, **changes}
    properties = b""
    if values["properties"] is not None:
        found = [
            b""
            if value is None
            else asn1.tlv(0xA0 | number, boolean(value) if number else asn1.integer(value))
            for number, value in enumerate(values["properties"])
        ]
        properties = asn1.tlv(0xA0, asn1.sequence(*found))
    return asn1.sequence(
        utf8(values["zone"]),
        asn1.integer(values["project_number"]),
        utf8(values["project_id"]),
        asn1.integer(values["instance_id"]),
        utf8(values["instance_name"]),
        properties,
        further,
    )


def purposes(*oids: str) -> asn1.Extension:
    return "2.5.29.37", False, asn1.sequence(*map(asn1.oid, oids))


def tpm_name() -> asn1.Extension:
    """The critical subject alternative name of the older certificates."""
    attributes = (("2.23.133.2.1", "id:474F4F47"), ("2.23.133.2.2", "vTPM"), ("2.23.133.2.3", "id:20160511"))
    return "2.5.29.17", True, asn1.sequence(asn1.tlv(0xA4, asn1.name(attributes)))


@dataclass
class Authority:
    """A root or intermediate; `issuer` None makes it self-signed."""

    common_name: str
    issuer: Authority | None = None
    serial: int = 1
    path_length: int | None = None
    ca: bool = True
    usages: tuple[int, ...] = (5, 6)
    not_before: datetime = AT - 4 * YEAR
    not_after: datetime = AT + 90 * YEAR
    lists: bool = False
    label: str = ""
    key: PrivateKey = field(init=False)
    der: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = private_key("rsa2048", f"google/{self.label}{self.common_name}")
        parent = self.issuer or self
        items = [asn1.basic_constraints(self.ca, self.path_length), asn1.key_usage(*self.usages)]
        if self.lists:
            items.append(asn1.distribution_point("https://pki.example/parent.crl"))
        self.der = asn1.certificate(
            subject=name(self.common_name),
            issuer=name(parent.common_name),
            key=self.key.public_key(),
            signer=parent.key,
            serial=self.serial,
            not_before=self.not_before,
            not_after=self.not_after,
            items=items,
            scheme="pkcs1",
            digest="sha256",
        )

    def revoke(self, *serials: int, **changes: Any) -> bytes:
        values: dict[str, Any] = {
            "issuer": name(self.common_name),
            "signer": self.key,
            "this_update": AT - YEAR / 12,
            "next_update": AT + YEAR / 12,
            "serials": serials,
            "scheme": "pkcs1",
            "digest": "sha256",
        }
        return asn1.revocation_list(**values | changes)


@functools.cache
def root(older: bool = False) -> Authority:
    return Authority("tpm_ek_v1_cloud_host_root" if older else "EK/AK CA Root")


def root_fingerprint() -> str:
    return hashlib.sha256(root().der).hexdigest()


@functools.cache
def intermediate(older: bool = False) -> Authority:
    names = "tpm_ek_v1_cloud_host" if older else "EK/AK CA Intermediate"
    return Authority(names, root(older), serial=7, path_length=0 if older else None, lists=True)


@dataclass(frozen=True, kw_only=True)
class Parts(TpmParts):
    """Fields of an item of kind `gcp-vtpm`."""

    ak_certificate: bytes
    ak_chain: tuple[bytes, ...]
    root_certificate: bytes
    crls: tuple[bytes, ...]
    further: Mapping[str, Any] = field(default_factory=dict)

    def item(self) -> dict[str, Any]:
        fields = self.members() | {
            "kind": "gcp-vtpm",
            "ak_certificate": b64u(self.ak_certificate),
            "ak_chain": [b64u(der) for der in self.ak_chain],
            "root_certificate": b64u(self.root_certificate),
        }
        if self.crls:
            fields["crls"] = [b64u(der) for der in self.crls]
        return {key: value for key, value in (fields | dict(self.further)).items() if value is not None}


def rsa_tpm(label: str = "google") -> FakeTpm:
    return FakeTpm(label, ak_kind="rsa2048", ak_scheme=marshal.RSASSA)


@dataclass
class Instance(Measured):
    """An instance with a virtual TPM; `older` chooses Google's first hierarchy."""

    tpm: FakeTpm = field(default_factory=rsa_tpm)
    older: bool = False

    def certificate(self, **changes: Any) -> bytes:
        """Google's certificate for the AK; `extensions` are added, `identity` None leaves the instance out."""
        issuer: Authority = changes.pop("issuer", intermediate(self.older))
        found: bytes | None = changes.pop("identity", identity())
        usages: Sequence[int] | None = changes.pop("usages", (0,))
        ca: bool | None = changes.pop("ca", False)
        default = (purposes(EK_PURPOSE), tpm_name()) if self.older else ()
        items = [*changes.pop("extensions", default)]
        if ca is not None:
            items.append(asn1.basic_constraints(ca))
        if usages is not None:
            items.append(asn1.key_usage(*usages))
        if found is not None:
            items.append((IDENTITY, False, found))
        if self.older:
            items.append(asn1.distribution_point("https://pki.example/leaf.crl"))
        subject = asn1.sequence() if self.older else name(str(INSTANCE["instance_id"]))
        values: dict[str, Any] = {
            "subject": subject,
            "issuer": name(issuer.common_name),
            "key": self.tpm.ak.public_key(),
            "signer": issuer.key,
            "serial": 0x99,
            "not_before": AT - YEAR,
            "not_after": AT + 29 * YEAR,
            "items": items,
            "scheme": "pkcs1",
            "digest": "sha256",
        }
        return asn1.certificate(**values | changes)

    def crls(self) -> tuple[bytes, ...]:
        lists = (root(self.older).revoke(0x666),)
        return (*lists, intermediate(self.older).revoke(0x777)) if self.older else lists

    def parts(self, binding: bytes, before: tuple[bytes, ...] = (), after: tuple[bytes, ...] = ()) -> Parts:
        return Parts(
            ak_certificate=self.certificate(),
            ak_chain=(intermediate(self.older).der,),
            root_certificate=root(self.older).der,
            crls=self.crls(),
            **self.tpm_parts(binding, before, after),
        )


@dataclass
class Scene(TpmScene):
    """What a perturbation works on."""

    machine: Instance
    parts: Parts

    def vouched(self, parts: TpmParts, name_alg: str) -> TpmParts:
        return replace(parts, ak_certificate=self.machine.certificate())  # type: ignore[call-arg]
