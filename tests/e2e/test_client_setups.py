"""`rlu clients` for each client, and the client run with exactly what was written and printed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from absent_inputs import absent
from e2e import claude as claude_code
from e2e import codex as codex_cli
from e2e import opencode
from e2e.caller import Caller, chat
from e2e.processes import NO_WAY_OUT, environment, until
from e2e.proofs import receipt
from e2e.scripted_stack import GPT, MODEL, Scripted
from e2e.served import MODEL as DEMO
from e2e.served import RLU, Served
from e2e.test_connect import connect, write_policy
from e2e.test_javascript import HERE as JAVASCRIPT
from e2e.test_javascript import TURNS, node
from e2e.test_relayed import agent_book

pytestmark = pytest.mark.tpm

ROOT = Path(__file__).resolve().parents[2]
AGENTS_SDK = ROOT / ".cache" / "agents-sdk"
TURN_S = 240.0
SAYS = {"model": MODEL, "default": {"turns": [{"text": "hello yourself"}]}}


@dataclass(frozen=True, slots=True)
class Written:
    """What `rlu clients … --write --json` said."""

    directory: Path
    environment: dict[str, str]
    command: list[str]


def written(caller: Caller, client: str, directory: Path, *words: str) -> Written:
    """Have the files written, as a user does; without `words` the server is asked for its models."""
    place = ["--directory", str(directory), "--write", "--yes"]
    trust = ["--ca-file", str(caller.certificate)]
    done = subprocess.run(
        [*RLU, "clients", client, caller.url, *trust, *place, "--json", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TURN_S,
        env=environment({"RLU_API_KEY": caller.key}),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for file in said["files"]:
        text = Path(file["path"]).read_text()
        assert text == file["text"]
        assert caller.key not in text
    return Written(directory, {**said["environment"], "RLU_API_KEY": caller.key}, said["command"])


def run(words: list[str], cwd: Path, given: dict[str, str]) -> str:
    """The output of a command that succeeds, in an environment without other services' settings."""
    base = {
        name: value
        for name, value in environment().items()
        if not name.startswith(("ANTHROPIC_", "CLAUDE", "CODEX", "OPENAI_", "OPENCODE", "SSL_CERT"))
    }
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TURN_S,
        cwd=cwd,
        # Agents run commands in a login shell, whose start-up files are not the business of a test.
        env={**base, "HOME": str(cwd), **NO_WAY_OUT, **given},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bodies(scripted: Scripted, target: str) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in scripted.seen() if one.target == target]


# --- agents -------------------------------------------------------------------------------------------------------------


def codex_found() -> Path:
    binary = codex_cli.found()
    if binary is None:
        absent("codex", "no codex below .cache/npm and none on PATH")
    return binary


@pytest.mark.codex
def test_codex_takes_every_word_of_its_profile(scripted: Scripted, agent_directory: Path) -> None:
    scripted.script(agent_book("echo from-the-tool > made-by-the-agent.txt"))
    setup = written(scripted.caller, "codex", agent_directory / "home", "--context-window", "32768")
    assert setup.environment["CODEX_HOME"] == str(agent_directory / "home")
    workspace = agent_directory / "workspace"
    workspace.mkdir()
    words = [
        str(codex_found()),
        *setup.command[1:],
        "--strict-config",
        "exec",
        "--json",
        "--skip-git-repo-check",
    ]
    words += ["--dangerously-bypass-approvals-and-sandbox", "Write the file."]
    events = [
        json.loads(line) for line in run(words, workspace, setup.environment).splitlines() if line[:1] == "{"
    ]
    assert events[-1]["type"] == "turn.completed"
    assert (workspace / "made-by-the-agent.txt").read_text() == "from-the-tool\n"
    complaints = [e["item"]["message"] for e in events if e.get("item", {}).get("type") == "error"]
    # Codex knows nothing of this model beforehand, and no more than that is wrong.
    assert len([text for text in complaints if "metadata" not in text]) == 0, complaints
    first = bodies(scripted, "/v1/responses")[0]
    assert (first["model"], first["reasoning"]["effort"]) == (MODEL, "high")
    tools = {tool.get("name") or tool["type"]: tool for tool in first["tools"]}
    assert "web_search" not in tools
    roles = json.dumps(tools["multi_agent_v1"])
    for role in (
        "orchestrator",
        "explorer",
        "implementer",
        "ci_runner",
        "reviewer",
        "qa_test_author",
        "release_manager",
    ):
        assert f"{role}: {{" in roles, role
    assert f"model is set to `{GPT}` and its reasoning effort is set to `low`" in roles


