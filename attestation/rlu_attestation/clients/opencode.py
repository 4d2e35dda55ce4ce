"""opencode: a configuration of its own (`OPENCODE_CONFIG`), which is merged over the user's."""

from __future__ import annotations

import json

from rlu_attestation.clients.setup import File, Server, Setup

NAME = "rlu.json"
PROVIDER = "rlu"


def setup(server: Server) -> Setup:
    """One provider with the served models; the key is taken from the environment when opencode starts."""
    model: dict[str, object] = {}
    if server.context_window is not None:
        model["limit"] = {"context": server.context_window, "output": server.context_window // 4}
    configuration = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {
            PROVIDER: {
                "npm": "@ai-sdk/openai-compatible",
                "name": "RLU",
                "options": {"baseURL": server.openai_url, "apiKey": f"{{env:{server.key_variable}}}"},
                "models": dict.fromkeys((server.model, server.small_model), model),
            }
        },
        "model": f"{PROVIDER}/{server.model}",
        "small_model": f"{PROVIDER}/{server.small_model}",
        "enabled_providers": [PROVIDER],
        "autoupdate": False,
        "share": "disabled",
    }
    return Setup(
        (File(NAME, json.dumps(configuration, indent=2, ensure_ascii=False) + "\n"),),
        {
            "OPENCODE_CONFIG": f"{{directory}}/{NAME}",
            # A list of models and language servers would come from elsewhere.
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            **server.trust("NODE_EXTRA_CA_CERTS"),
        },
        ("opencode",),
        "npm install --global opencode-ai",
    )
