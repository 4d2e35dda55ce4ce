from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlu_server.engine import parsers


def model(directory: Path, model_type: str, template: str | None) -> Path:
    (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    if template is not None:
        (directory / "chat_template.jinja").write_text(template)
    return directory


@pytest.mark.parametrize(
    ("model_type", "template", "tools", "reasoning"),
    [
        ("qwen3", "{{ tools }} <tool_call> <think>", "hermes", "qwen3"),
        ("qwen3", "{{ tools }} <tool_call>", "hermes", None),
        ("qwen3_moe", "{% if tools %}<function=", "qwen3_coder", None),
        ("llama", "{% if tools %}<|python_tag|>", "llama3_json", None),
        ("llama", "{{ messages }}", None, None),
        ("mistral", "{% if tools %}[TOOL_CALLS]", "mistral", None),
        ("gpt_oss", None, "openai", None),
        ("gpt_oss", "tools think", "openai", "openai_gptoss"),
        ("unheard_of", None, None, None),
    ],
)
def test_choice(
    tmp_path: Path, model_type: str, template: str | None, tools: str | None, reasoning: str | None
) -> None:
    place = model(tmp_path, model_type, template)
    assert parsers.tool_parser(place) == tools
    assert parsers.reasoning_parser(place) == reasoning


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model_type": 3}'])
def test_unreadable_configuration_chooses_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert parsers.tool_parser(tmp_path) is None


def test_names_are_vllms() -> None:
    """Read from the installed vLLM's tables, without importing it."""
    import importlib.util

    for package, names in (
        (
            "tool_parsers",
            {*parsers._TOOLS_BY_TYPE.values(), *(name for _, name in parsers._TOOLS_BY_TEMPLATE)},
        ),
        ("reasoning", set(parsers._REASONING_BY_TYPE.values())),
    ):
        spec = importlib.util.find_spec("vllm")
        assert spec is not None, "the engine is not installed"
        assert spec.submodule_search_locations is not None
        source = (Path(spec.submodule_search_locations[0]) / package / "__init__.py").read_text()
        for name in names:
            assert f'"{name}":' in source, f"{package}: {name}"
