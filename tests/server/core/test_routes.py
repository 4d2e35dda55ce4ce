"""The allow list has no second spelling."""

from __future__ import annotations

import pytest

from rlu_server.core import routes
from rlu_server.core.errors import Dialect


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/chat/completions/",
        b"//v1/chat/completions",
        b"/v1/./chat/completions",
        b"/v1/x/../chat/completions",
        b"/V1/chat/completions",
        b"/v1/chat%2Fcompletions",
        b"/v1/chat/completions%00",
        b"/v1/chat/completions/batch",
        b"/v1/chat/completions/render",
        b"/metrics/../invocations",
        b"/tokenize",
        b"/v1/rlu",
        b"/v1/rlu%2f",
    ],
)
def test_other_spellings_and_other_routes_do_not_exist(path: bytes):
    assert path not in routes.RELAYED
    assert not routes.is_own(path)


def test_routes_fit_the_attestors_pattern():
    import re

    assert all(re.fullmatch("/[a-z0-9_/-]*", route.path) for route in routes.RELAYED.values())
    assert {path.decode() for path in routes.RELAYED} == {route.path for route in routes.RELAYED.values()}


def test_errors_speak_the_callers_language():
    assert routes.dialect_of(b"/v1/messages") is Dialect.ANTHROPIC
    assert routes.dialect_of(b"/v1/messages/batches") is Dialect.ANTHROPIC
    assert routes.dialect_of(b"/v1/rlu/sessions") is Dialect.RLU
    assert routes.dialect_of(b"/healthz") is Dialect.RLU
    assert routes.dialect_of(b"/nowhere") is Dialect.OPENAI
