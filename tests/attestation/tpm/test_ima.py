"""The kernel's list of measurements: read strictly in both forms, replayed as the kernel extended it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import ima as fake
from fakes.ima import FORMS, Entry, FakeIma, entry, le32, sized
from fakes.refusals import code_of
from fakes.tpm import FakeTpm
from rlu_attestation.errors import Malformed, RluError, Unsupported, Untrusted
from rlu_attestation.tpm import ima, ima_log

ALL_BANKS = ("sha1", "sha256", "sha384", "sha512")
BOOT = tuple(range(11))


def booted(banks: tuple[str, ...] = ("sha256",)) -> FakeTpm:
    tpm = FakeTpm("ima", banks=banks)
    for pcr in range(10):
        tpm.measure(pcr, f"firmware of {pcr}".encode())
    return tpm


def kernel(template: str = "ima-ng", bank: str = "sha256", **changes: bool) -> FakeIma:
    """A machine that ran a few things."""
    banks = ("sha256",) if bank == "sha256" else (bank, "sha256")
    running = FakeIma(booted(banks), bank=bank, template=template, **changes)
    running.measure("/sbin/init", b"init")
    running.measure("/usr/bin/a name with spaces", b"tool")
    running.violate("/var/log/messages")
    running.measure("/usr/bin/python3", b"python")
    return running


def quoted(running: FakeIma, *numbers: int) -> dict[str, dict[int, bytes]]:
    return running.tpm.values(dict.fromkeys(running.tpm.banks, numbers or BOOT))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("template", ["ima", "ima-ng", "ima-sig", "ima-ngv2", "ima-sigv2"])
def test_a_list_leads_to_pcr_10(template: str, form: str) -> None:
    running = kernel(template, bank="sha1" if template == "ima" else "sha256")
    found = ima.verify_replay(ima_log.parse(FORMS[form](running)), quoted(running))
    assert (found.covered, found.later, found.violations) == (5, 0, 1)
    assert found.banks == dict.fromkeys(running.tpm.banks, "own")
    assert found.boot_aggregate == ("sha1:0-7" if template == "ima" else "sha256:0-9")
    names = [measured.name for measured in found.log.entries]
    assert names[:3] == ["boot_aggregate", "/sbin/init", "/usr/bin/a_name_with_spaces"]
    last = found.log.entries[-1]
    algorithm = {"ima": "sha1", "ima-ngv2": "ima:sha256", "ima-sigv2": "ima:sha256"}.get(template, "sha256")
    assert (last.template, last.algorithm, last.violation) == (template, algorithm, False)
    assert last.digest == hashlib.new(algorithm.split(":")[-1], b"python").digest()
    assert found.log.entries[3].violation


@pytest.mark.parametrize("bank", ALL_BANKS)
@pytest.mark.parametrize(("padded", "form"), [(False, "own"), (True, "sha1")])
def test_every_bank_by_its_own_digest_or_by_sha1_and_zeros(bank: str, padded: bool, form: str) -> None:
    running = kernel(bank=bank, padded=padded)
    found = ima.verify_replay(ima_log.parse(running.binary()), quoted(running))
    expected = {name: "own" if name == "sha1" else form for name in running.tpm.banks}
    assert (found.banks, found.covered) == (expected, 5)
    assert found.boot_aggregate == ("sha1:0-7" if bank == "sha1" else f"{bank}:0-9")


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
def test_a_name_that_is_not_utf8(form: str) -> None:
    running = kernel()
    running.measure("/tmp/\udcff\udcfe", b"odd")
    found = ima.verify_replay(ima_log.parse(FORMS[form](running)), quoted(running))
    assert found.log.entries[-1].name == "/tmp/\\xff\\xfe"


def test_what_comes_after_the_quote_is_counted_and_not_covered() -> None:
    running = kernel()
    values = quoted(running)
    running.measure("/usr/bin/later", b"later")
    running.violate("/usr/bin/later still")
    found = ima.verify_replay(ima_log.parse(running.binary()), values)
    assert (found.covered, found.later, found.violations) == (5, 2, 1)


def test_boot_aggregate_of_older_kernels_covers_eight_pcrs() -> None:
    running = FakeIma(booted(), aggregated=8)
    found = ima.verify_replay(ima_log.parse(running.binary()), quoted(running))
    assert found.boot_aggregate == "sha256:0-7"


@pytest.mark.parametrize("numbers", [(10,), (0, 1, 2, 3, 4, 5, 6, 7, 10), (*range(7), 8, 9, 10)])
def test_boot_aggregate_over_pcrs_that_were_not_quoted_is_not_claimed(numbers: tuple[int, ...]) -> None:
    running = kernel()
    assert (
        ima.verify_replay(ima_log.parse(running.binary()), quoted(running, *numbers)).boot_aggregate is None
    )


def test_the_banks_must_agree_on_the_prefix() -> None:
    running = FakeIma(booted(("sha256", "sha384")))
    early = quoted(running)
    running.measure("/sbin/init", b"init")
    values = quoted(running)
    values["sha384"] = early["sha384"]
    log = ima_log.parse(running.binary())
    assert ima.verify_replay(log, early).covered == 1
    with pytest.raises(Untrusted) as refused:
        ima.verify_replay(log, values)
    assert refused.value.code == "quote.ima.mismatch"


# --- perturbations --------------------------------------------------------------------------------------------------------


def changed(change: Callable[[FakeIma], None]) -> FakeIma:
    """The list is changed after the kernel wrote it; the PCR is not."""
    running = kernel()
    change(running)
    return running


def swap(running: FakeIma) -> None:
    running.entries[1], running.entries[2] = running.entries[2], running.entries[1]


def another(running: FakeIma) -> None:
    running.entries[4] = entry("ima-ng", "/usr/bin/python3", hashlib.sha256(b"other python").digest())


def hidden(running: FakeIma) -> None:
    running.entries[4] = entry("ima-ng", "/usr/bin/python3", bytes(32), violation=True)


def excused(running: FakeIma) -> None:
    running.entries[3] = replace(running.entries[3], violation=False)


def aggregate(running: FakeIma) -> None:
    running.entries[0] = entry("ima-ng", "boot_aggregate", bytes(32))


REPLAYS: dict[str, tuple[Callable[[], FakeIma], tuple[int, ...], str]] = {
    "entry-missing": (lambda: changed(lambda k: k.entries.__delitem__(2)), BOOT, "mismatch"),
    "entry-inserted": (
        lambda: changed(lambda k: k.entries.insert(2, entry("ima-ng", "/x", bytes(32)))),
        BOOT,
        "mismatch",
    ),
    "entries-swapped": (lambda: changed(swap), BOOT, "mismatch"),
    "entry-twice": (lambda: changed(lambda k: k.entries.insert(1, k.entries[1])), BOOT, "mismatch"),
    "another-file": (lambda: changed(another), BOOT, "mismatch"),
    "measurement-called-violation": (lambda: changed(hidden), BOOT, "mismatch"),
    "violation-called-measurement": (lambda: changed(excused), BOOT, "mismatch"),
    "list-cut": (lambda: changed(lambda k: k.entries.pop()), BOOT, "mismatch"),
    "list-of-another-boot": (lambda: changed(aggregate), BOOT, "mismatch"),
    "boot-aggregate-missing": (lambda: changed(lambda k: k.entries.__delitem__(0)), BOOT, "mismatch"),
    "pcr-10-not-quoted": (kernel, tuple(range(10)), "uncovered"),
    "boot-aggregate-of-no-tpm": (
        lambda: other_start(entry("ima-ng", "boot_aggregate", bytes(32))),
        BOOT,
        "boot_aggregate",
    ),
    "boot-aggregate-of-other-pcrs": (
        lambda: other_start(entry("ima-ng", "boot_aggregate", hashlib.sha256(b"x").digest())),
        BOOT,
        "boot_aggregate",
    ),
    "boot-aggregate-of-nine-pcrs": (lambda: FakeIma(booted(), aggregated=9), BOOT, "boot_aggregate"),
    "boot-aggregate-by-another-name": (
        lambda: other_start(entry("ima-ng", "/boot_aggregate", bytes(32))),
        BOOT,
        "boot_aggregate",
    ),
    "boot-aggregate-of-an-unknown-bank": (
        lambda: other_start(entry("ima-ng", "boot_aggregate", bytes(28), "sha224")),
        BOOT,
        "boot_aggregate",
    ),
    "boot-aggregate-a-violation": (
        lambda: other_start(entry("ima-ng", "boot_aggregate", bytes(32), violation=True)),
        BOOT,
        "boot_aggregate",
    ),
    "pcr-10-untouched": (lambda: FakeIma(booted()), (), "mismatch"),
}


def other_start(first: Entry) -> FakeIma:
    """A kernel that really began its list so."""
    running = FakeIma(booted())
    running.entries.clear()
    running.tpm.pcrs["sha256"][10] = bytes(32)
    running.record(first)
    return running


@pytest.mark.parametrize("name", REPLAYS)
def test_replay_refuses(name: str) -> None:
    make, numbers, cause = REPLAYS[name]
    running = make()
    values = quoted(running, *numbers) if numbers else {"sha256": {10: bytes(32)}}
    with pytest.raises(Untrusted) as refused:
        ima.verify_replay(ima_log.parse(running.binary()), values)
    assert refused.value.code == f"quote.ima.{cause}"


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
    longest = b"x" * 255
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


@functools.cache
def samples() -> tuple[bytes, ...]:
    return tuple(form(kernel(template)) for form in FORMS.values() for template in ("ima-ng", "ima-sig"))


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_list_replays_to_nothing_else(data: st.DataObject) -> None:
    """Whatever one byte becomes: refused, or the same measurements as before; of violations nothing is proved."""
    good = data.draw(st.sampled_from(samples()))
    damaged = bytearray(good)
    position = data.draw(st.integers(0, len(good) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        log = ima_log.parse(bytes(damaged))
        ima.verify_replay(log, quoted(kernel()))
    except RluError:
        return
    expected = ima_log.parse(good).entries
    assert [found.violation for found in log.entries] == [found.violation for found in expected]
    assert [found.hashed for found in log.entries if not found.violation] == [
        found.hashed for found in expected if not found.violation
    ]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text(max_size=30), st.binary(max_size=20), st.booleans()), max_size=12))
def test_whatever_is_measured_replays(files: list[tuple[str, bytes, bool]]) -> None:
    running = FakeIma(booted())
    for name, content, broken in files:
        path = "/" + name.replace("\0", "").replace("\n", "").encode("utf-8", "ignore").decode()
        (running.violate(path) if broken else running.measure(path, content))
    for form in FORMS.values():
        found = ima.verify_replay(ima_log.parse(form(running)), quoted(running))
        assert (found.covered, found.violations) == (len(files) + 1, sum(broken for *_, broken in files))


def test_the_pcr_is_the_fakes_too() -> None:
    assert fake.PCR == ima_log.PCR == 10
