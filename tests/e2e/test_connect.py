"""`rlu connect` in front of real processes: agents and SDKs that know nothing of proofs, each answer proven before it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from absent_inputs import absent
from e2e import claude as claude_code
from e2e import codex as codex_cli
from e2e.processes import environment
from e2e.scripted_stack import Scripted
from e2e.served import MODEL as DEMO
from e2e.served import RLU, Served
from e2e.test_relayed import agent_book, receipts_of
from rlu_attestation import load_policy
from rlu_attestation.connect import Status, VerifyingTransport

pytestmark = pytest.mark.tpm

TURN_S = 240.0
ASK = """
import anthropic, openai
gpt, claude = openai.OpenAI(max_retries=0), anthropic.Anthropic(max_retries=0)
ask = [{"role": "user", "content": "hello"}]
with gpt.chat.completions.create(model="scripted", messages=ask, stream=True) as stream:
    print("".join(c.choices[0].delta.content or "" for c in stream if c.choices))
with gpt.responses.create(model="scripted", input="hello", stream=True) as events:
    print(list(events)[-1].type)
with claude.messages.stream(model="scripted", messages=ask, max_tokens=64) as stream:
    print(stream.get_final_text())
print(gpt.chat.completions.create(model="scripted", messages=ask).choices[0].finish_reason)
"""


def _clean() -> dict[str, str]:
    """Whoever runs the tests may be such an agent's user too; nothing of that is for these."""
    return {k: v for k, v in environment().items() if not k.startswith(("ANTHROPIC_", "CLAUDE", "CODEX"))}


@dataclass(frozen=True, slots=True)
class Connected:
    """What a connected command did; `told` are the status lines."""

    status: int
    out: str
    err: str
    told: list[dict[str, Any]]

    def sessions(self) -> set[str]:
        return {one["session"] for one in self.told if one["event"] in ("verified", "waived")}


