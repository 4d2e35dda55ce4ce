"""Claude Code, opencode and programs: whole files, without a key, that send nothing elsewhere."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from rlu_attestation.clients import CLIENTS, Server, claude, opencode
from rlu_attestation.clients.programs import agents, javascript, python

SERVER = Server("https://rlu.example", "MY_KEY", "big", "small", PurePosixPath("/ca.pem"), 65536)
BARE = replace(SERVER, ca_file=None, context_window=None)


def only(setup: Any) -> str:
    (file,) = setup.files
    text: str = file.text
    return text


def test_claude_code() -> None:
    setup = claude.setup(SERVER)
    settings = json.loads(only(setup))
    assert settings["apiKeyHelper"] == "printenv MY_KEY"
    own = settings["env"]
    assert (own["ANTHROPIC_BASE_URL"], own["NODE_EXTRA_CA_CERTS"]) == ("https://rlu.example", "/ca.pem")
    assert {name: value for name, value in own.items() if name.endswith("MODEL")} == {
        "ANTHROPIC_MODEL": "big",
        "ANTHROPIC_SMALL_FAST_MODEL": "small",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": "big",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "big",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "small",
    }
    assert own["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "16384"
    assert own["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"
    assert "ANTHROPIC_API_KEY" in setup.unset
    bare = json.loads(only(claude.setup(BARE)))["env"]
    assert not {"NODE_EXTRA_CA_CERTS", "CLAUDE_CODE_MAX_OUTPUT_TOKENS"} & set(bare)


def test_a_large_window_does_not_ask_for_more_than_usual() -> None:
    large = json.loads(only(claude.setup(replace(SERVER, context_window=1_000_000))))
    assert large["env"]["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "32000"


def test_opencode() -> None:
    setup = opencode.setup(SERVER)
    configuration = json.loads(only(setup))
    provider = configuration["provider"]["rlu"]
    assert provider["options"] == {"baseURL": "https://rlu.example/v1", "apiKey": "{env:MY_KEY}"}
    limit = {"limit": {"context": 65536, "output": 16384}}
    assert provider["models"] == {"big": limit, "small": limit}
    assert (configuration["model"], configuration["small_model"]) == ("rlu/big", "rlu/small")
    assert configuration["enabled_providers"] == ["rlu"]
    assert (configuration["autoupdate"], configuration["share"]) == (False, "disabled")
    assert setup.environment["OPENCODE_CONFIG"] == "{directory}/rlu.json"
    assert json.loads(only(opencode.setup(BARE)))["provider"]["rlu"]["models"] == {"big": {}, "small": {}}


@pytest.mark.parametrize("make", [python, agents])
@pytest.mark.parametrize("server", [SERVER, BARE], ids=["own certificate", "known authority"])
def test_programs_are_python(make: Any, server: Server) -> None:
    text = only(make(server))
    ast.parse(text)
    assert ("verify=TRUST" in text) == ("import ssl" in text) == (server.ca_file is not None)
    assert 'os.environ["MY_KEY"]' in text


def test_no_traces_leave() -> None:
    assert "set_tracing_disabled(True)" in only(agents(SERVER))
    assert "use_for_tracing=False" in only(agents(SERVER))


def test_javascript() -> None:
    assert "process.env.MY_KEY" in only(javascript(SERVER))
    assert javascript(SERVER).environment == {"NODE_EXTRA_CA_CERTS": "/ca.pem"}
    assert javascript(BARE).environment == {}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_model_with_quotes_stays_a_name(name: str) -> None:
    model = 'a"; exit() #\\'
    for file in CLIENTS[name].setup(replace(SERVER, model=model, small_model=model)).files:
        if file.name.endswith(".py"):
            strings = {
                node.value for node in ast.walk(ast.parse(file.text)) if isinstance(node, ast.Constant)
            }
            assert model in strings
        if file.name.endswith(".json"):
            assert model in str(json.loads(file.text)).replace("\\\\", "\\")
