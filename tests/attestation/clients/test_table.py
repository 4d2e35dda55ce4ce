"""Where files belong, and which of a server's names a client asks for."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from rlu_attestation.clients import CLIENTS

HOME, HERE = PurePosixPath("/home/me"), PurePosixPath("/work")
LISTED = {
    "qwen": "qwen",
    "qwen-small": "qwen-small",
    "gpt-5.4": "qwen",
    "gpt-5.3-codex-spark": "qwen-small",
    "claude-haiku-4-5": "qwen-small",
    "claude-opus-4-5": "qwen",
}


@pytest.mark.parametrize(
    ("client", "environment", "expected"),
    [
        ("codex", {}, "/home/me/.codex"),
        ("codex", {"CODEX_HOME": "/elsewhere"}, "/elsewhere"),
        ("claude", {"CODEX_HOME": "/elsewhere", "CLAUDE_CONFIG_DIR": ""}, "/home/me/.claude"),
        ("claude", {"CLAUDE_CONFIG_DIR": "/c"}, "/c"),
        ("opencode", {}, "/home/me/.config/opencode"),
        ("opencode", {"XDG_CONFIG_HOME": "/x"}, "/x/opencode"),
        ("python", {"XDG_CONFIG_HOME": "/x"}, "/work"),
    ],
)
def test_directories(client: str, environment: dict[str, str], expected: str) -> None:
    assert str(CLIENTS[client].directory(environment, HOME, HERE)) == expected


@pytest.mark.parametrize(
    ("client", "listed", "expected"),
    [
        ("codex", LISTED, ("gpt-5.4", "gpt-5.3-codex-spark")),
        ("claude", LISTED, ("claude-opus-4-5", "claude-haiku-4-5")),
        ("opencode", LISTED, ("qwen", "qwen")),
        ("agents", LISTED, ("qwen", "qwen")),
        ("codex", {"qwen": "qwen"}, ("qwen", "qwen")),
        # Served under such a name itself: nothing was mapped.
        ("codex", {"gpt-oss-120b": "gpt-oss-120b"}, ("gpt-oss-120b", "gpt-oss-120b")),
        # Only the small one is mapped.
        ("claude", {"m": "m", "claude-haiku-4-5": "m"}, ("m", "claude-haiku-4-5")),
        # A name is listed before the model that it stands for.
        ("python", {"alias": "m", "m": "m"}, ("m", "m")),
        ("python", {"alias": "hidden"}, ("alias", "alias")),
    ],
)
def test_names(client: str, listed: dict[str, str], expected: tuple[str, str]) -> None:
    assert CLIENTS[client].models(listed) == expected