def connect(
    scripted: Scripted, words: Sequence[str | Path], policy: Path, cwd: Path | None = None, **more: str
) -> Connected:
    """Run a command connected to the scripted deployment."""
    done = subprocess.run(
        [*RLU, "connect", scripted.caller.url, "--policy", str(policy), "--json", "--", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TURN_S,
        cwd=cwd,
        env={**_clean(), "RLU_API_KEY": scripted.caller.key, **more},
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith('{"event"')]
    return Connected(done.returncode, done.stdout, done.stderr, [json.loads(line) for line in lines])


POLICY = """
version = 1
pcrs = "any"
[trust]
ek_roots = ["{root}"]
registrars = ["{registrar}"]
unsafe_accept_emulated_tpm = true
unsafe_accept_unverified_boot = true
[accept]
hardware_profiles = "any"
regions = ["{region}"]
boundaries = "any"
sites = "any"
models = "any"
engines = "any"
engine_arguments = "any"
gateways = "any"
gateway_images = "any"
debug_states = "any"
[channel]
origins = ["gateway-memory"]
[lock]
attestor = "any"
engine = "any"
gateway = "any"
[minimum_source]
default = "asserted"
region = "endorsed"
"""


def write_policy(scripted: Scripted, directory: Path, region: str = "eu-central-1") -> Path:
    path = directory / "policy.toml"
    root, registrar = scripted.authorities()
    path.write_text(POLICY.format(root=root, registrar=registrar, region=region))
    return path


@pytest.fixture
def policy(scripted: Scripted, tmp_path: Path) -> Path:
    """What this deployment is, with its emulated TPM accepted by name."""
    return write_policy(scripted, tmp_path)


def test_the_sdks_streamed_and_whole(scripted: Scripted, policy: Path) -> None:
    done = connect(scripted, [sys.executable, "-c", ASK], policy)
    assert done.status == 0, done
    said, kind, again, finish = done.out.splitlines()
    assert said == again
    assert (kind, finish) == ("response.completed", "stop")
    assert [one["event"] for one in done.told] == ["waived", "closed"], done.err
    opened, closed = done.told
    assert "policy.tpm.emulator" in opened["waivers"]
    assert opened["region"] == "eu-central-1 (endorsed)"
    assert (closed["session"], closed["receipts"]) == (opened["session"], 4)
    # An explicit session, with a nonce, whatever the client called its conversation.
    assert {r.status for r in receipts_of(scripted.caller, opened["session"])} == {"complete"}


def test_a_region_that_is_not_accepted_runs_nothing(scripted: Scripted, tmp_path: Path) -> None:
    done = connect(
        scripted, [sys.executable, "-c", "print('ran')"], write_policy(scripted, tmp_path, "mars-1")
    )
    assert (done.status, done.out) == (10, "")
    assert [one["code"] for one in done.told] == ["policy.region.mismatch"]
    assert scripted.seen() == []


def test_an_engine_that_breaks_off_is_no_success(scripted: Scripted, policy: Path) -> None:
    ask = (
        "import openai\nclient = openai.OpenAI(max_retries=0)\n"
        "ask = [{'role': 'user', 'content': 'hello'}]\n"
        "for c in client.chat.completions.create(model='scripted', messages=ask, stream=True,"
        " extra_body={'metadata': {'script': 'broken'}}):\n    print(c.choices[0].finish_reason)"
    )
    done = connect(scripted, [sys.executable, "-c", ask], policy)
    assert done.status == 10
    assert "stop" not in done.out
    assert "receipt.status" in done.err
    assert [one["code"] for one in done.told if one["event"] == "unproven"] == ["receipt.status"]


@pytest.mark.codex
def test_codex_calls_a_tool(scripted: Scripted, policy: Path, agent_directory: Path) -> None:
    binary = codex_cli.found()
    if binary is None:
        absent("codex", "no codex below .cache/npm and none on PATH")
    home, workspace = agent_directory / "home", agent_directory / "workspace"
    home.mkdir()
    workspace.mkdir()
    scripted.script(agent_book("echo from-the-tool > made-by-the-agent.txt; env > environment.txt"))
    words = [binary, "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    done = connect(
        scripted, [*words, "Write the file."], policy, workspace, HOME=str(home), CODEX_HOME=str(home)
    )
    assert done.status == 0, done
    events = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
    assert events[-1]["type"] == "turn.completed"
    assert (workspace / "made-by-the-agent.txt").read_text() == "from-the-tool\n"
    # The tool, which ran below Codex, never saw the server's key.
    assert scripted.caller.key not in (workspace / "environment.txt").read_text()
    (session,) = done.sessions()
    made = receipts_of(scripted.caller, session)
    assert [(r.seq, r.status, r.route) for r in made] == [
        (1, "complete", "/v1/responses"),
        (2, "complete", "/v1/responses"),
    ]
    assert done.told[-1]["event"] == "closed"
    assert done.told[-1]["receipts"] == 2


def test_claude_code_calls_a_tool(scripted: Scripted, policy: Path, agent_directory: Path) -> None:
    binary = claude_code.found()
    if binary is None:
        absent("claude", "no claude below .cache/npm and none on PATH")
    home, workspace = agent_directory / "home", agent_directory / "workspace"
    home.mkdir()
    workspace.mkdir()
    scripted.script(agent_book("echo from-the-tool > made-by-the-agent.txt"))
    words = [binary, "-p", "Write the file.", "--output-format", "json", "--allowedTools", "Bash"]
    given = {"HOME": str(home), "CLAUDE_CONFIG_DIR": str(home / "claude")}
    done = connect(scripted, words, policy, workspace, **given)
    assert done.status == 0, done
    result = json.loads(done.out)
    assert (result["is_error"], result["result"]) == (False, "The file is written.")
    assert (workspace / "made-by-the-agent.txt").read_text() == "from-the-tool\n"
    assert done.told[-1]["event"] == "closed"
    assert done.told[-1]["receipts"] >= 2


# --- real vLLM ----------------------------------------------------------------------------------------------------------


@pytest.mark.engine
def test_what_vllm_streams_passes_piece_by_piece(served: Served) -> None:
    told: list[Status] = []
    transport = VerifyingTransport(
        served.caller.url, load_policy(served.policy), api_key=served.caller.key, on_status=told.append
    )
    ask: dict[str, Any] = {"model": DEMO, "temperature": 0, "stream": True}
    messages = [{"role": "user", "content": "What is RLU?"}]
    bodies = {
        "/v1/chat/completions": {"messages": messages, "max_tokens": 48},
        "/v1/completions": {"prompt": "What is RLU?", "max_tokens": 48},
        "/v1/responses": {"input": "What is RLU?", "max_output_tokens": 48},
        "/v1/messages": {"messages": messages, "max_tokens": 48},
    }
    with httpx2.Client(transport=transport, timeout=120) as http:
        for path, body in bodies.items():
            with http.stream("POST", served.caller.url + path, json=ask | body) as response:
                pieces = list(response.iter_raw())
            assert response.status_code == 200
            # What was held comes in one piece, and what came before it was not held.
            assert len(pieces) > 1, (path, pieces)
            assert b'"error":{' not in pieces[-1], path
            whole = b"".join(pieces)
            assert whole.endswith(b"\n\n")
        assert [status.event for status in told] == ["waived"]
    assert (told[-1].event, told[-1].receipts) == ("closed", len(bodies))


def test_the_locked_proxy_serves_and_is_confined(scripted: Scripted, policy: Path) -> None:
    """`rlu connect --locked`: verified and proven as ever; no file beyond its own, no program, no other server."""
    words = [*RLU, "connect", scripted.caller.url, "--policy", str(policy), "--json", "--locked"]
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**_clean(), "RLU_API_KEY": scripted.caller.key, "STRAY": "SECRET"},
    ) as proxy:
        try:
            assert proxy.stdout is not None
            told = []
            while not told or told[-1]["event"] != "listening":
                line = proxy.stdout.readline()
                assert line.rstrip().endswith("}"), line + proxy.stdout.read()
                told.append(json.loads(line))
            where = told[-1]
            answer = httpx2.post(
                f"{where['url']}/v1/chat/completions",
                headers={"Authorization": f"Bearer {where['key']}"},
                json={"model": "scripted", "messages": [{"role": "user", "content": "hello"}]},
                timeout=60,
            )
            assert answer.status_code == 200, answer.text
            process = Path(f"/proc/{proxy.pid}")
            status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
            assert (status["Seccomp"], status["NoNewPrivs"], status["CapEff"]) == ("2", "1", "0" * 16)
            assert not (process / "root" / "var" / "lib").exists()
            assert (process / "root" / str(policy).lstrip("/")).exists()
            assert b"SECRET" not in (process / "environ").read_bytes()
        finally:
            proxy.terminate()
            proxy.communicate(timeout=60)
    assert proxy.returncode == 0


@pytest.mark.parametrize("more", [["--socket", "s"], ["--", "true"]])
def test_a_lock_takes_no_command_and_no_socket(scripted: Scripted, policy: Path, more: list[str]) -> None:
    words = [*RLU, "connect", scripted.caller.url, "--policy", str(policy), "--locked", *more]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env={**_clean(), "RLU_API_KEY": "rlu_x"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "--locked serves on a port" in done.stderr
