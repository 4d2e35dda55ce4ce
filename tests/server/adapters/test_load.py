"""What is read of an engine's metrics, and when it is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.adapters import load
from rlu_server.adapters.engine import Call, Handler, ResponseHead
from rlu_server.adapters.load import Loads, parse, together
from rlu_server.core.admission.window import Load
from rlu_server.core.errors import GatewayError
from waiting import until

# As vLLM 0.32 writes it, two engines behind one server.
TEXT = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="a \\"quoted\\" name"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1e+06
"""


def test_sums_and_the_fullest_cache():
    assert parse(TEXT) == Load(7, 2, 0.75)


@pytest.mark.parametrize("lost", ["running", "waiting{", "usage"])
def test_all_three_or_nothing(lost: str):
    assert parse(b"\n".join(line for line in TEXT.split(b"\n") if lost.encode() not in line)) is None


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"", b"x", b"\xff"])
def test_no_numbers_are_no_load(value: bytes):
    assert parse(TEXT.replace(b"} 2.0", b"} " + value)) is None


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_load(data: bytes):
    parse(data)
    parse(TEXT + b"vllm:num_requests_running" + data)


def test_several_engines():
    assert together([Load(1, 2, 0.5), Load(3, 4, 0.25)]) == Load(4, 6, 0.5)
    assert together([Load(1, 2, 0.5), None]) is None
    assert together([]) is None


class Answering:
    """An engine that answers when it is told to."""

    def __init__(self) -> None:
        self.handlers: list[Handler] = []

    def get(self, path: str, handler: Handler) -> Call:
        assert path == "/metrics"
        self.handlers.append(handler)
        return Call(handler, b"", b"")


@pytest.fixture
async def asked() -> tuple[Loads, list[Answering], list[tuple[str, Load | None]]]:
    engines = [Answering(), Answering()]
    loads = Loads(lambda model: engines)
    told: list[tuple[str, Load | None]] = []
    loads.told = lambda model, found: told.append((model, found))
    return loads, engines, told


Asked = tuple[Loads, list[Answering], list[tuple[str, Load | None]]]


async def test_every_engine_of_the_model_is_asked_once_at_a_time(asked: Asked):
    loads, engines, told = asked
    for _ in range(3):
        loads.look("m")
    assert [len(engine.handlers) for engine in engines] == [1, 1]
    for engine in engines:
        head = ResponseHead(200, {})
        engine.handlers[0].engine_read(head, TEXT[:100], False)
        assert told == []
        engine.handlers[0].engine_read(None, TEXT[100:], True)
    assert told == [("m", Load(14, 4, 0.75))]
    loads.look("m")
    assert len(engines[0].handlers) == 1, "not before the pause is over"
    loads.close()


@pytest.mark.parametrize(
    "answer",
    [
        lambda handler: handler.engine_read(ResponseHead(404, {}), TEXT, True),
        lambda handler: handler.engine_failed(GatewayError("engine_lost")),
        lambda handler: handler.engine_read(ResponseHead(200, {}), b"x" * (load.MAX_BYTES + 1), False),
    ],
)
async def test_an_engine_that_does_not_say(asked: Asked, answer: Callable[[Handler], None]):
    loads, engines, told = asked
    loads.look("m")
    engines[0].handlers[0].engine_read(ResponseHead(200, {}), TEXT, True)
    answer(engines[1].handlers[0])
    assert told == [("m", None)]
    loads.close()


async def test_an_engine_that_never_answers(asked: Asked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "TIMEOUT_S", 0.01)
    loads, _, told = asked
    loads.look("m")
    await until(lambda: told)
    assert told == [("m", None)]
    loads.close()
