"""At least once: whatever ends at whatever point, every entry arrives, and nothing counts as exported before it has."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.log_operator import Operator
from fakes.web_service import Request, Response, WebService
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError, Unreachable
from rlu_server.export import records
from rlu_server.export.cursor import Cursor, CursorError, load
from rlu_server.export.exporting import Export
from rlu_server.export.otlp import TRIES, OtlpSink, UrlError, request
from rlu_server.export.sinks import FileSink, Record, SinkError, StreamSink

PAGE = 3


class Log:
    """A server's log, in pages of three; `floor` as after a gap."""

    def __init__(self, count: int) -> None:
        self.operator = Operator().grow(count)
        self.floor = 0
        self.acknowledged: list[int] = []
        self.past: dict[str, Log] = {}

    def entries(self, start: int, issuer: str | None = None) -> Mapping[str, Any] | None:
        if issuer is not None:
            return self.past[issuer].entries(start) if issuer in self.past else None
        if start > self.operator.tree.size:
            return None
        first = max(start, self.floor)
        shown = range(first, min(first + PAGE, self.operator.tree.size))
        return {
            "start": first,
            "tree_size": self.operator.tree.size,
            "entries": [entry(self.operator.tree.leaf(index)) for index in shown],
        }

    def exported(self, size: int) -> None:
        self.acknowledged.append(size)

    def head(self) -> bytes:
        return self.operator.head()


def entry(leaf: bytes, /, **changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "leaf": b64u(leaf),
        "kind": "receipt",
        "iat": 9,
        "status": "complete",
        "usage": [1, 2, 0],
        "first": None,
    }
    return value | changes


class Kept:
    """A sink that keeps what arrives, and fails when told to: before, or after it has arrived."""

    def __init__(self) -> None:
        self.arrived: list[Record] = []
        self.failures: Iterator[str] = iter(())

    def deliver(self, sent: Sequence[Record]) -> None:
        how = next(self.failures, "")
        if how == "before":
            raise SinkError("export.sink", "scripted")
        self.arrived += sent
        if how == "after":
            raise SinkError("export.sink", "scripted")


def drained(export: Export) -> None:
    while export.step():
        pass


def test_everything_arrives_once_when_nothing_fails(tmp_path: Path) -> None:
    log, sink = Log(8), Kept()
    drained(Export(log, log.operator.issuer, sink, tmp_path / "cursor"))
    entries = [r for r in sink.arrived if r["kind"] != "head"]
    assert [r["index"] for r in entries] == list(range(8))
    (head,) = (r for r in sink.arrived if r["kind"] == "head")
    assert head["index"] == 8
    assert log.acknowledged[-1] == 8
    log.operator.grow(2)
    drained(Export(log, log.operator.issuer, sink, tmp_path / "cursor"))
    assert [r["index"] for r in sink.arrived if r["kind"] != "head"] == list(range(10))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(failures=st.lists(st.sampled_from(["", "before", "after", "cursor", "acknowledge"]), max_size=12))
def test_every_entry_arrives_whatever_fails(tmp_path: Path, failures: list[str]) -> None:
    (tmp_path / "cursor").unlink(missing_ok=True)
    log, script = Log(20), iter(failures)
    sink = Kept()
    for _ in range(60):
        how = next(script, "")
        sink.failures = iter([how])
        export = Export(log, log.operator.issuer, sink, tmp_path / "cursor")  # a new process each time
        arrived = {r["index"] for r in sink.arrived if r["kind"] != "head"}
        assert set(range(export.next)) <= arrived, "the cursor is never ahead of what arrived"
        try:
            if how == "cursor":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(Cursor, "save", _refuse)
                    export.step()
            elif how == "acknowledge":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(log, "exported", _refuse)
                    export.step()
            else:
                export.step()
        except RluError:
            continue
        assert max(log.acknowledged, default=0) <= len(
            {r["index"] for r in sink.arrived if r["kind"] != "head"}
        )
    assert {r["index"] for r in sink.arrived if r["kind"] != "head"} == set(range(20))
    assert log.acknowledged[-1] == 20


def _refuse(*arguments: object) -> None:
    raise Unreachable("server.unreachable", "scripted")


