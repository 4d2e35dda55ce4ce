"""What breaks, breaks honestly: the real deployment with its engine killed, its attestor killed, and asked to stop; then the search for
what must be nowhere. In this order, after every other test of it (conftest.py).
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers

from e2e.caller import Answer, chat
from e2e.processes import until
from e2e.proofs import bundle, exchange, fetch, judge, open_session, receipt, unproven
from e2e.served import MODEL, START_S, Served
from rlu_attestation.encoding import b64u
from rlu_server.selftest import exports, forms
from rlu_server.selftest.index import Index
from rlu_server.selftest.plants import blob
from rlu_server.selftest.scan import Scanner, changed_files
from rlu_server.selftest.unpack import KINDS

pytestmark = [pytest.mark.engine, pytest.mark.tpm, pytest.mark.timeout(2 * START_S)]

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def _up_again(started: Served) -> Iterator[None]:
    """One broken promise is one failed test: the next begins when all is well again."""
    yield
    if started.process.running:
        started.wait_ready()


def endless(served: Served, **more: object) -> dict[str, object]:
    """More than the model can say while a test looks."""
    return chat(
        served.marker(), MODEL, **{"max_tokens": 30_000, "ignore_eos": True, "temperature": 0, **more}
    )


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        # The engine's processes end with its launcher.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def restarting_nothing(served: Served) -> Iterator[None]:
    """The supervisor is held, however long we take."""
    os.kill(served.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(served.process.pid, signal.SIGCONT)


def rest_of(response: http.client.HTTPResponse) -> tuple[bytes, bool]:
    """What still comes, and whether the answer ended as HTTP answers end."""
    try:
        return response.read(), True
    except http.client.IncompleteRead as error:
        return error.partial, False
    except ConnectionError:
        return b"", False


def test_the_engine_is_killed(served: Served) -> None:
    session = {"RLU-Session": open_session(served.caller)}
    waiting: list[Answer] = []
    whole = threading.Thread(
        target=lambda: waiting.append(served.caller.post(CHAT, endless(served), session)), daemon=True
    )
    with served.caller.begin("POST", CHAT, endless(served, stream=True), session) as (sent, response):
        streamed = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, sent, b"")
        begun = response.read1(4096)
        assert b"data: " in begun
        whole.start()
        until(lambda: _running(served) >= 2, 60, served.process.output)
        kill(served.processes("--module vllm.entrypoints"))
        tail, ended = rest_of(response)
    # The client cannot take what it got for a whole answer.
    content = begun + tail
    assert b"[DONE]" not in content
    if ended:
        last = json.loads(content.rstrip().rpartition(b"data: ")[2])
        assert last["error"]["code"] == "engine_lost"
    made = receipt(served.caller, streamed.receipt)
    assert (made.status, made.reason, made.http_status) == ("partial", "engine_lost", 200)
    assert made.response is not None
    if ended:
        evidence = exchange(served.caller, Answer(200, streamed.headers, sent, content))
        found = unproven(judge(bundle(served.caller, streamed.session, [evidence])))
        assert [finding for finding in found if finding[0].startswith("receipt.")] == []

    # Who had got nothing yet gets a clear error, and a signed `failed`.
    whole.join(120)
    (refused,) = waiting
    code = refused.json()["error"]["code"]
    assert (refused.status, code) in ((502, "engine_lost"), (503, "engine_unavailable"))
    failed = receipt(served.caller, refused.receipt)
    assert (failed.status, failed.reason, failed.http_status) == ("failed", code, refused.status)

    # Meanwhile: not ready, and said so.
    until(lambda: not served.ready(), 60, served.process.output)
    turned_away = served.ask(served.marker())
    assert (turned_away.status, turned_away.json()["error"]["code"]) == (503, "engine_unavailable")
    assert int(turned_away.headers["retry-after"]) > 0

    # The engine comes back, and the session is the same.
    served.wait_ready()
    again = served.caller.post(CHAT, chat(served.marker(), MODEL, max_tokens=4), session)
    assert (again.status, again.session) == (200, session["RLU-Session"])
    assert receipt(served.caller, again.receipt).status == "complete"
    assert "the engine ended; it is started again" in served.process.output()


def _running(served: Served) -> int:
    """Exchanges in flight, by the gateway's own count."""
    for line in exports.metrics(served.runtime / "gateway" / "metrics.sock").decode().splitlines():
        if line.startswith("rlu_exchanges "):
            return int(float(line.split()[-1]))
    raise AssertionError("no such gauge")


