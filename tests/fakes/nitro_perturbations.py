"""Nitro documents gone wrong in one way at a time, by name, with all the codes that the steps must give, in the order of the steps.

Codes are written without the kind (`nitro`, `nitrotpm`) that they begin with; those with a colon stand as they are.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes

from fakes import asn1, aws
from fakes.amd import b64u
from fakes.aws import PROTECTED, Authority, Module, Parts
from fakes.pki import AT
from fakes.tpm import private_key
from rlu_attestation import merkle

BINDING = hashlib.sha256(b"a statement").digest()
ROOT = merkle.leaf_hash(BINDING)
SECOND = timedelta(seconds=1)

Fields = dict[str, Any]
Perturb = Callable[[Module], Parts]


@dataclass(frozen=True)
class Perturbation:
    """What goes wrong, and every code it must give."""

    name: str
    perturb: Perturb
    codes: tuple[str, ...]

    def expected(self, kind: str) -> list[str]:
        return [
            f"parse: {kind}.{code[7:]}" if code.startswith("parse: ") else f"{kind}.{code}"
            for code in self.codes
        ]


def genuine(module: Module) -> Parts:
    return aws.parts(module, ROOT)


def fields(change: Callable[[Module, Fields], Fields | None]) -> Perturb:
    """A document of other members, signed by the genuine module."""

    def perturb(module: Module) -> Parts:
        values = module.fields(ROOT)
        return replace(genuine(module), document=module.document(change(module, values) or values))

    return perturb


def field(name: str, value: Any) -> Perturb:
    """One member replaced; `pcrs` means those of the kind."""
    return fields(lambda module, found: found | {module.pcrs_field if name == "pcrs" else name: value})


def without(name: str) -> Perturb:
    return fields(lambda module, found: {n: v for n, v in found.items() if n != name})


def payload(change: Callable[[bytes], bytes]) -> Perturb:
    """Another payload, signed by the genuine module."""

    def perturb(module: Module) -> Parts:
        data = change(cbor2.dumps(module.fields(ROOT)))
        return replace(genuine(module), document=cbor2.dumps([PROTECTED, {}, data, module.sign(data)]))

    return perturb


def cose(change: Callable[[Module, list[Any]], Any]) -> Perturb:
    """Another envelope; what `change` returns is encoded, unless it is bytes."""

    def perturb(module: Module) -> Parts:
        parts = genuine(module)
        changed = change(module, cbor2.loads(parts.document))
        return replace(parts, document=changed if isinstance(changed, bytes) else cbor2.dumps(changed))

    return perturb


def raw(change: Callable[[bytes], bytes]) -> Perturb:
    return lambda module: replace(genuine(module), document=change(genuine(module).document))


def flipped(name: str) -> Perturb:
    """One bit of a member changed after it was signed."""

    def perturb(module: Module) -> Parts:
        parts = genuine(module)
        protected, header, data, signature = cbor2.loads(parts.document)
        values = cbor2.loads(data)
        values[module.pcrs_field if name == "pcrs" else name] = _flip(values, module, name)
        return replace(parts, document=cbor2.dumps([protected, header, cbor2.dumps(values), signature]))

    return perturb


def _flip(values: Fields, module: Module, name: str) -> Any:
    value = values[module.pcrs_field if name == "pcrs" else name]
    if name == "pcrs":
        return value | {0: bytes([value[0][0] ^ 1]) + value[0][1:]}
    if isinstance(value, int):
        return value ^ 1
    if isinstance(value, str):
        return chr(ord(value[0]) ^ 1) + value[1:]
    return bytes([value[0] ^ 1]) + value[1:] if value else b"\1"


def leaf(**changes: Any) -> Perturb:
    """Another certificate for the same module."""
    return fields(lambda module, found: found | {"certificate": module.certificate(**made(changes))})


def authorities(change: Callable[[], list[Authority]], *, authority: int = -1) -> Perturb:
    """Other authorities; `authority` is the one that certifies the module."""

    def perturb(module: Module, found: Fields) -> Fields:
        bundle = change()
        certificate = module.certificate(authority=bundle[authority])
        return found | {"certificate": certificate, "cabundle": [one.der for one in bundle]}

    return fields(perturb)


def bundle(change: Callable[[list[bytes]], list[Any]]) -> Perturb:
    """Another `cabundle`, with the genuine signer's certificate."""
    return fields(lambda module, found: found | {"cabundle": change(found["cabundle"])})