def test_what_was_given_up_is_counted_and_told(tmp_path: Path) -> None:
    log, sink = Log(8), Kept()
    log.floor = 5
    export = Export(log, log.operator.issuer, sink, tmp_path / "cursor")
    drained(export)
    assert export.skipped == 5
    assert [r["index"] for r in sink.arrived if r["kind"] != "head"] == [5, 6, 7]


def test_another_instance_begins_when_the_one_before_was_brought_to_its_end(tmp_path: Path) -> None:
    old, log, sink = Log(8), Log(2), Kept()
    log.past[old.operator.issuer] = old
    Cursor(old.operator.issuer, 3).save(tmp_path / "cursor")
    for _ in range(9):  # a new process each time
        Export(log, log.operator.issuer, sink, tmp_path / "cursor").step()
    found = [(r["iss"], r["index"]) for r in sink.arrived if r["kind"] != "head"]
    assert found == [(old.operator.issuer, n) for n in range(3, 8)] + [
        (log.operator.issuer, n) for n in (0, 1)
    ]
    assert load(tmp_path / "cursor") == Cursor(log.operator.issuer, 2)


def test_an_instance_whose_log_is_gone_is_told(tmp_path: Path) -> None:
    gone = Cursor("urn:rlu:instance:gone", 99)
    gone.save(tmp_path / "cursor")
    log, sink = Log(2), Kept()
    export = Export(log, log.operator.issuer, sink, tmp_path / "cursor")
    drained(export)
    assert export.lost == gone
    assert [r["index"] for r in sink.arrived] == [0, 1, 2]


def test_a_cursor_ahead_of_the_log_is_not_believed(tmp_path: Path) -> None:
    log = Log(2)
    Cursor(log.operator.issuer, 9).save(tmp_path / "cursor")
    with pytest.raises(Malformed, match=r"export\.cursor_ahead"):
        Export(log, log.operator.issuer, Kept(), tmp_path / "cursor").step()
    assert log.acknowledged == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"iss":1,"next":1}', '{"iss":"x","next":-1}', '{"iss":"x","next":true}']
)
def test_a_cursor_that_is_none_refuses(tmp_path: Path, text: str) -> None:
    (tmp_path / "cursor").write_text(text)
    with pytest.raises(CursorError, match=r"export\.cursor"):
        load(tmp_path / "cursor")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "start"},
        {"leaf": b64u(bytes(31))},
        {"iat": -1},
        {"status": "secret prompt"},
        {"status": None},
        {"usage": [1, 2]},
        {"usage": [1, 2, 256]},
        {"usage": [1, 2, "3"]},
        {"usage": [1, 2, True]},
        {"prompt": "secret"},
        {"kind": "gap", "first": None},
        {"kind": "gap", "first": 7},
    ],
)
def test_a_server_cannot_put_anything_else_into_an_export(change: dict[str, Any]) -> None:
    value = {"start": 7, "tree_size": 9, "entries": [entry(bytes(32), **change)]}
    with pytest.raises(Malformed, match=r"server\.answer"):
        records.page(value, "urn:rlu:instance:x", 7)


def test_statuses_and_buckets_of_other_kinds_are_left_out() -> None:
    value = {"start": 7, "tree_size": 9, "entries": [entry(bytes(32), kind="session", status="secret")]}
    (record,) = records.page(value, "urn:rlu:instance:x", 7).records
    assert sorted(record) == ["iat", "index", "iss", "kind", "leaf", "rlu_log"]


def test_pages_are_what_was_asked_for() -> None:
    for value in (
        {"start": 6, "tree_size": 9, "entries": []},
        {"start": 7, "tree_size": 7, "entries": [entry(bytes(32))]},
        {"start": 7, "tree_size": 9, "entries": {}},
        {"start": 7, "tree_size": 9},
    ):
        with pytest.raises(Malformed, match=r"server\.answer"):
            records.page(value, "urn:rlu:instance:x", 7)


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda v: st.lists(v) | st.dictionaries(st.text(max_size=5), v),
        max_leaves=8,
    )
)
def test_arbitrary_answers_raise_only_our_own(value: Any) -> None:
    for given_value in (value, {"start": 0, "tree_size": 9, "entries": [value]}):
        try:
            records.page(given_value, "urn:rlu:instance:x", 0)
        except RluError:
            continue


# --- sinks ---


