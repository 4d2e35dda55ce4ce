"""Which of vLLM's tool-call and reasoning parsers fit a model, from its own files.

vLLM does not choose by itself; without a parser an agent's tool calls come back as text. The model's `model_type` decides, and where one
type has several conventions the chat template does. An operator's `--tool-call-parser` wins.
"""

from __future__ import annotations

import json
from pathlib import Path

_TOOLS_BY_TYPE = {
    **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"), "hermes"),
    **dict.fromkeys(("mistral", "mistral3", "mixtral", "ministral3"), "mistral"),
    **dict.fromkeys(("glm4_moe",), "glm45"),
    "deepseek_v3": "deepseek_v3",
    "gpt_oss": "openai",
    "granite": "granite",
    "granitemoehybrid": "granite4",
    "kimi_k2": "kimi_k2",
    "llama": "llama3_json",
    "llama4": "llama4_pythonic",
    "minimax_m2": "minimax_m2",
    "phi4mini": "phi4_mini_json",
    "seed_oss": "seed_oss",
}
_TOOLS_BY_TEMPLATE = (
    ("<function=", "qwen3_coder"),
    ("<tool_call>", "hermes"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|python_tag|>", "llama3_json"),
)
_REASONING_BY_TYPE = {
    **dict.fromkeys(("qwen3", "qwen3_moe", "qwen3_next"), "qwen3"),
    "deepseek_v3": "deepseek_r1",
    "glm4_moe": "glm45",
    "gpt_oss": "openai_gptoss",
    "kimi_k2": "kimi_k2",
    "minimax_m2": "minimax_m2",
    "seed_oss": "seed_oss",
}
MAX_FILE = 8 << 20


def tool_parser(model: Path) -> str | None:
    """vLLM's name of the parser, or None when the model has no tool convention that we know."""
    template = _template(model)
    if template:
        for mark, parser in _TOOLS_BY_TEMPLATE:
            if mark in template:
                return parser
        if "tool" not in template:
            return None
    return _TOOLS_BY_TYPE.get(_model_type(model))


def reasoning_parser(model: Path) -> str | None:
    """vLLM's name of the parser for a model whose template makes it think aloud, else None."""
    return _REASONING_BY_TYPE.get(_model_type(model)) if "think" in _template(model) else None


def _model_type(model: Path) -> str:
    value = _json(model / "config.json").get("model_type")
    return value if isinstance(value, str) else ""


def _template(model: Path) -> str:
    file = model / "chat_template.jinja"
    if file.is_file() and file.stat().st_size <= MAX_FILE:
        return file.read_text("utf-8", errors="replace")
    value = _json(model / "tokenizer_config.json").get("chat_template")
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _json(file: Path) -> dict[str, object]:
    try:
        if file.stat().st_size > MAX_FILE:
            return {}
        value = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
