"""SEV-SNP evidence gone wrong in one way at a time, by name, with all the codes that the steps must give, in the order of the steps."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes

from fakes import amd, asn1
from fakes.amd import FIELDS, SIGNED_SIZE, Authority, Chip, Parts, amd_name, ark, ask, b64u, flip
from fakes.pki import AT, YEAR
from fakes.tpm import private_key
from rlu_attestation import merkle

BINDING = hashlib.sha256(b"a statement").digest()
ROOT = merkle.leaf_hash(BINDING)
REPORT_DATA = ROOT.ljust(64, b"\0")

CHIP = Chip()
Perturb = Callable[[Parts], Parts]


@dataclass(frozen=True)
class Perturbation:
    """What goes wrong, and every code it must give."""

    name: str
    perturb: Perturb
    codes: tuple[str, ...]
    chip: Chip = CHIP


def genuine(chip: Chip = CHIP) -> Parts:
    return amd.parts(chip, REPORT_DATA)


def signed(chip: Chip = CHIP, report_data: bytes = REPORT_DATA, **fields: int | bytes) -> Perturb:
    """Another report, signed by the genuine chip."""
    return lambda parts: replace(parts, report=chip.report(report_data, **fields))


def flipped(name: str, bit: int = 0) -> Perturb:
    return lambda parts: replace(parts, report=flip(parts.report, name, bit))


def report(change: Callable[[bytes], bytes]) -> Perturb:
    return lambda parts: replace(parts, report=change(parts.report))


def vek(**changes: Any) -> Perturb:
    """Another certificate for the same key; what takes time to make is given as a function."""
    return lambda parts: replace(parts, vek=CHIP.certificate(**made(changes)))


def extensions(change: dict[str, bytes | None], **of: Any) -> Perturb:
    """Another certificate with some of AMD's extensions replaced, or with None removed."""
    found: dict[str, Any] = CHIP.extensions(**of) | change
    return vek(extensions={suffix: value for suffix, value in found.items() if value is not None})


def crl(**changes: Any) -> Perturb:
    values = {"serials": ()} | changes

    def perturb(parts: Parts) -> Parts:
        found = made(values)
        return replace(parts, crl=ark().revoke(*found.pop("serials"), **found))

    return perturb


def further(**members: Any) -> Perturb:
    return lambda parts: replace(parts, further=members)


def made(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value() if callable(value) else value for name, value in changes.items()}


def under(root: Authority, signing: Authority) -> Perturb:
    """Genuine but for other authorities."""
    return lambda parts: replace(
        parts, vek=CHIP.certificate(issuer=signing), ask=signing.der, ark=root.der, crl=root.revoke()
    )


@functools.cache
def another_root() -> Authority:
    return Authority("ARK-Milan", 0x10000, label="impostor/")


@functools.cache
def another_ask() -> Authority:
    """Of the genuine name, by the genuine root, with a key of its own: as after a renewal."""
    return Authority("SEV-Milan", 0x10001, ark(), label="impostor/", path_length=0, usages=(5,))


@functools.cache
def impostor_ask() -> Authority:
    return Authority("SEV-Milan", 0x10001, another_root(), path_length=0, usages=(5,))


def public(kind: str) -> Callable[[], asn1.PublicKey]:
    return lambda: private_key(kind, "someone else").public_key()


def ask_with(**changes: Any) -> Perturb:
    """Another ASK certificate for the same name and key."""
    values: dict[str, Any] = {"serial": 0x10001, "issuer": ark, "path_length": 0, "usages": (5,)} | changes
    return lambda parts: replace(parts, ask=Authority("SEV-Milan", **made(values)).der)


def swap(first: str, second: str) -> Perturb:
    return lambda parts: replace(parts, **{first: getattr(parts, second), second: getattr(parts, first)})


def signature(change: Callable[[bytes, bytes], tuple[bytes, bytes]]) -> Perturb:
    """r and s, little endian in 72 bytes, replaced."""

    def perturb(data: bytes) -> bytes:
        r, s = change(data[SIGNED_SIZE : SIGNED_SIZE + 72], data[SIGNED_SIZE + 72 : SIGNED_SIZE + 144])
        return data[:SIGNED_SIZE] + (r + s).ljust(512, b"\0")

    return report(perturb)


def unsigned(**fields: int | bytes) -> Perturb:
    return lambda parts: replace(parts, report=CHIP.body(REPORT_DATA, **fields))


