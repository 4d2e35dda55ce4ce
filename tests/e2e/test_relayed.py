"""Through real processes to a scripted engine: receipts over the exact bytes, faults and aborts, agents that call tools."""

from __future__ import annotations

import json
import time

import pytest

from e2e.caller import Answer, Caller, chat
from e2e.claude import Claude
from e2e.codex import Codex
from e2e.proofs import assert_proven, bundle, exchange, judge, open_session, receipt, statement, unproven
from e2e.scripted_stack import MODEL, Scripted
from rlu_attestation.statements import Receipt

pytestmark = pytest.mark.tpm

CHAT = "/v1/chat/completions"


def scripted_chat(script: str, **more: object) -> dict[str, object]:
    return chat("hello", MODEL, metadata={"script": script}, **more)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_every_route_of_one_session_is_proven_to_the_byte(scripted: Scripted, stream: bool) -> None:
    session = {"RLU-Session": open_session(scripted.caller)}
    asked: list[tuple[str, dict[str, object]]] = [
        (CHAT, chat("one", MODEL, stream=stream)),
        ("/v1/completions", {"model": MODEL, "prompt": "two", "stream": stream}),
        ("/v1/responses", {"model": MODEL, "input": "three", "stream": stream}),
        ("/v1/messages", chat("four", MODEL, max_tokens=64, stream=stream)),
        ("/v1/messages/count_tokens", chat("five", MODEL)),
        ("/v1/embeddings", {"model": MODEL, "input": "six"}),
    ]
    answers = [scripted.caller.post(path, body, session) for path, body in asked]
    assert [answer.status for answer in answers] == [200] * len(answers)
    found = assert_proven(scripted.caller, answers)
    assert [(r.seq, r.route, r.status, r.model) for r in found] == [
        (number, path, "complete", MODEL) for number, (path, _) in enumerate(asked, 1)
    ]
    # The salt was added on the way, where there is one, and white space between members left out; both are said.
    assert [r.rewritten for r in found] == [("cache_salt",)] * 4 + [("spelling",), ("cache_salt",)]


