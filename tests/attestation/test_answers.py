"""What a server answers, taken apart: anything but the one form is refused."""

from __future__ import annotations

import pytest

from rlu_attestation import answers
from rlu_attestation.bundle import MAX_COSIGNATURES
from rlu_attestation.errors import Malformed


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"cosignatures": None},
        {"cosignatures": {}},
        {"cosignatures": "AA"},
        {"cosignatures": [{}]},
        {"cosignatures": [], "more": 1},
    ],
)
def test_cosignatures_of_another_form(value: object) -> None:
    with pytest.raises(Malformed):
        answers.cosignatures(value)


def test_as_many_cosignatures_as_a_bundle_holds() -> None:
    one = {"cosignature": "x", "head": "AAAA"}
    assert answers.cosignatures({"cosignatures": []}) == ()
    assert len(answers.cosignatures({"cosignatures": [one] * MAX_COSIGNATURES})) == MAX_COSIGNATURES
    with pytest.raises(Malformed) as refused:
        answers.cosignatures({"cosignatures": [one] * (MAX_COSIGNATURES + 1)})
    assert str(MAX_COSIGNATURES) in refused.value.message