ENCODING, RESERVED = ("parse: sev-snp.report.encoding",), ("parse: sev-snp.report.reserved",)
VERSION, ITEM = ("parse: sev-snp.report.version",), ("parse: sev-snp.item",)
INVALID = ("sev-snp.signature.invalid",)
EXTENSION = ("sev-snp.vek.extension", "sev-snp.vek.extension")
"""Refused by two steps: what the certificate is, and for which product."""
UNKNOWN_ROOT = "sev-snp.root.unknown"
UNKNOWN_PRODUCT = ("sev-snp.product.unknown",) * 2
FORM = [
    Perturbation("empty-report", report(lambda data: b""), ENCODING),
    Perturbation("truncated", report(lambda data: data[:-1]), ENCODING),
    Perturbation("truncated-before-signature", report(lambda data: data[:SIGNED_SIZE]), ENCODING),
    Perturbation("trailing-garbage", report(lambda data: data + b"\0"), ENCODING),
    Perturbation("report-twice", report(lambda data: data * 2), ENCODING),
    *(Perturbation(f"version-{n}", signed(VERSION=n), VERSION) for n in (0, 1, 4, 6, 0xFFFFFFFF)),
    *(Perturbation(f"reserved-bit-set-policy-{n}", signed(POLICY=0x3001F | 1 << n), RESERVED) for n in (26, 31, 63)),
    Perturbation("policy-bit-17-clear", signed(POLICY=0x1001F), RESERVED),
    *(Perturbation(f"reserved-bit-set-platform-{n}", signed(PLATFORM_INFO=1 << n), RESERVED) for n in (6, 8, 63)),
    *(Perturbation(f"signing-key-reserved-{n}", signed(KEY_INFO=n << 2), RESERVED) for n in (2, 3, 4, 5, 6)),
    Perturbation("reserved-bit-set-key-info", signed(KEY_INFO=1 << 5), RESERVED),
    *(Perturbation(f"vmpl-{n}", signed(VMPL=n), RESERVED) for n in (4, 0xFFFFFFFE)),
    *(Perturbation(f"algorithm-{n}", signed(SIGNATURE_ALGO=n), ("parse: sev-snp.report.algorithm",)) for n in (0, 2)),
    *(
        Perturbation(f"reserved-bytes-{name}-{bit}", flipped(name, bit), RESERVED)
        for name in FIELDS
        if name.startswith("RESERVED") or name.endswith("PADDING")
        for bit in (0, FIELDS[name][1] * 8 - 1)
    ),
    Perturbation("cpuid-in-version-2", signed(Chip(version=2), CPUID_MOD_ID=1), RESERVED),
    Perturbation("mitigations-in-version-3", signed(LAUNCH_MIT_VECTOR=1), RESERVED),
    Perturbation("item-of-another-kind", further(kind="tpm2"), ITEM),
    Perturbation("item-with-an-unknown-key", further(ark="AA"), ITEM),
    Perturbation("item-without-a-report", further(report=None), ITEM),
    Perturbation("item-without-binding", further(binding=None), ITEM),
    Perturbation("item-padded-base64", lambda p: replace(p, further={"report": b64u(p.report) + "="}), ("parse: encoding.base64url",)),
    Perturbation("item-report-not-text", further(report=7), ("parse: encoding.base64url",)),
    Perturbation("item-not-canonical", further(binding={"leaf_index": 0, "path": ["é"], "tree_size": 1}), ("parse: statement.encoding",)),
    Perturbation("binding-outside-the-tree", lambda p: replace(p, binding={"leaf_index": 1, "path": [], "tree_size": 1}), ITEM),
    Perturbation("binding-true-is-no-number", lambda p: replace(p, binding={"leaf_index": 0, "path": [], "tree_size": True}), ITEM),
    Perturbation("binding-short-node", lambda p: replace(p, binding={"leaf_index": 0, "path": ["AA"], "tree_size": 2}), ITEM),
    Perturbation("certificate-trailing-garbage", lambda p: replace(p, vek=p.vek + b"\0"), ("parse: x509.encoding",)),
    Perturbation("certificate-in-pem", lambda p: replace(p, ark=b"-----BEGIN CERTIFICATE-----"), ("parse: x509.encoding",)),
    Perturbation("crl-trailing-garbage", lambda p: replace(p, crl=(p.crl or b"") + b"\0"), ("parse: crl.encoding",)),
]  # fmt: skip

