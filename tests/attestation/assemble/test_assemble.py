"""Bare evidence put together: kinds told apart, chains in any order, and arbitrary bytes never more than refused."""

from __future__ import annotations

import base64
import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import amd, aws, intel, nvidia
from rlu_attestation.assemble import FORMS, Incomplete, Pieces, assemble, join, read_piece, recognise
from rlu_attestation.errors import RluError, Unsupported

DATA = bytes(range(64))
SNP = amd.parts(amd.Chip(), DATA)
TDX = intel.parts(intel.Platform(), DATA)
NITRO = aws.parts(aws.Module("nitro"), DATA)
NITROTPM = aws.parts(aws.Module("nitrotpm"), DATA)
NODE = nvidia.hgx(gpus=1, switches=1).parts(DATA[:32])
BARE = {
    "sev-snp": SNP.report,
    "tdx": TDX.quote.data,
    "nitro": NITRO.document,
    "nitrotpm": NITROTPM.document,
    "nvidia": NODE.gpus[0].report,
}
ITEMS = {
    "sev-snp": SNP.item(),
    "tdx": TDX.item(),
    "nitro": NITRO.item(),
    "nitrotpm": NITROTPM.item(),
    "nvidia": NODE.item(),
}


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("kind", BARE)
def test_each_kind_is_recognised_bare_and_as_an_item(kind: str) -> None:
    assert recognise(BARE[kind]) == kind
    assert recognise(ITEMS[kind]) == kind


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"kind":"sgx"}', b'{"kind":1}', bytes(1184), b"\xd2\x84\x43\xa1\x01\x26", b"\x11\xe1"],
)
def test_what_is_none(data: bytes) -> None:
    assert recognise(data) is None


def test_the_chain_of_a_report_comes_in_any_order_and_in_any_wrapping() -> None:
    for order in itertools.permutations((SNP.vek, SNP.ask, SNP.ark)):
        found = assemble("sev-snp", SNP.report, read_piece(b"text before\n" + b"".join(map(pem, order))))
        evidence = found.evidence
        assert (evidence.vek.raw, evidence.ask.raw, evidence.ark.raw) == (SNP.vek, SNP.ask, SNP.ark)
        assert found.unused == ()


def test_of_several_chains_the_one_that_fits_is_taken() -> None:
    others = [read_piece(amd.ask("Genoa").der), read_piece(amd.ark("Genoa").der)]
    pieces = join([*others, *(read_piece(der) for der in (SNP.vek, SNP.ask, SNP.ark, SNP.ark))])
    found = assemble("sev-snp", SNP.report, pieces)
    assert (found.evidence.ask.raw, found.evidence.ark.raw) == (SNP.ask, SNP.ark)
    assert found.unused == ("2 certificates",)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ((), "VCEK or VLEK"),
        ((SNP.vek,), "ASK or ASVK"),
        ((SNP.vek, SNP.ask), "ARK"),
        ((SNP.ask, SNP.ark), "VCEK or VLEK"),
    ],
)
def test_what_is_missing_is_named(given: tuple[bytes, ...], missing: str) -> None:
    with pytest.raises(Incomplete, match=missing) as refused:
        assemble("sev-snp", SNP.report, join(map(read_piece, given)))
    assert (refused.value.code, refused.value.exit_code) == ("assemble.missing", 2)


def test_devices_of_both_kinds() -> None:
    for device, name in ((NODE.gpus[0], "gpu 0"), (NODE.switches[0], "switch 0")):
        pieces = join(read_piece(der) for der in reversed(device.chain))
        evidence = assemble("nvidia", device.report, pieces).evidence
        assert [found.name for found in evidence.devices] == [name]
        assert [found.raw for found in evidence.devices[0].chain] == device.chain


def test_an_event_log_belongs_to_a_quote_alone() -> None:
    log = bytes(32) + b"Spec ID Event03\0"
    pieces = read_piece(log)
    assert pieces.event_log == log
    assert assemble("tdx", TDX.quote.data, pieces).evidence.event_log == log
    assert assemble("tdx", TDX.item(), pieces).evidence.event_log == log
    assert assemble("nitro", NITRO.document, pieces).unused == ("an event log",)
    with pytest.raises(Unsupported, match="two are given"):
        join([pieces, pieces])


@pytest.mark.parametrize("kind", ["tpm2", "gcp-vtpm", "azure-vtpm"])
def test_kinds_without_a_form_of_their_own(kind: str) -> None:
    with pytest.raises(Unsupported) as refused:
        assemble(kind, b"\xffTCG", Pieces())
    assert refused.value.code == "assemble.form"


@given(
    st.binary(max_size=400),
    st.sampled_from(sorted(FORMS)),
    st.sampled_from(sorted(BARE)),
    st.integers(0, 4000),
)
@settings(max_examples=80)
def test_arbitrary_bytes_raise_only_our_own_errors(garbage: bytes, kind: str, other: str, place: int) -> None:
    place %= len(BARE[other])
    changed = BARE[other][:place] + garbage + BARE[other][place + len(garbage) :]
    for data in (garbage, changed, ITEMS[other][:place]):
        recognise(data)
        with contextlib.suppress(RluError):
            read_piece(data)
        with contextlib.suppress(RluError):
            assemble(kind, data, Pieces())


@given(st.integers(0, 3000), st.integers(0, 255))
@settings(max_examples=60)
def test_pieces_that_were_changed_raise_only_our_own_errors(place: int, value: int) -> None:
    for data in (SNP.vek, SNP.crl or b"", NODE.ocsp[0], TDX.pccs(), pem(SNP.ask)):
        at = place % len(data)
        with contextlib.suppress(RluError):
            read_piece(data[:at] + bytes([value]) + data[at + 1 :])
