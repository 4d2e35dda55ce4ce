"""Bodies: what is learnt, what is refused, and that what is forwarded is what was inspected."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.core.body import DROPPED, REFUSED, Inspected, inspect, resume
from rlu_server.core.errors import GatewayError
from rlu_server.core.responses import Keep, inner
from rlu_server.core.routes import RELAYED, Route

CHAT = RELAYED[b"/v1/chat/completions"]
RESPONSES = RELAYED[b"/v1/responses"]
MESSAGES = RELAYED[b"/v1/messages"]
COUNT = RELAYED[b"/v1/messages/count_tokens"]
MODELS = {"m": "m", "alias": "m"}
SALT = "5a" * 32


def look(body: bytes | dict[str, Any], route: Route = CHAT, spaced: bool = False) -> Inspected:
    if not isinstance(body, bytes):
        separators = (", ", ": ") if spaced else (",", ":")
        body = json.dumps(body, separators=separators, ensure_ascii=False).encode()
    return inspect(body, route, MODELS, lambda own: SALT if own is None else f"folded-{own}")


def refusal(body: bytes | dict[str, Any], route: Route = CHAT) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        look(body, route)
    return caught.value


def test_a_new_spelling_alone_is_told():
    route = RELAYED[b"/v1/messages/count_tokens"]
    raw = b'{"model":"m","messages":[]}'
    same = look(raw, route)
    assert (same.forwarded, same.rewritten) == (raw, ())
    spelt = look(b'{"model": "m", "messages": []}', route)
    assert (spelt.forwarded, spelt.rewritten) == (raw, ("spelling",))


def test_the_salt_is_spliced_in_without_touching_another_byte():
    raw = '{"model":"m","messages":[{"role":"user","content":"é \\u00e9 1.0 \\/ 1e5"}],"temperature":1.0,"n":1e0}'.encode()
    found = look(raw)
    assert found.forwarded == raw[:-1] + b',"cache_salt":"' + SALT.encode() + b'"}'
    assert found.shared == len(raw) - 1
    assert found.rewritten == ("cache_salt",)
    assert (found.model, found.stream, found.prompt_cache_key) == ("m", False, None)


def test_values_stay_verbatim_when_the_top_level_is_put_together_again():
    found = look(b' { "model" : "m",\n"x": [1.0,  2] , "cache_salt":"mine"} ')
    assert found.forwarded == b'{"model":"m","x":[1.0,  2],"cache_salt":"folded-mine"}'
    assert found.shared == 0


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"m","model":"alias"}',
        b'{"model":"m","mod\\u0065l":"alias"}',
        b'{"model":"m","cache_salt":"a","cache_salt":"b"}',
        b'{"model":"m","cache\\u005fsalt":"b"}',
        b'{"\\b":1,"model":"m","\\b\\b\\b":1,"\\b":1}',
    ],
)
def test_no_key_is_left_twice(raw: bytes):
    pairs = json.loads(look(raw).forwarded, object_pairs_hook=list)
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names))
    forwarded = dict(pairs)
    assert forwarded["model"] == "m"
    assert forwarded["cache_salt"] in (SALT, "folded-b")


def test_only_the_flex_tier_is_flex():
    assert look({"model": "m", "service_tier": "flex"}).flex
    for other in ("auto", "priority", None, 1, ["flex"]):
        assert not look({"model": "m", "service_tier": other}).flex
    assert not look({"model": "m"}).flex


def test_an_alias_is_replaced_and_named():
    found = look({"model": "alias", "stream": True})
    assert json.loads(found.forwarded)["model"] == "m"
    assert found.rewritten == ("cache_salt", "model")
    assert found.stream


@pytest.mark.parametrize("name", DROPPED)
def test_scheduling_fields_are_dropped_and_named(name: str):
    found = look({"model": "m", name: 7, "messages": []})
    assert name not in json.loads(found.forwarded)
    assert name in found.rewritten


@pytest.mark.parametrize("name", REFUSED)
def test_fields_that_reach_into_the_engine_are_refused_by_name(name: str):
    error = refusal({"model": "m", name: {"secret-value": 1}})
    assert (error.code, error.param) == ("field_not_allowed", name)
    assert "secret-value" not in error.message


@pytest.mark.parametrize("name", REFUSED)
def test_null_is_as_good_as_absent(name: str):
    assert name not in json.loads(look({"model": "m", name: None}).forwarded)


def test_counting_tokens_gets_no_salt():
    assert look({"model": "m"}, COUNT).forwarded == b'{"model":"m"}'
    found = look({"model": "m", "cache_salt": "x"}, COUNT)
    assert found.forwarded == b'{"model":"m"}'
    assert found.rewritten == ("cache_salt",)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "json_malformed"),
        (b"{", "json_malformed"),
        (b'{"model":"m"}x', "json_malformed"),
        (b'{"model":"m","a":\xff}', "json_malformed"),
        (b'{"model":"m","a":"\xff"}', "json_malformed"),
        (b'{"model":"m","a":"\xed\xa0\x80"}', "json_malformed"),
        (b'{"model":"m","a":NaN}', "json_malformed"),
        (b'{"model":"m","a":01}', "json_malformed"),
        (b'{"model":"m",}', "json_malformed"),
        (b'\xef\xbb\xbf{"model":"m"}', "json_malformed"),
        (b'{"model":"m","a":' + b"[" * 100_000, "json_too_deep"),
        (b'{"model":"m","a":' + b'{"a":' * 3000 + b"1" + b"}" * 3001, "json_too_deep"),
        (b"[]", "body_not_object"),
        (b'"model"', "body_not_object"),
        (b"null", "body_not_object"),
        (b"{}", "field_missing"),
        (b'{"model":""}', "field_missing"),
        (b'{"model":null}', "field_missing"),
        (b'{"model":7}', "field_type"),
        (b'{"model":"\\ud800"}', "json_malformed"),
        (b'{"model":"gpt"}', "model_not_found"),
        (b'{"model":"m","stream":"true"}', "field_type"),
        (b'{"model":"m","stream":1}', "field_type"),
        (b'{"model":"m","cache_salt":1}', "field_type"),
        (b'{"model":"m","prompt_cache_key":[]}', "field_type"),
        (b'{"model":"m","chat_template_kwargs":[]}', "field_type"),
        (b'{"model":"m","chat_template_kwargs":{"chat_template":"x"}}', "field_not_allowed"),
        (b'{"model":"m","chat_template_kwargs":{"a":{"b":1}}}', "field_not_allowed"),
    ],
)
def test_bad_bodies(raw: bytes, code: str):
    assert refusal(raw).code == code


def test_state_is_refused_where_the_engine_would_keep_it():
    assert refusal({"model": "m", "background": True}, RESPONSES).code == "background_unsupported"
    conversation = refusal({"model": "m", "conversation": "c"}, RESPONSES)
    assert (conversation.code, conversation.param) == ("state_unsupported", "conversation")
    quiet = {"model": "m", "background": False, "previous_response_id": None, "store": True}
    assert look(quiet, RESPONSES).rewritten == ("cache_salt",)
    assert look({"model": "m", "background": True}, CHAT).asked is None


@pytest.mark.parametrize(
    ("fields", "keep", "previous"),
    [
        ({}, Keep.DEFAULT, None),
        ({"store": None}, Keep.DEFAULT, None),
        ({"store": True}, Keep.ASKED, None),
        ({"previous_response_id": "resp_1"}, Keep.ASKED, "resp_1"),
        ({"previous_response_id": "resp_1", "store": True}, Keep.ASKED, "resp_1"),
        ({"previous_response_id": "resp_1", "store": False}, Keep.NO, "resp_1"),
    ],
)
def test_what_a_request_wants_kept(fields: dict[str, Any], keep: Keep, previous: str | None):
    found = look({"model": "m", "input": "hi", **fields}, RESPONSES)
    assert found.asked is not None
    assert (found.asked.keep, found.asked.previous, found.asked.input) == (keep, previous, b'"hi"')
    # The engine keeps nothing and is not asked to continue anything.
    assert "previous_response_id" not in json.loads(found.forwarded)
    assert ("previous_response_id" in found.rewritten) == ("previous_response_id" in fields)


def test_nothing_is_kept_of_who_says_so():
    assert look({"model": "m", "input": "hi", "store": False}, RESPONSES).asked is None
    assert look({"model": "m", "store": True}, CHAT).asked is None
    assert refusal({"model": "m", "store": "no"}, RESPONSES).code == "field_type"
    assert refusal({"model": "m", "previous_response_id": 1}, RESPONSES).code == "field_type"


def test_what_was_said_before_comes_first_byte_for_byte():
    raw = b'{"model":"m","previous_response_id":"resp_1","input":[{"a": 1e2},  "x"],"temperature":0.10}'
    found = look(raw, RESPONSES)
    assert found.asked is not None
    forwarded = resume(found.forwarded, b'{"b":1.0},{"c":"\\u0041"}', inner(found.asked.input))
    assert b'"input":[{"b":1.0},{"c":"\\u0041"},{"a": 1e2},  "x"]' in forwarded
    assert b'"temperature":0.10' in forwarded
    text = look({"model": "m", "previous_response_id": "resp_1", "input": 'say "hi"'}, RESPONSES)
    assert text.asked is not None
    items = json.loads(resume(text.forwarded, b"", inner(text.asked.input)))["input"]
    assert items == [{"type": "message", "role": "user", "content": 'say "hi"'}]
    wrong = look({"model": "m", "previous_response_id": "resp_1", "input": {"a": 1}}, RESPONSES)
    assert wrong.asked is not None
    with pytest.raises(GatewayError) as caught:
        resume(wrong.forwarded, b"", inner(wrong.asked.input))
    assert (caught.value.code, caught.value.param) == ("field_type", "input")


def media(route: Route, url: str) -> dict[str, Any]:
    if route is CHAT:
        part: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
    elif route is RESPONSES:
        part = {"type": "input_image", "image_url": url}
    else:
        part = {"type": "image", "source": {"type": "url", "url": url}}
    holder = "input" if route is RESPONSES else "messages"
    return {"model": "m", holder: [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]}


@pytest.mark.parametrize("route", [CHAT, RESPONSES, MESSAGES])
@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/", "https://x/y.png", "file:///etc/passwd", " data:,", "HTTP://x", "", "//x"],
)
def test_remote_media_are_refused_everywhere(route: Route, url: str):
    assert refusal(media(route, url), route).code == "remote_media"


@pytest.mark.parametrize("route", [CHAT, RESPONSES, MESSAGES])
def test_inline_media_pass(route: Route):
    assert look(media(route, "data:image/png;base64,AAAA"), route)


def test_a_remote_url_cannot_hide_behind_escapes_or_depth():
    plain = json.dumps(media(CHAT, "http://x/")).encode()
    for spelled in (
        plain.replace(b'"image_url"', b'"\\u0069mage\\u005furl"'),
        plain.replace(b'"image_url"', b'"image_\\u0075rl"'),
        plain.replace(b"http://x/", b"\\u0068ttp://x/"),
    ):
        assert refusal(spelled).code == "remote_media", spelled
    nested = {
        "model": "m",
        "messages": [{"content": [{"type": "tool_result", "content": [{"video_url": "http://x"}]}]}],
    }
    assert refusal(nested).code == "remote_media"


def test_what_merely_mentions_urls_passes():
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": 'see "image_url": "http://x" and "url":"http://y"'}],
        "tools": [
            {
                "function": {
                    "parameters": {
                        "properties": {"image_url": {"type": "string"}, "source": {"url": "http://x"}}
                    }
                }
            }
        ],
    }
    assert look(body)
    cited = {"model": "m", "messages": [{"content": [{"type": "search_result", "source": "https://docs"}]}]}
    assert look(cited, MESSAGES)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(
    fields=st.dictionaries(st.text(max_size=8).map(lambda name: "x" + name), json_values, max_size=6),
    spaced=st.booleans(),
)
def test_everything_else_arrives_as_it_was_sent(fields: dict[str, Any], spaced: bool):
    body = {**fields, "model": "m"}
    try:
        found = look(body, spaced=spaced)
    except UnicodeEncodeError:
        return  # a lone surrogate has no UTF-8
    forwarded = json.loads(found.forwarded)
    changed = set(found.rewritten)
    assert {k: v for k, v in forwarded.items() if k not in changed} == {
        k: v for k, v in body.items() if k not in changed
    }
    raw = json.dumps(body, separators=(", ", ": ") if spaced else (",", ":"), ensure_ascii=False).encode()
    assert found.forwarded[: found.shared] == raw[: found.shared]


@given(
    raw=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_arbitrary_bytes_raise_only_our_error(raw: bytes):
    for candidate in (raw, b'{"model":"m",' + raw + b"}", b'{"model":"m","messages":' + raw + b"}"):
        try:
            found = look(candidate)
        except GatewayError:
            continue
        assert json.loads(found.forwarded)["cache_salt"]
