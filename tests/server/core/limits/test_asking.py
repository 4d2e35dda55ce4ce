"""Which class of priority is asked for."""

from __future__ import annotations

import pytest

from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.asking import asked
from rlu_server.core.limits.rules import Priority


def test_the_header_wins_over_the_body():
    assert asked({}, flex=False) is Priority.INTERACTIVE
    assert asked({}, flex=True) is Priority.BATCH
    assert asked({b"rlu-priority": b"interactive"}, flex=True) is Priority.INTERACTIVE
    assert asked({b"rlu-priority": b" Batch "}, flex=False) is Priority.BATCH


@pytest.mark.parametrize("value", [b"", b"0", b"-1", b"urgent", b"\xff", b"batch, interactive"])
def test_anything_else_is_refused(value: bytes):
    with pytest.raises(GatewayError) as caught:
        asked({b"rlu-priority": value}, flex=False)
    assert (caught.value.code, caught.value.param) == ("field_type", "RLU-Priority")
