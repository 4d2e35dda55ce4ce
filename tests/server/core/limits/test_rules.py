"""The limits file: which table decides, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.errors import Malformed
from rlu_server.core.limits.rules import MAX_FILE, Allowance, Priority, Rule, parse_file, rule_for

FILE = b"""
[default]
requests_per_minute = 600
concurrent_requests = 64
scratch_bytes = 1000

[default.principal]
concurrent_requests = 16

[default.principals.robot]
requests_per_minute = 5

[tenants.acme]
weight = 4
requests_per_minute = "unlimited"
tokens_per_minute = 2_000_000

[tenants.acme.principal]
tokens_per_minute = 100

[tenants.acme.principals.ci]
priority = "batch"
concurrent_requests = 2

[tenants.slow]
priority = "batch"
"""


def test_the_nearest_table_that_names_a_key_decides():
    file = parse_file(FILE)
    assert rule_for(file, "globex", "bob") == Rule(
        Allowance(600, None, 64), Allowance(None, None, 16), 1000, 1.0, Priority.INTERACTIVE, True
    )
    assert rule_for(file, "acme", "alice") == Rule(
        Allowance(None, 2_000_000, 64), Allowance(None, 100, 16), 1000, 4.0, Priority.INTERACTIVE, True
    )
    assert rule_for(file, "acme", "ci") == Rule(
        Allowance(None, 2_000_000, 64), Allowance(None, 100, 2), 1000, 4.0, Priority.BATCH, True
    )
    assert rule_for(file, "acme", "robot").principal == Allowance(5, 100, 16)
    assert rule_for(file, "slow", "anyone").priority is Priority.BATCH


def test_an_empty_file_limits_nothing():
    assert rule_for(parse_file(b""), "a", "b") == Rule()
    assert not Rule().limited


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[default]\nrequest_per_minute = 1", "request_per_minute"),
        (b"[tenants.a]\nrequests_per_minute = 0", '[tenants."a"]'),
        (b"[tenants.a]\n[tenants.'b c']\ntokens_per_minute = 'many'", '[tenants."b c"]'),
        (b"[tenants.a.principals.x]\nweight = 1", '[tenants."a"]'),
        (b"tenants.a = 1", '[tenants."a"]'),
        (b"[tenants.'']", "tenants"),
        (b"[default]\nweight = 0", "weight"),
        (b"[default]\nweight = 1e9", "weight"),
        (b"[default.principal]\nweight = 2", "weight"),
        (b"[default.principal]\nscratch_bytes = 2", "scratch_bytes"),
        (b"[default]\npriority = 'urgent'", "priority"),
        (b"[default]\nrequests_per_minute = true", "requests_per_minute"),
        (b"tenants = 3", "tenants"),
        (b"[default", "TOML"),
        (b"\xff", "TOML"),
        (b"#" * (MAX_FILE + 1), "longer"),
    ],
)
def test_what_is_wrong_is_named(text: bytes, said: str):
    with pytest.raises(Malformed) as caught:
        parse_file(text)
    assert caught.value.code == "limits.file"
    assert said in caught.value.message


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(data: bytes):
    with contextlib.suppress(Malformed):
        parse_file(data)
