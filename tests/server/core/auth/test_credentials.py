"""Which header counts."""

from __future__ import annotations

import pytest

from rlu_server.core.auth.credentials import presented
from rlu_server.core.errors import GatewayError


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "found"),
    [
        (b"Bearer abc", None, "abc"),
        ("bearer  abc ", None, "abc"),
        (None, b"abc", "abc"),
        (b"Bearer abc", "abc", "abc"),
        (b"Basic abc", "abc", "abc"),
        (None, None, ""),
        (b"", b"", ""),
        (b"Basic abc", None, ""),
        (b"Bearer ", None, ""),
    ],
)
def test_either_header_holds_it(
    authorization: bytes | str | None, x_api_key: bytes | str | None, found: str
) -> None:
    assert presented(authorization, x_api_key) == found


def test_two_that_differ_refuse() -> None:
    with pytest.raises(GatewayError) as caught:
        presented(b"Bearer abc", b"abd")
    assert caught.value.code == "key_invalid"
