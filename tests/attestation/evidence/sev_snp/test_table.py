"""The host's certificate table."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence.sev_snp import CertificateTable, parse_certificate_table

GUIDS = {
    "vcek": "63da758d-e664-4564-adc5-f4b93be8accd",
    "vlek": "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
    "ask": "4ab7b379-bbac-4fe4-a02f-05aef327c782",
    "ark": "c0b406a4-a803-4952-9743-3fb6014cd0ae",
    "crl": "92f81bc3-5811-4d3d-97ff-d19f88dc67ea",
}
OTHER = "11111111-1111-1111-1111-111111111111"


def table(*entries: tuple[str, bytes], end: bytes = bytes(24)) -> bytes:
    offset, head, body = 24 * (len(entries) + 1), b"", b""
    for guid, content in entries:
        place = offset + len(body)
        head += UUID(guid).bytes + place.to_bytes(4, "little") + len(content).to_bytes(4, "little")
        body += content
    return head + end + body


@pytest.mark.parametrize("name", GUIDS)
def test_each_entry(name: str) -> None:
    found = parse_certificate_table(table((OTHER, b"?"), (GUIDS[name], b"der")))
    assert found == CertificateTable(**{other: b"der" if other == name else None for other in GUIDS})


def test_all_entries_and_padding_behind() -> None:
    found = parse_certificate_table(
        table(*((guid, name.encode()) for name, guid in GUIDS.items())) + bytes(100)
    )
    assert found == CertificateTable(*(name.encode() for name in GUIDS))


def test_only_an_entry_of_zeros_ends_the_table() -> None:
    nameless = "00000000-0000-0000-0000-000000000000"
    found = parse_certificate_table(table((nameless, b"?"), (GUIDS["ask"], b"der")))
    assert found == CertificateTable(None, None, b"der", None, None)
    for head in (
        UUID(GUIDS["ask"]).bytes + bytes(8),
        bytes(16) + b"\x30" + bytes(7),
        bytes(20) + b"\1" + bytes(3),
    ):
        with pytest.raises(Malformed):
            parse_certificate_table(head + bytes(48))


def test_nothing_there() -> None:
    assert parse_certificate_table(b"") == parse_certificate_table(bytes(24)) == CertificateTable(*[None] * 5)


@pytest.mark.parametrize(
    "data",
    [
        bytes(23),
        table((GUIDS["ask"], b"x"), end=b"")[:24],
        table((GUIDS["ask"], b"x"), (GUIDS["ask"], b"y")),
        table((GUIDS["ask"], b"")),
        table((GUIDS["ask"], b"x"))[:-1],
        UUID(GUIDS["ask"]).bytes + b"\0\0\0\0\1\0\0\0" + bytes(24),
        UUID(GUIDS["ask"]).bytes + b"\x30\0\0\0\xff\xff\xff\xff" + bytes(24),
        table(*((str(UUID(int=n)), b"x") for n in range(1, 18))),
        bytes(64 * 1024 + 1),
    ],
)
def test_what_is_no_table_refuses(data: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        parse_certificate_table(data)
    assert refused.value.code == "sev-snp.table"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    try:
        parse_certificate_table(data)
    except RluError:
        return