_FLIPPED = {
    "VERSION": RESERVED,  # version 2 has no CPUID
    "POLICY": INVALID,
    "VMPL": INVALID,
    "SIGNATURE_ALGO": ("parse: sev-snp.report.algorithm",),
    "PLATFORM_INFO": INVALID,
    "KEY_INFO": INVALID,
    "REPORT_DATA": (*INVALID, "sev-snp.binding.mismatch"),
    "REPORTED_TCB": ("sev-snp.tcb.mismatch", *INVALID),
    "CPUID_FAM_ID": ("sev-snp.product.unknown", *INVALID),
    "CHIP_ID": ("sev-snp.chip_id.mismatch", *INVALID),
}
FLIPS = [
    Perturbation(f"flipped-{name}", flipped(name), _FLIPPED.get(name, INVALID))
    for name in FIELDS
    if "RESERVED" not in name and "PADDING" not in name and "MIT_VECTOR" not in name
] + [
    Perturbation(f"flipped-v5-{name}", flipped(name), INVALID, Chip("Genoa", version=5))
    for name in ("LAUNCH_MIT_VECTOR", "CURRENT_MIT_VECTOR", "MEASUREMENT")
]

CHAIN = [
    Perturbation("unknown-root", lambda p: under(another_root(), impostor_ask())(p), (UNKNOWN_ROOT,)),
    Perturbation("swapped-ask-and-ark", swap("ask", "ark"), (UNKNOWN_ROOT, "sev-snp.chain.length", "sev-snp.revocation.missing")),
    Perturbation("swapped-vek-and-ask", swap("vek", "ask"), (
        "sev-snp.chain.length", *EXTENSION, "sev-snp.signature.key")),
    Perturbation("ark-signature-flipped", lambda p: replace(p, ark=p.ark[:-1] + bytes([p.ark[-1] ^ 1])), (UNKNOWN_ROOT,)),
    Perturbation("vek-by-another-ask", vek(issuer=another_ask), ("sev-snp.chain.signature",)),
    Perturbation("vek-of-another-authority", vek(issuer=lambda: ask("Genoa")), ("sev-snp.chain.unknown_issuer",)),
    Perturbation("vek-by-the-ark", vek(issuer=ark), ("sev-snp.chain.length",)),
    Perturbation("ask-by-another-ark", lambda p: replace(p, ask=impostor_ask().der), ("sev-snp.chain.signature",)),
    Perturbation("expired-leaf", vek(not_after=AT - timedelta(seconds=1)), ("sev-snp.chain.expired",)),
    Perturbation("not-yet-valid-leaf", vek(not_before=AT + timedelta(seconds=1)), ("sev-snp.chain.not_yet_valid",)),
    Perturbation("expired-ask", ask_with(not_after=AT - timedelta(seconds=1)), ("sev-snp.chain.expired",)),
    Perturbation("not-yet-valid-ask", ask_with(not_before=AT + timedelta(seconds=1)), ("sev-snp.chain.not_yet_valid",)),
    Perturbation("ask-no-authority", ask_with(ca=False, path_length=None), ("sev-snp.chain.not_a_ca",)),
    Perturbation("ask-may-not-certify", ask_with(usages=(0,)), ("sev-snp.chain.not_a_ca",)),
    Perturbation("vek-signed-with-sha1", vek(scheme="pkcs1", digest="sha1"), ("sev-snp.chain.algorithm",)),
    Perturbation("vek-signed-with-pss-sha1", vek(digest="sha1"), ("sev-snp.chain.algorithm",)),
    Perturbation("ask-signed-with-sha1", ask_with(scheme="pkcs1", digest="sha1"), ("sev-snp.chain.algorithm",)),
    Perturbation("vek-critical-extension", vek(further=[("1.2.3.4", True, asn1.NULL)]), ("sev-snp.chain.critical_extension",)),
    Perturbation("vek-extension-twice", vek(further=[(amd.AMD + "1", False, asn1.integer(1))]), ("parse: x509.encoding",)),
]  # fmt: skip

