"""State of the Responses API: routes, items, pages; nothing a client or an engine says gets further than it may."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.core.errors import GatewayError
from rlu_server.core.responses import (
    Operation,
    Page,
    check_retrieval,
    finished,
    inner,
    joined,
    keepable,
    listing,
    operation,
    page,
)

DONE: dict[str, Any] = {
    "id": "resp_0af",
    "status": "completed",
    "model": "m",
    "output": [{"type": "message"}],
}


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        (b"GET", b"/v1/responses/resp_1", Operation.RETRIEVE),
        (b"DELETE", b"/v1/responses/resp_1", Operation.DELETE),
        (b"POST", b"/v1/responses/resp_1/cancel", Operation.CANCEL),
        (b"GET", b"/v1/responses/resp_1/input_items", Operation.INPUT_ITEMS),
    ],
)
def test_routes(method: bytes, path: bytes, found: Operation):
    assert operation(method, path) == (found, "resp_1")


@given(st.binary(max_size=80))
def test_no_other_path_leads_anywhere(tail: bytes):
    try:
        _, name = operation(b"GET", b"/v1/responses/" + tail)
    except GatewayError as error:
        found = error.code
    else:
        found = ""
        assert name.encode("latin-1") == tail.removesuffix(b"/input_items")
    assert found in ("", "route_not_found", "method_not_allowed")


def test_names_that_can_be_kept_fit_a_receipts_route():
    longest = "resp_" + "0" * 32
    assert keepable(longest)
    assert len(f"/v1/responses/{longest}/input_items") <= 64  # the attestor's limit
    for name in ("resp_", longest + "0", "resp_A", "resp_é", "resp_1\n", "msg_1", ""):
        assert not keepable(name)


def test_what_is_finished_is_known_by_its_object():
    found = finished(json.dumps(DONE).encode())
    assert found is not None
    assert (found.id, found.model, json.loads(found.output)) == ("resp_0af", "m", {"type": "message"})
    assert finished(json.dumps({**DONE, "status": "incomplete"}).encode()) is not None
    wrong: list[Any] = [
        {**DONE, "status": "failed"},
        {**DONE, "status": "in_progress"},
        {**DONE, "id": "resp_A"},
        {**DONE, "id": 7},
        {**DONE, "output": 7},
        {**DONE, "model": "m" * 257},
        {key: value for key, value in DONE.items() if key != "output"},
        [DONE],
        None,
    ]
    for one in wrong:
        assert finished(json.dumps(one).encode()) is None, one


@given(st.binary(max_size=100))
def test_arbitrary_objects_raise_nothing(data: bytes):
    assert finished(data) is None


def test_items_stay_byte_for_byte():
    assert inner(b'[ {"a": 1e0} , {"b":"\\u0041"} ]') == b'{"a": 1e0} , {"b":"\\u0041"}'
    assert inner(b"[]") == inner(b"[ ]") == b""
    assert json.loads(inner(b'"a \\"b\\""'))["content"] == 'a "b"'
    assert joined([b"", b'{"a":1}', bytearray(b""), bytearray(b"2,3")]) == b'{"a":1},2,3'
    for wrong in (b"7", b"null", b"{}", b"[1", b"", b"[1]2"):
        with pytest.raises(GatewayError) as caught:
            inner(wrong)
        assert (caught.value.code, caught.value.param) == ("field_type", "input")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"", Page()),
        (b"limit=1&order=asc", Page(None, 1, False)),
        (b"after=msg%5f1&limit=100", Page("msg_1", 100)),
        (b"include%5B%5D=reasoning.encrypted_content&include[]=web_search_call.results", Page()),
    ],
)
def test_pages_are_understood(query: bytes, found: Page):
    assert page(query) == found


@pytest.mark.parametrize(
    "query",
    [
        *(
            b"limit=",
            b"limit=0",
            b"limit=101",
            b"limit=1e1",
            b"limit=-1",
            b"limit=\xc2\xb2",
            b"limit=1&limit=1",
        ),
        *(b"order=ASC", b"before=x", b"include=everything", b"x", b"&", b"=1"),
    ],
)
def test_pages_are_refused(query: bytes):
    with pytest.raises(GatewayError) as caught:
        page(query)
    assert caught.value.code == "query_invalid"


def test_what_a_retrieval_takes():
    check_retrieval(b"")
    check_retrieval(b"stream=false&include[]=message.output_text.logprobs")
    for query in (
        b"stream=true",
        b"stream=1",
        b"starting_after=1",
        b"include_obfuscation=true",
        b"include=x",
    ):
        with pytest.raises(GatewayError) as caught:
            check_retrieval(query)
        assert caught.value.code == "query_invalid"


ITEMS: list[Any] = [
    {"role": "user", "content": "one"},
    {"type": "message", "role": "assistant", "content": "two", "id": "msg_own"},
    {"type": "function_call_output", "call_id": "c", "output": "3"},
    {"type": "reasoning", "id": 7},
    "no object",
]


def listed(wanted: Page) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(listing(json.dumps(ITEMS)[1:-1].encode(), "resp_9", wanted))
    return answer


def test_pages_hold_every_item_once_in_either_order():
    for descending in (False, True):
        seen: list[str] = []
        after = None
        while True:
            answer = listed(Page(after, 2, descending))
            names = [item["id"] for item in answer["data"]]
            assert (answer["first_id"], answer["last_id"]) == (names[0], names[-1])
            seen += names
            if not answer["has_more"]:
                break
            after = answer["last_id"]
        assert seen == (["msg_9_0", "msg_own", "fco_9_2", "rs_9_3", "item_9_4"][:: -1 if descending else 1])
    assert listed(Page("item_9_4", 5, False))["data"] == []
    with pytest.raises(GatewayError) as caught:
        listed(Page("msg_else"))
    assert (caught.value.code, caught.value.param) == ("query_invalid", "after")


def test_messages_are_listed_in_parts():
    first, second, *_ = listed(Page(None, 5, False))["data"]
    assert (first["type"], first["content"]) == ("message", [{"type": "input_text", "text": "one"}])
    assert second["content"] == [{"type": "output_text", "text": "two"}]