def test_the_attestor_is_killed(served: Served) -> None:
    mine = open_session(served.caller)
    session = {"RLU-Session": mine}
    with served.caller.begin("POST", CHAT, endless(served, stream=True, max_tokens=400), session) as (
        sent,
        response,
    ):
        headers = {k.lower(): v for k, v in response.getheaders()}
        begun = response.read1(4096)
        with restarting_nothing(served):
            kill(served.processes("--module rlu_server.attestor"))
            # No new session, explicit or implicit, while nobody can sign; not a byte of an answer.
            until(lambda: not served.ready(), 60, served.process.output, 0.02)
            opened = served.caller.post("/v1/rlu/sessions", {"nonce": b64u(bytes(32))})
            assert (opened.status, opened.json()["code"]) == (503, "signer_unavailable"), opened.content
            named = {"session-id": served.marker()}
            asked = served.caller.post(CHAT, chat(served.marker(), MODEL, max_tokens=4), named)
        assert (asked.status, asked.json()["error"]["code"]) == (503, "signer_unavailable")
        assert set(asked.json()) == {"error", "request_id"}
        # An answer that had begun under a signed session goes on, and is signed for as soon as somebody can.
        content = begun + response.read()
    assert content.endswith(b"data: [DONE]\n\n")
    served.wait_ready(120)
    kept = fetch(served.caller, headers["rlu-receipt"])
    assert kept.statement
    evidence = exchange(served.caller, Answer(200, headers, sent, content))
    found = unproven(judge(bundle(served.caller, mine, [evidence])))
    assert [finding for finding in found if finding[0].startswith(("receipt.", "session."))] == []
    again = served.caller.post(CHAT, chat(served.marker(), MODEL, max_tokens=4), session)
    assert (again.status, again.session) == (200, mine)
    fresh = open_session(served.caller)
    assert fresh != mine


def test_metrics_tell_nothing_of_what_was_asked(served: Served) -> None:
    metrics = exports.metrics(served.runtime / "gateway" / "metrics.sock")
    assert b"rlu_requests_total" in metrics
    assert served.markers
    assert not [marker for marker in served.markers if marker.encode() in metrics]


def test_asked_to_stop_it_finishes_what_runs(served: Served) -> None:
    body = endless(served, stream=True, max_tokens=600)
    with served.caller.begin("POST", CHAT, body) as (_, response):
        begun = response.read1(4096)
        assert b"data: " in begun
        served.process.terminate()
        until(lambda: "draining" in served.process.output(), 60, served.process.output, 0.02)
        content = begun + response.read()
    assert content.endswith(b"data: [DONE]\n\n")
    assert served.process.wait(120) == 0, served.process.output()
    assert "stopped; scratch wiped" in served.process.output()
    # Every session that was opened was closed, and every close is signed.
    lines = [json.loads(line) for line in (served.state / "log" / "log.jsonl").read_text().splitlines()]
    kinds: collections.Counter[str] = collections.Counter(line["kind"] for line in lines)
    assert kinds["session"] == kinds["close"] > 5
    assert lines[-1]["kind"] == "head"
    assert lines[-1]["size"] == kinds["session"] + kinds["close"] + kinds["receipt"] + kinds["tally"]


# --- the search -------------------------------------------------------------------------------------------------------


def test_nothing_of_any_prompt_is_left(started: Served, tmp_path: Path) -> None:
    """In no form that `rlu selftest canary` knows, plain or compressed; the model's token ids are among them."""
    assert not started.process.running
    assert len(started.markers) > 5
    encoder = tokenizers.Tokenizer.from_file(str(started.directory / "model" / "tokenizer.json"))
    needles = []
    for marker in started.markers:
        needles += forms.of_text(
            marker, "e2e", [lambda text: encoder.encode(text, add_special_tokens=False).ids]
        )
        needles += forms.of_digests(marker.encode(), "e2e")
    scanner = Scanner(Index(needles))
    # The search finds what is there, in every form.
    (tmp_path / "planted").write_bytes(blob(started.markers[-1], needles))
    scanner.file("planted", tmp_path / "planted")
    assert {hit.form for hit in scanner.hits} == {needle.form for needle in needles}
    assert {hit.packing for hit in scanner.hits} == {"", *KINDS}
    scanner.hits.clear()
    for root in (started.directory, Path("/dev/shm"), Path.home() / ".cache" / "vllm"):
        for path in changed_files(root, 0, lambda path: False, scanner.at("files")):
            scanner.file("files", path)
    scanner.file("files", started.process.log)
    assert scanner.places["files"].items > 20
    assert scanner.hits == []
    # The scratch of every process, where content was, is gone as a whole.
    assert not started.runtime.exists()
