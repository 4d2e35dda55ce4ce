"""Limits and the line in front of the engine, as clients meet them: a whole gateway with a scripted engine, and unmodified SDKs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from fakes.rig import Response, Rig, Wire
from rlu_attestation.errors import Malformed
from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.rules import Priority
from rlu_server.settings import Settings
from rlu_server.settings_admission import Admission

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
BOOK = {
    "default": {"events": 2, "input_tokens": 20, "cached_tokens": 15},
    "scripts": {
        "endless": {"events": 100_000, "interval_ms": 20},
        "late": {"first_ms": 60_000},
        "short": {"events": 2, "interval_ms": 5, "first_ms": 5},
        "close": {"events": 50, "interval_ms": 40, "fault": {"kind": "close", "after": 3}},
        "status": {"fault": {"kind": "status", "status": 500}},
    },
}
HELLO: list[Any] = [{"role": "user", "content": "hi"}]


@dataclass
class Limited(Rig):
    limits: str = ""
    admission: dict[str, Any] = field(default_factory=dict)
    scheduling: str = "fcfs"

    def _settings(self) -> Settings:
        self.write_limits(self.limits)
        made = super()._settings()
        engine = made.engine.model_copy(update={"arguments": ("--scheduling-policy", self.scheduling)})
        return made.model_copy(update={"admission": Admission(**self.admission), "engine": engine})

    def write_limits(self, text: str) -> None:
        (self.directory / "limits.toml").write_text(text)

    @property
    def gate(self) -> Any:
        return self.gateway.gate

    def occupied(self, tenant: str) -> int:
        """Concurrent requests that a tenant's account has."""
        account = self.gate._accounts._accounts.get((tenant,))
        return 0 if account is None else account.concurrent

    async def settled(self) -> None:
        """Nothing is at the engine, nobody waits, nothing is reserved."""
        await self.eventually(lambda: not self.gate.at_engine and not self.gate.lines["scripted"].queue)
        for account in self.gate._accounts._accounts.values():
            assert account.concurrent == 0

    async def begin(self, who: str = "alice", **more: Any) -> Wire:
        """A stream that does not end, after its first bytes."""
        wire = await self.wire()
        body = self.chat(stream=True, script="endless", **more)
        await wire.send(self.request(CHAT, body, who=who))
        await wire.until(b"data: ")
        return wire

    def openai(self, who: str = "alice", retries: int = 0) -> openai.AsyncOpenAI:
        url = f"http://127.0.0.1:{self.gateway.port}/v1"
        return openai.AsyncOpenAI(base_url=url, api_key=self.keys[who], max_retries=retries)

    def anthropic(self, who: str = "alice", retries: int = 0) -> anthropic.AsyncAnthropic:
        url = f"http://127.0.0.1:{self.gateway.port}"
        return anthropic.AsyncAnthropic(base_url=url, api_key=self.keys[who], max_retries=retries)


Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a gateway with a limits file and settings of admission."""
    rigs: list[Limited] = []

    async def started(
        limits: str = "", scheduling: str = "fcfs", frozen: bool = True, **admission: Any
    ) -> Limited:
        rig = Limited(tmp_path, {}, BOOK, limits=limits, admission=admission, scheduling=scheduling)
        await rig.__aenter__()
        rigs.append(rig)
        rig.engine.seen = deque(maxlen=4096)
        if frozen:
            # Buckets do not fill again, however slow the machine is.
            now = rig.gate.monotonic()
            rig.gate.monotonic = lambda: now
        return rig

    yield started
    for rig in rigs:
        await rig.__aexit__(None, None, None)


# --- what SDKs see ----------------------------------------------------------------------------------------------------


async def test_openai_s_sdk_sees_a_rate_limit_and_what_is_left(start: Start):
    rig = await start("[default]\nrequests_per_minute = 2\ntokens_per_minute = 100000")
    async with rig.openai() as gpt:
        raw = await gpt.chat.completions.with_raw_response.create(model="scripted", messages=HELLO)
        assert raw.headers["x-ratelimit-limit-requests"] == "2"
        assert raw.headers["x-ratelimit-remaining-requests"] == "1"
        assert raw.headers["x-ratelimit-reset-requests"] == "30s"
        assert raw.headers["x-ratelimit-limit-tokens"] == "100000"
        assert 97_000 < int(raw.headers["x-ratelimit-remaining-tokens"]) < 98_000
        await gpt.responses.create(model="scripted", input="hi")
        with pytest.raises(openai.RateLimitError) as caught:
            await gpt.chat.completions.create(model="scripted", messages=HELLO)
    assert caught.value.code == "limit_requests"
    assert caught.value.type == "rate_limit_error"
    assert caught.value.response.headers["retry-after"] == "30"
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert "rlu-receipt" not in caught.value.response.headers
    assert caught.value.body["message"].startswith("2 requests a minute are allowed to this tenant")  # type: ignore[index]


async def test_anthropic_s_sdk_sees_a_rate_limit_and_what_is_left(start: Start):
    rig = await start("[default.principal]\nrequests_per_minute = 1")
    async with rig.anthropic() as claude:
        raw = await claude.messages.with_raw_response.create(model="scripted", max_tokens=9, messages=HELLO)
        assert raw.headers["anthropic-ratelimit-requests-limit"] == "1"
        assert raw.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert raw.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
        assert "anthropic-ratelimit-tokens-limit" not in raw.headers
        with pytest.raises(anthropic.RateLimitError) as caught:
            await claude.messages.create(model="scripted", max_tokens=9, messages=HELLO)
    assert caught.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]
    assert caught.value.body["error"]["code"] == "limit_requests"  # type: ignore[index]
    assert "to this principal" in caught.value.body["error"]["message"]  # type: ignore[index]
    assert int(caught.value.response.headers["retry-after"]) > 50
    # Another user of the tenant, and another tenant, have their own.
    for who in ("carol", "bob"):
        assert (await rig.call(CHAT, rig.chat(), who=who)).status == 200


async def test_sdks_wait_as_long_as_they_are_told_and_succeed(start: Start):
    rig = await start("[default]\nrequests_per_minute = 60", frozen=False)
    async with rig.openai(retries=3) as gpt, rig.anthropic("bob", retries=3) as claude:
        for who in ("acme", "globex"):
            rig.gate._accounts._account(
                (who,), "tenant", rig.gate._accounts.rule(who, "x").tenant, 0.0
            ).requests.take(60, asyncio.get_running_loop().time())
        done = await asyncio.gather(
            gpt.chat.completions.create(model="scripted", messages=HELLO),
            claude.messages.create(model="scripted", max_tokens=9, messages=HELLO),
        )
    assert all(done)
    assert rig.gateway.relay.measures.refusals["limit_requests"] == 2


async def test_a_full_line_is_an_overload_in_both_shapes(start: Start):
    rig = await start(max_in_flight=1, queue_size=0)
    wire = await rig.begin()
    async with rig.openai() as gpt, rig.anthropic() as claude:
        with pytest.raises(openai.InternalServerError) as one:
            await gpt.chat.completions.create(model="scripted", messages=HELLO)
        with pytest.raises(anthropic.APIStatusError) as other:
            await claude.messages.create(model="scripted", max_tokens=9, messages=HELLO)
    assert (one.value.status_code, one.value.code) == (503, "queue_full")
    assert other.value.status_code == 529
    assert other.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index]
    for each in (one.value, other.value):
        assert each.response.headers["retry-after"] == "5"
        assert "rlu-receipt" not in each.response.headers
    wire.abort()
    await rig.settled()


# --- reserving and settling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_before_an_answer_is_seen_is_not_a_way_to_compute_for_nothing(
    start: Start, stream: bool
):
    """Whoever asks for a whole answer and leaves while it is made has used the engine, and nobody saw how much."""
    rig = await start("[default]\ntokens_per_minute = 1000000")
    wire = await rig.wire()
    await wire.send(rig.request(CHAT, rig.chat(stream=stream, script="late", max_tokens=1500, n=2)))
    await rig.eventually(lambda: any(b'"late"' in one.body for one in rig.engine.seen))
    wire.abort()
    await rig.settled()
    level = rig.gate._accounts._accounts[("acme",)].tokens.level(rig.gate.monotonic())
    assert (1_000_000 - level > 3_000) is not stream


async def test_whatever_is_signed_counts_as_a_request(start: Start):
    """Answers about kept responses and explicit sessions need no engine; each is a signature, and lines in the log for good."""
    rig = await start("[default.principal]\nrequests_per_minute = 4\nconcurrent_requests = 1")
    made = await rig.call(RESPONSES, {"model": "scripted", "input": "hi", "store": True})
    path = f"{RESPONSES}/{made.json()['id']}"
    await rig.settled()
    assert (await rig.call(path, None, method="GET")).status == 200
    for _ in range(5):
        assert (await rig.call(f"{RESPONSES}/resp_other", None, method="GET")).status == 404
    opened = await rig.call("/v1/rlu/sessions", {"nonce": "AAAAAAAAAAAAAAAA"})
    assert opened.status == 201, opened.content
    assert (await rig.call(f"{path}/input_items", None, method="GET")).status == 200
    for target, method in ((path, "GET"), (path, "DELETE"), (f"{path}/input_items", "GET")):
        refused = await rig.call(target, None, method=method)
        assert (refused.status, refused.json()["error"]["code"]) == (429, "limit_requests")
        assert int(refused.headers["retry-after"]) > 10
        assert "rlu-receipt" not in refused.headers
    refused = await rig.call("/v1/rlu/sessions", {"nonce": "AAAAAAAAAAAAAAAA"})
    assert (refused.status, refused.json()["code"]) == (429, "limit_requests")
    assert len(rig.gateway.responses) == 1, "a refused deletion deletes nothing"
    # Looking at what is there is free, and so is ending it.
    session = opened.json()["session"]
    assert (await rig.call(f"/v1/rlu/sessions/{session}", None, method="GET")).status == 200
    assert (await rig.call(f"/v1/rlu/sessions/{session}", None, method="DELETE")).status == 200
    await rig.settled()


async def test_many_answers_at_once_and_limits_of_other_apis_buy_nothing(start: Start):
    """However it is written, what may be generated is reserved before, or parallel requests would run far over the limit."""
    rig = await start("[default]\ntokens_per_minute = 1000000")

    async def reserved(path: str, body: dict[str, Any]) -> int:
        before = (await rig.call(CHAT, rig.chat(max_tokens=1))).headers["x-ratelimit-remaining-tokens"]
        after = (await rig.call(path, body)).headers["x-ratelimit-remaining-tokens"]
        return int(before) - int(after)

    assert await reserved(CHAT, rig.chat(max_tokens=1000, n=8)) > 7_000
    prompts = {"model": "scripted", "prompt": ["a", "b", "c"], "max_tokens": 1000}
    assert await reserved("/v1/completions", prompts) > 2_900
    small = {"model": "scripted", "input": "hi", "max_completion_tokens": 1, "max_tokens": 1}
    assert await reserved(RESPONSES, small) > 1_900


async def remaining(rig: Limited, **options: Any) -> int:
    answer = await rig.call(CHAT, rig.chat(max_tokens=10, **options))
    assert answer.status == 200
    return int(answer.headers["x-ratelimit-remaining-tokens"])


async def test_tokens_are_reserved_before_and_settled_after(start: Start):
    rig = await start("[default]\ntokens_per_minute = 1000")
    size = len(json.dumps(rig.chat(max_tokens=10)))
    first = await remaining(rig)
    # The body with the salt that was added, and the answer's ten.
    assert 1000 - size < first < 1000 - size // 4 - 10
    # 20 tokens of input of which the cache had 15, and 2 of output.
    await rig.settled()
    second = await remaining(rig)
    assert second == first - 7
    await rig.settled()


async def test_a_long_answer_is_owed(start: Start):
    rig = await start("[default]\ntokens_per_minute = 1000")
    wire = await rig.begin(max_tokens=1)
    await asyncio.sleep(0)
    (exchange,) = rig.gateway.relay.exchanges
    exchange._answer.observation._size = 1_000_000  # as if so much had been sent
    wire.abort()
    await rig.settled()
    answer = await rig.call(CHAT, rig.chat(max_tokens=1))
    assert (answer.status, answer.json()["error"]["code"]) == (429, "limit_tokens")
    assert int(answer.headers["retry-after"]) > 200


async def test_what_the_engine_refused_costs_a_request_and_no_tokens(start: Start):
    rig = await start("[default]\ntokens_per_minute = 1000\nrequests_per_minute = 10")
    assert (await rig.call(CHAT, rig.chat(script="status"))).status == 500
    await rig.settled()
    answer = await rig.call(CHAT, rig.chat(max_tokens=1))
    assert answer.headers["x-ratelimit-remaining-requests"] == "8"
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) > 900


async def test_what_never_reached_the_engine_costs_nothing(start: Start):
    rig = await start("[default]\ntokens_per_minute = 1000\nrequests_per_minute = 10")
    for _ in range(20):
        answer = await rig.call(CHAT, rig.chat(), headers={"RLU-Session": "nobody"})
        assert answer.json()["error"]["code"] == "session_not_found"
    answer = await rig.call(CHAT, rig.chat(max_tokens=1))
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"


async def test_concurrent_streams_are_counted_until_they_end_however_they_end(start: Start):
    rig = await start("[default]\nconcurrent_requests = 2")
    streams = [await rig.begin(), await rig.begin()]
    answer = await rig.call(CHAT, rig.chat())
    assert (answer.status, answer.json()["error"]["code"]) == (429, "limit_concurrent")
    assert answer.headers["retry-after"] == "1"
    assert (await rig.call(CHAT, rig.chat(), who="bob")).status == 200
    streams[0].abort()
    await rig.eventually(lambda: rig.occupied("acme") == 1)
    assert (await rig.call(CHAT, rig.chat())).status == 200
    # Stopped by us.
    rig.gateway.relay.stop_exchanges(None, GatewayError("draining"))
    await rig.settled()
    # Broken off by the engine.
    wire = await rig.wire()
    await wire.send(rig.request(CHAT, rig.chat(stream=True, script="close")))
    assert b"engine_lost" in (await wire.response()).content
    await rig.settled()


async def test_content_in_memory(start: Start):
    rig = await start("[default]\nscratch_bytes = 10000")
    answer = await rig.call(CHAT, rig.chat("x" * 12_000))
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")
    half = rig.request(CHAT, rig.chat("x" * 6_000))
    wire = await rig.wire()
    await wire.send(half[:6_000])
    await rig.eventually(lambda: rig.gateway.relay._held.total() > 5_000)
    answer = await rig.call(CHAT, rig.chat("x" * 6_000))
    assert (answer.status, answer.json()["error"]["code"]) == (429, "limit_scratch")
    assert (await rig.call(CHAT, rig.chat("x" * 6_000), who="bob")).status == 200
    await wire.send(half[6_000:])
    assert (await wire.response()).status == 200


# --- the line ---------------------------------------------------------------------------------------------------------


def queued(rig: Limited, priority: Priority | None = None) -> int:
    line = rig.gate.lines["scripted"].queue
    return len(line) if priority is None else line.waiting(priority)


async def line_up(rig: Limited, who: str, number: int, **options: Any) -> list[Wire]:
    """Requests that wait behind one that does not end."""
    wires = []
    before = queued(rig)
    for _ in range(number):
        wire = await rig.wire()
        await wire.send(rig.request(CHAT, rig.chat(who, max_tokens=1, script="short"), who=who, **options))
        wires.append(wire)
    await rig.eventually(lambda: queued(rig) == before + number)
    return wires


def served(rig: Limited) -> list[str]:
    """Whose requests the engine got, in its order, by their text."""
    bodies = [json.loads(one.body) for one in rig.engine.seen if one.target == CHAT]
    return [body["messages"][0]["content"] for body in bodies if body.get("metadata") == {"script": "short"}]


async def test_two_tenants_share_a_busy_engine_by_weight(start: Start):
    rig = await start("[tenants.acme]\nweight = 3", max_in_flight=1, frozen=False)
    blocker = await rig.begin("bob")
    wires = await line_up(rig, "alice", 24)
    wires += await line_up(rig, "bob", 24)
    blocker.abort()
    assert [(await wire.response()).status for wire in wires] == [200] * 48
    first = Counter(served(rig)[:24])
    assert 17 <= first["alice"] <= 19
    assert first["bob"] == 24 - first["alice"]
    assert rig.gateway.relay.measures.queue_wait.sum_s > 0
    await rig.settled()


async def test_batch_waits_for_interactive_work_and_the_ceiling_holds(start: Start):
    rig = await start('[tenants.globex]\npriority = "batch"', max_in_flight=1)
    blocker = await rig.begin()
    batch = await line_up(rig, "alice", 4, headers={"RLU-Priority": "batch"})
    # Whatever it asks for.
    batch += await line_up(rig, "bob", 4, headers={"RLU-Priority": "interactive"})
    assert queued(rig, Priority.BATCH) == 8
    late = await line_up(rig, "carol", 6)
    assert queued(rig, Priority.INTERACTIVE) == 6
    blocker.abort()
    for wire in (*batch, *late):
        assert (await wire.response()).status == 200
    assert served(rig)[:6].count("carol") == 5  # a tenth is batch's
    await rig.settled()


async def test_flex_is_batch_and_nonsense_is_refused(start: Start):
    rig = await start(max_in_flight=1)
    blocker = await rig.begin()
    wire = await rig.wire()
    await wire.send(rig.request(CHAT, rig.chat(service_tier="flex")))
    await rig.eventually(lambda: queued(rig, Priority.BATCH) == 1)
    answer = await rig.call(CHAT, rig.chat(), headers={"RLU-Priority": "urgent"})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "RLU-Priority")
    blocker.abort()
    assert (await wire.response()).status == 200


async def test_who_leaves_the_line_frees_its_place_and_leaves_no_receipt(start: Start):
    rig = await start("[default]\nconcurrent_requests = 2\nrequests_per_minute = 60", max_in_flight=1)
    blocker = await rig.begin()
    logged = rig.gateway.relay.measures.receipts.total()
    (waiting,) = await line_up(rig, "alice", 1)
    assert rig.occupied("acme") == 2
    waiting.abort()
    await rig.eventually(lambda: queued(rig) == 0)
    assert rig.occupied("acme") == 1
    assert rig.gateway.relay._held.total() == 0
    assert rig.gateway.relay.measures.receipts.total() == logged
    assert served(rig) == []
    blocker.abort()
    await rig.settled()
    # Neither the request nor its tokens were used.
    answer = await rig.call(CHAT, rig.chat())
    assert answer.headers["x-ratelimit-remaining-requests"] == "58"


async def test_the_wait_is_bounded(start: Start):
    rig = await start(max_in_flight=1, queue_wait_s=0.3)
    blocker = await rig.begin()
    answer = await rig.call(CHAT, rig.chat())
    assert (answer.status, answer.json()["error"]["code"]) == (503, "queue_timeout")
    assert "rlu-receipt" not in answer.headers
    assert queued(rig) == 0
    blocker.abort()
    await rig.settled()


async def test_the_line_is_bounded_and_its_largest_holder_gives_way(start: Start):
    rig = await start(max_in_flight=1, queue_size=3)
    blocker = await rig.begin()
    greedy = await line_up(rig, "alice", 3)
    answer = await rig.call(CHAT, rig.chat())
    assert (answer.status, answer.json()["error"]["code"]) == (503, "queue_full")
    wire = await rig.wire()
    await wire.send(rig.request(CHAT, rig.chat("bob", script="short"), who="bob"))
    evicted = await greedy[-1].response()
    assert (evicted.status, evicted.json()["error"]["code"]) == (503, "queue_full")
    blocker.abort()
    for each in (*greedy[:2], wire):
        assert (await each.response()).status == 200
    await rig.settled()


async def test_a_drain_turns_away_whoever_still_waits(start: Start):
    rig = await start(max_in_flight=1)
    blocker = await rig.begin()
    (waiting,) = await line_up(rig, "alice", 1)
    rig.gateway.relay.stop_exchanges(None, GatewayError("draining"))
    answer = await waiting.response()
    assert (answer.status, answer.json()["error"]["code"]) == (503, "draining")
    assert "rlu-receipt" not in answer.headers
    blocker.abort()
    await rig.settled()


async def test_the_engine_s_own_line_narrows_the_window(start: Start):
    """The scripted engine reports that more waits than it runs; the gateway gives it no more than it runs and the backlog."""
    rig = await start(engine_backlog=1)
    rig.engine.application._metrics = lambda: (
        b"vllm:num_requests_running 1.0\nvllm:num_requests_waiting 50.0\nvllm:kv_cache_usage_perc 0.5\n"
    )
    line = rig.gate.lines["scripted"]
    line.window.size = 2  # small enough for two streams to be worth a look
    streams = [await rig.begin(), await rig.begin()]
    (waiting,) = await line_up(rig, "alice", 1)
    rig.engine.application._metrics = lambda: (
        b"vllm:num_requests_running 2.0\nvllm:num_requests_waiting 0.0\nvllm:kv_cache_usage_perc 0.5\n"
    )
    # Now it says that it could take more.
    assert (await waiting.response()).status == 200
    assert line.window.size >= 4
    for stream in streams:
        stream.abort()
    await rig.settled()


# --- the file ---------------------------------------------------------------------------------------------------------


async def test_another_file_holds_without_a_restart(start: Start):
    rig = await start("")
    assert "x-ratelimit-limit-requests" not in (await rig.call(CHAT, rig.chat())).headers
    rig.write_limits("[default]\nrequests_per_minute = 5")

    async def limit() -> str | None:
        return (await rig.call(CHAT, rig.chat(), who="bob")).headers.get("x-ratelimit-limit-requests")

    async def until(expected: str | None) -> None:
        while await limit() != expected:
            await asyncio.sleep(0.05)

    await asyncio.wait_for(until("5"), 60)
    # What cannot be read changes nothing, and is said.
    rig.write_limits("[default]\nrequest_per_minute = 7")
    await rig.eventually(lambda: any(event["event"] == "limits_refused" for event in rig.events))
    rig.write_limits("[default]\nrequests_per_minute = 70")
    await asyncio.wait_for(until("70"), 60)


async def test_no_start_with_a_file_that_cannot_be_read(start: Start):
    rig = await start("")
    rig.write_limits("[default")
    other = rig.make_gateway()
    with pytest.raises(Malformed) as caught:
        await other.start()
    assert caught.value.code == "limits.file"
    await other.stop()


async def test_the_engine_is_told_the_priority_where_it_schedules_by_it(start: Start):
    rig = await start(scheduling="priority")
    for path, body in (
        (CHAT, rig.chat()),
        (MESSAGES, {"model": "scripted", "max_tokens": 9, "messages": HELLO}),
    ):
        rig.engine.seen.clear()
        for headers in ({}, {"RLU-Priority": "batch"}):
            answer: Response = await rig.call(path, body, headers=headers)
            assert answer.status == 200
            assert "priority" not in (await rig.receipt(answer)).rewritten
        told = [dict(one.headers).get("x-vllm-priority") for one in rig.engine.seen if one.target == path]
        assert told == [None, "1"]


async def test_an_engine_that_does_not_is_told_nothing(start: Start):
    rig = await start(scheduling="fcfs")
    await rig.call(CHAT, rig.chat(), headers={"RLU-Priority": "batch"})
    (seen,) = [one for one in rig.engine.seen if one.target == CHAT]
    assert "x-vllm-priority" not in dict(seen.headers)


async def test_the_line_shows_in_the_metrics(start: Start):
    rig = await start("[default]\nconcurrent_requests = 3", max_in_flight=1)
    blocker = await rig.begin()
    waiting = await line_up(rig, "alice", 1, headers={"RLU-Priority": "batch"})
    waiting += await line_up(rig, "alice", 1)
    assert (await rig.call(CHAT, rig.chat())).status == 429

    async def shown() -> set[str]:
        return set((await rig.metrics()).splitlines())

    assert {
        'rlu_queue_length{priority="batch"} 1.0',
        'rlu_queue_length{priority="interactive"} 1.0',
        "rlu_engine_requests 1.0",
        "rlu_engine_window 1.0",
        "rlu_queue_wait_seconds_count 0.0",
        'rlu_refusals_total{code="limit_concurrent"} 1.0',
    } <= await shown()
    blocker.abort()
    for wire in waiting:
        assert (await wire.response()).status == 200
    assert "rlu_queue_wait_seconds_count 2.0" in await shown()
