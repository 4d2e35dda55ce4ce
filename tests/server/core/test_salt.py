"""Salts: legal for vLLM, apart between tenants, never the client's own."""

from __future__ import annotations

import pytest

from rlu_server.core import salt

SECRET = bytes(32)


def test_salts_are_apart_and_legal():
    made = [
        salt.derive(SECRET, "T1", None),
        salt.derive(SECRET, "T2", None),
        salt.derive(SECRET, "T1", ""),
        salt.derive(SECRET, "T1", "own"),
        salt.derive(SECRET, "T2", "own"),
        salt.derive(b"\x01" * 32, "T1", None),
        salt.derive(SECRET, "T1", "\ud800"),
    ]
    assert len(set(made)) == len(made)
    assert all(len(each) == 64 and set(each) <= set("0123456789abcdef") for each in made)
    assert made[0] == salt.derive(SECRET, "T1", None)


def test_a_short_secret_is_a_mistake():
    with pytest.raises(ValueError, match="32 bytes"):
        salt.derive(b"", "T1", None)