@pytest.mark.codex
def test_a_role_runs_with_its_own_model_effort_and_instructions(
    scripted: Scripted, agent_directory: Path
) -> None:
    spawn = {"agent_type": "explorer", "message": "Find the file."}
    wait = "for i in $(seq 240); do [ -e found ] && break; sleep 0.1; done"
    turns = [
        # An agent at the greatest depth is offered no further ones.
        {"calls": [{"any_of": {"multi_agent_v1__spawn_agent": spawn, "exec_command": {"cmd": "true"}}}]},
        {"calls": [{"any_of": {"exec_command": {"cmd": wait, "yield_time_ms": 30_000}}}]},
        {"text": "It is found."},
    ]
    scripted.script({"model": MODEL, "default": {"turns": turns}})
    home, workspace = agent_directory / "home", agent_directory / "workspace"
    workspace.mkdir()
    setup = written(scripted.caller, "codex", home, "--model", GPT, "--small-model", MODEL)
    words = [str(codex_found()), *setup.command[1:], "exec", "--skip-git-repo-check"]
    words += ["--dangerously-bypass-approvals-and-sandbox", "Have the file found."]
    exploring: list[dict[str, Any]] = []

    def watch() -> bool:
        exploring[:] = [
            body for body in bodies(scripted, "/v1/responses") if "Explore only" in json.dumps(body["input"])
        ]
        return bool(exploring)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run, words, workspace, setup.environment)
        try:
            until(watch, 60, lambda: str(done))
        finally:
            (workspace / "found").touch()
            said = done.result()
    assert said.strip().endswith("It is found.")
    main = bodies(scripted, "/v1/responses")[0]
    assert "Explore only" not in json.dumps(main["input"])
    efforts = (main["reasoning"]["effort"], exploring[0]["reasoning"]["effort"])
    assert efforts == ("high", "low")


@pytest.mark.codex
def test_codex_waits_where_a_limit_says_so(scripted: Scripted, agent_directory: Path) -> None:
    setup = written(scripted.limited, "codex", agent_directory / "home", "--model", MODEL, "--no-roles")
    words = [str(codex_found()), *setup.command[1:], "exec", "--json", "--skip-git-repo-check", "hello"]
    endless = chat("x", MODEL, stream=True, metadata={"script": "endless"})
    with scripted.limited.begin("POST", "/v1/chat/completions", endless) as (_, held):
        assert held.status == 200
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=agent_directory,
            env={**environment({"HOME": str(agent_directory)}), **NO_WAY_OUT, **setup.environment},
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "429" in line:
                break
    # The one request that was allowed is over.
    with process:
        events = [json.loads(line) for line in process.stdout if line.startswith("{")]
    assert events[-1]["type"] == "turn.completed", events


def test_claude_code(scripted: Scripted, agent_directory: Path) -> None:
    binary = claude_code.found()
    if binary is None:
        absent("claude", "no claude below .cache/npm and none on PATH")
    scripted.script(agent_book("echo from-the-tool > made-by-the-agent.txt"))
    home, workspace = agent_directory / "home", agent_directory / "workspace"
    workspace.mkdir()
    setup = written(scripted.caller, "claude", home, "--model", "claude-sonnet-4-5")
    given = {**setup.environment, "HOME": str(home), "CLAUDE_CONFIG_DIR": str(home / "claude")}
    words = [
        str(binary),
        *setup.command[1:],
        "-p",
        "Write the file.",
        "--output-format",
        "json",
        "--allowedTools",
        "Bash",
    ]
    result = json.loads(run(words, workspace, given))
    assert (result["is_error"], result["result"]) == (False, "The file is written.")
    assert (workspace / "made-by-the-agent.txt").read_text() == "from-the-tool\n"
    assert {body["model"] for body in bodies(scripted, "/v1/messages")} == {MODEL}


@pytest.mark.parametrize("model", [MODEL, GPT])
def test_opencode(scripted: Scripted, tmp_path: Path, model: str) -> None:
    binary = opencode.found()
    if binary is None:
        absent("opencode", "no opencode below .cache/npm and none on PATH")
    call = {"bash": {"command": "echo from-the-tool > made-by-the-agent.txt", "description": "write a file"}}
    turns = [
        {"reasoning": "A file is wanted.", "text": "I write it.", "calls": [{"any_of": call}]},
        {"text": "The file is written."},
    ]
    scripted.script({"model": MODEL, "default": {"turns": turns}})
    setup = written(scripted.caller, "opencode", tmp_path / "configuration", "--model", model)
    events = opencode.run(binary, tmp_path, "Write the file.", setup.environment)
    texts = [event["part"]["text"] for event in events if event["type"] == "text"]
    assert texts[-1] == "The file is written."
    assert (tmp_path / "workspace" / "made-by-the-agent.txt").read_text() == "from-the-tool\n"
    asked = bodies(scripted, "/v1/chat/completions")
    assert {body["model"] for body in asked} == {MODEL}
    assert any(message["role"] == "tool" for message in asked[-1]["messages"])


# --- programs -----------------------------------------------------------------------------------------------------------


def test_python(scripted: Scripted, tmp_path: Path) -> None:
    scripted.script(SAYS)
    setup = written(scripted.caller, "python", tmp_path)
    said = run([sys.executable, *setup.command[1:]], tmp_path, setup.environment)
    assert said == "hello yourself\n" * 2


