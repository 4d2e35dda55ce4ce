"""A second verifier of Nitro documents, written naively: `cbor2`, the X.509 of `cryptography`, one function, fields or the reason why not.

It exists to disagree with the real one. It shares no code with it.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils


class Rejected(Exception):
    """Why the naive verifier says no."""


def need(condition: bool, reason: str) -> None:
    if not condition:
        raise Rejected(reason)


def verify(
    document: bytes,
    kind: str,
    crls: Sequence[bytes] | None,
    at: datetime,
    max_age: timedelta,
    roots: Collection[bytes],
) -> dict[str, Any]:
    """The document's fields if everything holds; `roots` are SHA-256 of certificates. Without lists no revocation is asked for."""
    try:
        return _verify(document, kind, crls, at, max_age, roots)
    except Rejected:
        raise
    except Exception as error:  # the libraries have many for what they cannot read
        raise Rejected("library") from error


def _load(data: bytes) -> Any:
    stream = io.BytesIO(data)
    value = cbor2.load(stream)
    need(stream.tell() == len(data), "left over")
    return value


def _verify(
    document: bytes,
    kind: str,
    crls: Sequence[bytes] | None,
    at: datetime,
    max_age: timedelta,
    roots: Collection[bytes],
) -> dict[str, Any]:
    value = _load(document)
    if isinstance(value, cbor2.CBORTag):
        need(value.tag == 18, "tag")
        value = value.value
    protected, unprotected, payload, signature = value
    need(document in {cbor2.dumps(list(value)), b"\xd2" + cbor2.dumps(list(value))}, "envelope")
    need(protected == b"\xa1\x01\x38\x22" and unprotected == {}, "headers")
    need(len(payload) <= 16384 and len(signature) == 96, "sizes")
    fields = _load(payload)
    name = {"nitro": "pcrs", "nitrotpm": "nitrotpm_pcrs"}[kind]
    check_fields(fields, name, payload)
    chain = [x509.load_der_x509_certificate(der) for der in (*fields["cabundle"], fields["certificate"])]
    need(hashlib.sha256(fields["cabundle"][0]).digest() in roots, "root")
    check_chain(chain, at)
    key = chain[-1].public_key()
    need(isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1", "key")
    message = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
    key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA384()))
    made = datetime.fromtimestamp(fields["timestamp"] / 1000, timezone.utc)
    leaf = chain[-1]
    need(leaf.not_valid_before_utc <= made < leaf.not_valid_after_utc + timedelta(seconds=1), "made")
    need(at - max_age <= made <= at + timedelta(minutes=1), "age")
    if crls is not None:
        check_crls(chain, [x509.load_der_x509_crl(der) for der in crls], at)
    return {
        "module_id": fields["module_id"],
        "timestamp": fields["timestamp"],
        "pcrs": dict(fields[name]),
        "public_key": fields.get("public_key"),
        "user_data": fields.get("user_data"),
        "nonce": fields.get("nonce"),
        "debug": kind == "nitro" and any(not any(fields[name].get(n, b"")) for n in (0, 1, 2)),
    }


def check_fields(fields: Any, pcrs: str, payload: bytes) -> None:
    mandatory = {"module_id", "timestamp", "digest", "certificate", "cabundle", pcrs}
    need(mandatory <= set(fields) <= mandatory | {"public_key", "user_data", "nonce"}, "names")
    # A key given twice vanishes when the map is read; counting the members that were written shows it.
    head = payload[0]
    need(head == 0xBF or head - 0xA0 == len(fields), "a key twice")
    again = b"".join(cbor2.dumps(name) + cbor2.dumps(value) for name, value in fields.items())
    need(payload in (bytes([0xA0 + len(fields)]) + again, b"\xbf" + again + b"\xff"), "spelling")
    need(type(fields["module_id"]) is str and fields["module_id"].isprintable(), "module id")
    need(0 < len(fields["module_id"]) <= 256, "module id")
    need(fields["digest"] == "SHA384", "digest")
    need(type(fields["timestamp"]) is int and 0 < fields["timestamp"] < 253402300800000, "timestamp")
    need(len(fields[pcrs]) > 0 and type(fields[pcrs]) is dict, "pcrs")
    for index, value in fields[pcrs].items():
        need(type(index) is int and 0 <= index < (32 if pcrs == "pcrs" else 24), "index")
        need(type(value) is bytes and len(value) == 48, "pcr")
    need(type(fields["cabundle"]) is list and 0 < len(fields["cabundle"]) <= 7, "cabundle")
    need(all(len(der) <= 1024 for der in (*fields["cabundle"], fields["certificate"])), "certificates")
    for name in ("public_key", "user_data", "nonce"):
        value = fields.get(name)
        need(value is None or (type(value) is bytes and len(value) <= 1024), name)
    need(fields.get("public_key") != b"", "public key")


def check_chain(chain: Sequence[Any], at: datetime) -> None:
    for position, certificate in enumerate(chain):
        need(certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc, "validity")
        need(certificate.signature_hash_algorithm.name in ("sha256", "sha384", "sha512"), "hash")
        certificate.verify_directly_issued_by(chain[max(position - 1, 0)])
        known = {"2.5.29.15", "2.5.29.19"}
        need(all(not e.critical or e.oid.dotted_string in known for e in certificate.extensions), "critical")
    for position, authority in enumerate(chain[:-1]):
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
        need(constraints.ca and usage.key_cert_sign, "authority")
        below = len(chain) - position - 2
        need(constraints.path_length is None or constraints.path_length >= below, "path length")
    usage = chain[-1].extensions.get_extension_for_class(x509.KeyUsage).value
    need(usage.digital_signature and not usage.key_cert_sign, "usage")
    for extension in chain[-1].extensions:
        if isinstance(extension.value, x509.BasicConstraints):
            need(not extension.value.ca, "leaf")


def check_crls(chain: Sequence[Any], crls: Sequence[Any], at: datetime) -> None:
    for issuer, subject in itertools.pairwise(chain):
        try:
            points = subject.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        except x509.ExtensionNotFound:
            continue
        names = {name.value for point in points for name in point.full_name or ()}
        found = [crl for crl in crls if crl.issuer == issuer.subject]
        need(len(found) == 1, "no list")
        (crl,) = found
        need(crl.is_signature_valid(issuer.public_key()), "list signature")
        need(crl.signature_hash_algorithm.name != "sha1", "list hash")
        need(crl.get_revoked_certificate_by_serial_number(subject.serial_number) is None, "revoked")
        need(crl.next_update_utc is not None, "list without an end")
        need(crl.last_update_utc <= at <= crl.next_update_utc, "list time")
        for extension in crl.extensions:
            if isinstance(extension.value, x509.IssuingDistributionPoint):
                here = {name.value for name in extension.value.full_name or ()}
                need(bool(here & names), "point")
            else:
                need(not extension.critical, "critical")
