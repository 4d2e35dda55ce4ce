"""The kernel's list of measurements, replayed as the kernel extended it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import ima as fake
from fakes.ima import BOOT, FORMS, Entry, FakeIma, booted, entry, kernel, quoted
from fakes.tpm import FakeTpm
from rlu_attestation.errors import RluError, Untrusted
from rlu_attestation.tpm import ima, ima_log

ALL_BANKS = ("sha1", "sha256", "sha384", "sha512")


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
    "boot-aggregate-under-another-name": (
        lambda: other_start(entry("ima-ng", "/sbin/init", aggregate_of(booted()))),
        BOOT,
        "boot_aggregate",
    ),
    "boot-aggregate-a-violation-that-nothing-contradicts": (
        lambda: other_start(entry("ima-ng", "boot_aggregate", bytes(32), violation=True)),
        (10,),
        "boot_aggregate",
    ),
    "boot-aggregate-a-violation": (
        lambda: other_start(entry("ima-ng", "boot_aggregate", bytes(32), violation=True)),
        BOOT,
        "boot_aggregate",
    ),
    "pcr-10-untouched": (lambda: FakeIma(booted()), (), "mismatch"),
}


def aggregate_of(tpm: FakeTpm) -> bytes:
    return hashlib.sha256(b"".join(tpm.pcrs["sha256"][:10])).digest()


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