def test_a_byte_changed_anywhere_is_noticed(scripted: Scripted) -> None:
    session = {"RLU-Session": open_session(scripted.caller)}
    answer = scripted.caller.post(CHAT, chat("one", MODEL), session)
    changed = bytearray(answer.content)
    changed[len(changed) // 2] ^= 1
    for damaged, step in [
        (Answer(200, answer.headers, answer.request, bytes(changed)), "receipt.response"),
        (Answer(200, answer.headers, answer.request + b" ", answer.content), "receipt.request"),
    ]:
        made = bundle(scripted.caller, answer.session, [exchange(scripted.caller, damaged)])
        assert [step_id for step_id, *_ in unproven(judge(made))] == [step]


def test_the_engine_breaks_off(scripted: Scripted) -> None:
    answer = scripted.caller.post(CHAT, scripted_chat("broken", stream=True))
    assert answer.content.count(b"data: ") == 4
    assert json.loads(answer.content.rstrip().rpartition(b"data: ")[2])["error"]["code"] == "engine_lost"
    made = receipt(scripted.caller, answer.receipt)
    assert (made.status, made.reason, made.http_status) == ("partial", "engine_lost", 200)
    # What was cut is proven like everything else.
    evidence = bundle(scripted.caller, answer.session, [exchange(scripted.caller, answer)])
    assert [finding for finding in unproven(judge(evidence)) if finding[0].startswith("receipt.")] == []


def test_the_engine_refuses(scripted: Scripted) -> None:
    answer = scripted.caller.post(CHAT, scripted_chat("refuses"))
    assert answer.status == 500
    made = receipt(scripted.caller, answer.receipt)
    assert (made.status, made.reason, made.http_status) == ("failed", "engine_status", 500)


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages"])
def test_a_client_that_leaves_is_noticed_by_the_engine_and_in_the_receipt(
    scripted: Scripted, path: str
) -> None:
    body: dict[str, object] = {"model": MODEL, "stream": True, "metadata": {"script": "endless"}}
    body |= {"input": "go"} if path == "/v1/responses" else {"messages": [{"role": "user", "content": "go"}]}
    if path == "/v1/messages":
        body["max_tokens"] = 100
    with scripted.caller.begin("POST", path, body) as (_, response):
        assert response.status == 200
        session, where = response.headers["RLU-Session"], response.headers["RLU-Receipt"]
        assert b"data: " in response.read(2000)
        assert scripted.seen()[-1].outcome == "open"
    deadline = time.monotonic() + 60
    while scripted.seen()[-1].outcome == "open":
        assert time.monotonic() < deadline, "the engine goes on for nobody"
        time.sleep(0.05)
    assert scripted.seen()[-1].outcome == "aborted"
    made = receipt(scripted.caller, where)
    assert (made.session, made.status, made.reason) == (session, "aborted", "client_disconnected")
    assert made.response is not None
    assert made.response.size > 0


# --- agents -----------------------------------------------------------------------------------------------------------


def agent_book(command: str) -> dict[str, object]:
    """Two steps: a shell command, whatever the agent calls that tool; then a closing sentence."""
    call = {
        "exec_command": {"cmd": command, "yield_time_ms": 30_000},
        "shell_command": {"command": command},
        "shell": {"command": ["bash", "-lc", command]},
        "Bash": {"command": command, "description": "write a file"},
    }
    turns = [
        {"reasoning": "A file is wanted.", "text": "I write it.", "calls": [{"any_of": call}]},
        {"text": "The file is written."},
    ]
    return {"model": MODEL, "default": {"interval_ms": 1, "turns": turns}}


def receipts_of(caller: Caller, session: str) -> list[Receipt]:
    """All receipts of a session, verified as far as they can be without the bytes of the exchanges."""
    last = caller.get(f"/v1/rlu/sessions/{session}").json()["last_seq"]
    return [receipt(caller, f"/v1/rlu/receipts/{session}/{n}") for n in range(1, last + 1)]


@pytest.mark.codex
def test_codex_takes_several_steps_in_one_proven_session(scripted: Scripted, codex: Codex) -> None:
    before = {one["session"] for one in scripted.caller.get("/v1/rlu/sessions").json()["sessions"]}
    scripted.script(agent_book("echo from-the-tool > made-by-the-agent.txt"))
    turn = codex.run(scripted.caller, MODEL, "Write the file.", "--dangerously-bypass-approvals-and-sandbox")
    assert turn.status == 0, turn
    assert turn.types()[0] == "thread.started"
    assert turn.types()[-1] == "turn.completed"
    # The tool really ran, and its output went back to the model.
    assert (codex.workspace / "made-by-the-agent.txt").read_text() == "from-the-tool\n"
    (ran,) = turn.items("command_execution")
    assert (ran["exit_code"], ran["status"]) == (0, "completed")
    assert turn.items("agent_message")[-1]["text"] == "The file is written."

    asked = [seen for seen in scripted.seen() if seen.target == "/v1/responses"]
    assert len(asked) == 2
    assert b"call_" in asked[1].body
    # One conversation, one session; a receipt for each request, over exactly the bytes that the engine got.
    new = [
        one
        for one in scripted.caller.get("/v1/rlu/sessions").json()["sessions"]
        if one["session"] not in before
    ]
    assert len(new) == 1, new
    session = new[0]["session"]
    assert statement(scripted.caller, session).nonce is None
    made = receipts_of(scripted.caller, session)
    assert [(r.seq, r.status, r.route) for r in made] == [
        (1, "complete", "/v1/responses"),
        (2, "complete", "/v1/responses"),
    ]
    assert [r.forwarded.size for r in made if r.forwarded] == [len(seen.body) for seen in asked]


def test_claude_code_takes_several_steps_in_one_proven_session(scripted: Scripted, claude: Claude) -> None:
    before = {one["session"] for one in scripted.caller.get("/v1/rlu/sessions").json()["sessions"]}
    scripted.script(agent_book("echo from-the-tool > made-by-the-agent.txt"))
    result = claude.run(scripted.caller, MODEL, "Write the file.", "--allowedTools", "Bash")
    assert (result["is_error"], result["result"]) == (False, "The file is written."), result
    assert (claude.workspace / "made-by-the-agent.txt").read_text() == "from-the-tool\n"

    asked = [seen for seen in scripted.seen() if seen.target == "/v1/messages"]
    assert any(b"tool_result" in seen.body for seen in asked)
    # The conversation is one session; a request beside it, such as one for a title, is of the same.
    new = {
        one["session"]: one["last_seq"]
        for one in scripted.caller.get("/v1/rlu/sessions").json()["sessions"]
        if one["session"] not in before
    }
    assert len(new) == 1, new
    (session,) = new
    made = receipts_of(scripted.caller, session)
    assert len(made) == len([seen for seen in scripted.seen() if seen.target.startswith("/v1/messages")])
    assert {(r.route.partition("?")[0], r.status) for r in made} <= {
        ("/v1/messages", "complete"),
        ("/v1/messages/count_tokens", "complete"),
    }
