"""A second verifier of Azure's HCL reports, written naively: slices, and one function. It exists to disagree with the real one.

It shares no code with it. The hardware's report is verified elsewhere; what it says comes in.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from reference import tpm
from reference.tpm import Rejected, need

TD = {
    264: (0, 16),
    280: (16, 48),
    328: (64, 48),
    376: (112, 8),
    512: (120, 16),
    528: (136, 384),
    128: (520, 64),
}
"""Offset in a TDREPORT to offset in a quote's body and size; neighbours together."""


def number(text: Any) -> int:
    need(isinstance(text, str) and "=" not in text and text.strip() == text, "base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    need(base64.urlsafe_b64encode(data).decode().rstrip("=") == text, "base64url")
    return int.from_bytes(data, "big")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    need(len({name for name, _ in pairs}) == len(pairs), "twice")
    return dict(pairs)


def refuse(text: str) -> None:
    raise Rejected("number")


def decode(report: bytes) -> dict[str, Any]:
    """The report's parts."""
    need(len(report) > 1236 and report[:4] == b"HCLA", "signature")
    version, size, request, status = struct.unpack_from("<IIII", report, 4)
    need(version in (1, 2) and size == len(report) and request == 2 and status == 0, "header")
    need(report[20:32] == bytes(12), "reserved")
    data_size, runtime_version, kind, digest, length = struct.unpack_from("<IIIII", report, 1216)
    need(data_size == size - 1216 and length == size - 1236, "sizes")
    need(runtime_version == 1 and kind in (2, 4) and digest == 1, "kinds")
    need(kind == 2 or report[32 + 1024 : 1216] == bytes(160), "padding")
    runtime = report[1236:]
    value = json.loads(runtime.decode(), object_pairs_hook=once, parse_float=refuse, parse_constant=refuse)
    need(isinstance(value, dict), "object")
    aks = [key for key in value["keys"] if key["kid"] == "HCLAkPub"]
    need(0 < len(value["keys"]) < 9 and len(aks) == 1, "keys")
    need(aks[0]["kty"] == "RSA" and aks[0]["key_ops"] == ["sign"], "AK")
    modulus = number(aks[0]["n"])
    need(modulus.bit_length() in (2048, 3072, 4096), "bits")
    settings = value.get("vm-configuration", {})
    need(isinstance(settings, dict) and len(settings) < 65, "settings")
    for text in [*settings, *(found for found in settings.values() if isinstance(found, str))]:
        need(len(text) < 257 and text.isprintable(), "text")
    for setting in settings.values():
        need(not isinstance(setting, int) or len(str(setting)) < 21, "integer")
    if "user-data" in value:
        need(len(value["user-data"]) == 128 and len(bytes.fromhex(value["user-data"])) == 64, "user-data")
    return {
        "kind": kind,
        "hardware": report[32 : 32 + (1184 if kind == 2 else 1024)],
        "report_data": hashlib.sha256(runtime).digest() + bytes(32),
        "ak": rsa.RSAPublicNumbers(number(aks[0]["e"]), modulus).public_key(),
        "settings": settings,
    }


def verify(
    parts: Any, report: bytes, root: bytes, proved: tuple[bytes, int | None, bytes, bytes], paravisors: Any
) -> dict[str, Any]:
    """Everything above the hardware: `proved` is its REPORT_DATA, VMPL, quote body and measurement."""
    report_data, vmpl, body, measurement = proved
    try:
        found = decode(report)
        need(report_data == found["report_data"], "runtime data")
        if found["kind"] == 2:
            need(vmpl == 0, "VMPL")
        else:
            for at, (theirs, size) in TD.items():
                need(found["hardware"][at : at + size] == body[theirs : theirs + size], "TDREPORT")
        need(measurement in paravisors, "paravisor")
        said = tpm.verify(parts, root)
        need(said["ak"] == found["ak"], "AK")
        name = tpm.name(parts.ak_public)
        hash_name = tpm.HASHES[int.from_bytes(name[:2], "big")][0]
        expected = name[:2] + hashlib.new(hash_name, bytes.fromhex("4000000b") + name).digest()
        need(tpm.attest(parts.quote[0])["signer"] == expected, "qualified name")
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        raise Rejected("garbled") from error
    return found
