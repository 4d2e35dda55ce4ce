"""What a command finds in its environment, and on its command line."""

from __future__ import annotations

import pytest
import tomllib

from rlu_attestation.connect.launch import ELSEWHERE, Local

LOCAL = Local("http://127.0.0.1:4321", "rlu_local_x", 'a "model"')
REAL = "rlu_real"


def test_clients_are_led_to_the_proxy() -> None:
    found = LOCAL.environment({"PATH": "/bin", "OPENAI_API_KEY": "sk-x"}, REAL)
    assert found["PATH"] == "/bin"
    assert found["OPENAI_BASE_URL"] == "http://127.0.0.1:4321/v1"
    assert found["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:4321"
    assert found["OPENAI_API_KEY"] == found["ANTHROPIC_API_KEY"] == "rlu_local_x"
    assert found["ANTHROPIC_MODEL"] == found["ANTHROPIC_SMALL_FAST_MODEL"] == 'a "model"'


def test_the_real_key_stays_here() -> None:
    present = {"RLU_API_KEY": REAL, "MY_KEY": REAL, "OPENAI_API_KEY": REAL, "OTHER": "x"}
    found = LOCAL.environment(present, REAL)
    assert REAL not in found.values()
    assert found["OTHER"] == "x"
    assert LOCAL.environment({"RLU_API_KEY": "older"}, REAL).get("RLU_API_KEY") is None


def test_the_real_key_is_passed_on_request() -> None:
    found = LOCAL.environment({}, REAL, pass_key=True)
    assert (found["RLU_API_KEY"], found["OPENAI_API_KEY"]) == (REAL, "rlu_local_x")


def test_nothing_leads_elsewhere() -> None:
    found = LOCAL.environment(dict.fromkeys(ELSEWHERE, "1"), REAL)
    assert {name for name in ELSEWHERE if name in found} == {"ANTHROPIC_API_KEY"}
    assert "1" not in {found.get(name) for name in ELSEWHERE}


def test_claude_code_is_not_asked_about_a_new_key() -> None:
    present = {"ANTHROPIC_API_KEY": "sk-x"}
    found = LOCAL.environment(present, REAL, program="/opt/bin/claude")
    assert found["ANTHROPIC_AUTH_TOKEN"] == "rlu_local_x"
    assert "ANTHROPIC_API_KEY" not in found


@pytest.mark.parametrize(
    ("present", "expected"),
    [({}, "127.0.0.1,localhost"), ({"NO_PROXY": "corp.example"}, "corp.example,127.0.0.1,localhost")],
)
def test_a_proxy_of_the_environment_is_not_used(present: dict[str, str], expected: str) -> None:
    assert LOCAL.environment(present, REAL)["NO_PROXY"] == expected


def test_a_choice_of_the_users_model_stays() -> None:
    assert LOCAL.environment({"ANTHROPIC_MODEL": "m"}, REAL)["ANTHROPIC_MODEL"] == "m"


def test_codex_is_configured_on_its_command_line() -> None:
    words = LOCAL.command(["/opt/bin/codex", "exec", "-m", "x", "do it"])
    assert (words[0], words[-4:]) == ("/opt/bin/codex", ["exec", "-m", "x", "do it"])
    assert words[1:-4:2] == ["-c"] * 6
    settings = tomllib.loads("\n".join(words[2:-4:2]))
    assert (settings["model"], settings["model_provider"]) == ('a "model"', "rlu-connect")
    assert settings["model_providers"]["rlu-connect"] == {
        "name": "RLU",
        "base_url": "http://127.0.0.1:4321/v1",
        "wire_api": "responses",
        "env_key": "OPENAI_API_KEY",
    }


@pytest.mark.parametrize("words", [[], ["claude", "-p", "x"], ["codex-helper"], ["sh", "codex"]])
def test_other_commands_are_left_alone(words: list[str]) -> None:
    assert LOCAL.command(words) == words
