"""What a TPM signs, read field by field; everything else refuses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import tpm_marshal as marshal
from fakes.refusals import code_of
from fakes.tpm import FakeTpm
from rlu_attestation.errors import Malformed, RluError, Unsupported
from rlu_attestation.tpm.attest import (
    CertifyInfo,
    QuoteInfo,
    parse_attest,
    parse_pcr_selection,
    parse_signature,
)
from rlu_attestation.tpm.constants import Alg
from rlu_attestation.tpm.policy import selection_bytes

SIGNER = b"\x00\x0b" + bytes(range(32))


def quote(selection: bytes | None = None, **changes: Any) -> bytes:
    attested = (
        marshal.selection({"sha256": (0, 7, 23)}) if selection is None else selection
    ) + marshal.sized(bytes(32))
    return marshal.attest(attested, **({"kind": marshal.QUOTE, "signer": SIGNER} | changes))


def test_quote() -> None:
    attest = parse_attest(
        quote(extra_data=b"nonce", clock=5, reset_count=6, restart_count=7, safe=0, firmware=8)
    )
    assert isinstance(attest.attested, QuoteInfo)
    assert attest.attested.pcr_select.banks == ((Alg.SHA256, (0, 7, 23)),)
    assert attest.attested.pcr_select.raw == marshal.selection({"sha256": (0, 7, 23)})
    assert attest.attested.pcr_digest == bytes(32)
    assert (attest.qualified_signer, attest.extra_data, attest.firmware_version) == (SIGNER, b"nonce", 8)
    clock = attest.clock_info
    assert (clock.clock, clock.reset_count, clock.restart_count, clock.safe) == (5, 6, 7, False)


def test_certify() -> None:
    data = marshal.attest(
        marshal.sized(b"name") + marshal.sized(b"qualified"), kind=marshal.CERTIFY, signer=SIGNER
    )
    assert parse_attest(data).attested == CertifyInfo(b"name", b"qualified")


def test_several_banks_keep_their_order() -> None:
    data = quote(marshal.selection({"sha384": (1,), "sha1": (), "sha256": (2, 31)}, size=4))
    attested = parse_attest(data).attested
    assert isinstance(attested, QuoteInfo)
    expected = ((Alg.SHA384, (1,)), (Alg.SHA1, ()), (Alg.SHA256, (2, 31)))
    assert attested.pcr_select.banks == expected


ATTEST: dict[str, tuple[Callable[[], bytes], type[RluError]]] = {
    "empty": (lambda: b"", Malformed),
    "trailing-garbage": (lambda: quote() + b"\x00", Malformed),
    "truncated": (lambda: quote()[:-1], Malformed),
    "another-magic": (lambda: quote(magic=0xFF544346), Malformed),
    "magic-reversed": (lambda: quote(magic=0x474354FF), Malformed),
    "type-time": (lambda: quote(kind=0x8019), Unsupported),
    "type-creation": (lambda: quote(kind=0x801A), Unsupported),
    "signer-too-long": (lambda: quote(signer=bytes(67)), Malformed),
    "extra-data-too-long": (lambda: quote(extra_data=bytes(65)), Malformed),
    "safe-is-2": (lambda: quote(safe=2), Malformed),
    "selection-of-two-bytes": (lambda: quote(marshal.selection({"sha256": (0,)}, size=2)), Malformed),
    "selection-of-five-bytes": (lambda: quote(marshal.selection({"sha256": (0,)}, size=5)), Malformed),
    "bank-twice": (
        lambda: quote(b"\x00\x00\x00\x02" + 2 * marshal.selection({"sha256": (0,)})[4:]),
        Malformed,
    ),
    "seventeen-banks": (
        lambda: quote(b"\x00\x00\x00\x11" + 17 * marshal.selection({"sha256": (0,)})[4:]),
        Malformed,
    ),
    "four-billion-banks": (lambda: quote(b"\xff\xff\xff\xff"), Malformed),
    "unknown-bank": (lambda: quote(b"\x00\x00\x00\x01\x00\x12\x03\x01\x00\x00"), Unsupported),
}


@pytest.mark.parametrize("name", ATTEST)
def test_attest_refuses(name: str) -> None:
    make, error = ATTEST[name]
    with pytest.raises(error) as refused:
        parse_attest(make())
    assert refused.value.code == "tpm2.attest"


def test_signatures() -> None:
    signature = parse_signature(b"\x00\x18\x00\x0b\x00\x02\x01\x00\x00\x01\x07")
    assert (signature.scheme, signature.hash, signature.r, signature.s) == (
        Alg.ECDSA,
        Alg.SHA256,
        256,
        7,
    )
    signature = parse_signature(marshal.rsa_signature(marshal.RSAPSS, "sha384", b"abc"))
    assert (signature.scheme, signature.hash, signature.rsa) == (Alg.RSAPSS, Alg.SHA384, b"abc")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", Malformed),
        (b"\x00\x18\x00\x0b\x00\x02\x01\x00\x00\x01\x07\x00", Malformed),
        (b"\x00\x18\x00\x0b\x00\x02\x01\x00\x00\x01", Malformed),
        (b"\x00\x10", Unsupported),
        (b"\x00\x1a\x00\x0b\x00\x01\x01\x00\x01\x07", Unsupported),
        (b"\x00\x05\x00\x0b" + bytes(32), Unsupported),
        (b"\x00\x18\x00\x12\x00\x01\x01\x00\x01\x07", Unsupported),
        (b"\x00\x18\x00\x0b" + marshal.sized(bytes(67)) + marshal.sized(b"\x01"), Malformed),
        (marshal.rsa_signature(marshal.RSASSA, "sha256", bytes(513)), Malformed),
    ],
)
def test_signature_refuses(data: bytes, error: type[RluError]) -> None:
    with pytest.raises(error) as refused:
        parse_signature(data)
    assert refused.value.code == "tpm2.signature"


def test_pcr_selection_on_its_own() -> None:
    raw = selection_bytes(Alg.SHA256, (0, 9, 23))
    assert raw == marshal.selection({"sha256": (0, 9, 23)})
    assert parse_pcr_selection(raw).raw == raw
    with pytest.raises(Malformed) as refused:
        parse_pcr_selection(raw + b"\x00")
    assert refused.value.code == "tpm2.pcr_selection"
    with pytest.raises(ValueError, match="0 to 23"):
        selection_bytes(Alg.SHA256, (24,))


PARSERS: tuple[Callable[[bytes], object], ...] = (
    parse_attest,
    parse_signature,
    parse_pcr_selection,
)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    for parse in PARSERS:
        assert (code_of(functools.partial(parse, data)) or "tpm2.").startswith("tpm2.")


@given(st.data())
def test_damaged_structures_raise_only_our_error(data: st.DataObject) -> None:
    tpm = FakeTpm("structures")
    tpm.create_key({"sha256": (0,)})
    seeds = (quote(), tpm.certify()[0], tpm.certify()[1])
    changed = bytearray(data.draw(st.sampled_from(seeds)))
    for position in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=4)):
        changed[position] = data.draw(st.integers(0, 255))
    for parse in PARSERS:
        code_of(functools.partial(parse, bytes(changed)))
