"""Ways to change one thing in genuine TDX evidence: a quote, its certificates, its collateral, signed again or not."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from fakes import asn1, intel
from fakes.intel import (
    BODY,
    HEADER,
    ORDER,
    ROOT,
    SIGNING,
    Authority,
    Parts,
    Platform,
    Quote,
    pem,
    platform_ca,
    qe_identity,
    raw_signature,
    root,
    signed_text,
    tcb_info,
    text_of,
)
from fakes.tpm import private_key
from rlu_attestation import merkle

BINDING = hashlib.sha256(b"a statement").digest()
TREE = merkle.leaf_hash(BINDING)
REPORT_DATA = TREE.ljust(64, b"\0")
SECOND = timedelta(seconds=1)

V4, V5, V15 = Platform(), Platform(5, 2), Platform(5, 3)
Perturb = Callable[[Parts], Parts]


@dataclass(frozen=True)
class Perturbation:
    """What goes wrong, and every code it must give."""

    name: str
    perturb: Perturb
    codes: tuple[str, ...]
    platform: Platform = V4


def genuine(platform: Platform = V4) -> Parts:
    return intel.parts(platform, REPORT_DATA)


def quoted(platform: Platform = V4, report_data: bytes = REPORT_DATA, **fields: int | bytes) -> Perturb:
    """Another quote, signed by the genuine platform."""
    return lambda parts: replace(parts, quote=platform.quote(report_data, **fields))


def quote(change: Callable[[Quote], Quote]) -> Perturb:
    return lambda parts: replace(parts, quote=change(parts.quote))


def changed(**parts: Any) -> Perturb:
    """Parts of the quote replaced; functions are given what was there."""
    return quote(
        lambda found: replace(
            found,
            **{
                name: value(getattr(found, name)) if callable(value) else value
                for name, value in parts.items()
            },
        )
    )


def flip(data: bytes, position: int) -> bytes:
    """The lowest bit of a byte changed."""
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def flipped(part: str, position: int) -> Perturb:
    return changed(**{part: lambda data: flip(data, position)})


def flipped_field(name: str, platform: Platform = V4) -> Perturb:
    start = HEADER[name][0] if name in HEADER else BODY[name][0] + 48 + (6 if platform.version == 5 else 0)
    return flipped("signed", start)


def resigned(change: Callable[[bytes], bytes], platform: Platform = V4) -> Perturb:
    """Header and body changed, and signed again."""

    def perturb(found: Quote) -> Quote:
        signed = change(found.signed)
        return replace(found, signed=signed, signature=raw_signature(platform.attestation_key, signed))

    return quote(perturb)


def put(offset: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda found: found[:offset] + data + found[offset + len(data) :]


def qe(**fields: int | bytes) -> Perturb:
    return quote(lambda found: found.with_qe(V4, **fields))


def chain(*makers: Callable[[], bytes]) -> Perturb:
    return lambda parts: replace(parts, quote=replace(parts.quote, chain=pem(*(make() for make in makers))))


def pck(**changes: Any) -> Perturb:
    """Another certificate for the same PCK; what takes time to make is given as a function."""
    return chain(lambda: V4.certificate(**made(changes)), lambda: platform_ca().der, lambda: root().der)


def members(**changes: bytes | None) -> Perturb:
    return pck(members=lambda: V4.members(**changes))


def made(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value() if callable(value) else value for name, value in changes.items()}


def stapled(**changes: Any) -> Perturb:
    """Members of the collateral replaced, or with None removed."""

    def perturb(parts: Parts) -> Parts:
        found = (parts.collateral or {}) | made(changes)
        return replace(parts, collateral={name: value for name, value in found.items() if value is not None})

    return perturb


def text(name: str, change: Callable[[str], str], signer: Callable[[], Authority] | None = None) -> Perturb:
    """A text of the collateral changed, and signed as it is then."""

    def perturb(parts: Parts) -> Parts:
        found = dict(parts.collateral or {})
        changed_text = change(found[name])
        found |= signed_text(changed_text, name, signer() if signer else None)
        return replace(parts, collateral=found)

    return perturb


def info(**changes: Any) -> Perturb:
    """Intel signs other TCB information."""
    return text("tcb_info", lambda _: text_of(tcb_info(**changes)))


def identity(**changes: Any) -> Perturb:
    """Intel signs another QE identity."""
    return text("qe_identity", lambda _: text_of(qe_identity(**changes)))


def edited(name: str, old: str, new: str) -> Perturb:
    """A text changed without signing it again."""

    def perturb(parts: Parts) -> Parts:
        found = dict(parts.collateral or {})
        assert old in found[name]
        found[name] = found[name].replace(old, new, 1)
        return replace(parts, collateral=found)

    return perturb


def signer(**changes: Any) -> Perturb:
    """Another certificate for the key that signed the TCB information."""

    def perturb(parts: Parts) -> Parts:
        found = dict(parts.collateral or {})
        values = {"serial": 0x3001, "ca": False, "usages": (0, 1)} | made(changes)
        other = Authority(values.pop("common_name", SIGNING), issuer=values.pop("issuer", root()), **values)
        found |= signed_text(found["tcb_info"], "tcb_info", other)
        return replace(parts, collateral=found)

    return perturb


def crl(name: str, **changes: Any) -> Perturb:
    def perturb(parts: Parts) -> Parts:
        authority = root() if name == "root_ca_crl" else platform_ca()
        found = made({"serials": (), **changes})
        return replace(
            parts,
            collateral={**(parts.collateral or {}), name: authority.revoke(*found.pop("serials"), **found)},
        )

    return perturb


def further(**values: Any) -> Perturb:
    return lambda parts: replace(parts, further=values)


def both(*perturbs: Perturb) -> Perturb:
    def perturb(parts: Parts) -> Parts:
        for one in perturbs:
            parts = one(parts)
        return parts

    return perturb


def negated(signature: bytes) -> bytes:
    """The other s of the same ECDSA signature."""
    return signature[:32] + (ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


@functools.cache
def another_root() -> Authority:
    return Authority(ROOT, 0x1001, label="impostor/", path_length=1)


@functools.cache
def another_ca() -> Authority:
    """Of the genuine name, by the genuine root, with a key of its own."""
    return Authority(intel.PLATFORM_CA, 0x2009, root(), label="impostor/", path_length=0)


@functools.cache
def impostor_ca() -> Authority:
    return Authority(intel.PLATFORM_CA, 0x2001, another_root(), label="impostor/", path_length=0)


def ca_with(**changes: Any) -> Callable[[], bytes]:
    return lambda: Authority(intel.PLATFORM_CA, 0x2001, root(), **{"path_length": 0, **changes}).der


def public(kind: str) -> Callable[[], asn1.PublicKey]:
    return lambda: private_key(kind, "someone else").public_key()


def svn(*values: int) -> bytes:
    return bytes(values).ljust(16, b"\0")


def ca_der() -> bytes:
    return platform_ca().der


def root_der() -> bytes:
    return root().der
