"""Claude Code: a file of settings for `claude --settings`, which is layered on the user's own."""

from __future__ import annotations

import json

from rlu_attestation.clients.setup import File, Server, Setup

NAME = "rlu.settings.json"
MOST_OUTPUT = 32_000
"""What Claude Code asks for by itself; a model whose window is not several times that would refuse."""

CLASHING = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
)


def setup(server: Server) -> Setup:
    """Settings without a key: a helper prints it from the environment when it is needed."""
    environment = {
        "ANTHROPIC_BASE_URL": server.url,
        "ANTHROPIC_MODEL": server.model,
        "ANTHROPIC_SMALL_FAST_MODEL": server.small_model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": server.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": server.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": server.small_model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        **server.trust("NODE_EXTRA_CA_CERTS"),
    }
    if server.context_window is not None:
        environment["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(min(MOST_OUTPUT, server.context_window // 4))
    settings = {"apiKeyHelper": f"printenv {server.key_variable}", "env": environment}
    return Setup(
        (File(NAME, json.dumps(settings, indent=2, ensure_ascii=False) + "\n"),),
        {},
        ("claude", "--settings", f"{{directory}}/{NAME}"),
        "npm install --global @anthropic-ai/claude-code",
        CLASHING,
    )