def instance_with(**changes: Any) -> Perturb:
    """The genuine chain, but for the instance's certificate."""
    values = {"path_length": 0, "usages": (5,)} | changes

    def build() -> list[Authority]:
        name = aws.instance().common_name
        return [aws.root(), aws.region(), aws.zone(), Authority(name, aws.zone(), **made(values))]

    return authorities(build)


def made(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value() if callable(value) else value for name, value in changes.items()}


@functools.cache
def another_root() -> Authority:
    return Authority("aws.nitro-enclaves", label="impostor/")


def another_chain() -> list[Authority]:
    """Everything genuine but the key of the root."""
    built = [another_root()]
    for model in aws.issuers()[1:]:
        built.append(
            Authority(
                model.common_name,
                built[-1],
                path_length=model.path_length,
                usages=model.usages,
                point=model.point,
                serial=model.serial,
            )
        )
    return built


def signature(change: Callable[[bytes], bytes]) -> Perturb:
    return cose(lambda module, found: [*found[:3], change(found[3])])


def signed(**parts: Any) -> Perturb:
    """A signature over something else than the payload in its place."""
    digest = parts.pop("digest", None)
    return cose(lambda module, found: [*found[:3], module.sign(found[2], digest, **parts)])


def crls(change: Callable[[], list[bytes] | None]) -> Perturb:
    return lambda module: replace(genuine(module), crls=change())


def root_list(*serials: int, **changes: Any) -> Perturb:
    """Another list of the root; the region's stays."""
    return crls(lambda: [aws.root().revoke(*serials, **made(changes)), aws.region().revoke()])


def item(**members: Any) -> Perturb:
    return lambda module: replace(genuine(module), further=members)


def bound(user_data: bytes | None) -> Perturb:
    return field("user_data", user_data)


def public(kind: str) -> Callable[[], asn1.PublicKey]:
    return lambda: private_key(kind, "someone else").public_key()


