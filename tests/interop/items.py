"""Evidence items of the kind tpm2 with other contents than usual, quoted and certified anew by a key made here.

No registrar endorsed that key, so both verifiers refuse its certificate; what is compared is everything else.
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from rlu_attestation.encoding import b64u, unb64u

Item = dict[str, Any]
Banks = Sequence[tuple[int, Mapping[int, bytes]]]
SHA1, SHA256, SHA384, SHA512, SM3 = 0x0004, 0x000B, 0x000C, 0x000D, 0x0012
NAMES = {SHA1: "sha1", SHA256: "sha256", SHA384: "sha384", SHA512: "sha512", SM3: "sm3_256"}
POLICY_PCR, POLICY_AUTH_VALUE = b"\0\0\x01\x7f", b"\0\0\x01\x6b"
NO_ACTION, EVENT, IMA = 3, 13, 10
VECTORS = json.loads(
    (Path(__file__).resolve().parents[2] / "attestation" / "vectors" / "evidence-tpm2.json").read_bytes()
)
AT, BINDING = VECTORS["at"], VECTORS["binding"]
GENUINE = {one["name"]: one["item"] for one in VECTORS["genuine"]}
BASE, WITH_IMA = GENUINE["ecdsa-p256-sha256"], GENUINE["with-ima"]
KEY = ec.generate_private_key(ec.SECP256R1())


def h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def signed(attest: bytes) -> dict[str, str]:
    r, s = utils.decode_dss_signature(KEY.sign(attest, ec.ECDSA(hashes.SHA256())))
    signature = (
        struct.pack(">HH", 0x0018, SHA256) + sized(r.to_bytes(32, "big")) + sized(s.to_bytes(32, "big"))
    )
    return {"attest": b64u(attest), "signature": b64u(signature)}


def selection(banks: Banks, size: int, without: Sequence[int] = ()) -> bytes:
    out = struct.pack(">I", len(banks))
    for algorithm, values in banks:
        bitmap = bytearray(size)
        for pcr in values:
            if pcr not in without:
                bitmap[pcr >> 3] |= 1 << (pcr & 7)
        out += struct.pack(">HB", algorithm, size) + bitmap
    return out


def quoted(item: Item, banks: Banks, *, size: int = 3) -> Item:
    """The item with these PCRs, its key bound to them."""
    item = copy.deepcopy(item)
    point = KEY.public_key().public_numbers()
    coordinates = sized(point.x.to_bytes(32, "big")) + sized(point.y.to_bytes(32, "big"))
    item["ak_public"] = b64u(unb64u(BASE["ak_public"])[: -len(coordinates)] + coordinates)

    values = b"".join(values[pcr] for _, values in banks for pcr in sorted(values))
    quote = unb64u(item["quote"]["attest"])
    after = 6
    for _ in range(2):  # signer, qualifying data
        after += 2 + struct.unpack_from(">H", quote, after)[0]
    after += 17 + 8  # clock, firmware
    item["quote"] = signed(quote[:after] + selection(banks, size) + sized(h(values)))

    without = (IMA,) if "ima_log" in item else ()
    bound = b"".join(values[pcr] for _, values in banks for pcr in sorted(values) if pcr not in without)
    chosen = selection(banks, 3 if without else size, without)
    policy = h(h(bytes(32) + POLICY_PCR + chosen + h(bound)) + POLICY_AUTH_VALUE)
    key = unb64u(item["key_public"])
    key = key[:10] + policy + key[42:]
    item["key_public"] = b64u(key)
    certify = unb64u(item["certify"]["attest"])
    after = 6 + 2 + struct.unpack_from(">H", certify, 6)[0] + 2 + 17 + 8
    item["certify"] = signed(certify[:after] + sized(b"\0\x0b" + h(key)) + certify[after + 36 :])
    item["pcrs"] = {
        NAMES[algorithm]: {str(pcr): b64u(value) for pcr, value in values.items()}
        for algorithm, values in banks
    }
    return item


def pcrs(item: Item) -> dict[int, bytes]:
    return {int(pcr): unb64u(value) for pcr, value in item["pcrs"]["sha256"].items()}


# --- the firmware's log ---


def event(pcr: int, data: bytes, kind: int = EVENT, algorithms: Sequence[int] = (SHA256,)) -> bytes:
    digests = b"".join(struct.pack("<H", one) + hashlib.new(NAMES[one], data).digest() for one in algorithms)
    head = struct.pack("<III", pcr, kind, len(algorithms))
    return head + digests + struct.pack("<I", len(data)) + data


def with_log(log: bytes, item: Item = BASE) -> Item:
    return {**item, "event_log": b64u(log)}


def logs() -> dict[str, Item]:
    log, ima_log = unb64u(BASE["event_log"]), unb64u(WITH_IMA["event_log"])
    head = 32 + struct.unpack_from("<I", log, 28)[0]
    locality = b"StartupLocality\0"

    def first(pcr: int, data: bytes) -> Item:
        return with_log(log[:head] + event(pcr, data, NO_ACTION) + log[head:])

    def at(position: int, byte: int) -> Item:
        return with_log(log[:position] + bytes([byte]) + log[position + 1 :])

    return {
        "log: as it is": BASE,
        "log: an event of a PCR that is not quoted": with_log(log + event(8, b"x")),
        "log: an event that extends nothing": with_log(log + event(7, b"x", NO_ACTION)),
        "log: an event of a quoted PCR": with_log(ima_log + event(IMA, b"x"), WITH_IMA),
        "log: no events": with_log(log[:head]),
        "log: empty": with_log(b""),
        "log: no header": with_log(log[head:]),
        "log: header in PCR 1": at(0, 1),
        "log: header with a digest": at(8, 1),
        "log: zeros follow": with_log(log + bytes(64)),
        "log: PCR 23": with_log(log + event(23, b"x")),
        "log: PCR 24": with_log(log + event(24, b"x")),
        "log: a digest too many": with_log(log + event(8, b"x", EVENT, (SHA256, SHA1))),
        "log: a digest twice": with_log(log + event(8, b"x", EVENT, (SHA256, SHA256))),
        "log: no digest": with_log(log + event(8, b"x", EVENT, ())),
        "log: locality 0": first(0, locality + b"\0"),
        "log: locality 3": first(0, locality + b"\3"),
        "log: locality of PCR 1": first(1, locality + b"\3"),
        "log: locality too long": first(0, locality + b"\0\0"),
        "log: locality too late": with_log(log + event(0, locality + b"\0", NO_ACTION)),
    }


# --- selections ---


def selections() -> dict[str, Item]:
    values = pcrs(BASE)
    bare = {name: value for name, value in BASE.items() if name != "event_log"}
    sha1 = {0: hashlib.sha1(b"a").digest()}

    def also(pcr: int, value: bytes) -> Item:
        return quoted(BASE, [(SHA256, {**values, pcr: value})])

    def renamed(item: Item, was: str, becomes: str) -> Item:
        item["pcrs"]["sha256"][becomes] = item["pcrs"]["sha256"].pop(was)
        return item

    def left_out(item: Item) -> Item:
        del item["pcrs"]["sha1"]
        return item

    return {
        "PCRs: as they are": quoted(BASE, [(SHA256, values)]),
        "PCRs: one that the log does not extend": also(14, h(b"a")),
        "PCRs: one that it extends to something else": with_log(
            unb64u(BASE["event_log"]) + event(14, b"x"), also(14, h(b"a"))
        ),
        "PCRs: one that it extends": with_log(
            unb64u(BASE["event_log"]) + event(14, b"x"), also(14, h(bytes(32) + h(b"x")))
        ),
        "PCRs: two of them": quoted(BASE, [(SHA256, {pcr: values[pcr] for pcr in (4, 7)})]),
        "PCRs: none that the log knows": quoted(BASE, [(SHA256, {8: h(b"a")})]),
        "PCRs: a bank that the log does not know": quoted(BASE, [(SHA384, {0: bytes(48)})]),
        "PCRs: another bank beside": quoted(BASE, [(SHA1, sha1), (SHA256, values)]),
        "PCRs: SHA-512": quoted(bare, [(SHA512, {0: bytes(64)})]),
        "PCRs: SM3": quoted(bare, [(SM3, {0: bytes(32)})]),
        "PCRs: a bank twice": quoted(bare, [(SHA256, {0: values[0]}), (SHA256, {1: values[1]})]),
        "PCRs: an empty bank": quoted(bare, [(SHA1, {}), (SHA256, values)]),
        "PCRs: an empty bank, left out": left_out(quoted(bare, [(SHA1, {}), (SHA256, values)])),
        "PCRs: four bytes of bits": quoted(bare, [(SHA256, values)], size=4),
        "PCRs: two bytes of bits": quoted(bare, [(SHA256, values)], size=2),
        "PCRs: 00": renamed(quoted(bare, [(SHA256, values)]), "0", "00"),
        "PCRs: a short value": {
            **quoted(bare, [(SHA256, values)]),
            "pcrs": {"sha256": {str(pcr): b64u(value[:20]) for pcr, value in values.items()}},
        },
    }


# --- the kernel's list ---


@dataclass(frozen=True)
class Entry:
    encoded: bytes
    data: bytes
    named: bytes
    violation: bool = False


def entry(
    name: bytes,
    content: bytes = b"x",
    *,
    template: bytes = b"ima-ng",
    algorithm: bytes = b"sha256",
    pcr: int = IMA,
    violation: bool = False,
    end: bytes = b"\0",
    more: bytes = b"",
) -> Entry:
    file = bytes(32) if violation else hashlib.new(algorithm.split(b":")[-1].decode(), content).digest()
    fields = (algorithm + b":\0" + file, name + end)
    data = b"".join(struct.pack("<I", len(field)) + field for field in fields) + more
    named = bytes(20) if violation else hashlib.sha1(data).digest()
    head = struct.pack("<I", pcr) + named + struct.pack("<I", len(template)) + template
    return Entry(head + struct.pack("<I", len(data)) + data, data, named, violation)


def listed(
    entries: Sequence[Entry], known: Mapping[int, bytes], *, upto: int | None = None, own: bool = True
) -> Item:
    value = bytes(32)
    for one in entries[:upto]:
        by = b"\xff" * 32 if one.violation else h(one.data) if own else one.named + bytes(12)
        value = h(value + by)
    item = {**WITH_IMA, "ima_log": b64u(b"".join(one.encoded for one in entries))}
    item.pop("event_log", None)
    return quoted(item, [(SHA256, {**known, IMA: value})])


def lists() -> dict[str, Item]:
    values = {pcr: value for pcr, value in pcrs(WITH_IMA).items() if pcr != IMA}
    eight = {pcr: value for pcr, value in values.items() if pcr < 8}
    boot = entry(b"boot_aggregate", b"".join(values[pcr] for pcr in range(10)))
    boot_of_eight = entry(b"boot_aggregate", b"".join(values[pcr] for pcr in range(8)))
    other = entry(b"boot_aggregate", b"another")
    file = entry(b"/bin/a")
    field = struct.pack("<I", 3) + b"sig"
    damaged = listed([boot, file, file], values, upto=2)
    damaged["ima_log"] = b64u(unb64u(damaged["ima_log"])[:-2] + b"\1\0")
    longer = listed([boot, file], values)
    longer["ima_log"] = b64u(unb64u(longer["ima_log"]) + b"\n")

    def after(one: Entry) -> Item:
        return listed([boot, one], values)

    return {
        "list: as it is": listed([boot, file], values),
        "list: boot aggregate of eight PCRs": listed([boot_of_eight, file], values),
        "list: digests of SHA-1": listed([boot, file], values, own=False),
        "list: a part of it": listed([boot, file], values, upto=1),
        "list: nothing of it": listed([boot, file], values, upto=0),
        "list: PCRs 8 and 9 not quoted": listed([boot, file], eight),
        "list: and another boot aggregate": listed([other, file], eight),
        "list: another boot aggregate": listed([other, file], values),
        "list: no boot aggregate": listed([file, boot], values),
        "list: a violation": after(entry(b"/x", violation=True)),
        "list: a violation for a boot aggregate": listed([entry(b"boot_aggregate", violation=True)], values),
        "list: PCR 11": after(entry(b"/x", pcr=11)),
        "list: another template": after(entry(b"/x", template=b"mine")),
        "list: a signature": after(entry(b"/x", template=b"ima-sig", more=field)),
        "list: no signature": after(entry(b"/x", template=b"ima-sig")),
        "list: a further field": after(entry(b"/x", more=field)),
        "list: version 2": after(entry(b"/x", template=b"ima-ngv2", algorithm=b"verity:sha256")),
        "list: version 2 without a kind": after(entry(b"/x", template=b"ima-ngv2")),
        "list: version 2 of another kind": after(entry(b"/x", template=b"ima-ngv2", algorithm=b"x:sha256")),
        "list: version 1 with a kind": after(entry(b"/x", algorithm=b"ima:sha256")),
        "list: MD5": after(entry(b"/x", algorithm=b"md5")),
        "list: SHA-512": after(entry(b"/x", algorithm=b"sha512")),
        "list: BLAKE2": after(entry(b"/x", algorithm=b"blake2s")),
        "list: an endless name": after(entry(b"/x", end=b"")),
        "list: an empty name": after(entry(b"")),
        "list: damaged behind the quote": damaged,
        "list: a byte too many": longer,
    }


def encode(item: Item) -> bytes:
    return json.dumps(item, sort_keys=True, separators=(",", ":")).encode()