GENOA = Chip("Genoa")
VEK = [
    Perturbation("vlek-where-the-report-says-vcek", lambda p: replace(
        p, vek=Chip(csp_id="CN=csp").certificate(key=CHIP.key.public_key()), ask=ask(vlek=True).der), ("sev-snp.vek.signing_key",)),
    Perturbation("vcek-where-the-report-says-vlek", signed(KEY_INFO=1 << 2), ("sev-snp.vek.signing_key",)),
    Perturbation("vek-named-otherwise", vek(common_name="SEV-VLEK"), ("sev-snp.vek.name",)),
    Perturbation("vek-of-p256", vek(key=public("p256")), ("sev-snp.vek.key", "sev-snp.signature.key")),
    Perturbation("vek-of-rsa", vek(key=public("rsa2048")), ("sev-snp.vek.key", "sev-snp.signature.key")),
    *(Perturbation(f"extension-missing-{n}", extensions({n: None}), EXTENSION) for n in ("1", "2", "3.1", "3.4", "3.8", "4")),
    Perturbation("extension-unknown", extensions({"6": asn1.integer(0)}), EXTENSION),
    Perturbation("extension-fmc-before-turin", extensions({"3.9": asn1.integer(0)}), EXTENSION),
    Perturbation("level-256", extensions({"3.1": asn1.integer(256)}), EXTENSION),
    Perturbation("level-negative", extensions({"3.1": asn1.integer(-1)}), EXTENSION),
    Perturbation("level-trailing-garbage", extensions({"3.1": asn1.integer(4) + b"\0"}), EXTENSION),
    Perturbation("level-not-minimal", extensions({"3.1": b"\x02\x02\x00\x04"}), EXTENSION),
    Perturbation("hwid-of-turin-size", extensions({"4": CHIP.hwid[:8]}), EXTENSION),
    Perturbation("hwid-wrapped-too-short", extensions({"4": asn1.octets(CHIP.hwid[:61])}), EXTENSION),
    Perturbation("hwid-wrapped-trailing-garbage", extensions({"4": asn1.octets(CHIP.hwid) + b"\0"}), EXTENSION),
    Perturbation("hwid-and-csp-id", extensions({"5": asn1.ia5("CN=csp")}), EXTENSION),
    Perturbation("struct-version-2", extensions({"1": asn1.integer(2)}), ("sev-snp.vek.version", "sev-snp.vek.version")),
    Perturbation("product-not-text", extensions({"2": asn1.octets(b"Milan-B0")}), EXTENSION),
    Perturbation("product-trailing-garbage", extensions({"2": asn1.ia5("Milan-B0") + b"\0"}), EXTENSION),
    Perturbation("product-unprintable", extensions({"2": asn1.ia5("Milan\n")}), EXTENSION),
    Perturbation("product-unknown", extensions({"2": asn1.ia5("Venice")}), UNKNOWN_PRODUCT),
    Perturbation("product-name-only-begins-so", extensions({"2": asn1.ia5("Milano")}), UNKNOWN_PRODUCT),
    Perturbation("wrong-generation-certificate", extensions({"2": asn1.ia5("Genoa")}), ("sev-snp.product.root",)),
    Perturbation("wrong-generation-report", signed(CPUID_MOD_ID=0x11), ("sev-snp.product.cpuid",)),
    Perturbation("wrong-generation-chain", lambda p: under(ark("Genoa"), ask("Genoa"))(p), ("sev-snp.product.root",)),
    Perturbation("unknown-cpu", signed(CPUID_FAM_ID=0x1B), ("sev-snp.product.unknown",)),
    Perturbation("venice-cpu", signed(CPUID_FAM_ID=0x1A, CPUID_MOD_ID=0x50), ("sev-snp.product.unknown",)),
    Perturbation("another-machines-certificate", vek(extensions=Chip(label="another").extensions()), ("sev-snp.chip_id.mismatch",)),
    Perturbation("another-machine", lambda p: replace(p, vek=Chip(label="another").certificate()), ("sev-snp.chip_id.mismatch", *INVALID)),
    Perturbation("chip-id-masked", signed(CHIP_ID=bytes(64)), ("sev-snp.chip_id.masked",)),
    Perturbation("turin-chip-id-tail", signed(
        Chip("Turin"), CHIP_ID=Chip("Turin").hwid.ljust(63, b"\0") + b"\1"), ("sev-snp.chip_id.mismatch",), Chip("Turin")),
    *(Perturbation(f"tcb-byte-{n}-differs", signed(
        REPORTED_TCB=bytes(b ^ (n == i) for i, b in enumerate(CHIP.tcb))), ("sev-snp.tcb.mismatch",)) for n in (0, 1, 6, 7)),
    Perturbation("tcb-above-the-certificate", signed(REPORTED_TCB=CHIP.tcb[:7] + b"\xff"), ("sev-snp.tcb.mismatch",)),
    Perturbation("tcb-reserved-byte", lambda p: replace(
        p, report=CHIP.report(REPORT_DATA, REPORTED_TCB=b"\4\0\1\0\0\0\x18\xdb"),
        vek=CHIP.certificate(extensions=CHIP.extensions(tcb=b"\4\0\1\0\0\0\x18\xdb"))), ("sev-snp.tcb.reserved",)),
    Perturbation("tcb-in-turins-order", lambda p: replace(
        p, vek=Chip("Turin").certificate(extensions=Chip("Turin").extensions(tcb=bytes([2, 1, 0, 3, 0, 0, 0, 9])))),
        ("sev-snp.tcb.mismatch",), Chip("Turin")),
]  # fmt: skip

