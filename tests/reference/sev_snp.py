"""A second verifier of SEV-SNP reports, written naively: slices, the X.509 of `cryptography`, one function, true or the reason why not.

It exists to disagree with the real one. It shares no code with it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

AMD = "1.3.6.1.4.1.3704.1."


class Rejected(Exception):
    """Why the naive verifier says no."""


def need(condition: bool, reason: str) -> None:
    if not condition:
        raise Rejected(reason)


def le(data: bytes) -> int:
    return int.from_bytes(data, "little")


def decode(report: bytes) -> dict[str, Any]:
    """Fields by name, after the checks of form."""
    need(len(report) == 1184, "size")
    version = le(report[0:4])
    need(version in (2, 3, 5), "version")
    policy, info, keys = le(report[8:16]), le(report[0x40:0x48]), le(report[0x48:0x4C])
    need(policy < 1 << 26 and policy & 0x20000 != 0, "policy")
    need(info & ~0xBF == 0, "platform info")
    need(keys < 32 and keys >> 2 in (0, 1, 7), "keys")
    need(le(report[0x30:0x34]) in (0, 1, 2, 3, 0xFFFFFFFF), "vmpl")
    need(le(report[0x34:0x38]) == 1, "algorithm")
    reserved = [(0x4C, 0x50), (0x18B, 0x1A0), (0x1EB, 0x1EC), (0x1EF, 0x1F0), (0x208, 0x2A0)]
    reserved += [(0x2D0, 0x2E8), (0x318, 0x4A0)]
    if version < 3:
        reserved.append((0x188, 0x1A0))
    if version < 5:
        reserved.append((0x1F8, 0x208))
    for start, end in reserved:
        need(report[start:end] == bytes(end - start), f"reserved {start:#x}")
    return {
        "version": version,
        "guest_svn": le(report[4:8]),
        "policy": policy,
        "debug": policy >> 19 & 1 == 1,
        "migrate_ma": policy >> 18 & 1 == 1,
        "vmpl": le(report[0x30:0x34]),
        "platform_info": info,
        "smt_en": info & 1 == 1,
        "keys": keys,
        "report_data": report[0x50:0x90],
        "measurement": report[0x90:0xC0],
        "host_data": report[0xC0:0xE0],
        "id_key_digest": report[0xE0:0x110],
        "author_key_digest": report[0x110:0x140],
        "report_id": report[0x140:0x160],
        "report_id_ma": report[0x160:0x180],
        "reported_tcb": report[0x180:0x188],
        "cpuid": tuple(report[0x188:0x18B]) if version >= 3 else None,
        "chip_id": report[0x1A0:0x1E0],
        "committed_tcb": report[0x1E0:0x1E8],
        "current_version": (report[0x1EA], report[0x1E9], report[0x1E8]),
        "committed_version": (report[0x1EE], report[0x1ED], report[0x1EC]),
        "launch_tcb": report[0x1F0:0x1F8],
    }


def verify(
    report: bytes,
    vek: bytes,
    ask: bytes,
    ark: bytes,
    crl: bytes | None,
    at: datetime,
    roots: Mapping[bytes, str],
) -> dict[str, Any]:
    """The report's fields if everything holds; `roots` maps SHA-256 of a certificate to its product line.

    Without a revocation list none is asked for.
    """
    try:
        return _verify(report, vek, ask, ark, crl, at, roots)
    except Rejected:
        raise
    except Exception as error:  # the library has many for what it cannot read, and reads some of it late
        raise Rejected("library") from error


def _verify(
    report: bytes,
    vek: bytes,
    ask: bytes,
    ark: bytes,
    crl: bytes | None,
    at: datetime,
    roots: Mapping[bytes, str],
) -> dict[str, Any]:
    fields = decode(report)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # serial number 0
        leaf, middle, root = (x509.load_der_x509_certificate(der) for der in (vek, ask, ark))
        extensions = {e.oid.dotted_string: e.value for e in leaf.extensions}
        product = roots.get(hashlib.sha256(ark).digest())
        need(product is not None, "root")
        check_chain(leaf, middle, root, at)
        if crl is not None:
            check_crl(crl, middle, root, at)
        fields["product"] = product
        check_leaf(leaf, extensions, fields)
    r, s = le(report[0x2A0:0x2D0]), le(report[0x2E8:0x318])
    key = leaf.public_key()
    need(isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1", "key")
    need(fields["keys"] & 2 == 0 or fields["keys"] >> 2 == 1, "masked")
    try:
        key.verify(utils.encode_dss_signature(r, s), report[:0x2A0], ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise Rejected("report signature") from error
    need(fields["vmpl"] != 0xFFFFFFFF, "host")
    return fields


def check_chain(leaf: Any, middle: Any, root: Any, at: datetime) -> None:
    for certificate in (leaf, middle, root):
        need(certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc, "validity")
        algorithm = certificate.signature_hash_algorithm
        need(algorithm is not None and algorithm.name in ("sha256", "sha384", "sha512"), "hash")
    for issued, issuer in ((root, root), (middle, root), (leaf, middle)):
        issued.verify_directly_issued_by(issuer)
        key = issuer.public_key()
        need(isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048, "weak")
    for authority in (middle, root):
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
        need(constraints.ca and usage.key_cert_sign, "no authority")
    for certificate, known in ((leaf, ()), (middle, ("2.5.29.15", "2.5.29.19"))):
        for extension in certificate.extensions:
            need(not extension.critical or extension.oid.dotted_string in known, "critical")


def check_crl(data: bytes, middle: Any, root: Any, at: datetime) -> None:
    crl = x509.load_der_x509_crl(data)
    extensions = list(crl.extensions)
    number = middle.serial_number
    listed = {entry.serial_number for entry in crl}
    need(crl.issuer == root.subject, "crl issuer")
    algorithm = crl.signature_hash_algorithm
    need(algorithm is not None and algorithm.name == "sha384", "crl hash")
    key = root.public_key()
    try:
        key.verify(
            crl.signature,
            crl.tbs_certlist_bytes,
            padding.PSS(padding.MGF1(hashes.SHA384()), 48),
            hashes.SHA384(),
        )
    except InvalidSignature as error:
        raise Rejected("crl signature") from error
    need(number not in listed, "revoked")
    need(crl.next_update_utc is not None and crl.last_update_utc <= at <= crl.next_update_utc, "crl time")
    need(not any(extension.critical for extension in extensions), "crl scope")


def check_leaf(leaf: Any, extensions: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    values = {oid[len(AMD) :]: value.value for oid, value in extensions.items() if oid.startswith(AMD)}
    order = "91235678" if fields["product"] == "Turin" else "12456738"
    names = {"1", "2"} | {f"3.{arc}" for arc in order}
    kind = "4" if "4" in values else "5"
    need(set(values) == names | {kind}, "extensions")
    need(values["1"] in (b"\x02\x01\x00", b"\x02\x01\x01"), "struct version")
    need(values["2"][:1] == b"\x16" and values["2"][1] == len(values["2"]) - 2, "product name")
    line = values["2"][2:].decode().split("-")[0]
    lines = {"Milan": "Milan", "Genoa": "Genoa", "Bergamo": "Genoa", "Siena": "Genoa", "Turin": "Turin"}
    need(lines.get(line) == fields["product"], "product")
    tcb = bytes(level(values[f"3.{arc}"]) for arc in order)
    need(tcb == fields["reported_tcb"], "tcb")
    reserved = tcb[4:7] if fields["product"] == "Turin" else tcb[2:6]
    need(not any(reserved), "tcb reserved")
    if fields["cpuid"] is not None:
        family, model, _ = fields["cpuid"]
        milan, genoa = range(0x10), [*range(0x10, 0x20), *range(0xA0, 0xB0)]
        models = {"Milan": (0x19, milan), "Genoa": (0x19, genoa), "Turin": (0x1A, range(0x12))}
        need(family == models[fields["product"]][0] and model in models[fields["product"]][1], "cpu")
    name = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    if kind == "4":
        size = 8 if fields["product"] == "Turin" else 64
        hwid = values["4"] if len(values["4"]) == size else values["4"][2:]
        need(fields["keys"] >> 2 == 0 and name == "SEV-VCEK", "kind of key")
        need(any(hwid) and len(hwid) == size and hwid.ljust(64, b"\0") == fields["chip_id"], "chip")
    else:
        need(fields["keys"] >> 2 == 1 and name == "SEV-VLEK", "kind of key")


def level(value: bytes) -> int:
    """An INTEGER of 0 to 255."""
    need(value[:1] == b"\x02" and len(value) == value[1] + 2, "level")
    number = int.from_bytes(value[2:], "big", signed=True)
    need(0 <= number <= 255 and len(value) == 3 + (number > 127), "level")
    return number
