"""Collateral as PCCS clients store it and as Intel's service answers."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import intel
from fakes.refusals import code_of
from fakes.tdx_changes import genuine
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.tdx import collateral_from_json, split_signed
from rlu_attestation.evidence.tdx.collateral import MAX_COLLATERAL, MEMBERS


@functools.cache
def sample() -> bytes:
    return genuine().pccs()


def stored(**changes: Any) -> bytes:
    value = json.loads(sample()) | changes
    return json.dumps({name: found for name, found in value.items() if found is not None}).encode()


def refused(data: bytes) -> str | None:
    return code_of(lambda: collateral_from_json(data))


def test_stored_and_stapled_are_the_same() -> None:
    assert collateral_from_json(stored()) == tdx.parse(genuine().item()).collateral
    assert collateral_from_json(stored(pck_certificate_chain="whatever")) == collateral_from_json(stored())
    upper = json.loads(sample())["pck_crl"].upper()
    assert collateral_from_json(stored(pck_crl=upper)) == collateral_from_json(stored())


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_every_member_is_needed_and_a_string(name: str) -> None:
    assert refused(stored(**{name: None})) == "tdx.collateral.encoding"
    assert refused(stored(**{name: 7})) == "tdx.collateral.encoding"
    assert refused(stored(**{name: "é"})) == "tdx.collateral.encoding"
    assert refused(stored(**{name: ""})) is not None


def test_other_forms_refuse() -> None:
    code = "tdx.collateral.encoding"
    assert refused(b"[]") == code
    assert refused(b"\xff") == code
    assert refused(b"") == code
    assert refused(stored(another="x")) == code
    assert refused(sample()[:-1] + b',"tcb_info":""}') == code
    assert refused(b" " * (MAX_COLLATERAL + 1)) == code
    assert refused(stored(root_ca_crl="3")) == code
    assert refused(stored(root_ca_crl="30 00")) == code
    assert refused(stored(tcb_info_signature="00" * 63)) == code
    assert refused(stored(root_ca_crl="3000")) == "crl.encoding"
    assert refused(stored(tcb_info="\ud800")) == code


def test_chains_are_signer_and_root() -> None:
    root = json.loads(sample())["pck_crl_issuer_chain"].split("-----END CERTIFICATE-----\n")
    one, three = root[0] + "-----END CERTIFICATE-----\n", root[1] + "-----END CERTIFICATE-----\n"
    assert refused(stored(pck_crl_issuer_chain=one)) == "tdx.collateral.encoding"
    assert refused(stored(pck_crl_issuer_chain=one + three + three)) == "tdx.collateral.encoding"
    assert refused(stored(pck_crl_issuer_chain=one + three)) is None


@pytest.mark.parametrize("member", ["tcbInfo", "enclaveIdentity"])
def test_an_answer_of_intels_service_is_split(member: str) -> None:
    text = intel.text_of(intel.tcb_info())
    body = f'{{"{member}":{text},"signature":"{"ab" * 64}"}}'
    assert split_signed(body.encode(), member) == (text, b"\xab" * 64)
    assert split_signed(body.encode() + b"\n", member) == (text, b"\xab" * 64)
    other = "enclaveIdentity" if member == "tcbInfo" else "tcbInfo"
    for wrong in (
        body.replace("ab", "zz"),
        body.replace('"signature"', '"sig"'),
        body + "x",
        body[:-3] + '"}',
        body[:40],
        "",
        f'{{"{member}":',
    ):
        with pytest.raises(Malformed):
            split_signed(wrong.encode(), member)
    for data in (body.encode(), b"\xff"):
        with pytest.raises(Malformed):
            split_signed(data, other)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    assert refused(data) is not None
    code_of(lambda: split_signed(b'{"tcbInfo":' + data, "tcbInfo"))


@settings(max_examples=100)
@given(st.data())
def test_damaged_collateral_raises_only_our_error(data: st.DataObject) -> None:
    found = bytearray(sample())
    position = data.draw(st.integers(0, len(found) - 1))
    found[position] = data.draw(st.sampled_from(b'A_-"{}[]:,7z\\'))
    refused(bytes(found))
