"""One text, one value: what `json.loads` would take and other readers would take otherwise."""

from __future__ import annotations

import json

import pytest

from rlu_attestation.strict_json import no_number, unique


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', '{"a":1,"b":{"c":1,"c":2}}', '[{"a":{},"\\u0061":{}}]'])
def test_no_member_occurs_twice(text: str) -> None:
    with pytest.raises(ValueError, match="twice"):
        json.loads(text, object_pairs_hook=unique)


def test_members_keep_their_order() -> None:
    assert list(json.loads('{"b":1,"a":{"b":2}}', object_pairs_hook=unique).items()) == [
        ("b", 1),
        ("a", {"b": 2}),
    ]


@pytest.mark.parametrize("text", ["1", "-0", "1.5", "1e9", "NaN", "Infinity", "-Infinity"])
def test_no_number_has_a_place(text: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        json.loads(text, parse_int=no_number, parse_float=no_number, parse_constant=no_number)
