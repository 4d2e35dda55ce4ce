"""Names of models as clients meet them: aliases, lists in both shapes, and errors of the engine in Anthropic's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from fakes.rig import Rig
from rlu_attestation.errors import RluError
from rlu_attestation.statements import Receipt
from rlu_server.gateway.parts import names
from rlu_server.settings import load
from scripted.application import whole

SECTIONS = {
    "model": {
        "name": "org/big",
        "aliases": {"gpt-5-codex": "org/big", "claude-*": "small", "claude-sonnet-9": "org/big"},
    },
    "further_engines": [{"path": "/models/small", "name": "small"}],
}
HELLO: list[Any] = [{"role": "user", "content": "hi"}]
LISTED = ["org/big", "small", "gpt-5-codex", "claude-sonnet-9"]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(tmp_path, {}, {"default": {"turns": [{"text": "hello"}]}}, sections=SECTIONS) as rig:
        yield rig


@pytest.fixture
async def gpt(rig: Rig) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://127.0.0.1:{rig.gateway.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=rig.keys["alice"], max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(rig: Rig) -> AsyncIterator[anthropic.AsyncAnthropic]:
    url = f"http://127.0.0.1:{rig.gateway.port}"
    async with anthropic.AsyncAnthropic(base_url=url, api_key=rig.keys["alice"], max_retries=0) as client:
        yield client


def asked(rig: Rig, engine: str) -> dict[str, Any]:
    """The last request of a client that an engine got."""
    bodies = [json.loads(one.body) for one in rig.engines[engine].seen if one.method == "POST"]
    return next(body for body in reversed(bodies) if body.get("cache_salt") != "a/b")


async def test_an_alias_runs_what_it_stands_for_and_everything_says_so(
    rig: Rig, gpt: openai.AsyncOpenAI
) -> None:
    raw = await gpt.chat.completions.with_raw_response.create(model="gpt-5-codex", messages=HELLO)
    assert raw.parse().model == "org/big"
    assert asked(rig, "engine")["model"] == "org/big"
    path = raw.headers["rlu-receipt"]
    receipt = rig.signed((await rig.call(path, None, method="GET")).json(), Receipt)
    assert receipt.model == "org/big"
    assert "model" in receipt.rewritten
    stream = await gpt.responses.create(model="gpt-5-codex", input="hi", stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "response.completed"
    assert last.response.model == "org/big"


async def test_aliases_through_anthropics_sdk(rig: Rig, claude: anthropic.AsyncAnthropic) -> None:
    for name, model, engine in (
        ("claude-sonnet-9", "org/big", "engine"),
        ("claude-haiku-9-20301001", "small", "engine2"),
        ("small", "small", "engine2"),
    ):
        async with claude.messages.stream(model=name, max_tokens=9, messages=HELLO) as stream:
            final = await stream.get_final_message()
        assert final.model == model
        assert asked(rig, engine)["model"] == model
        counted = await claude.messages.count_tokens(model=name, messages=HELLO)
        assert counted.input_tokens > 0


async def test_lists_in_openais_shape(gpt: openai.AsyncOpenAI) -> None:
    assert [one.id async for one in gpt.models.list()] == LISTED
    found = await gpt.models.retrieve("org/big")
    assert (found.id, found.object, found.owned_by) == ("org/big", "model", "rlu")
    alias = await gpt.models.retrieve("gpt-5-codex")
    assert (alias.id, alias.model_extra) == ("gpt-5-codex", {"root": "org/big"})
    with pytest.raises(openai.NotFoundError) as missing:
        await gpt.models.retrieve("gpt-9")
    assert missing.value.code == "model_not_found"


async def test_lists_in_anthropics_shape(claude: anthropic.AsyncAnthropic) -> None:
    page = await claude.models.list()
    assert [one.id for one in page.data] == LISTED
    assert (page.first_id, page.last_id, page.has_more) == ("org/big", "claude-sonnet-9", False)
    found = await claude.models.retrieve("claude-opus-9")
    assert (found.type, found.id, found.display_name) == ("model", "claude-opus-9", "small")
    assert found.created_at.year == 1970
    with pytest.raises(anthropic.NotFoundError) as missing:
        await claude.models.retrieve("gpt-9")
    assert missing.value.type == "not_found_error"  # type: ignore[attr-defined]
    with pytest.raises(anthropic.AuthenticationError):
        await claude.with_options(api_key="rlu_x_y").models.list()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/",
        "/v1/models/..",
        "/v1/models/%2e%2e%2fmetrics",
        "/v1/models/%00",
        "/v1/models/small/",
        "/v1/models/%ff",
    ],
)
async def test_names_of_no_model(rig: Rig, path: str) -> None:
    found = await rig.call(path, None, method="GET")
    assert (found.status, found.json()["error"]["code"]) == (404, "model_not_found")


async def test_slashes_may_be_escaped(rig: Rig) -> None:
    found = await rig.call("/v1/models/org%2Fbig", None, method="GET")
    assert found.json()["id"] == "org/big"
    refused = await rig.call("/v1/models/small", {}, method="POST")
    assert (refused.status, refused.json()["error"]["code"]) == (405, "method_not_allowed")


async def test_aliases_need_not_be_listed(tmp_path: Path) -> None:
    sections = {"model": {"name": "big", "aliases": {"gpt-5": "big"}, "list_aliases": False}}
    async with Rig(tmp_path, {}, sections=sections) as rig:
        listed = await rig.call("/v1/models", None, method="GET")
        assert [one["id"] for one in listed.json()["data"]] == ["big"]
        assert (await rig.call("/v1/models/gpt-5", None, method="GET")).json()["root"] == "big"


@pytest.mark.parametrize("aliases", [{"x": "other"}, {"big": "big"}, {"*": "big"}])
def test_aliases_that_contradict_do_not_start(aliases: dict[str, str]) -> None:
    settings = load(None, {}, {"model": {"name": "big", "aliases": aliases}})
    with pytest.raises(RluError) as refused:
        names(settings)
    assert refused.value.code == "aliases"


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, {"error": {"message": "no", "type": "Bad Request", "param": None, "code": 400}}),
        (400, {"type": "error", "error": {"type": "BadRequestError", "message": "no"}}),
    ],
)
async def test_the_engines_errors_reach_anthropics_clients_in_their_shape(
    rig: Rig,
    claude: anthropic.AsyncAnthropic,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    sent: dict[str, Any],
) -> None:
    engine, said = rig.engines["engine"], json.dumps(sent).encode()
    reply = engine.reply

    def wrong(method: bytes, target: bytes, body: bytes) -> Any:
        salt_is_tried = b'"cache_salt":"a/b"' in body
        return whole(status, said) if method == b"POST" and not salt_is_tried else reply(method, target, body)

    monkeypatch.setattr(engine, "reply", wrong)
    body = json.dumps({"model": "org/big", "max_tokens": 9, "messages": HELLO}).encode()
    response = await rig.call("/v1/messages", body)
    shown = response.json()
    assert response.status == status
    assert shown["type"] == "error"
    assert shown["error"] == {"type": "invalid_request_error", "message": "no"}
    assert shown["request_id"] == response.headers["request-id"]
    assert int(response.headers["content-length"]) == len(response.content)
    receipt = await rig.receipt(response)
    assert (receipt.status, receipt.http_status, receipt.reason) == ("failed", status, "engine_status")
    assert receipt.response is not None
    assert receipt.response.size == len(response.content)
    with pytest.raises(anthropic.BadRequestError) as caught:
        await claude.messages.create(model="org/big", max_tokens=9, messages=HELLO)
    assert caught.value.type == "invalid_request_error"  # type: ignore[attr-defined]
    openai_shape = await rig.call("/v1/chat/completions", {**rig.chat(), "model": "org/big"})
    assert openai_shape.content == said, "for OpenAI's clients the engine's words stay byte for byte"
