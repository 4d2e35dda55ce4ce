"""A second verifier of NVIDIA evidence, written naively: slices, `cryptography` for certificates and OCSP, minidom for XML with a canonical
form of its own; true or the reason why not.

It exists to disagree with the real one. It shares no code with it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp as library

DS, SWID = "http://www.w3.org/2000/09/xmldsig#", "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
FWID = bytes.fromhex("06096086480165030402020430")


LIBRARY = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    ExpatError,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.InvalidVersion,
)


class Rejected(Exception):
    """Why the naive verifier says no."""


def need(condition: object, reason: str) -> None:
    if not condition:
        raise Rejected(reason)


def attempt(action: Callable[[], Any], reason: str) -> Any:
    """What a library returns; whatever it raises is a no."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return action()
    except LIBRARY as error:
        raise Rejected(reason) from error


def le(data: bytes) -> int:
    return int.from_bytes(data, "little")


def decode(report: bytes, switch: bool) -> dict[str, Any]:
    """Fields of a report by name, after the checks of form."""
    need(len(report) > 45 and report[:4] == b"\x11\xe0\x01\xff" and report[36] < 16, "request")
    need(report[37:41] == b"\x11\x60\0" + report[36:37], "response")
    count, size = report[41], le(report[42:45])
    need(count and size == 55 * count, "record")
    measurements = []
    for number in range(count):
        block = report[45 + 55 * number : 100 + 55 * number]
        need(
            block[:4] == bytes([number + 1, 1, 51, 0]) and block[4:5] < b"\x80" and block[5:7] == b"\x30\0",
            "block",
        )
        measurements.append(block[7:])
    rest = report[45 + size :]
    length = le(rest[32:34])
    need(len(rest) == 34 + length + 96, "length")
    data, fields = rest[34 : 34 + length], {}
    while data:
        kind, end = le(data[:2]), 4 + le(data[2:4])
        need(len(data) >= end and end >= 4 and kind not in fields, "opaque")
        fields[kind], data = data[4:end], data[end:]
    return {"nonce": report[4:36], "measurements": measurements, "response_nonce": rest[:32]} | about(
        fields, switch
    )


def about(fields: dict[int, bytes], switch: bool) -> dict[str, Any]:
    need(6 in fields and (22 if switch else 3) in fields, "fields")
    need(len(fields.get(20, bytes(48))) == 48, "fwid")
    found: dict[str, Any] = {"fwid": fields.get(20), "opaque": list(fields.items())}
    if switch:
        pdi, gpus = fields[22], fields.get(26)
        need(
            len(pdi) == 8 and any(pdi) and re.fullmatch(rb"([0-9A-F]{2}\.){4}[0-9A-F]{2}\0*", fields[6]),
            "switch",
        )
        need(
            gpus is None or (len(gpus) == 128 and all(port < 8 or port == 255 for port in gpus[64:])), "gpus"
        )
        seen = None if gpus is None else {gpus[8 * p : 8 * p + 8] for p in gpus[64:] if p != 255} - {bytes(8)}
        return found | {"vbios": fields[6].rstrip(b"\0").decode(), "pdi": pdi, "gpus": seen}
    need(len(fields[6]) == 8 and fields[6][5:] == bytes(3), "vbios")
    need(re.fullmatch(rb"\d{1,4}(\.\d{1,4}){1,3}\0*", fields[3]), "driver")
    for kind in (11, 21):
        need(fields.get(kind, b"\x55") in (b"\x55", b"\xaa"), "status")
    need(
        fields.get(36, b"\0\0") in (b"\0\0", b"\1\0", b"\2\0") and len(fields.get(14, bytes(4))) == 4,
        "numbers",
    )
    texts = {
        name: fields[kind].rstrip(b"\0")
        for kind, name in ((17, "project"), (18, "project_sku"), (15, "chip_sku"))
        if kind in fields
    }
    need(all(0x20 <= byte < 0x7F for text in texts.values() for byte in text), "text")
    links = fields.get(22)
    need(links is None or len(links) % 8 == 0, "links")
    digits = fields[6][3::-1].hex() + fields[6][4:5].hex()
    return (
        found
        | {
            "vbios": ".".join(digits[n : n + 2] for n in range(0, 10, 2)).upper(),
            "driver": fields[3].rstrip(b"\0").decode(),
            "nvdec0": fields.get(11),
            "ppcie": None if 21 not in fields else fields[21] == b"\xaa",
            "feature": None if 36 not in fields else le(fields[36]),
            "switches": None
            if links is None
            else {links[n : n + 8] for n in range(0, len(links), 8)} - {bytes(8)},
        }
        | {name: text.decode() or None for name, text in texts.items()}
    )