def last_bit(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


DIGEST_AGAIN = cbor2.dumps("digest") + cbor2.dumps("SHA384")
COSE, ALGORITHM = ("parse: cose.encoding",), ("parse: cose.algorithm",)
ENCODING, FIELD = ("parse: document.encoding",), ("parse: document.field",)
INVALID, ITEM, MISMATCH = ("signature.invalid",), ("parse: item",), ("binding.mismatch",)

FORM = [
    Perturbation("empty", raw(lambda data: b""), COSE),
    Perturbation("truncated", raw(lambda data: data[:-1]), COSE),
    Perturbation("trailing-garbage", raw(lambda data: data + b"\0"), COSE),
    Perturbation("another-tag", raw(lambda data: b"\xd1" + data), COSE),
    Perturbation("tag-twice", raw(lambda data: b"\xd2\xd2" + data), COSE),
    Perturbation("array-of-indefinite-length", raw(lambda data: b"\x9f" + data[1:] + b"\xff"), COSE),
    Perturbation("three-members", cose(lambda module, found: found[:3]), COSE),
    Perturbation("five-members", cose(lambda module, found: [*found, b""]), COSE),
    Perturbation("payload-detached", cose(lambda module, found: [*found[:2], None, found[3]]), COSE),
    Perturbation("payload-not-bytes", cose(lambda module, found: [*found[:2], {}, found[3]]), COSE),
    Perturbation("unprotected-header", cose(lambda module, found: [found[0], {4: b"kid"}, *found[2:]]), COSE),
    Perturbation("unprotected-null", cose(lambda module, found: [found[0], None, *found[2:]]), COSE),
    Perturbation("protected-as-map", cose(lambda module, found: [{1: -35}, *found[1:]]), COSE),
    Perturbation("signature-95-bytes", signature(lambda found: found[:-1]), COSE),
    Perturbation("signature-97-bytes", signature(lambda found: found + b"\0"), COSE),
    Perturbation("signature-in-der", signature(lambda found: b"\x30\x66" + found + bytes(6)), COSE),
    Perturbation("length-not-minimal", raw(lambda data: data.replace(b"\x44\xa1\x01", b"\x58\x04\xa1\x01", 1)), COSE),
    *(
        Perturbation(f"algorithm-{name}", cose(lambda module, found, header=header: [cbor2.dumps(header), *found[1:]]), ALGORITHM)
        for name, header in {
            "es256": {1: -7}, "es512": {1: -36}, "ps384": {1: -38}, "none": {}, "with-kid": {1: -35, 4: b"k"}, "text": {1: "ES384"},
        }.items()
    ),
    Perturbation("protected-empty", cose(lambda module, found: [b"", *found[1:]]), ALGORITHM),
    Perturbation("payload-empty", payload(lambda data: b""), ENCODING),
    Perturbation("payload-trailing-garbage", payload(lambda data: data + b"\0"), ENCODING),
    Perturbation("payload-no-map", payload(lambda data: b"\x80"), ENCODING),
    Perturbation("payload-too-long", payload(lambda data: data.ljust(16 * 1024 + 1, b"\0")), ENCODING),
    Perturbation("payload-tagged", payload(lambda data: b"\xd9\xd9\xf7" + data), ENCODING),
    Perturbation("payload-key-twice", payload(lambda data: bytes([data[0] + 1]) + data[1:] + DIGEST_AGAIN), ENCODING),
    Perturbation("payload-without-its-break", payload(lambda data: b"\xbf" + data[1:]), ENCODING),
    Perturbation("payload-count-too-large", payload(lambda data: b"\xbb" + b"\xff" * 8 + data[1:]), ENCODING),
    Perturbation("payload-float", field("timestamp", 1.5), ENCODING),
    Perturbation("payload-boolean", field("nonce", True), ENCODING),
    Perturbation("payload-deep", field("nonce", [[[[[[[[[]]]]]]]]]), ENCODING),
    Perturbation("payload-big-number", field("timestamp", 1 << 80), ENCODING),
    Perturbation("payload-string-in-chunks", payload(
        lambda data: data.replace(b"\x66SHA384", b"\x7f\x63SHA\x63384\xff")), ENCODING),
    Perturbation("payload-text-not-utf-8", payload(lambda data: data.replace(b"SHA384", b"SHA38\xff")), ENCODING),
    *(Perturbation(f"without-{name}", without(name), FIELD) for name in ("module_id", "timestamp", "digest", "certificate", "cabundle")),
    Perturbation("without-pcrs", fields(lambda module, found: {n: v for n, v in found.items() if n != module.pcrs_field}), (
        "parse: document.kind",)),
    Perturbation("both-kinds-of-pcrs", fields(lambda module, found: found | {"pcrs": {}, "nitrotpm_pcrs": {}}), ("parse: document.kind",)),
    Perturbation("of-the-other-kind", lambda module: replace(genuine(module), document=genuine(
        Module("nitrotpm" if module.kind == "nitro" else "nitro")).document), ("parse: document.kind",)),
    Perturbation("unknown-field", field("region", "eu"), ("parse: document.unknown_field",)),
    Perturbation("unknown-field-by-number", fields(lambda module, found: {**found, 7: None}), ("parse: document.unknown_field",)),
    Perturbation("digest-sha512", field("digest", "SHA512"), ("parse: document.digest",)),
    Perturbation("digest-lower-case", field("digest", "sha384"), ("parse: document.digest",)),
    Perturbation("digest-not-text", field("digest", b"SHA384"), FIELD),
    Perturbation("module-id-empty", field("module_id", ""), FIELD),
    Perturbation("module-id-unprintable", field("module_id", "i-\n"), FIELD),
    Perturbation("module-id-long", field("module_id", "i" * 257), FIELD),
    *(Perturbation(f"timestamp-{n}", field("timestamp", n), FIELD) for n in (0, -1, 1 << 63)),
    Perturbation("timestamp-text", field("timestamp", "2026"), FIELD),
    Perturbation("pcrs-empty", field("pcrs", {}), FIELD),
    Perturbation("pcrs-array", field("pcrs", [bytes(48)]), FIELD),
    Perturbation("pcr-index-32", field("pcrs", {32: bytes(48)}), FIELD),
    Perturbation("pcr-index-negative", field("pcrs", {-1: bytes(48)}), FIELD),
    Perturbation("pcr-index-text", field("pcrs", {"0": bytes(48)}), FIELD),
    *(Perturbation(f"pcr-of-{n}-bytes", field("pcrs", {0: bytes(n)}), FIELD) for n in (0, 32, 47, 64)),
    Perturbation("pcr-not-bytes", field("pcrs", {0: "0" * 48}), FIELD),
    Perturbation("certificate-empty", field("certificate", b""), FIELD),
    Perturbation("certificate-long", field("certificate", bytes(1025)), FIELD),
    Perturbation("cabundle-empty", bundle(lambda found: []), FIELD),
    Perturbation("cabundle-of-eight", bundle(lambda found: found * 2), FIELD),
    Perturbation("cabundle-with-text", bundle(lambda found: ["root", *found[1:]]), FIELD),
    Perturbation("public-key-empty", field("public_key", b""), FIELD),
    *(Perturbation(f"{name}-of-1025-bytes", field(name, bytes(1025)), FIELD) for name in ("public_key", "user_data", "nonce")),
    Perturbation("nonce-text", field("nonce", "nonce"), FIELD),
    Perturbation("item-with-an-unknown-key", item(root="AA"), ITEM),
    Perturbation("item-without-document", item(document=None), ITEM),
    Perturbation("item-without-binding", item(binding=None), ITEM),
    Perturbation("item-with-five-lists", item(crls=["AA"] * 5), ITEM),
    Perturbation("item-lists-no-array", item(crls={}), ITEM),
    Perturbation("item-binding-outside-the-tree", item(binding={"leaf_index": 1, "path": [], "tree_size": 1}), ITEM),
]  # fmt: skip

FLIPS = [
    *(Perturbation(f"flipped-{name}", flipped(name), INVALID) for name in ("module_id", "timestamp", "pcrs", "nonce", "public_key")),
    Perturbation("flipped-user_data", flipped("user_data"), (*INVALID, *MISMATCH)),
    Perturbation("flipped-digest", flipped("digest"), ("parse: document.digest",)),
    Perturbation("flipped-signature", signature(last_bit), INVALID),
]  # fmt: skip

CHAIN = [
    Perturbation("unknown-root", authorities(another_chain), ("root.unknown", "revocation.signature")),
    Perturbation("root-signature-flipped", bundle(lambda found: [last_bit(found[0]), *found[1:]]), ("root.unknown",)),
    Perturbation("root-missing", bundle(lambda found: found[1:]), ("root.unknown",)),
    Perturbation("root-only", bundle(lambda found: found[:1]), ("chain.unknown_issuer",)),
    Perturbation("swapped-chain", bundle(lambda found: [found[0], found[2], found[1], found[3]]), ("chain.order", "revocation.missing")),
    Perturbation("reversed-chain", bundle(lambda found: found[::-1]), ("root.unknown", "chain.order", "revocation.missing")),
    Perturbation("chain-with-a-stranger", bundle(lambda found: [*found[:2], another_root().der, *found[2:]]), (
        "chain.order", "revocation.signature")),
    Perturbation("chain-with-a-copy", bundle(lambda found: [*found, found[-1]]), ("chain.order",)),
    Perturbation("zone-missing", bundle(lambda found: [*found[:2], found[3]]), ("chain.unknown_issuer",)),
    Perturbation("instance-missing", bundle(lambda found: found[:3]), ("chain.unknown_issuer",)),
    Perturbation("leaf-by-the-zone", leaf(authority=aws.zone), ("chain.order",)),
    Perturbation("leaf-by-another-key", leaf(signer=lambda: private_key("p384", "someone else")), ("chain.signature",)),
    Perturbation("expired-leaf", leaf(not_after=AT - SECOND), ("chain.expired",)),
    Perturbation("not-yet-valid-leaf", leaf(not_before=AT + SECOND), ("chain.not_yet_valid", "timestamp.outside_certificate")),
    Perturbation("expired-instance", instance_with(not_after=AT - SECOND), ("chain.expired",)),
    Perturbation("not-yet-valid-instance", instance_with(not_before=AT + SECOND), ("chain.not_yet_valid",)),
    Perturbation("instance-no-authority", instance_with(ca=False, path_length=None), ("chain.not_a_ca",)),
    Perturbation("instance-may-not-certify", instance_with(usages=(0,)), ("chain.not_a_ca",)),
    Perturbation("instance-by-another-key", instance_with(signer=lambda: private_key("p384", "someone else")), ("chain.signature",)),
    Perturbation("instance-with-sha1", instance_with(digest="sha1"), ("chain.algorithm",)),
    Perturbation("instance-critical-extension", instance_with(further=(("1.2.3.4", True, asn1.NULL),)), ("chain.critical_extension",)),
    Perturbation("path-too-long", authorities(lambda: [
        *aws.issuers(), Authority("one too many", aws.instance(), path_length=0)]), ("chain.path_length",)),
    Perturbation("leaf-critical-extension", leaf(items=[
        asn1.key_usage(0), ("1.2.3.4", True, asn1.NULL)]), ("chain.critical_extension",)),
    Perturbation("leaf-an-authority", leaf(items=[asn1.basic_constraints(True), asn1.key_usage(0)]), ("certificate.usage",) * 2),
    Perturbation("leaf-with-a-path-length", leaf(items=[asn1.basic_constraints(False, 0), asn1.key_usage(0)]), ("certificate.usage",) * 2),
    Perturbation("leaf-not-for-signatures", leaf(items=[asn1.key_usage(1)]), ("certificate.usage",) * 2),
    Perturbation("leaf-for-certificates", leaf(items=[asn1.key_usage(0, 5)]), ("certificate.usage",) * 2),
    Perturbation("leaf-without-usage", leaf(items=[asn1.basic_constraints(False)]), ("certificate.usage",) * 2),
    Perturbation("leaf-of-p256", leaf(key=public("p256")), ("certificate.key",) * 2),
    Perturbation("leaf-of-rsa", leaf(key=public("rsa2048")), ("certificate.key",) * 2),
]  # fmt: skip

SIGNED = [
    Perturbation("signed-by-another-key", leaf(key=public("p384")), INVALID),
    Perturbation("signature-of-another-document", cose(lambda module, found: [*found[:3], cbor2.loads(
        module.document(module.fields(b"another")))[3]]), INVALID),
    Perturbation("signature-zero", signature(lambda found: bytes(96)), INVALID),
    Perturbation("signature-r-zero", signature(lambda found: bytes(48) + found[48:]), INVALID),
    Perturbation("signature-all-ones", signature(lambda found: b"\xff" * 96), INVALID),
    Perturbation("signature-swapped", signature(lambda found: found[48:] + found[:48]), INVALID),
    Perturbation("signature-little-endian", signature(lambda found: found[47::-1] + found[:47:-1]), INVALID),
    Perturbation("signed-as-countersignature", signed(context="CounterSignature"), INVALID),
    Perturbation("signed-with-external-data", signed(external=b"x"), INVALID),
    Perturbation("signed-without-protected-header", signed(protected=b""), INVALID),
    Perturbation("signed-over-sha256", signed(digest=hashes.SHA256()), INVALID),
    Perturbation("payload-encoded-again", cose(lambda module, found: [
        *found[:2], aws.indefinite(cbor2.loads(found[2])), found[3]]), INVALID),
    Perturbation("stale", field("timestamp", int((AT - timedelta(minutes=5, seconds=1)).timestamp() * 1000)), ("timestamp.stale",)),
    Perturbation("of-the-future", field("timestamp", int((AT + timedelta(seconds=61)).timestamp() * 1000)), ("timestamp.future",)),
    Perturbation("before-its-certificate", field("timestamp", int((AT - timedelta(hours=1, seconds=1)).timestamp() * 1000)), (
        "timestamp.outside_certificate",)),
    Perturbation("after-its-certificate", field("timestamp", int((AT + timedelta(hours=2, seconds=1)).timestamp() * 1000)), (
        "timestamp.outside_certificate",)),
]  # fmt: skip

BOUND = [
    Perturbation("nonce-mismatch", bound(merkle.leaf_hash(b"another")), MISMATCH),
    Perturbation("binding-absent", bound(None), MISMATCH),
    Perturbation("binding-empty", bound(b""), MISMATCH),
    Perturbation("binding-padded", bound(ROOT.ljust(64, b"\0")), MISMATCH),
    Perturbation("binding-cut", bound(ROOT[:31]), MISMATCH),
    Perturbation("binding-in-hexadecimal", bound(ROOT.hex().encode()), MISMATCH),
    Perturbation("binding-itself-not-its-leaf", bound(BINDING), MISMATCH),
    Perturbation("binding-in-nonce", fields(lambda module, found: found | {"user_data": None, "nonce": ROOT}), MISMATCH),
    Perturbation("binding-in-public-key", fields(lambda module, found: found | {"user_data": None, "public_key": ROOT}), MISMATCH),
    Perturbation("binding-of-another-leaf", item(binding={"leaf_index": 1, "path": [b64u(bytes(32))], "tree_size": 2}), MISMATCH),
]  # fmt: skip

REVOCATION = [
    Perturbation("crls-missing", crls(lambda: None), ("revocation.missing",)),
    Perturbation("crls-empty", crls(list), ("revocation.missing",)),
    Perturbation("crl-of-the-region-missing", crls(lambda: aws.crls()[:1]), ("revocation.missing",)),
    Perturbation("crl-of-the-root-missing", crls(lambda: aws.crls()[1:]), ("revocation.missing",)),
    Perturbation("region-revoked", root_list(0x2001), ("revocation.revoked",)),
    Perturbation("region-revoked-in-a-stale-list", root_list(0x2001, next_update=AT - timedelta(hours=1)), ("revocation.revoked",)),
    Perturbation("zone-revoked", crls(lambda: [aws.root().revoke(), aws.region().revoke(0x3001)]), ("revocation.revoked",)),
    Perturbation("crl-stale", root_list(next_update=AT - SECOND), ("revocation.stale",)),
    Perturbation("crl-without-an-end", root_list(next_update=None), ("revocation.stale",)),
    Perturbation("crl-of-the-future", root_list(this_update=AT + SECOND), ("revocation.not_yet_valid",)),
    Perturbation("crl-signed-by-another", root_list(signer=lambda: another_root().key), ("revocation.signature",)),
    Perturbation("crl-signed-with-sha1", root_list(digest="sha1"), ("revocation.algorithm",)),
    Perturbation("crl-of-another-point", root_list(items=[asn1.issuing_point("http://crl.example/other.crl")]), ("revocation.scope",)),
]  # fmt: skip

ALL = [*FORM, *FLIPS, *CHAIN, *SIGNED, *BOUND, *REVOCATION]
