"""An evidence item names its kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence import MAX_ITEM, kind_of


def test_kind() -> None:
    assert kind_of(b'{"kind":"none"}') == "none"
    padding = b"x" * (MAX_ITEM - 26)
    assert kind_of(b'{"a":"' + padding + b'","kind":"tpm2"}') == "tpm2"


@pytest.mark.parametrize("data", [b"{}", b'{"kind":7}', b'{"kind":null}', b'{"Kind":"none"}'])
def test_without_a_kind_it_refuses(data: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        kind_of(data)
    assert refused.value.code == "evidence.kind"


def test_oversize_refuses() -> None:
    with pytest.raises(Malformed):
        kind_of(b'{"a":"' + b"x" * MAX_ITEM + b'","kind":"tpm2"}')


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        kind_of(data)
