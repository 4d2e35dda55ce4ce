"""An evidence item names its kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence import kind_of, max_item


def of_size(kind: str, size: int) -> bytes:
    bare = b'{"a":"","kind":"' + kind.encode() + b'"}'
    return bare.replace(b'""', b'"' + b"x" * (size - len(bare)) + b'"')


@pytest.mark.parametrize("kind", ["tpm2", "gcp-vtpm", "azure-vtpm", "tdx", "nvidia"])
def test_kind_and_size(kind: str) -> None:
    assert kind_of(of_size(kind, 100)) == kind
    assert kind_of(of_size(kind, max_item(kind))) == kind
    with pytest.raises(Malformed) as refused:
        kind_of(of_size(kind, max_item(kind) + 1))
    assert refused.value.code == "statement.encoding"


@pytest.mark.parametrize("data", [b"{}", b'{"kind":7}', b'{"kind":null}', b'{"Kind":"none"}'])
def test_without_a_kind_it_refuses(data: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        kind_of(data)
    assert refused.value.code == "evidence.kind"


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        kind_of(data)
