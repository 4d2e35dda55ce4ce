"""What a form is, is decided here by other means than the code's own."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
import urllib.parse
from collections.abc import Callable

import msgspec
import pytest

from rlu_server.selftest import forms
from rlu_server.selftest.forms import SHORTEST
from rlu_server.selftest.index import Index
from rlu_server.selftest.markers import STYLES, Marker, marker

TEXTS: dict[str, Callable[[str], bytes]] = {
    "text": lambda t: t.encode(),
    "base64": lambda t: base64.b64encode(b"x" + t.encode() + b"yz"),
    "base64url": lambda t: base64.urlsafe_b64encode(b"xy" + t.encode() + b"z"),
    "hex": lambda t: binascii.hexlify(b"x" + t.encode()),
    "HEX": lambda t: binascii.hexlify(b"x" + t.encode()).upper(),
    "percent": lambda t: urllib.parse.quote("?q=" + t + "&", safe="").encode(),
    "form": lambda t: urllib.parse.urlencode({"q": t}).encode(),
    "json": lambda t: json.dumps({"q": t}).encode(),
    "JSON": lambda t: "".join(f"\\u{ord(c):04X}" for c in t if ord(c) < 0x10000).encode(),
    "python": lambda t: repr({"q": t.encode()}).encode(),
    "utf-16-le": lambda t: ("x" + t).encode("utf-16-le"),
    "utf-16-be": lambda t: b"\0" + ("x" + t).encode("utf-16-be"),
    "utf-32-le": lambda t: ("x" + t).encode("utf-32-le"),
    "utf-32-be": lambda t: ("x" + t).encode("utf-32-be"),
}


def found(needles: list[forms.Needle], data: bytes) -> set[str]:
    index = Index(needles)
    return {index.needles[number].form for _, number in index.find(data)}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", TEXTS)
def test_forms_that_others_make(secret: bytes, style: str, name: str) -> None:
    for number in range(20):
        one = marker(secret, "s", number, style)  # type: ignore[arg-type]
        text = one.text if name != "JSON" else "".join(c for c in one.text if ord(c) < 0x10000)
        made = TEXTS[name](text)
        got = found(list(forms.of_text(text, "s")), b"before " + made + b" after")
        same = text.encode() in made and "text" in got
        both = name == "base64url" and "base64" in got
        assert name in got or same or both, (name, one)


def test_every_form_is_told_apart(secret: bytes) -> None:
    text = marker(secret, "s", 0, "unicode").text
    needles = [
        *forms.of_text(text, "s", [lambda t: [ord(c) for c in t]]),
        *forms.of_digests(text.encode(), "s"),
    ]
    assert {needle.form for needle in needles} >= set(forms.FORMS) - {"base64url"}
    assert all(len(needle.data) >= SHORTEST for needle in needles)


@pytest.mark.parametrize("name", forms.DIGESTS)
def test_digests(made: list[Marker], name: str) -> None:
    content = made[0].text.encode()
    digest = hashlib.new(name, content).digest()
    written = (
        digest,
        digest.hex().encode(),
        digest.hex().upper().encode(),
        base64.b64encode(digest),
        base64.urlsafe_b64encode(digest),
    )
    for one in written:
        assert name in found(list(forms.of_digests(content, "s")), b"12345" + one + b"=rest")


def test_tokens() -> None:
    ids = [70000, 5, 130, 40000, 9, 300, 77, 500, 600, 700, 800]
    needles = list(forms.of_text("marker of some length", "s", [lambda text: ids]))
    assert "tokens-int32" in found(needles, b"abc" + struct.pack("<11i", *ids))
    assert "tokens-int64" in found(needles, b"abc" + struct.pack("<11q", *ids))
    assert "tokens-json" in found(needles, json.dumps({"ids": ids}).encode())
    assert "tokens-json" in found(needles, json.dumps({"ids": ids}, separators=(",", ":")).encode())
    assert "tokens-msgpack" in found(needles, msgspec.msgpack.encode({"ids": ids}))
    assert "tokens-int32" not in found(needles, struct.pack("<11i", *ids[::-1]))


def test_a_part_of_a_marker_is_found(made: list[Marker]) -> None:
    for one in made:
        raw = one.text.encode()
        needles = list(forms.of_text(one.text, "s"))
        assert "text" in found(needles, b"it began " + raw[: len(raw) // 2])


def test_other_markers_are_not_found(secret: bytes, made: list[Marker], index: Index) -> None:
    for number in range(1, 200):
        for style in STYLES:
            other = marker(secret, "test", number, style).text
            assert other not in {one.text for one in made}
            for needle in (*forms.of_text(other, "s"), *forms.of_digests(other.encode(), "s")):
                assert list(index.find(needle.data + bytes(8))) == [], (other, made)
