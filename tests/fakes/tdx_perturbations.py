"""TDX evidence gone wrong in one way at a time, by name, with all the codes that the steps must give, in the order of the steps."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from typing import Any

from fakes import asn1, intel
from fakes.amd import b64u
from fakes.intel import (
    BODY,
    COMPONENTS,
    DAY,
    HEADER,
    MODULE,
    ORDER,
    PLATFORM_CA,
    QE,
    SIGNING,
    Authority,
    Platform,
    collateral,
    level,
    p256,
    pem,
    platform_ca,
    point,
    raw_signature,
    root,
    signed_text,
    signing,
    stamp,
    svn_level,
    tcb_info,
)
from fakes.pki import AT
from fakes.tdx_changes import (
    BINDING,
    REPORT_DATA,
    SECOND,
    TREE,
    V4,
    V5,
    V15,
    Perturb,
    Perturbation,
    another_ca,
    another_root,
    both,
    ca_der,
    ca_with,
    chain,
    changed,
    crl,
    edited,
    flip,
    flipped,
    flipped_field,
    further,
    identity,
    impostor_ca,
    info,
    members,
    negated,
    pck,
    public,
    put,
    qe,
    quote,
    quoted,
    resigned,
    root_der,
    signer,
    stapled,
    svn,
    text,
)
from rlu_attestation import merkle

ENCODING, RESERVED = ("parse: tdx.quote.encoding",), ("parse: tdx.quote.reserved",)
SGX, ITEM = ("parse: tdx.quote.sgx",), ("parse: tdx.item",)
CHAIN, COLLATERAL = ("parse: tdx.quote.chain",), ("parse: tdx.collateral.encoding",)
CERTIFICATION = ("parse: tdx.quote.certification_data",)
FORM = [
    Perturbation("empty-quote", further(quote=""), ENCODING),
    Perturbation("truncated", lambda p: replace(p, further={"quote": b64u(p.quote.data[:-1])}), ENCODING),
    Perturbation("truncated-header", lambda p: replace(p, further={"quote": b64u(p.quote.data[:47])}), ENCODING),
    Perturbation("trailing-garbage", changed(tail=b"garbage"), ENCODING),
    Perturbation("trailing-zeros", changed(tail=bytes(70)), ENCODING),
    Perturbation("trailing-garbage-in-signature-data", changed(outer_tail=b"\0"), ENCODING),
    Perturbation("trailing-garbage-in-certification-data", changed(inner_tail=b"\0"), ENCODING),
    Perturbation("quote-twice", lambda p: replace(p, further={"quote": b64u(p.quote.data * 2)}), ENCODING),
    *(Perturbation(f"version-{n}", quoted(VERSION=n), ("parse: tdx.quote.version",)) for n in (0, 1, 2, 6, 0xFFFF)),
    Perturbation("version-3", quoted(VERSION=3), SGX),
    Perturbation("version-4-called-5", quoted(VERSION=5), ("parse: tdx.quote.body_type",)),
    Perturbation("version-5-called-4", quoted(V5, VERSION=4), RESERVED, V5),
    Perturbation("tee-type-sgx", quoted(TEE_TYPE=0), SGX),
    Perturbation("tee-type-unknown", quoted(TEE_TYPE=0x82), ("parse: tdx.quote.tee_type",)),
    *(Perturbation(f"key-type-{n}", quoted(KEY_TYPE=n), ("parse: tdx.quote.algorithm",)) for n in (0, 3, 5)),
    Perturbation("another-qe-vendor", quoted(QE_VENDOR_ID=bytes(16)), ("parse: tdx.quote.qe_vendor",)),
    Perturbation("reserved-bytes-header", quoted(RESERVED_8=1), RESERVED),
    Perturbation("reserved-bytes-header-last", quoted(RESERVED_8=1 << 31), RESERVED),
    *(Perturbation(f"reserved-bit-set-td-attributes-{n}", quoted(TDATTRIBUTES=1 << n), RESERVED)
      for n in (1, 3, 7, 15, 17, 26, 32, 61)),
    *(Perturbation(f"reserved-bit-set-xfam-{n}", quoted(XFAM=3 | 1 << n), RESERVED) for n in (3, 10, 13, 16, 20, 63)),
    Perturbation("xfam-without-sse", quoted(XFAM=1), RESERVED),
    Perturbation("reserved-bit-set-seam-attributes", quoted(SEAMATTRIBUTES=1), RESERVED),
    *(Perturbation(f"reserved-bytes-qe-{name}", qe(**{name: 1}), RESERVED) for name in QE if "RESERVED" in name),
    Perturbation("body-type-swapped-to-1.5", resigned(put(48, b"\3\0"), V5), ENCODING, V5),
    Perturbation("body-type-swapped-to-1.0", resigned(put(48, b"\2\0"), V15), ENCODING, V15),
    Perturbation("body-type-and-size-swapped-to-1.5", resigned(put(48, b"\3\0\x88\2\0\0"), V5), ENCODING, V5),
    Perturbation("body-type-and-size-swapped-to-1.0", resigned(put(48, b"\2\0\x48\2\0\0"), V15), ENCODING, V15),
    Perturbation("body-type-sgx", resigned(put(48, b"\1\0"), V5), SGX, V5),
    Perturbation("body-type-1.5-ex", resigned(put(48, b"\4\0"), V15), ("parse: tdx.quote.body_type",), V15),
    Perturbation("body-size-short", resigned(put(50, b"\x47"), V5), ENCODING, V5),
    *(Perturbation(f"certification-data-{n}", changed(outer_type=n), CERTIFICATION) for n in (1, 5, 7)),
    *(Perturbation(f"inner-certification-data-{n}", changed(inner_type=n), CERTIFICATION) for n in (1, 2, 3, 4, 6)),
    Perturbation("chain-empty", changed(chain=b""), CHAIN),
    Perturbation("chain-of-two", chain(lambda: V4.certificate(), lambda: root().der), CHAIN),
    Perturbation("chain-with-another", chain(*(lambda: root().der,) * 4), CHAIN),
    Perturbation("chain-with-text", changed(chain=lambda found: b"subject=me\n" + found), CHAIN),
    Perturbation("chain-trailing-garbage", changed(chain=lambda found: found + b"\0"), CHAIN),
    Perturbation("chain-with-a-line-end-moved", changed(chain=lambda found: found[:91] + found[92:90:-1] + found[93:]), CHAIN),
    Perturbation("chain-with-a-long-line", changed(chain=lambda found: found[:92] + found[93:]), CHAIN),
    Perturbation("chain-in-der", changed(chain=lambda _: V4.certificate()), CHAIN),
    Perturbation("chain-not-base64", changed(chain=lambda found: found.replace(b"MII", b"M=I", 1)), ("parse: x509.encoding",)),
    Perturbation("item-of-another-kind", further(kind="tpm2"), ITEM),
    Perturbation("item-with-an-unknown-key", further(root="AA"), ITEM),
    Perturbation("item-without-a-quote", further(quote=None), ITEM),
    Perturbation("item-without-binding", further(binding=None), ITEM),
    Perturbation("item-padded-base64", further(quote="AA=="), ("parse: encoding.base64url",)),
    Perturbation("item-quote-not-text", further(quote=7), ("parse: encoding.base64url",)),
    Perturbation("item-not-canonical", further(binding={"leaf_index": 0, "path": [1.5], "tree_size": 1}), ("parse: statement.encoding",)),
    Perturbation("binding-outside-the-tree", lambda p: replace(p, binding={"leaf_index": 1, "path": [], "tree_size": 1}), ITEM),
    Perturbation("binding-true-is-no-number", lambda p: replace(p, binding={"leaf_index": 0, "path": [], "tree_size": True}), ITEM),
    Perturbation("collateral-not-an-object", further(collateral="collateral"), COLLATERAL),
    Perturbation("collateral-member-missing", stapled(pck_crl=None), COLLATERAL),
    Perturbation("collateral-member-unknown", stapled(pck_certificate_chain="AA"), COLLATERAL),
    Perturbation("collateral-signature-short", stapled(tcb_info_signature=bytes(63)), COLLATERAL),
    Perturbation("collateral-text-empty", stapled(qe_identity=""), COLLATERAL),
    Perturbation("collateral-text-not-ascii", stapled(qe_identity='{"id":"é"}'), COLLATERAL),
    Perturbation("collateral-text-too-long", stapled(tcb_info=" " * (128 * 1024 + 1)), COLLATERAL),
    Perturbation("collateral-chain-of-one", stapled(tcb_info_issuer_chain=lambda: [signing().der]), COLLATERAL),
    Perturbation("collateral-chain-not-an-array", stapled(tcb_info_issuer_chain="AA"), COLLATERAL),
    Perturbation("crl-trailing-garbage", stapled(pck_crl=lambda: platform_ca().revoke() + b"\0"), ("parse: crl.encoding",)),
]  # fmt: skip

INVALID = ("tdx.signature.invalid",)
_FLIPPED = {
    "VERSION": ("parse: tdx.quote.body_type",),
    "KEY_TYPE": ("parse: tdx.quote.algorithm",),
    "TEE_TYPE": ("parse: tdx.quote.tee_type",),
    "RESERVED_8": RESERVED,
    "QE_VENDOR_ID": ("parse: tdx.quote.qe_vendor",),
    "SEAMATTRIBUTES": RESERVED,
    "XFAM": RESERVED,
    "TEE_TCB_SVN": INVALID,
    "MRSIGNERSEAM": (*INVALID, "tdx.module.mrsigner"),
    "REPORTDATA": (*INVALID, "tdx.binding.mismatch"),
}
_QE_SIGNATURE = "tdx.qe_report.signature"
_QE_FLIPPED = {
    "MISCSELECT": (_QE_SIGNATURE, "tdx.qe.miscselect"),
    "ATTRIBUTES": (_QE_SIGNATURE, "tdx.qe.attributes"),
    "MRSIGNER": (_QE_SIGNATURE, "tdx.qe.mrsigner"),
    "ISVPRODID": (_QE_SIGNATURE, "tdx.qe.isvprodid"),
    "REPORT_DATA": (_QE_SIGNATURE, "tdx.attestation_key.mismatch"),
}
_KEY = ("tdx.attestation_key.mismatch", "tdx.signature.point")
FLIPS = [
    *(
        Perturbation(f"flipped-{name}", flipped_field(name), _FLIPPED.get(name, INVALID))
        for name in (*HEADER, *BODY)
        if name not in ("TEE_TCB_SVN_2", "MRSERVICETD")
    ),
    *(
        Perturbation(f"flipped-v5-{name}", flipped_field(name, V15), INVALID, V15)
        for name in ("USER_DATA", "MRTD", "RTMR3", "TEE_TCB_SVN_2", "MRSERVICETD")
    ),
    *(
        Perturbation(f"flipped-qe-{name}", flipped("qe_report", QE[name][0]), _QE_FLIPPED.get(name, (_QE_SIGNATURE,)))
        for name in QE
        if "RESERVED" not in name
    ),
    Perturbation("flipped-signature-r", flipped("signature", 0), INVALID),
    Perturbation("flipped-signature-s", flipped("signature", 63), INVALID),
    Perturbation("flipped-qe-report-signature", flipped("qe_report_signature", 63), (_QE_SIGNATURE,)),
    Perturbation("flipped-attestation-key", flipped("attestation_key", 63), _KEY),
    Perturbation("flipped-authentication-data", flipped("auth", 0), ("tdx.attestation_key.mismatch",)),
]  # fmt: skip

PCK_SIGNATURE = (_QE_SIGNATURE,)
EXTENSION, UNKNOWN = ("tdx.pck.extension",), ("tdx.pck.extension_unknown",)
SIGNERS = ("tdx.tcb_info.signer.root", "tdx.qe_identity.signer.root")
PCK = [
    Perturbation("unknown-root", chain(lambda: V4.certificate(issuer=impostor_ca()), lambda: impostor_ca().der, lambda: another_root().der),
        ("tdx.root.unknown", *SIGNERS, "tdx.revocation.issuer")),
    Perturbation("unknown-root-throughout", lambda p: replace(
        p, quote=replace(p.quote, chain=pem(V4.certificate(issuer=impostor_ca()), impostor_ca().der, another_root().der)),
        collateral=impostor_collateral()), ("tdx.root.unknown",)),
    Perturbation("swapped-chain", chain(root_der, ca_der, lambda: V4.certificate()),
        ("tdx.root.unknown", "tdx.chain.unknown_issuer", "tdx.pck.name", "tdx.qe_report.usage", *SIGNERS, "tdx.revocation.issuer")),
    Perturbation("swapped-ca-and-root", chain(lambda: V4.certificate(), root_der, ca_der),
        ("tdx.root.unknown", "tdx.chain.length", *SIGNERS, "tdx.revocation.issuer")),
    Perturbation("swapped-pck-and-ca", chain(ca_der, lambda: V4.certificate(), root_der),
        ("tdx.chain.length", "tdx.pck.name", "tdx.qe_report.usage", "tdx.revocation.issuer")),
    Perturbation("root-signature-flipped", chain(lambda: V4.certificate(), ca_der, lambda: flip(root().der, len(root().der) - 1)),
        ("tdx.root.unknown", *SIGNERS, "tdx.revocation.issuer")),
    Perturbation("pck-by-another-ca", pck(issuer=another_ca), ("tdx.chain.signature",)),
    Perturbation("pck-of-the-processor-ca", pck(issuer=lambda: platform_ca(True)), ("tdx.chain.unknown_issuer",)),
    Perturbation("pck-by-the-root", pck(issuer=root), ("tdx.chain.length", "tdx.pck.issuer")),
    Perturbation("pck-by-a-tcb-signer", chain(lambda: V4.certificate(issuer=signing()), lambda: signing().der, root_der),
        ("tdx.chain.not_a_ca", "tdx.pck.issuer", "tdx.revocation.issuer")),
    Perturbation("ca-by-another-root", chain(lambda: V4.certificate(), lambda: impostor_ca().der, root_der),
        ("tdx.chain.signature", "tdx.revocation.issuer")),
    Perturbation("expired-leaf", pck(not_after=AT - SECOND), ("tdx.chain.expired",)),
    Perturbation("not-yet-valid-leaf", pck(not_before=AT + SECOND), ("tdx.chain.not_yet_valid",)),
    Perturbation("expired-ca", chain(lambda: V4.certificate(), ca_with(not_after=AT - SECOND), root_der), ("tdx.chain.expired",)),
    Perturbation("not-yet-valid-ca", chain(lambda: V4.certificate(), ca_with(not_before=AT + SECOND), root_der),
        ("tdx.chain.not_yet_valid",)),
    Perturbation("ca-no-authority", chain(lambda: V4.certificate(), ca_with(ca=False, path_length=None), root_der),
        ("tdx.chain.not_a_ca",)),
    Perturbation("ca-may-not-certify", chain(lambda: V4.certificate(), ca_with(usages=(0,)), root_der), (
        "tdx.chain.not_a_ca", "tdx.revocation.pck_crl.not_a_crl_issuer")),
    Perturbation("pck-signed-with-sha1", pck(digest="sha1"), ("tdx.chain.algorithm",)),
    Perturbation("pck-critical-extension", pck(further=[("1.2.3.4", True, asn1.NULL)]), ("tdx.chain.critical_extension",)),
    Perturbation("pck-extension-twice", pck(further=[(intel.SGX, False, asn1.sequence())]), ("parse: x509.encoding",)),
    Perturbation("pck-named-otherwise", pck(common_name=SIGNING), ("tdx.pck.name",)),
    Perturbation("pck-for-another-key", pck(key=public("p256")), PCK_SIGNATURE),
    Perturbation("pck-of-p384", pck(key=public("p384")), ("tdx.pck.key", "tdx.qe_report.key")),
    Perturbation("pck-of-rsa", pck(key=public("rsa2048")), ("tdx.pck.key", "tdx.qe_report.key")),
    Perturbation("pck-is-an-authority", pck(constraints=(True, None)), ("tdx.pck.usage", "tdx.qe_report.usage")),
    Perturbation("pck-may-certify", pck(usages=(0, 5)), ("tdx.pck.usage", "tdx.qe_report.usage")),
    Perturbation("pck-not-for-signatures", pck(usages=(4,)), ("tdx.pck.usage", "tdx.qe_report.usage")),
    Perturbation("pck-without-usage", pck(usages=()), ("tdx.pck.usage", "tdx.qe_report.usage")),
    *(Perturbation(f"pck-member-missing-{n}", members(**{f"m{n}": None}), EXTENSION) for n in (1, 2, 3, 4, 5)),
    Perturbation("pck-member-unknown", members(m8=asn1.octets(b"\0")), UNKNOWN),
    Perturbation("pck-sgx-type-unknown", members(m5=asn1.tlv(0x0A, b"\3")), UNKNOWN),
    Perturbation("pck-sgx-type-not-an-enumeration", members(m5=asn1.integer(1)), EXTENSION),
    Perturbation("pck-configuration-unknown", members(m7=intel.sgx_extension({"4": b"\x01\x01\xff"}, f"{intel.SGX}.7")), UNKNOWN),
    Perturbation("pck-configuration-not-boolean", members(m7=intel.sgx_extension({"1": asn1.integer(1)}, f"{intel.SGX}.7")), EXTENSION),
    Perturbation("pck-fmspc-short", members(m4=asn1.octets(bytes(5))), EXTENSION),
    Perturbation("pck-fmspc-not-octets", members(m4=asn1.ia5("90C06F")), EXTENSION),
    Perturbation("pck-tcb-of-15", members(m2=V4.tcb(COMPONENTS[:15])), EXTENSION),
    Perturbation("pck-tcb-not-a-sequence", members(m2=asn1.octets(b"")), EXTENSION),
    Perturbation("pck-component-256", members(m2=asn1.tlv(0x30, V4.tcb()[2:].replace(asn1.integer(5), asn1.integer(-1)))), EXTENSION),
    Perturbation("pck-extension-trailing-garbage", pck(extension=lambda: intel.sgx_extension(V4.members()) + b"\0"), EXTENSION),
    Perturbation("pck-member-twice", pck(extension=lambda: asn1.sequence(
        *(asn1.sequence(asn1.oid(f"{intel.SGX}.{n}"), v) for n, v in [*V4.members().items(), ("3", asn1.octets(bytes(2)))]))), EXTENSION),
    Perturbation("pck-without-the-extension", pck(extension=asn1.NULL), EXTENSION),
]  # fmt: skip


def unbound() -> Perturb:
    """Another attestation key signs; the quoting enclave vouches for the genuine one."""
    return quote(
        lambda found: replace(
            found,
            attestation_key=point(p256("another")),
            signature=raw_signature(p256("another"), found.signed),
        )
    )


QUOTING = [
    Perturbation("attestation-key-not-bound", unbound(), ("tdx.attestation_key.mismatch",)),
    Perturbation("attestation-key-not-on-the-curve", both(changed(attestation_key=bytes(63) + b"\1"), quote(lambda q: q.with_qe(
        V4, REPORT_DATA=hashlib.sha256(q.attestation_key + q.auth).digest() + bytes(32)))),
        ("tdx.attestation_key.point", "tdx.signature.point")),
    Perturbation("attestation-key-bound-right-aligned", quote(lambda q: q.with_qe(
        V4, REPORT_DATA=bytes(32) + hashlib.sha256(q.attestation_key + q.auth).digest())), ("tdx.attestation_key.mismatch",)),
    Perturbation("attestation-key-bound-not-zero-padded", quote(lambda q: q.with_qe(
        V4, REPORT_DATA=hashlib.sha256(q.attestation_key + q.auth).digest() + bytes(31) + b"\1")), ("tdx.attestation_key.mismatch",)),
    Perturbation("authentication-data-missing", changed(auth=b""), ("tdx.attestation_key.mismatch",)),
    Perturbation("authentication-data-shifted-into-the-key", changed(auth=lambda a: a[:31]), ("tdx.attestation_key.mismatch",)),
    Perturbation("signature-of-another-quote", quote(lambda q: replace(q, signature=V4.quote(bytes(64)).signature)), INVALID),
    Perturbation("body-of-another-quote", quote(lambda q: replace(q, signed=V4.quote(REPORT_DATA, MRTD=bytes(48)).signed)), INVALID),
    Perturbation("signed-by-the-pck", quote(lambda q: replace(q, signature=raw_signature(V4.pck_key, q.signed))), INVALID),
    Perturbation("qe-report-signed-by-the-attestation-key", quote(lambda q: replace(
        q, qe_report_signature=raw_signature(V4.attestation_key, q.qe_report))), PCK_SIGNATURE),
    Perturbation("qe-report-of-another-platform", quote(lambda q: replace(
        q, qe_report_signature=Platform(label="another").quote().qe_report_signature)), PCK_SIGNATURE),
    Perturbation("signature-zero", changed(signature=bytes(64)), INVALID),
    Perturbation("signature-r-zero", changed(signature=lambda s: bytes(32) + s[32:]), INVALID),
    Perturbation("signature-s-zero", changed(signature=lambda s: s[:32] + bytes(32)), INVALID),
    Perturbation("signature-r-and-s-swapped", changed(signature=lambda s: s[32:] + s[:32]), INVALID),
    Perturbation("signature-all-ones", changed(signature=b"\xff" * 64), INVALID),
    Perturbation("signature-s-beyond-the-order", changed(signature=lambda s: s[:32] + (
        int.from_bytes(s[32:], "big") + ORDER).to_bytes(33, "big")[-32:]), INVALID),
    Perturbation("signature-with-the-other-s", changed(signature=negated, qe_report_signature=negated), ()),
    Perturbation("qe-report-signature-zero", changed(qe_report_signature=bytes(64)), PCK_SIGNATURE),
    Perturbation("version-5-body-signed-without-descriptor", quote(lambda q: replace(q, signature=raw_signature(
        V5.attestation_key, q.signed[:48] + q.signed[54:]))), INVALID, V5),
]  # fmt: skip

MISSING = "tdx.collateral.missing"
STALE, EARLY = AT - SECOND, AT + SECOND
INFO, IDENTITY = ("tdx.tcb_info.signature",), ("tdx.qe_identity.signature",)
BAD_INFO, BAD_IDENTITY = ("tdx.tcb_info.encoding",), ("tdx.qe_identity.encoding",)
LEVELS = tcb_info()["tcbLevels"]
TEXTS = [
    Perturbation("collateral-missing", lambda p: replace(p, collateral=None), (MISSING,) * 3),
    Perturbation("tcb-info-edited", edited("tcb_info", '"svn":5', '"svn":4'), INFO),
    Perturbation("tcb-info-with-white-space", edited("tcb_info", ",", ", "), INFO),
    Perturbation("tcb-info-signature-flipped", stapled(tcb_info_signature=bytes(64)), INFO),
    Perturbation("tcb-info-signature-of-the-qe-identity", lambda p: replace(p, collateral={
        **(p.collateral or {}), "tcb_info_signature": (p.collateral or {})["qe_identity_signature"]}), INFO),
    Perturbation("tcb-info-and-qe-identity-swapped", lambda p: replace(
        p, collateral={**(p.collateral or {}), **swapped(p.collateral or {})}),
        ("tdx.tcb_info.version", "tdx.qe_identity.version")),
    Perturbation("tcb-info-signed-by-another", text("tcb_info", lambda t: t, lambda: Authority(
        SIGNING, 0x3001, another_root(), label="impostor/", ca=False, usages=(0, 1))), ("tdx.tcb_info.signer.signature",)),
    Perturbation("tcb-info-signed-by-a-pck-authority", text("tcb_info", lambda t: t, platform_ca), ("tdx.tcb_info.signer.name",)),
    Perturbation("tcb-info-signed-by-a-platform", lambda p: replace(p, collateral={**(p.collateral or {}),
        "tcb_info_signature": raw_signature(V4.pck_key, (p.collateral or {})["tcb_info"].encode()),
        "tcb_info_issuer_chain": [V4.certificate(), root().der]}), ("tdx.tcb_info.signer.unknown_issuer",)),
    Perturbation("tcb-info-chain-swapped", stapled(tcb_info_issuer_chain=lambda: [root().der, signing().der]),
        ("tdx.tcb_info.signer.root",)),
    Perturbation("tcb-info-chain-of-another-root", stapled(tcb_info_issuer_chain=lambda: [signing().der, another_root().der]),
        ("tdx.tcb_info.signer.root",)),
    Perturbation("tcb-info-chain-of-roots", stapled(tcb_info_issuer_chain=lambda: [root().der] * 2),
        ("tdx.tcb_info.signer.unknown_issuer",)),
    Perturbation("tcb-signer-expired", signer(not_after=AT - SECOND), ("tdx.tcb_info.signer.expired",)),
    Perturbation("tcb-signer-not-yet-valid", signer(not_before=AT + SECOND), ("tdx.tcb_info.signer.not_yet_valid",)),
    Perturbation("tcb-signer-is-an-authority", signer(ca=True), ("tdx.tcb_info.signer.usage",)),
    Perturbation("tcb-signer-may-certify", signer(usages=(0, 5)), ("tdx.tcb_info.signer.usage",)),
    Perturbation("tcb-info-stale", info(nextUpdate=stamp(STALE)), ("tdx.tcb_info.stale",)),
    Perturbation("tcb-info-of-the-future", info(issueDate=stamp(EARLY)), ("tdx.tcb_info.not_yet_valid",)),
    Perturbation("tcb-info-of-sgx", info(id="SGX"), ("tdx.tcb_info.version",)),
    Perturbation("tcb-info-version-2", info(version=2), ("tdx.tcb_info.version",)),
    Perturbation("tcb-info-type-1", info(tcbType=1), ("tdx.tcb_info.version",)),
    Perturbation("tcb-info-of-another-fmspc", info(fmspc="00806F050000"), ("tdx.tcb.fmspc",)),
    Perturbation("tcb-info-of-another-pce", info(pceId="0001"), ("tdx.tcb.pceid",)),
    Perturbation("tcb-info-fmspc-short", info(fmspc="90C06F0000"), BAD_INFO),
    Perturbation("tcb-info-member-unknown", info(tcbNote="x"), ("tdx.tcb_info.encoding.member",)),
    Perturbation("tcb-info-level-member-unknown", info(tcbLevels=[{**LEVELS[0], "uptoDate": True}]), ("tdx.tcb_info.encoding.member",)),
    Perturbation("tcb-info-member-missing", info(fmspc=None), BAD_INFO),
    Perturbation("tcb-info-key-twice", text("tcb_info", lambda t: t.replace('"version":3', '"version":3,"version":3')), BAD_INFO),
    Perturbation("tcb-info-huge-integer", text("tcb_info", lambda t: t.replace('"svn":5', '"svn":' + "9" * 5000, 1)), BAD_INFO),
    Perturbation("tcb-info-fraction", text("tcb_info", lambda t: t.replace('"svn":5', '"svn":5.0', 1)), BAD_INFO),
    Perturbation("tcb-info-svn-256", text("tcb_info", lambda t: t.replace('"svn":5', '"svn":256', 1)), BAD_INFO),
    Perturbation("tcb-info-svn-true", text("tcb_info", lambda t: t.replace('"svn":5', '"svn":true', 1)), BAD_INFO),
    Perturbation("tcb-info-category-not-text", text("tcb_info", lambda t: t.replace('"BIOS"', "7")), BAD_INFO),
    Perturbation("tcb-info-trailing-garbage", text("tcb_info", lambda t: t + "{}"), BAD_INFO),
    Perturbation("tcb-info-nested-without-end", text("tcb_info", lambda _: "[" * 100_000), BAD_INFO),
    Perturbation("tcb-info-levels-unsorted", info(tcbLevels=LEVELS[::-1]), BAD_INFO),
    Perturbation("tcb-info-levels-unsorted-by-pcesvn-and-tdx", info(tcbLevels=[
        level((), 5, (5,), "UpToDate"), level((), 6, (6,), "OutOfDate")]), BAD_INFO),
    Perturbation("module-levels-unsorted", info(tdxModuleIdentities=[
        {"id": "TDX_01", **MODULE, "tcbLevels": [svn_level(4, "UpToDate"), svn_level(6, "OutOfDate")]}]), BAD_INFO),
    Perturbation("module-level-twice", info(tdxModuleIdentities=[
        {"id": "TDX_01", **MODULE, "tcbLevels": [svn_level(4, "UpToDate"), svn_level(4, "Revoked")]}]), BAD_INFO),
    Perturbation("qe-levels-unsorted", identity(tcbLevels=[svn_level(2, "OutOfDate"), svn_level(4, "UpToDate")]), BAD_IDENTITY),
    Perturbation("tcb-info-without-levels", info(tcbLevels=[]), BAD_INFO),
    Perturbation("tcb-info-date-impossible", info(issueDate="2026-02-30T00:00:00Z"), BAD_INFO),
    Perturbation("tcb-info-date-with-offset", info(issueDate="2026-02-20T00:00:00+00:00"), BAD_INFO),
    Perturbation("tcb-info-15-components", info(tcbLevels=[{**LEVELS[0], "tcb": {
        **LEVELS[0]["tcb"], "tdxtcbcomponents": [{"svn": 0}] * 15}}]), BAD_INFO),
    Perturbation("tcb-info-module-identity-twice", info(tdxModuleIdentities=[
        {"id": name, **MODULE, "tcbLevels": [svn_level(0, "UpToDate")]} for name in ("TDX_01", "tdx_01")]), BAD_INFO),
    Perturbation("tcb-info-status-unknown", info(tcbLevels=[level((), 0, (), "Excellent")]), ("tdx.tcb_info.status",)),
    Perturbation("tcb-info-status-relaunch", info(tcbLevels=[level((), 0, (), "TDRelaunchAdvised")]), ("tdx.tcb_info.status",)),
    Perturbation("module-status-unknown", info(tdxModuleIdentities=[
        {"id": "TDX_01", **MODULE, "tcbLevels": [svn_level(0, "SWHardeningNeeded")]}]), ("tdx.tcb_info.status",)),
    Perturbation("qe-identity-edited", edited("qe_identity", '"isvsvn":4', '"isvsvn":3'), IDENTITY),
    Perturbation("qe-identity-signature-zero", stapled(qe_identity_signature=bytes(64)), IDENTITY),
    Perturbation("qe-identity-stale", identity(nextUpdate=stamp(STALE)), ("tdx.qe_identity.stale",)),
    Perturbation("qe-identity-of-the-future", identity(issueDate=stamp(EARLY)), ("tdx.qe_identity.not_yet_valid",)),
    Perturbation("qe-identity-of-sgx", identity(id="QE"), ("tdx.qe_identity.version",)),
    Perturbation("qe-identity-of-another-qe", identity(mrsigner="AB" * 32), ("tdx.qe.mrsigner",)),
    Perturbation("qe-identity-version-1", identity(version=1), ("tdx.qe_identity.version",)),
    Perturbation("qe-identity-member-unknown", identity(mrenclave="00" * 32), ("tdx.qe_identity.encoding.member",)),
    Perturbation("qe-identity-member-missing", identity(attributesMask=None), BAD_IDENTITY),
    Perturbation("qe-identity-without-levels", identity(tcbLevels=[]), BAD_IDENTITY),
    Perturbation("qe-identity-status-unknown", identity(tcbLevels=[svn_level(0, "Excellent")]), ("tdx.qe_identity.status",)),
    Perturbation("qe-identity-chain-of-another-root", stapled(qe_identity_issuer_chain=lambda: [signing().der, another_root().der]),
        ("tdx.qe_identity.signer.root",)),
]  # fmt: skip

TCB_UNSUPPORTED, TCB_REVOKED = ("tdx.tcb.unsupported",), ("tdx.tcb.revoked",)
RATED = [
    Perturbation("qe-of-another-signer", qe(MRSIGNER=bytes(32)), ("tdx.qe.mrsigner",)),
    Perturbation("qe-of-another-product", qe(ISVPRODID=1), ("tdx.qe.isvprodid",)),
    Perturbation("qe-with-miscselect", qe(MISCSELECT=1), ("tdx.qe.miscselect",)),
    Perturbation("qe-with-miscselect-that-is-masked", both(qe(MISCSELECT=1), identity(miscselectMask="FEFFFFFF")), ()),
    Perturbation("qe-with-masked-miscselect-of-another-byte", both(qe(MISCSELECT=1 << 24), identity(miscselectMask="FEFFFFFF")),
        ("tdx.qe.miscselect",)),
    Perturbation("qe-debug", qe(ATTRIBUTES=bytes.fromhex("1700000000000000e700000000000000")), ("tdx.qe.attributes",)),
    Perturbation("qe-without-provisioning", qe(ATTRIBUTES=bytes.fromhex("0500000000000000e700000000000000")), ("tdx.qe.attributes",)),
    Perturbation("qe-identity-beyond-its-mask", identity(attributes="15000000000000000000000000000000"), ("tdx.qe.attributes",)),
    Perturbation("qe-version-too-old", qe(ISVSVN=0), ("tdx.qe.unsupported",)),
    Perturbation("qe-version-revoked", qe(ISVSVN=1), ("tdx.qe.revoked",)),
    Perturbation("module-version-unknown", quoted(TEE_TCB_SVN=svn(6, 2, 3)), ("tdx.module.unknown",)),
    Perturbation("module-version-too-old", quoted(TEE_TCB_SVN=svn(1, 1, 3)), ("tdx.module.unsupported",)),
    Perturbation("module-version-revoked", quoted(TEE_TCB_SVN=svn(3, 1, 3)), ("tdx.module.revoked",)),
    Perturbation("module-of-another-signer", quoted(MRSIGNERSEAM=b"\1" * 48), ("tdx.module.mrsigner",)),
    Perturbation("module-0-of-another-signer", both(quoted(TEE_TCB_SVN=svn(5, 0, 3)), info(tdxModule={**MODULE, "mrsigner": "01" * 48})),
        ("tdx.module.mrsigner",)),
    Perturbation("module-with-other-attributes", info(tdxModuleIdentities=[
        {"id": "TDX_01", **MODULE, "attributes": "01" + "00" * 7, "tcbLevels": [svn_level(0, "UpToDate")]}]), ("tdx.module.attributes",)),
    Perturbation("module-identities-missing", info(tdxModuleIdentities=None), ("tdx.module.unknown",)),
    Perturbation("module-0-too-old", quoted(TEE_TCB_SVN=svn(2, 0, 3)), TCB_UNSUPPORTED),
    Perturbation("microcode-too-old", quoted(TEE_TCB_SVN=svn(6, 1, 0)), TCB_UNSUPPORTED),
    Perturbation("component-too-old", members(m2=V4.tcb((0, *COMPONENTS[1:]))), TCB_UNSUPPORTED),
    Perturbation("last-component-needed", info(tcbLevels=[level((*COMPONENTS[:15], 1), 13, (5, 0, 3), "UpToDate")]), TCB_UNSUPPORTED),
    Perturbation("pcesvn-too-old", members(m2=V4.tcb(pcesvn=4)), TCB_UNSUPPORTED),
    Perturbation("level-revoked", members(m2=V4.tcb((1, *COMPONENTS[1:]), 5)), TCB_REVOKED),
    Perturbation("tdx-component-needed", info(tcbLevels=[level(COMPONENTS, 13, (5, 0, 3, 1), "UpToDate")]), TCB_UNSUPPORTED),
    Perturbation("current-module-unknown", quoted(V15, TEE_TCB_SVN_2=svn(7, 2, 4)), ("tdx.tcb.current.unknown",), V15),
    Perturbation("current-module-too-old", quoted(V15, TEE_TCB_SVN_2=svn(1, 1, 4)), ("tdx.tcb.current.unsupported",), V15),
    Perturbation("current-module-revoked", quoted(V15, TEE_TCB_SVN_2=svn(2, 1, 4)), ("tdx.tcb.current.revoked",), V15),
    Perturbation("current-microcode-too-old", quoted(V15, TEE_TCB_SVN_2=svn(7, 1, 0)), ("tdx.tcb.current.unsupported",), V15),
    Perturbation("debug-on", quoted(TDATTRIBUTES=1 << 28 | 1), ()),
    Perturbation("sept-ve-disable-off", quoted(TDATTRIBUTES=0), ()),
]  # fmt: skip

PCK_CRL, ROOT_CRL = "tdx.revocation.pck_crl", "tdx.revocation.root_ca_crl"
REVOCATION = [
    Perturbation("crl-revokes-the-pck", crl("pck_crl", serials=(0x666, 0x4001)), (f"{PCK_CRL}.revoked",)),
    Perturbation("crl-stale-revokes-the-pck", crl("pck_crl", serials=(0x4001,), next_update=AT - DAY), (f"{PCK_CRL}.revoked",)),
    Perturbation("crl-stale", crl("pck_crl", next_update=AT - SECOND), (f"{PCK_CRL}.stale",)),
    Perturbation("crl-without-an-end", crl("pck_crl", next_update=None), (f"{PCK_CRL}.stale",)),
    Perturbation("crl-of-the-future", crl("pck_crl", this_update=AT + SECOND), (f"{PCK_CRL}.not_yet_valid",)),
    Perturbation("crl-of-the-processor-ca", stapled(pck_crl=lambda: platform_ca(True).revoke()), (f"{PCK_CRL}.missing",)),
    Perturbation("crl-signed-by-another", crl("pck_crl", signer=lambda: another_ca().key), (f"{PCK_CRL}.signature",)),
    Perturbation("crl-signed-by-the-root", crl("pck_crl", signer=lambda: root().key), (f"{PCK_CRL}.signature",)),
    Perturbation("crl-signed-with-sha1", crl("pck_crl", digest="sha1"), (f"{PCK_CRL}.algorithm",)),
    Perturbation("crl-of-limited-scope", crl("pck_crl", items=[("2.5.29.28", True, asn1.sequence(b"\x81\x01\xff"))]),
        (f"{PCK_CRL}.scope",)),
    Perturbation("crls-swapped", lambda p: replace(p, collateral={**(p.collateral or {}),
        "pck_crl": root().revoke(), "root_ca_crl": platform_ca().revoke()}), (f"{PCK_CRL}.missing",)),
    Perturbation("crl-issuer-chain-of-the-processor-ca", stapled(pck_crl_issuer_chain=lambda: [platform_ca(True).der, root().der]),
        ("tdx.revocation.issuer",)),
    Perturbation("crl-issuer-chain-of-another-key", stapled(pck_crl_issuer_chain=lambda: [another_ca().der, root().der]),
        ("tdx.revocation.issuer",)),
    Perturbation("crl-issuer-chain-of-another-root", stapled(pck_crl_issuer_chain=lambda: [platform_ca().der, another_root().der]),
        ("tdx.revocation.issuer",)),
    Perturbation("crl-issuer-that-the-root-did-not-sign", stapled(
        pck_crl_issuer_chain=lambda: [flip(platform_ca().der, len(platform_ca().der) - 1), root().der]),
        ("tdx.revocation.issuer.signature",)),
    Perturbation("crl-issuer-by-another-root", stapled(
        pck_crl_issuer_chain=lambda: [Authority(PLATFORM_CA, 0x2001, another_root(), path_length=0).der, root().der]),
        ("tdx.revocation.issuer.signature",)),
    Perturbation("crl-issuer-expired", stapled(pck_crl_issuer_chain=lambda: [ca_with(not_after=AT - SECOND)(), root().der]),
        ("tdx.revocation.issuer.expired",)),
    Perturbation("root-crl-revokes-the-ca", crl("root_ca_crl", serials=(0x2001,)), (f"{ROOT_CRL}.revoked",)),
    Perturbation("root-crl-revokes-the-tcb-signer", crl("root_ca_crl", serials=(0x3001,)), (f"{ROOT_CRL}.revoked",)),
    Perturbation("root-crl-revokes-the-qe-signer", both(
        text("qe_identity", lambda t: t, lambda: Authority(SIGNING, 0x3002, root(), ca=False, usages=(0, 1))),
        crl("root_ca_crl", serials=(0x3002,))), (f"{ROOT_CRL}.revoked",)),
    Perturbation("root-crl-stale", crl("root_ca_crl", next_update=AT - SECOND), (f"{ROOT_CRL}.stale",)),
    Perturbation("root-crl-of-the-future", crl("root_ca_crl", this_update=AT + SECOND), (f"{ROOT_CRL}.not_yet_valid",)),
    Perturbation("root-crl-signed-by-another", crl("root_ca_crl", signer=lambda: another_root().key), (f"{ROOT_CRL}.signature",)),
    Perturbation("root-crl-of-another", stapled(root_ca_crl=lambda: platform_ca().revoke()), (f"{ROOT_CRL}.missing",)),
]  # fmt: skip

MISMATCH = ("tdx.binding.mismatch",)
BOUND = [
    Perturbation("nonce-mismatch", quoted(report_data=merkle.leaf_hash(b"another").ljust(64, b"\0")), MISMATCH),
    Perturbation("replayed-without-binding", quoted(report_data=bytes(64)), MISMATCH),
    Perturbation("binding-right-aligned", quoted(report_data=TREE.rjust(64, b"\0")), MISMATCH),
    Perturbation("binding-not-zero-padded", quoted(report_data=TREE + b"\1" + bytes(31)), MISMATCH),
    Perturbation("binding-twice", quoted(report_data=TREE * 2), MISMATCH),
    Perturbation("binding-itself-not-its-leaf", quoted(report_data=BINDING.ljust(64, b"\0")), MISMATCH),
    Perturbation("binding-of-another-leaf", lambda p: replace(
        p, binding={"leaf_index": 1, "path": [b64u(bytes(32))], "tree_size": 2}), MISMATCH),
    Perturbation("binding-path-too-long", lambda p: replace(
        p, binding={"leaf_index": 0, "path": [b64u(bytes(32))], "tree_size": 1}), ("proof.inclusion",)),
]  # fmt: skip


def swapped(found: dict[str, Any]) -> dict[str, Any]:
    pairs = (("tcb_info", "qe_identity"), ("qe_identity", "tcb_info"))
    return {
        f"{to}{suffix}": found[f"{of}{suffix}"]
        for to, of in pairs
        for suffix in ("", "_signature", "_issuer_chain")
    }


@functools.cache
def impostor_collateral() -> dict[str, Any]:
    """Everything as Intel makes it, by an impostor."""
    own = Authority(SIGNING, 0x3001, another_root(), label="impostor/", ca=False, usages=(0, 1))
    found = collateral(
        root_ca_crl=another_root().revoke(),
        pck_crl=impostor_ca().revoke(),
        pck_crl_issuer_chain=[impostor_ca().der, another_root().der],
    )
    for name in ("tcb_info", "qe_identity"):
        found |= signed_text(found[name], name, own)
        found[f"{name}_issuer_chain"] = [own.der, another_root().der]
    return found


ALL = [*FORM, *FLIPS, *PCK, *QUOTING, *TEXTS, *RATED, *REVOCATION, *BOUND]
