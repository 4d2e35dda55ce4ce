"""The kernel's list of measurements, read strictly in both forms."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.ima import FORMS, entry, kernel, le32, sized
from fakes.refusals import code_of
from rlu_attestation.errors import Malformed, RluError, Unsupported
from rlu_attestation.tpm import ima_log


@pytest.mark.parametrize("form", FORMS)
def test_signatures_and_buffers_are_kept(form: str) -> None:
    running = kernel("ima-sig")
    running.measure("/usr/bin/signed", b"signed", further=b"\x03\x02\x04signature")
    running.measure("kexec-cmdline", b"root=/dev/vda", template="ima-buf", further=b"root=/dev/vda")
    running.measure("/usr/bin/verity", b"v", template="ima-ngv2", of="verity")
    found = ima_log.parse(FORMS[form](running)).entries
    assert [(e.signature, e.buffer, e.algorithm) for e in found[-3:]] == [
        (b"\x03\x02\x04signature", b"", "sha256"),
        (b"", b"root=/dev/vda", "sha256"),
        (b"", b"", "verity:sha256"),
    ]
    assert found[1].signature == b""


def test_both_forms_say_the_same() -> None:
    for template in ("ima", "ima-ng", "ima-sig", "ima-ngv2"):
        running = kernel(template, bank="sha1" if template == "ima" else "sha256")
        assert ima_log.parse(running.binary()) == ima_log.parse(running.text())


@pytest.mark.parametrize("form", FORMS)
def test_where_entries_end(form: str) -> None:
    running = kernel()
    running.measure("/tmp/\udcff\udcfe", b"a name that is not UTF-8")
    data = FORMS[form](running)
    found = ima_log.parse(data)
    assert found.ends[-1] == len(data)
    for number, end in enumerate(found.ends, 1):
        assert ima_log.parse(data[:end]).entries == found.entries[:number]


def line(text: str) -> bytes:
    good = kernel().text()
    return good + text.encode() + b"\n"


def raw(pcr: int, listed: bytes, template: bytes, data: bytes) -> bytes:
    return kernel().binary() + le32(pcr) + listed + sized(template) + data


GOOD = entry("ima-ng", "/x", bytes(32))
ORIGINAL = entry("ima", "/x", bytes(20))


def violation(*fields: bytes, template: bytes = b"ima-ng") -> bytes:
    """An entry whose data no digest protects, so that only its form is judged."""
    return raw(10, bytes(20), template, sized(b"".join(map(sized, fields))))


LISTS: dict[str, tuple[Callable[[], bytes], type[RluError]]] = {
    "empty": (lambda: b"", Malformed),
    "trailing-garbage": (lambda: kernel().binary() + b"\0", Malformed),
    "truncated": (lambda: kernel().binary()[:-1], Malformed),
    "oversize": (lambda: kernel().binary() + bytes(ima_log.MAX_LOG), Malformed),
    "text-after-binary": (lambda: kernel().binary() + kernel().text(), Malformed),
    "another-pcr": (lambda: raw(11, bytes(20), b"ima-ng", sized(GOOD.data)), Unsupported),
    "last-pcr": (lambda: raw(23, bytes(20), b"ima-ng", sized(GOOD.data)), Unsupported),
    "pcr-beyond-the-last": (lambda: raw(24, bytes(20), b"ima-ng", sized(GOOD.data)), Malformed),
    "big-endian": (lambda: b"\0\0\0\x0a" + kernel().binary()[4:], Malformed),
    "digest-flipped": (
        lambda: raw(10, b"\1" + GOOD.listed[1:], b"ima-ng", sized(GOOD.data)),
        Malformed,
    ),
    "unknown-template": (lambda: raw(10, bytes(20), b"ima-xx", sized(GOOD.data)), Unsupported),
    "template-name-too-long": (lambda: raw(10, bytes(20), b"i" * 17, sized(GOOD.data)), Malformed),
    "data-too-long": (lambda: violation(b"sha256:\0" + bytes(32), b"x" * 70_000 + b"\0"), Malformed),
    "field-beyond-data": (lambda: raw(10, bytes(20), b"ima-ng", sized(GOOD.data[:-1])), Malformed),
    "field-left-over": (lambda: raw(10, bytes(20), b"ima-ng", sized(GOOD.data + sized(b"x"))), Malformed),
    "digest-without-algorithm": (lambda: violation(bytes(32), b"/x\0"), Malformed),
    "digest-of-another-size": (lambda: violation(b"sha256:\0" + bytes(20), b"/x\0"), Malformed),
    "digest-of-unknown-algorithm": (lambda: violation(b"crc32:\0" + bytes(4), b"/x\0"), Malformed),
    "digest-with-a-kind-where-none-belongs": (
        lambda: violation(b"ima:sha256:\0" + bytes(32), b"/x\0"),
        Malformed,
    ),
    "digest-without-its-kind": (
        lambda: violation(b"sha256:\0" + bytes(32), b"/x\0", template=b"ima-ngv2"),
        Malformed,
    ),
    "digest-of-an-unknown-kind": (
        lambda: violation(b"x:sha256:\0" + bytes(32), b"/x\0", template=b"ima-ngv2"),
        Malformed,
    ),
    "violation-with-a-digest": (lambda: violation(b"sha256:\0" + b"\1" * 32, b"/x\0"), Malformed),
    "name-empty": (lambda: violation(b"sha256:\0" + bytes(32), b"\0"), Malformed),
    "name-without-end": (lambda: violation(b"sha256:\0" + bytes(32), b"/x"), Malformed),
    "name-with-a-zero-byte": (lambda: violation(b"sha256:\0" + bytes(32), b"/x\0y\0"), Malformed),
    "name-with-a-space": (lambda: violation(b"sha256:\0" + bytes(32), b"/x y\0"), Malformed),
    "original-name-too-long": (
        lambda: raw(10, bytes(20), b"ima", bytes(20) + sized(b"x" * 256)),
        Malformed,
    ),
    "original-name-with-end": (lambda: raw(10, bytes(20), b"ima", bytes(20) + sized(b"/x\0")), Malformed),
    "text-without-end": (lambda: kernel().text()[:-1], Malformed),
    "text-without-end-of-what-no-digest-protects": (
        lambda: line(f"10 {'00' * 20} ima-ng {GOOD.words[0]} /x")[:-1],
        Malformed,
    ),
    "text-pcr-not-a-number": (lambda: line(f"1x {GOOD.listed.hex()} ima-ng {GOOD.words[0]} /x"), Malformed),
    "text-pcr-with-a-zero": (lambda: line(f"010 {GOOD.listed.hex()} ima-ng {GOOD.words[0]} /x"), Malformed),
    "text-pcr-in-other-digits": (
        lambda: line(f"\uff11\uff10 {GOOD.listed.hex()} ima-ng {GOOD.words[0]} /x"),
        Malformed,
    ),
    "text-original-name-too-long": (
        lambda: line(f"10 {'00' * 20} ima {'00' * 20} {'x' * 256}"),
        Malformed,
    ),
    "text-empty-line": (lambda: line(""), Malformed),
    "text-another-pcr": (lambda: line(f"11 {GOOD.listed.hex()} ima-ng {GOOD.words[0]} /x"), Unsupported),
    "text-without-pcr": (lambda: line(f"{GOOD.listed.hex()} ima-ng {GOOD.words[0]} /x"), Malformed),
    "text-digest-upper-case": (
        lambda: line(f"10 {GOOD.listed.hex().upper()} ima-ng {GOOD.words[0]} /x"),
        Malformed,
    ),
    "text-digest-short": (lambda: line(f"10 {GOOD.listed.hex()[2:]} ima-ng {GOOD.words[0]} /x"), Malformed),
    "text-digest-not-hex": (lambda: line(f"10 {'zz' * 20} ima-ng {GOOD.words[0]} /x"), Malformed),
    "text-two-spaces": (lambda: line(f"10  {GOOD.listed.hex()} ima-ng {GOOD.words[0]} /x"), Malformed),
    "text-one-word": (lambda: line("10"), Malformed),
    "text-field-missing": (lambda: line(f"10 {GOOD.listed.hex()} ima-ng {GOOD.words[0]}"), Malformed),
    "text-field-left-over": (
        lambda: line(f"10 {GOOD.listed.hex()} ima-ng {GOOD.words[0]} /x y"),
        Malformed,
    ),
    "text-of-other-data": (lambda: line(f"10 {GOOD.listed.hex()} ima-ng {GOOD.words[0]} /y"), Malformed),
    "text-carriage-return": (
        lambda: line(f"10 {GOOD.listed.hex()} ima-ng {GOOD.words[0]} /x\r"),
        Malformed,
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_list_refuses(name: str) -> None:
    make, error = LISTS[name]
    with pytest.raises(error) as refused:
        ima_log.parse(make())
    assert refused.value.code == "tpm2.ima_log"


def test_the_entries_that_the_refused_ones_are_made_of_are_good() -> None:
    assert len(ima_log.parse(raw(10, GOOD.listed, b"ima-ng", sized(GOOD.data))).entries) == 6
    assert len(ima_log.parse(raw(10, ORIGINAL.listed, b"ima", ORIGINAL.data)).entries) == 6
    assert len(ima_log.parse(violation(b"sha256:\0" + bytes(32), b"/x\0")).entries) == 6
    assert (
        len(ima_log.parse(violation(b"ima:sha256:\0" + bytes(32), b"/x\0", template=b"ima-ngv2")).entries)
        == 6
    )
    assert ima_log.parse(violation(b"sha256:\0" + bytes(32), b"x\0")).entries[-1].name == "x"
    longest = b"x" * 255
    assert len(ima_log.parse(line(f"10 {'00' * 20} ima {'00' * 20} {'x' * 255}")).entries) == 6
    assert ima_log.parse(raw(10, bytes(20), b"ima", bytes(20) + sized(longest))).entries[-1].name == "x" * 255
    assert len(ima_log.parse(line(f"10 {GOOD.listed.hex()} ima-ng {GOOD.words[0]} /x")).entries) == 6


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ima_log, "MAX_ENTRIES", 5)
    running = kernel()
    assert len(ima_log.parse(running.binary()).entries) == 5
    running.measure("/x", b"x")
    for data in (running.binary(), running.text()):
        with pytest.raises(Malformed, match="more than 5 entries"):
            ima_log.parse(data)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x0a\0\0\0", b"10 "]))
def test_arbitrary_bytes_raise_only_our_error(data: bytes, start: bytes) -> None:
    assert code_of(functools.partial(ima_log.parse, start + data)) == "tpm2.ima_log"
