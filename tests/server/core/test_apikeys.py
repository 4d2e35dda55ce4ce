"""Keys: minted, kept as digests, checked, and turned into principals."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed
from rlu_server.core import apikeys
from rlu_server.core.apikeys import KeyFile, KeyRing, mint, parse_file
from rlu_server.core.errors import GatewayError

PSEUDONYM_KEY = bytes(range(32))
RECORD, TEXT = mint(b"\x01" * 8, b"\x02" * 32, "acme", "alice", 1000, expires=2000)
RING = KeyRing(PSEUDONYM_KEY, [RECORD])


def refusal(text: str, now: float = 1500, ring: KeyRing = RING) -> str:
    with pytest.raises(GatewayError) as caught:
        ring.authenticate(text, now)
    assert caught.value.status == 401
    return caught.value.code


def test_a_key_names_its_principal():
    assert "rlu_0101010101010101_" + b64u(b"\x02" * 32) == TEXT
    principal = RING.authenticate(TEXT, 1999.9)
    assert (principal.tenant, principal.name, principal.key_id) == ("acme", "alice", RECORD.id)


def test_the_secret_is_not_kept():
    secret = TEXT.split("_", 2)[2]
    kept = KeyFile(pseudonym_key=b64u(PSEUDONYM_KEY), keys=[RECORD]).to_json()
    assert secret.encode() not in kept
    assert parse_file(kept).keys == [RECORD]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rlu",
        "rlu_",
        "rlu__",
        TEXT[:-1],
        TEXT + "x",
        TEXT.replace("rlu_", "sk_"),
        "rlu_0101010101010102_" + TEXT[21:],
        "é",
        "rlu_0101010101010101_",
    ],
)
def test_everything_else_gets_one_answer(text: str):
    assert refusal(text) == "key_invalid"


def test_nobody_has_no_key():
    assert refusal("_" * 3) == "key_invalid"
    assert refusal("rlu_x_") == "key_invalid"


def test_expiry_and_revocation_are_told_only_to_the_holder():
    assert refusal(TEXT, 2000) == "key_expired"
    revoked = KeyRing(PSEUDONYM_KEY, [msgspec.structs.replace(RECORD, revoked=1200)])
    assert refusal(TEXT, 1500, revoked) == "key_revoked"
    assert refusal(TEXT[:-2] + "AA", 3000, revoked) == "key_invalid"


def test_pseudonyms_are_keyed_stable_and_apart():
    names = {
        apikeys.tenant_pseudonym(PSEUDONYM_KEY, "acme"),
        apikeys.tenant_pseudonym(PSEUDONYM_KEY, "globex"),
        apikeys.tenant_pseudonym(bytes(32), "acme"),
        apikeys.principal_pseudonym(PSEUDONYM_KEY, "acme", "alice"),
        apikeys.principal_pseudonym(PSEUDONYM_KEY, "globex", "alice"),
        apikeys.principal_pseudonym(PSEUDONYM_KEY, "acme", "bob"),
    }
    assert len(names) == 6
    assert all(len(name) == 22 for name in names)
    assert RING.authenticate(TEXT, 1).pseudonym in names


@pytest.mark.parametrize(
    "change",
    [
        {"rlu_apikeys": "2"},
        {"unknown": 1},
        {"pseudonym_key": "short"},
        {"pseudonym_key": "_" * 43},
        {"keys": [{"id": "01"}]},
        {"keys": [json.loads(msgspec.json.encode(RECORD))] * 2},
        {"keys": {}},
    ],
)
def test_a_file_of_another_form_refuses(change: dict):
    document = {"rlu_apikeys": "1", "pseudonym_key": b64u(PSEUDONYM_KEY), "keys": [], **change}
    with pytest.raises(Malformed) as caught:
        parse_file(json.dumps(document).encode())
    assert caught.value.code in ("apikeys.file", "encoding.base64url")


@given(st.binary(max_size=300))
def test_arbitrary_files_raise_only_our_error(data: bytes):
    with pytest.raises(Malformed):
        parse_file(data)


@given(st.text(max_size=80))
def test_arbitrary_keys_raise_only_our_error(text: str):
    assert refusal(text) == "key_invalid"