def signed_by(key: Any, signature: bytes, data: bytes) -> None:
    """r ‖ s by a P-384 key over SHA-384."""
    need(isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1", "key")
    r, s = (int.from_bytes(half, "big") for half in (signature[:48], signature[48:]))
    attempt(
        lambda: key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA384())), "signature"
    )


def walk(
    chain: Sequence[x509.Certificate], at: datetime, roots: Sequence[bytes], path_length: bool = True
) -> None:
    """A chain, leaf first, whose last is a root."""
    need(chain and chain[-1].fingerprint(hashes.SHA256()) in roots, "root")
    for number, certificate in enumerate(chain):
        need(certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc, "validity")
        issuer = chain[min(number + 1, len(chain) - 1)]
        need(
            isinstance(certificate.signature_hash_algorithm, (hashes.SHA256, hashes.SHA384, hashes.SHA512)),
            "hash",
        )
        attempt(lambda c=certificate, i=issuer: c.verify_directly_issued_by(i), "issued")  # type: ignore[misc]
        extensions = attempt(lambda c=certificate: c.extensions, "extensions")  # type: ignore[misc]
        known = (x509.KeyUsage, x509.BasicConstraints, x509.ExtendedKeyUsage)
        need(all(isinstance(found.value, known) for found in extensions if found.critical), "critical")
        usage = attempt(lambda e=extensions: e.get_extension_for_class(x509.KeyUsage).value, "usage")  # type: ignore[misc]
        need(usage.digital_signature if number == 0 else usage.key_cert_sign, "usage")
        if number:
            limits = attempt(
                lambda e=extensions: e.get_extension_for_class(x509.BasicConstraints).value, "ca"
            )  # type: ignore[misc]
            need(limits.ca and (limits.path_length is None or number - 1 <= limits.path_length), "ca")


