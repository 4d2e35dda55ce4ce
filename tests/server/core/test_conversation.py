"""Conversations are recognised by the first name that is there, within their principal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlu_server.core.apikeys import Principal
from rlu_server.core.conversation import Conversation, Explicit, recognise
from rlu_server.core.errors import GatewayError

ALICE = Principal("acme", "alice", "k1", "T-acme", "P-alice")


def key(headers: dict[bytes, bytes], cache_key: str | None = None, who: Principal = ALICE) -> bytes:
    found = recognise(headers, cache_key, who)
    assert isinstance(found, Conversation)
    return found.key


def test_first_match_wins():
    everything = {b"rlu-session": b"S", b"session-id": b"c", b"x-claude-code-session-id": b"d"}
    assert recognise(everything, "p", ALICE) == Explicit("S")
    del everything[b"rlu-session"]
    assert key(everything, "p") == key({b"session-id": b"c"})
    del everything[b"session-id"]
    assert key(everything, "p") == key({b"x-claude-code-session-id": b"d"})
    assert key({}, "p") == key({b"session-id": b""}, "p")
    assert key({}) == key({}, "")


def test_sources_names_and_principals_are_apart():
    others = [
        replace(ALICE, pseudonym="P-bob"),
        replace(ALICE, tenant_pseudonym="T-x"),
        replace(ALICE, key_id="k2"),
    ]
    keys = [
        key({b"session-id": b"x"}),
        key({b"session-id": b"y"}),
        key({b"x-claude-code-session-id": b"x"}),
        key({}, "x"),
        key({}),
        key({b"session-id": b"x"}, who=others[0]),
        key({b"session-id": b"x"}, who=others[1]),
        key({}, who=others[2]),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(each) == 32 for each in keys)


def test_two_keys_of_one_principal_share_named_conversations_only():
    other_key = replace(ALICE, key_id="k2")
    assert key({b"session-id": b"x"}) == key({b"session-id": b"x"}, who=other_key)
    assert key({}) != key({}, who=other_key)


def test_long_names_refuse():
    with pytest.raises(GatewayError) as caught:
        key({b"session-id": b"x" * 1025})
    assert (caught.value.code, caught.value.param) == ("field_type", "session-id")