def test_behind_rlu_connect(scripted: Scripted, tmp_path: Path) -> None:
    """What is written for the local proxy uses the run's own key, and every answer is proven."""
    scripted.script(SAYS)
    write = [*RLU, "clients", "python", "--key-variable", "OPENAI_API_KEY", "--write", "--yes"]
    line = f'{shlex.join(write)} "$ANTHROPIC_BASE_URL" >&2 && {shlex.join([sys.executable, "rlu_client.py"])}'
    done = connect(scripted, ["sh", "-c", line], write_policy(scripted, tmp_path), tmp_path)
    assert (done.status, done.out) == (0, "hello yourself\n" * 2), done
    assert (done.told[-1]["event"], done.told[-1]["receipts"]) == ("closed", 2)


def test_javascript(scripted: Scripted, tmp_path: Path) -> None:
    scripted.script(SAYS)
    binary = node()
    (tmp_path / "node_modules").symlink_to(JAVASCRIPT / "node_modules")
    setup = written(scripted.caller, "javascript", tmp_path)
    assert run([binary, *setup.command[1:]], tmp_path, setup.environment) == "hello yourself\n" * 2


def agents_sdk(given: dict[str, str]) -> dict[str, str]:
    """The environment in which OpenAI's Agents SDK is found."""
    if not AGENTS_SDK.is_dir():
        absent("openai-agents", "nothing at .cache/agents-sdk")
    return {**given, "PYTHONPATH": os.pathsep.join([str(AGENTS_SDK)])}


def test_agents_sdk(scripted: Scripted, tmp_path: Path) -> None:
    scripted.script(SAYS)
    setup = written(scripted.caller, "agents", tmp_path)
    said = run([sys.executable, *setup.command[1:]], tmp_path, agents_sdk(setup.environment))
    assert said == "hello yourself\n"


LOOP = """
import asyncio, sys
import agents, openai
import rlu_agents

looked = []

@agents.function_tool
def look(at: str) -> str:
    "Look at a place."
    looked.append(at)
    return f"{at} is there"

async def main():
    agent = agents.Agent(name="Looker", instructions="Look.", model=sys.argv[1], tools=[look])
    # Streamed, with what was said before kept at the server.
    run = agents.Runner.run_streamed(agent, "Look here and there.", auto_previous_response_id=True)
    kinds = {event.type async for event in run.stream_events()}
    assert "raw_response_event" in kinds and "run_item_stream_event" in kinds, kinds
    assert sorted(looked) == ["here", "there"], looked
    print(run.final_output)
    # And through Chat Completions, whole.
    chat = agents.OpenAIChatCompletionsModel(sys.argv[1], rlu_agents.client)
    print((await agents.Runner.run(agent.clone(model=chat), "Look again.")).final_output)
    assert len(looked) == 4, looked

asyncio.run(main())
"""


@pytest.mark.parametrize("model", [MODEL, GPT])
def test_agents_sdk_with_tools(scripted: Scripted, tmp_path: Path, model: str) -> None:
    scripted.script({"model": MODEL, "default": {"turns": TURNS}})
    setup = written(scripted.caller, "agents", tmp_path)
    (tmp_path / "loop.py").write_text(LOOP)
    said = run([sys.executable, "loop.py", model], tmp_path, agents_sdk(setup.environment))
    assert said == "Both are there.\n" * 2
    first, second = bodies(scripted, "/v1/responses")
    assert [item.get("type") for item in second["input"]][-2:] == ["function_call_output"] * 2
    # The engine got the whole conversation, though the second request named the first answer only.
    assert len(second["input"]) > len(first["input"]) + 2
    assert {body["model"] for body in bodies(scripted, "/v1/chat/completions")} == {MODEL}


# --- real vLLM ----------------------------------------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.parametrize("client", ["javascript", "agents", "opencode"])
def test_with_vllm(served: Served, tmp_path: Path, client: str) -> None:
    """Whatever this small model says, the client takes it for an answer."""

    def counted() -> dict[str, int]:
        sessions = served.caller.get("/v1/rlu/sessions").json()["sessions"]
        return {one["session"]: one["last_seq"] for one in sessions}

    before = counted()
    setup = written(served.caller, client, tmp_path)
    if client == "opencode":
        binary = opencode.found() or absent("opencode", "no opencode below .cache/npm and none on PATH")
        events = opencode.run(binary, tmp_path, "What is RLU?", setup.environment)
        assert [event["type"] for event in events][-1] == "step_finish", events
    elif client == "javascript":
        (tmp_path / "node_modules").symlink_to(JAVASCRIPT / "node_modules")
        assert run([node(), *setup.command[1:]], tmp_path, setup.environment).strip()
    else:
        words = [sys.executable, *setup.command[1:]]
        assert run(words, tmp_path, agents_sdk(setup.environment)).strip()
    # The same words may belong to a conversation that there was before.
    made = [
        receipt(served.caller, f"/v1/rlu/receipts/{session}/{number}")
        for session, last in counted().items()
        for number in range(before.get(session, 0) + 1, last + 1)
    ]
    assert made
    assert {(one.status, one.model) for one in made} == {("complete", DEMO)}