def name(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    need(len(found) == 1, "name")
    return str(found[0].value)


def identify(chain: Sequence[x509.Certificate], switch: bool) -> dict[str, Any]:
    alternative = attempt(
        lambda: chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value, "san"
    )
    others = list(alternative)
    need(len(others) == 1 and isinstance(others[0], x509.OtherName), "san")
    need(others[0].type_id.dotted_string == "1.3.6.1.4.1.412.274.1" and others[0].value[:1] == b"\x0c", "san")
    leaf = re.fullmatch(rb"NVIDIA:(\w+):([0-9A-F]{16})", others[0].value[2:])
    brom = re.fullmatch(r"(\w+) \w+ (GSP|FSP) BROM", name(chain[1]))
    above = re.fullmatch(r"NVIDIA (\w+) Provisioner ICA \d+", name(chain[2]))
    need(leaf and brom and above, "names")
    assert leaf
    assert brom
    assert above
    chip = brom[1]
    need(
        leaf[1].decode() == chip == above[1]
        and (chip == "LS_10" if switch else re.fullmatch(r"G[HB]\d{3}", chip)),
        "chip",
    )
    extensions = {found.oid.dotted_string: found.value for found in chain[0].extensions}
    named = [extensions[oid] for oid in ("2.23.133.5.4.1", "2.23.133.5.4.1.1") if oid in extensions]
    need(len(named) <= 1, "fwid")
    value = named[0].value if named and isinstance(named[0], x509.UnrecognizedExtension) else b""
    at = value.find(FWID)
    return {
        "chip": chip.replace("_", ""),
        "model": name(chain[1]),
        "serial": leaf[2].decode(),
        "ueid": str(chain[0].serial_number),
        "certified": value[at + len(FWID) :][:48] if at >= 0 else None,
    }


def text_of(node: Any) -> str:
    return "".join(child.data for child in node.childNodes if child.nodeType == child.TEXT_NODE)


def elements(node: Any) -> list[Any]:
    return [child for child in node.childNodes if child.nodeType == child.ELEMENT_NODE]


def canonical(element: Any, scope: dict[str, str], rendered: dict[str, str]) -> str:
    """Inclusive canonical XML of an element: all namespaces in scope that its output does not have yet, then sorted attributes."""

    def escape(text: str, more: dict[str, str]) -> str:
        for character, entity in ({"&": "&amp;", "<": "&lt;", "\r": "&#xD;"} | more).items():
            text = text.replace(character, entity)
        return text

    attributes = [element.attributes.item(n) for n in range(element.attributes.length)]
    declared = {
        a.name.partition(":")[2]: a.value
        for a in attributes
        if a.name == "xmlns" or a.name.startswith("xmlns:")
    }
    scope = scope | declared
    out = f"<{element.tagName}"
    for prefix, uri in sorted(scope.items()):
        if rendered.get(prefix, "") != uri:
            out += f' xmlns{":" if prefix else ""}{prefix}="{escape(uri, {chr(34): "&quot;"})}"'
    plain = [a for a in attributes if a.name != "xmlns" and not a.name.startswith("xmlns:")]
    for attribute in sorted(plain, key=lambda a: (a.namespaceURI or "", a.localName)):
        value = escape(attribute.value, {'"': "&quot;", "\t": "&#x9;", "\n": "&#xA;"})
        out += f' {attribute.name}="{value}"'
    out += ">"
    for child in element.childNodes:
        out += (
            canonical(child, scope, scope)
            if child.nodeType == child.ELEMENT_NODE
            else escape(child.data, {">": "&gt;"})
        )
    return f"{out}</{element.tagName}>"


def load_rim(data: bytes) -> dict[str, Any]:
    """Signature, chain and contents of a RIM; the signature's digest is checked, nothing else."""
    need(data.count(b"<") <= 2048 and data.count(b"xmlns") <= 64, "door")
    need(len(data) <= 1 << 18 and b"<!" not in data and b"<?" not in data and b" xml:" not in data, "door")
    need(data.count(b"<a>") < 16, "deep")
    root = attempt(
        lambda: minidom.parseString(attempt(lambda: data.decode(), "utf-8")), "xml"
    ).documentElement
    need(root.namespaceURI == SWID and root.localName == "SoftwareIdentity", "root")
    found = root.getElementsByTagNameNS(DS, "Signature")
    need(len(found) == 1 and found[0].parentNode is root, "signature")
    need(all(a.name.startswith("xmlns") for a in found[0].attributes.values()), "signature")
    need(not re.search(rb'xmlns(:\w+)?="(?!http|https)[^"]*"', data), "relative namespace")
    parts = [e.localName for e in elements(found[0])]
    need(parts == ["SignedInfo", "SignatureValue", "KeyInfo"] and not text_of(found[0]).strip(), "parts")
    info, value, key_info = elements(found[0])
    scope = {
        a.name.partition(":")[2]: a.value
        for n in (root, found[0])
        for a in n.attributes.values()
        if a.name.startswith("xmlns")
    }
    signed_info = canonical(info, scope, {})
    # What a RIM's SignedInfo looks like is fixed but for the digest, so it can be compared as text.
    inner = re.sub(r"\s+(?=<)", "", re.sub(r"^<ds:SignedInfo[^>]*>", "", signed_info))
    expected = (
        r'<ds:CanonicalizationMethod Algorithm="http://www\.w3\.org/2006/12/xml-c14n11"></ds:CanonicalizationMethod>'
        r'<ds:SignatureMethod Algorithm="http://www\.w3\.org/2001/04/xmldsig-more#ecdsa-sha384"></ds:SignatureMethod>'
        r'<ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="http://www\.w3\.org/2000/09/xmldsig#enveloped-signature">'
        r'</ds:Transform><ds:Transform Algorithm="http://www\.w3\.org/2006/12/xml-c14n11"></ds:Transform></ds:Transforms>'
        r'<ds:DigestMethod Algorithm="http://www\.w3\.org/2001/04/xmldsig-more#sha384"></ds:DigestMethod>'
        r"<ds:DigestValue>([^<]*)</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    )
    match = re.fullmatch(expected, inner)
    need(match and not info.attributes.length, "signed info")
    assert match
    data_elements = elements(key_info)
    need([e.localName for e in data_elements] == ["X509Data"] and not key_info.attributes.length, "key info")
    holders = elements(data_elements[0])
    need(
        1 <= len(holders) <= 8
        and all(e.localName == "X509Certificate" and not e.attributes.length for e in holders),
        "certificates",
    )
    decode64 = lambda text: attempt(lambda: base64.b64decode("".join(text.split()), validate=True), "base64")  # noqa: E731
    chain = [
        attempt(lambda e=e: x509.load_der_x509_certificate(decode64(text_of(e))), "certificate")
        for e in holders
    ]  # type: ignore[misc]
    root.removeChild(found[0])
    digest = hashlib.sha384(canonical(root, {}, {}).encode()).digest()
    need(decode64(match[1]) == digest, "digest")
    return {
        "signed_info": signed_info.encode(),
        "signature": decode64(text_of(value)),
        "chain": chain,
    } | contents(root)


def contents(root: Any) -> dict[str, Any]:
    metas, payloads = (
        [e for e in elements(root) if (e.namespaceURI, e.localName) == (SWID, n)] for n in ("Meta", "Payload")
    )
    need(len(metas) == 1 and len(payloads) == 1, "contents")
    meta = {a.name: a.value for a in metas[0].attributes.values()}
    need(meta.get("PayloadType") == "direct" and meta.get("edition") in ("GPU", "SWITCH"), "meta")
    values: dict[int, set[bytes]] = {}
    seen = set()
    for resource in elements(payloads[0]):
        a = {found.name: found.value for found in resource.attributes.values()}
        need(
            a.get("type") == "Measurement" and a.get("size") == "48" and a.get("active") in ("True", "False"),
            "resource",
        )
        need(
            re.fullmatch(r"0|[1-9]\d?\d?", a.get("index", ""))
            and int(a["index"]) < 255
            and a["index"] not in seen,
            "index",
        )
        digests = [v for k, v in a.items() if k.startswith("ns2:Hash")]
        need(a.get("alternatives") == str(len(digests)) and digests, "alternatives")
        need(all(re.fullmatch(r"[0-9a-fA-F]{96}", found) for found in digests), "hash")
        seen.add(a["index"])
        if a["active"] == "True":
            values[int(a["index"])] = {bytes.fromhex(found) for found in digests}
    need(values, "values")
    return {
        "edition": meta["edition"],
        "product": meta.get("product"),
        "version": meta.get("colloquialVersion"),
        "values": values,
    }


def answered(
    chain: Sequence[x509.Certificate],
    answers: Sequence[library.OCSPResponse],
    at: datetime,
    max_age: timedelta,
) -> None:
    """Some answer about the first certificate is authentic and fresh, and none that is authentic says anything but good."""
    good = False
    need(sum(answer.serial_number == chain[0].serial_number for answer in answers) <= 4, "too many")
    for answer in answers:
        if answer.serial_number != chain[0].serial_number or not same_issuer(answer, chain[1]):
            continue
        key = responder(answer, chain[1:], at)
        if key is None or not holds(key, answer.signature, answer.tbs_response_bytes):
            continue
        need(answer.certificate_status == library.OCSPCertStatus.GOOD, "status")
        until = answer.next_update_utc
        good |= (
            until is not None
            and answer.this_update_utc <= at <= until
            and at - answer.this_update_utc <= max_age
        )
    need(good, "no answer")


def same_issuer(answer: library.OCSPResponse, issuer: x509.Certificate) -> bool:
    algorithm = answer.hash_algorithm
    need(algorithm.name in ("sha256", "sha384", "sha512"), "hash")
    bits = issuer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    names = hashlib.new(algorithm.name, issuer.subject.public_bytes()).digest()
    return (answer.issuer_name_hash, answer.issuer_key_hash) == (
        names,
        hashlib.new(algorithm.name, bits).digest(),
    )


def holds(key: Any, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True


def responder(answer: library.OCSPResponse, authorities: Sequence[x509.Certificate], at: datetime) -> Any:
    """Key of the authority, or of whom one of them appointed."""
    for authority in authorities:
        if holds(authority.public_key(), answer.signature, answer.tbs_response_bytes):
            return authority.public_key()
    for certificate in answer.certificates:
        for authority in authorities:
            try:
                certificate.verify_directly_issued_by(authority)
                purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
                usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
            except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
                continue
            valid = certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
            if valid and usage.digital_signature and x509.ExtendedKeyUsageOID.OCSP_SIGNING in purposes:
                return certificate.public_key()
    return None


def verify(
    gpus: Sequence[tuple[bytes, Sequence[bytes]]],
    switches: Sequence[tuple[bytes, Sequence[bytes]]],
    rims: Sequence[bytes],
    answers: Sequence[bytes],
    at: datetime,
    max_age: timedelta | None,
    roots: tuple[Sequence[bytes], Sequence[bytes]],
) -> list[dict[str, Any]]:
    """Fields of every device. Revocation is asked for when there is a maximum age.

    Args:
        roots: fingerprints of roots for devices, and of those for RIMs.
    """
    answer = lambda: _verify(gpus, switches, rims, answers, at, max_age, roots)  # noqa: E731
    found: list[dict[str, Any]] = attempt(answer, "a library says no")
    return found


def _verify(
    gpus: Sequence[tuple[bytes, Sequence[bytes]]],
    switches: Sequence[tuple[bytes, Sequence[bytes]]],
    rims: Sequence[bytes],
    answers: Sequence[bytes],
    at: datetime,
    max_age: timedelta | None,
    roots: tuple[Sequence[bytes], Sequence[bytes]],
) -> list[dict[str, Any]]:
    need(gpus, "no gpu")
    tags = [load_rim(found) for found in rims]
    loaded = [attempt(lambda d=d: library.load_der_ocsp_response(d), "ocsp") for d in answers]  # type: ignore[misc]
    for answer in loaded:
        need(
            answer.response_status == library.OCSPResponseStatus.SUCCESSFUL and len(answer.certificates) <= 4,
            "ocsp",
        )
        extensions = attempt(lambda a=answer: a.extensions, "ocsp")  # type: ignore[misc]
        need(all(isinstance(e.value, x509.OCSPNonce) or not e.critical for e in extensions), "ocsp")
        singles = attempt(lambda a=answer: a.single_extensions, "ocsp")  # type: ignore[misc]
        need(not any(e.critical for e in singles), "ocsp")
        need(attempt(lambda a=answer: a.hash_algorithm.name, "ocsp") != "sha1", "ocsp")  # type: ignore[misc]
    found, marks = [], set()
    for switch, parts in [(False, part) for part in gpus] + [(True, part) for part in switches]:
        report, chain_der = parts
        chain = [attempt(lambda d=d: x509.load_der_x509_certificate(d), "certificate") for d in chain_der]  # type: ignore[misc]
        need(len(chain) == 5, "length")
        fields = decode(report, switch)
        walk(chain, at, roots[0])
        signed_by(chain[0].public_key(), report[-96:], report[:-96])
        fields |= identify(chain, switch)
        need(fields["fwid"] is None or fields["fwid"] == fields["certified"], "fwid")
        keys = [c.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for c in chain[:2]]
        own = {report[-96:], fields["response_nonce"], *keys, *([fields["pdi"]] if switch else [])}
        need(not own & marks, "twice")
        marks |= own
        wanted = [fields["vbios"]] if switch else [fields["driver"], fields["vbios"]]
        fields["compared"] = compare(fields, wanted, tags, switch, at, roots[1])
        if max_age is not None:
            for number in (1, 2, 3):
                answered(chain[number:], loaded, at, max_age)
        found.append(fields)
    if max_age is not None:
        for tag in tags:
            for number in range(len(tag["chain"]) - 1):
                answered(tag["chain"][number:], loaded, at, max_age)
    wiring(found[: len(gpus)], found[len(gpus) :])
    return found


def compare(
    fields: dict[str, Any],
    wanted: Sequence[str],
    tags: Sequence[dict[str, Any]],
    switch: bool,
    at: datetime,
    roots: Sequence[bytes],
) -> int:
    golden: dict[int, set[bytes]] = {}
    for version in wanted:
        matching = [
            tag
            for tag in tags
            if (tag["version"], tag["product"], tag["edition"])
            == (version, fields["chip"], "SWITCH" if switch else "GPU")
        ]
        need(len(matching) == 1, f"rim {version}")
        tag = matching[0]
        walk(tag["chain"], at, roots)
        signed_by(tag["chain"][0].public_key(), tag["signature"], tag["signed_info"])
        need(not golden.keys() & tag["values"].keys(), "conflict")
        golden |= tag["values"]
    if fields.get("nvdec0") == b"\x55":
        golden.pop(35, None)
    for index, values in golden.items():
        need(
            index < len(fields["measurements"]) and fields["measurements"][index] in values, f"index {index}"
        )
    return len(golden)


def wiring(gpus: Sequence[dict[str, Any]], switches: Sequence[dict[str, Any]]) -> None:
    there = {switch["pdi"] for switch in switches}
    need(all((gpu["switches"] or set()) == there for gpu in gpus), "switches")
    lists = [switch["gpus"] for switch in switches if switch["gpus"] is not None]
    need(all(found == lists[0] and len(found) == len(gpus) for found in lists), "gpus")