SIGNATURE = [
    Perturbation("signed-by-another-key", vek(key=public("p384")), INVALID),
    Perturbation("signature-of-another-report", lambda p: replace(
        p, report=p.report[:SIGNED_SIZE] + CHIP.report(bytes(64))[SIGNED_SIZE:]), INVALID),
    Perturbation("signature-zero", signature(lambda r, s: (bytes(72), bytes(72))), INVALID),
    Perturbation("signature-r-zero", signature(lambda r, s: (bytes(72), s)), INVALID),
    Perturbation("signature-s-zero", signature(lambda r, s: (r, bytes(72))), INVALID),
    Perturbation("signature-r-and-s-swapped", signature(lambda r, s: (s, r)), INVALID),
    Perturbation("signature-big-endian", signature(lambda r, s: (r[47::-1] + bytes(24), s[47::-1] + bytes(24))), INVALID),
    Perturbation("signature-all-ones", signature(lambda r, s: (b"\xff" * 48 + bytes(24),) * 2), INVALID),
    Perturbation("signed-over-sha256", lambda p: replace(p, report=CHIP.sign(p.report, hashes.SHA256())), INVALID),
    Perturbation("unsigned-by-mask", signed(KEY_INFO=2), ("sev-snp.signature.unsigned",)),
    Perturbation("unsigned-by-request", unsigned(KEY_INFO=7 << 2), ("sev-snp.vek.signing_key", "sev-snp.signature.unsigned")),
    Perturbation("host-requested", signed(VMPL=0xFFFFFFFF), ("sev-snp.vmpl.host",)),
]  # fmt: skip

MISMATCH = ("sev-snp.binding.mismatch",)
BOUND = [
    Perturbation("nonce-mismatch", signed(report_data=merkle.leaf_hash(b"another").ljust(64, b"\0")), MISMATCH),
    Perturbation("replayed-without-binding", signed(report_data=bytes(64)), MISMATCH),
    Perturbation("binding-right-aligned", signed(report_data=ROOT.rjust(64, b"\0")), MISMATCH),
    Perturbation("binding-not-zero-padded", signed(report_data=ROOT + b"\1" + bytes(31)), MISMATCH),
    Perturbation("binding-twice", signed(report_data=ROOT * 2), MISMATCH),
    Perturbation("binding-itself-not-its-leaf", signed(report_data=BINDING.ljust(64, b"\0")), MISMATCH),
    Perturbation("binding-of-another-leaf", lambda p: replace(
        p, binding={"leaf_index": 1, "path": [b64u(bytes(32))], "tree_size": 2}), MISMATCH),
    Perturbation("binding-path-too-long", lambda p: replace(
        p, binding={"leaf_index": 0, "path": [b64u(bytes(32))], "tree_size": 1}), ("proof.inclusion",)),
]  # fmt: skip

REVOCATION = [
    Perturbation("crl-missing", lambda p: replace(p, crl=None), ("sev-snp.revocation.missing",)),
    Perturbation("crl-names-the-ask", crl(serials=(0x666, 0x10001)), ("sev-snp.revocation.revoked",)),
    Perturbation("crl-stale-names-the-ask", crl(serials=(0x10001,), next_update=AT - YEAR / 4), ("sev-snp.revocation.revoked",)),
    Perturbation("crl-stale", crl(next_update=AT - timedelta(seconds=1)), ("sev-snp.revocation.stale",)),
    Perturbation("crl-without-an-end", crl(next_update=None), ("sev-snp.revocation.stale",)),
    Perturbation("crl-of-the-future", crl(this_update=AT + timedelta(seconds=1)), ("sev-snp.revocation.not_yet_valid",)),
    Perturbation("crl-of-another-authority", crl(issuer=amd_name("ARK-Genoa")), ("sev-snp.revocation.missing",)),
    Perturbation("crl-signed-by-another", crl(signer=lambda: another_root().key), ("sev-snp.revocation.signature",)),
    Perturbation("crl-signed-by-the-ask", crl(signer=lambda: ask().key), ("sev-snp.revocation.signature",)),
    Perturbation("crl-signed-with-sha1", crl(scheme="pkcs1", digest="sha1"), ("sev-snp.revocation.algorithm",)),
    Perturbation("crl-of-limited-scope", crl(items=[("2.5.29.28", True, asn1.sequence(b"\x81\x01\xff"))]), ("sev-snp.revocation.scope",)),
    Perturbation("crl-delta", crl(items=[("2.5.29.27", True, asn1.integer(1))]), ("sev-snp.revocation.scope",)),
]  # fmt: skip

ALL = [*FORM, *FLIPS, *CHAIN, *VEK, *SIGNATURE, *BOUND, *REVOCATION]
