"""Images in requests of the SDKs for Python: inline ones reach the engine byte for byte, remote ones are refused and never get there."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from e2e.scripted_stack import MODEL, Scripted

pytestmark = pytest.mark.tpm

REMOTE = "https://elsewhere.example/x.png"
_SALT = re.compile(rb'"cache_salt":"[^"]+",?|,"cache_salt":"[^"]+"(?=\})')


class Sdks:
    """Both SDKs at one gateway.

    Attributes:
        sent: contents of requests, as they went out.
    """

    def __init__(self, scripted: Scripted, http: tuple[httpx2.Client, httpx2.Client]) -> None:
        self.sent: list[bytes] = []
        for client in http:
            client.event_hooks = {"request": [lambda request: self.sent.append(request.read())]}
        url, key = scripted.caller.url, scripted.caller.key
        self.gpt = openai.OpenAI(base_url=f"{url}/v1", api_key=key, http_client=http[0], max_retries=0)
        self.claude = anthropic.Anthropic(base_url=url, api_key=key, http_client=http[1], max_retries=0)

    def chat(self, url: str) -> None:
        content: Any = [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        answer = self.gpt.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": content}],
        )
        assert answer.choices[0].finish_reason == "stop"

    def responses(self, url: str) -> None:
        item: Any = {"type": "input_image", "image_url": url, "detail": "auto"}
        answer = self.gpt.responses.create(
            model=MODEL,
            input=[{"role": "user", "content": [item]}],
            store=False,
        )
        assert answer.status == "completed"

    def messages(self, url: str) -> None:
        source: Any = {"type": "url", "url": url}
        if url.startswith("data:"):
            source = {"type": "base64", "media_type": "image/png", "data": url.partition(",")[2]}
        answer = self.claude.messages.create(
            model=MODEL,
            max_tokens=64,
            messages=[{"role": "user", "content": [{"type": "image", "source": source}]}],
        )
        assert answer.stop_reason == "end_turn"


@pytest.fixture
def sdks(scripted: Scripted) -> Iterator[Sdks]:
    trust = scripted.caller.trust
    with (
        openai.DefaultHttpxClient(verify=trust) as one,
        anthropic.DefaultHttpxClient(verify=trust) as other,
    ):
        yield Sdks(scripted, (one, other))


ROUTES = pytest.mark.parametrize(
    ("name", "path"),
    [("chat", "/v1/chat/completions"), ("responses", "/v1/responses"), ("messages", "/v1/messages")],
)


@ROUTES
def test_an_inline_image_reaches_the_engine_byte_for_byte(
    scripted: Scripted, sdks: Sdks, name: str, path: str
) -> None:
    # Larger than one read of a socket. What is in it is the engine's business: the gateway does not decode it.
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + os.urandom(90_000)).decode("ascii")
    getattr(sdks, name)(f"data:image/png;base64,{data}")
    (sent,) = sdks.sent
    (seen,) = scripted.seen()
    assert (seen.target, seen.outcome) == (path, "complete")
    assert data.encode() in sent
    without_salt, salts = _SALT.subn(b"", seen.body)
    assert salts == 1
    assert without_salt == sent


@ROUTES
def test_a_remote_image_is_refused(scripted: Scripted, sdks: Sdks, name: str, path: str) -> None:
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as refused:
        getattr(sdks, name)(REMOTE)
    assert isinstance(refused.value, openai.BadRequestError | anthropic.BadRequestError)
    code = refused.value.response.json()["error"]["code"]
    assert (refused.value.status_code, code) == (400, "remote_media")
    assert sdks.sent
    assert scripted.seen() == []
