"""Reference values: XML from strangers refuses quickly, and only what was signed is read."""

from __future__ import annotations

import functools
import hashlib
import resource
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import nvidia as fake
from fakes.nvidia_changes import GPU, SWITCH, rim
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence import nvidia
from rlu_attestation.evidence.nvidia import DeviceKind
from rlu_attestation.evidence.nvidia.xmltree import (
    MAX_ATTRIBUTES,
    MAX_DEPTH,
    MAX_NAMESPACES,
    MAX_TAGS,
    MAX_XML,
    read,
    read_enveloped,
)

ENTITIES = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE = {
    "billion-laughs": f'<!DOCTYPE l [<!ENTITY l0 "lol">{ENTITIES}]><l>&l9;</l>',
    "quadratic-blow-up": f'<!DOCTYPE l [<!ENTITY a "{"a" * 50000}">]><l>{"&a;" * 50000}</l>',
    "external-entity": '<!DOCTYPE l [<!ENTITY e SYSTEM "file:///etc/hostname">]><l>&e;</l>',
    "external-subset": '<!DOCTYPE l SYSTEM "http://127.0.0.1:9/x.dtd"><l></l>',
    "parameter-entity": '<!DOCTYPE l [<!ENTITY % e SYSTEM "http://127.0.0.1:9/x">%e;]><l></l>',
    "deep": "<a>" * 60000 + "</a>" * 60000,
    "deep-unclosed": "<a>" * 80000,
    "wide": "<a>" + "<b/>" * 60000 + "</a>",
    "attributes": "<a " + " ".join(f'x{n}=""' for n in range(20000)) + "/>",
    "namespaces": "<a " + " ".join(f'xmlns:x{n}="urn:{n}"' for n in range(9000)) + "/>",
    "namespaces-and-elements": "<a "
    + " ".join(f'xmlns:x{n}="urn:{n}"' for n in range(4000))
    + ">"
    + "<b/>" * 20000
    + '<d:Signature xmlns:d="http://www.w3.org/2000/09/xmldsig#"><d:SignedInfo/></d:Signature></a>',
    "xinclude": '<a xmlns:x="http://www.w3.org/2001/XInclude"><x:include href="file:///etc/hostname"/></a>',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_xml_refuses_quickly_and_in_little_memory(name: str) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(Malformed):
        nvidia.parse_rim(HOSTILE[name].encode())
    assert time.process_time() - start < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024  # KiB


def test_the_size_is_bounded() -> None:
    data = b"<a>" + b"x" * (MAX_XML - 7) + b"</a>"
    assert len(read(data).text) == MAX_XML - 7
    with pytest.raises(Malformed):
        read(data.replace(b"x", b"xx", 1))


@pytest.mark.parametrize(
    "head",
    [
        '<?xml version="1.0"?>',
        "<?xml version='1.0' encoding='UTF-8'?>\n",
        '<?xml version="1.0" encoding="utf-8" standalone="yes"?>',
    ],
)
def test_a_declaration_may_stand_at_the_front(head: str) -> None:
    # Canonical XML leaves the declaration out, so that the signature holds.
    found = nvidia.parse_rim(fake.rim(GPU, False, head=head).xml())
    assert hashlib.sha384(found.signed).digest() == found.digest


def test_white_space_after_the_signature_belongs_to_the_document() -> None:
    original = fake.rim(GPU, False)
    assert nvidia.parse_rim(original.xml()).signed == (original.document() + "</SoftwareIdentity>").encode()
    changed = nvidia.parse_rim(fake.rim(GPU, False, tail="\n").xml())
    assert changed.signed != nvidia.parse_rim(original.xml()).signed
    assert hashlib.sha384(changed.signed).digest() != changed.digest


def test_fields() -> None:
    found = nvidia.parse_rim(rim(SWITCH, True).xml())
    assert (found.kind, found.product, found.version) == (DeviceKind.SWITCH, "LS10", SWITCH.vbios)
    assert [value.alternatives for value in found.active] == [(value,) for value in SWITCH.measurements()]
    assert found.values[0].name == "Measurement_0"
    driver = nvidia.parse_rim(rim(GPU, False).xml())
    assert [value.index for value in driver.active] == list(range(0, 64, 2))
    assert len(driver.values) == 64


def test_references_to_characters_are_read_as_the_signer_wrote_them() -> None:
    changed = rim(GPU, False).xml().replace(b'product="GH100"', b'product="&#71;H100"')
    found = nvidia.parse_rim(changed)
    assert found.product == "GH100"
    assert hashlib.sha384(found.signed).digest() == found.digest


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: f"<a>{text}</a>".encode())))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        nvidia.parse_rim(data)


@functools.cache
def sample() -> bytes:
    return rim(GPU, False).xml()


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_rim_refuses_or_is_the_same(data: st.DataObject) -> None:
    document = bytearray(sample())
    position = data.draw(st.integers(0, len(document) - 1))
    piece = data.draw(
        st.sampled_from([b"", b"<", b">", b'"', b"&", b" ", b"0", b"</", b"<!--", b"\xff", b"\0", b"&#0;"])
    )
    document[position : position + data.draw(st.integers(0, 3))] = piece
    try:
        found = nvidia.parse_rim(bytes(document))
    except RluError:
        return
    genuine = nvidia.parse_rim(sample())
    changed = (found.signed, found.signed_info) != (genuine.signed, genuine.signed_info)
    assert changed or (found.values, found.version) == (genuine.values, genuine.version)


def test_what_stands_around_the_signature_stays() -> None:
    assert read_enveloped(b"<r>a<s><i/></s>b</r>", "s", "i").without == b"<r>ab</r>"
    assert read_enveloped(b"<r><x/>a<s><i/></s>b</r>", "s", "i").without == b"<r><x></x>ab</r>"
    assert read_enveloped(b'<r xmlns:q="urn:q"><s><i  b="2" a="1" /></s></r>', "s", "i").part == (
        b'<i xmlns:q="urn:q" a="1" b="2"></i>'
    )


def test_the_depth_is_bounded() -> None:
    read(b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH)
    with pytest.raises(Malformed):
        read(b"<a>" * (MAX_DEPTH + 1) + b"</a>" * (MAX_DEPTH + 1))


@pytest.mark.parametrize(
    ("text", "most"),
    [
        (lambda n: "<a>" + "<b/>" * (n - 2) + "</a>", MAX_TAGS),
        (lambda n: "<a " + " ".join(f'xmlns:x{i}="urn:{i}"' for i in range(n)) + "/>", MAX_NAMESPACES),
        (lambda n: "<a " + " ".join(f'x{i}=""' for i in range(n)) + "/>", MAX_ATTRIBUTES),
    ],
)
def test_what_makes_canonicalisation_slow_is_bounded(text: Callable[[int], str], most: int) -> None:
    read(text(most).encode())
    with pytest.raises(Malformed):
        read(text(most + 1).encode())