def test_lines_to_a_stream_and_a_stream_that_is_closed(tmp_path: Path) -> None:
    stream = io.BytesIO()
    StreamSink(stream).deliver([{"a": 1}, {"b": "x"}])
    assert stream.getvalue() == b'{"a":1}\n{"b":"x"}\n'
    with (tmp_path / "f").open("wb") as file, (tmp_path / "f").open("rb") as closed:
        assert file.closed is False
        with pytest.raises((SinkError, io.UnsupportedOperation)):
            StreamSink(closed).deliver([{"a": 1}])  # type: ignore[arg-type]


def test_files_are_rotated_and_the_oldest_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    sink = FileSink(path, 20, 2)
    for number in range(8):
        sink.deliver([{"number": number, "padding": "xxxx"}])
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    kept = [
        json.loads(line)["number"]
        for name in reversed(names)
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert kept == [5, 6, 7]
    everything = FileSink(tmp_path / "all" / "x", 20, 0)
    with pytest.raises(SinkError, match=r"export\.sink"):
        everything.deliver([{"a": 1}])


def test_a_line_that_a_crash_tore_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"whole":1}\n{"torn":')
    FileSink(path, 1 << 20, 0).deliver([{"next": 2}])
    lines = path.read_bytes().splitlines()
    assert json.loads(lines[0]) == {"whole": 1}
    assert json.loads(lines[2]) == {"next": 2}


class Collector(WebService):
    """An OTLP receiver; answers from a script, and keeps what it took."""

    def __init__(self, *script: tuple[int, bytes]) -> None:
        super().__init__()
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self._answers = itertools.chain(script, itertools.repeat((200, b"{}")))

    def respond(self, request: Request) -> Response:
        self.requests.append((request.target, dict(request.headers), json.loads(request.content)))
        return Response(*next(self._answers))


SENT: list[Record] = [
    {
        "rlu_log": "1",
        "iss": "urn:x",
        "index": 3,
        "kind": "receipt",
        "leaf": "AA",
        "iat": 9,
        "status": "complete",
        "usage": [1, 2, 0],
    }
]


def test_otlp_is_what_the_opentelemetry_protocol_says() -> None:
    (resource,) = request(SENT)["resourceLogs"]
    (scope,) = resource["scopeLogs"]
    (log,) = scope["logRecords"]
    assert log["timeUnixNano"] == "9000000000"
    assert log["severityNumber"] == 9
    attributes = {a["key"]: a["value"] for a in log["attributes"]}
    assert attributes["rlu.index"] == {"intValue": "3"}
    assert attributes["rlu.usage"] == {
        "arrayValue": {"values": [{"intValue": "1"}, {"intValue": "2"}, {"intValue": "0"}]}
    }
    assert "rlu.rlu_log" not in attributes


def test_a_collector_that_is_busy_is_asked_again() -> None:
    waits: list[float] = []
    with Collector((503, b""), (429, b"")) as collector:
        OtlpSink(collector.url, "token", pause=waits.append).deliver(SENT)
    assert [path for path, _, _ in collector.requests] == ["/v1/logs"] * 3
    assert collector.requests[0][1]["Authorization"] == "Bearer token"
    assert collector.requests[0][2] == request(SENT)
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize(
    "answer",
    [
        (400, b""),
        (301, b""),
        (200, b'{"partialSuccess":{"rejectedLogRecords":"1"}}'),
        (200, b"not JSON"),
        (200, b"[]"),
    ],
)
def test_records_that_were_refused_did_not_arrive(answer: tuple[int, bytes]) -> None:
    with Collector(answer) as collector, pytest.raises(SinkError, match=r"export\.sink"):
        OtlpSink(collector.url, pause=lambda s: None).deliver(SENT)
    assert len(collector.requests) == 1


def test_a_collector_that_is_away() -> None:
    with Collector() as collector:
        pass
    waits: list[float] = []
    with pytest.raises(SinkError, match="cannot be reached"):
        OtlpSink(collector.url, pause=waits.append).deliver(SENT)
    assert len(waits) == TRIES


@pytest.mark.parametrize(
    "url", ["", "collector:4318", "ftp://x", "http://", "http://x:99999", "http://u@x", "http://x?a"]
)
def test_addresses_that_make_no_sense(url: str) -> None:
    with pytest.raises(UrlError, match=r"export\.url"):
        OtlpSink(url)
