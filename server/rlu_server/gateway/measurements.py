"""The data path's counters as metric families."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from rlu_server.adapters.gate import Gate
from rlu_server.adapters.ledger import Ledger
from rlu_server.adapters.measures import FIRST_BYTE_BUCKETS, Measures
from rlu_server.adapters.relay import Relay
from rlu_server.adapters.responses import Responses, ResponseStore
from rlu_server.core.limits.rules import Priority
from rlu_server.endpoints.context import Distribution, Measurement, Sample


def measurements(relay: Relay, ledger: Ledger) -> list[Measurement]:
    """All metrics of this moment."""
    m = relay.measures
    requests = tuple(
        Sample((("route", route), ("status", str(status))), count)
        for (route, status), count in m.requests.items()
    )
    return [
        Measurement("requests", "Requests answered.", "counter", requests),
        _counter("refusals", "Requests refused by the gateway.", "code", m.refusals),
        _counter("receipts", "Exchanges recorded.", "status", m.receipts),
        _counter("sessions_opened", "Sessions opened.", "kind", m.sessions_opened),
        _counter("sessions_closed", "Sessions closed.", "reason", m.sessions_closed),
        _total("receipts_lost", "Exchanges whose session the attestor had ended by itself.", m.receipts_lost),
        _total("input_tokens", "Input tokens, as the engine reported them.", m.input_tokens),
        _total("output_tokens", "Output tokens, as the engine reported them.", m.output_tokens),
        _total("cached_input_tokens", "Input tokens found in the prefix cache.", m.cached_input_tokens),
        _total("engine_retries", "Requests that were handed to an engine once more.", m.engine_retries),
        Measurement(
            "engine_ready",
            "1 when this engine is proven and takes requests.",
            "gauge",
            tuple(
                Sample((("engine", one.name), ("model", one.model)), int(one.probed))
                for one in relay.readiness.engines
            ),
        ),
        _total("request_bytes", "Content received from clients.", m.request_bytes),
        _total("response_bytes", "Content sent to clients.", m.response_bytes),
        _gauge("connections", "Client connections.", relay.connection_count),
        _gauge("exchanges", "Exchanges in flight.", relay.exchange_count),
        _gauge("sessions", "Open sessions.", ledger.table.open_count),
        _gauge("receipts_pending", "Exchanges that wait for their receipt.", ledger.recorder.pending),
        _gauge("ready", "1 when requests would be served.", int(not relay.readiness.missing())),
        _first_byte(relay),
        *_kept(relay.responses),
    ]


def _kept(store: Responses) -> list[Measurement]:
    if not isinstance(store, ResponseStore):
        return []
    return [
        _gauge("responses_kept", "Responses that are kept for later requests.", len(store)),
        _gauge("scratch_bytes", "Memory for kept responses, used or promised.", store.size),
        _total("responses_not_kept", "Responses that turned out larger than their room.", store.not_kept),
    ]


def gate_measurements(gate: Gate, m: Measures) -> list[Measurement]:
    """The line in front of the engines. Refusals by limits are among `refusals`, by code."""
    lines = gate.lines.values()
    waiting = tuple(Sample((("priority", one.name.lower()),), gate.waiting(one)) for one in Priority)
    return [
        Measurement("queue_length", "Requests that wait for a busy engine.", "gauge", waiting),
        _gauge("engine_requests", "Requests that were let through to the engines.", gate.at_engine),
        _gauge(
            "engine_window", "Requests that would be let through.", sum(line.window.size for line in lines)
        ),
        _histogram(
            "queue_wait_seconds",
            "Time in line, of requests that had to wait.",
            m.queue_wait,
            m.queue_wait_sum_s,
        ),
    ]


def key_measurements(created: int, rotate_days: int, now: float) -> list[Measurement]:
    """Age of the attestation key, and how long until it is to be rotated; negative when that is over."""
    found = [
        _gauge("key_age_seconds", "Age of the attestation key, as it states it.", max(int(now - created), 0))
    ]
    if rotate_days:
        due = int(created + rotate_days * 86400 - now)
        found.append(_gauge("key_rotation_due_seconds", "Until the attestation key is to be rotated.", due))
    return found


def _first_byte(relay: Relay) -> Measurement:
    m = relay.measures
    text = "From the complete request to the first byte of its response."
    return _histogram("first_byte_seconds", text, m.first_byte, m.first_byte_sum_s)


def _histogram(name: str, text: str, counts: Sequence[int], total: float) -> Measurement:
    bounds = (*FIRST_BYTE_BUCKETS, float("inf"))
    buckets = tuple(zip(bounds, accumulate(counts), strict=True))
    return Measurement(name, text, "histogram", distributions=(Distribution((), buckets, total),))


def _counter(name: str, text: str, label: str, counts: Counter[str]) -> Measurement:
    samples = tuple(Sample(((label, value),), count) for value, count in counts.items())
    return Measurement(name, text, "counter", samples)


def _total(name: str, text: str, value: int) -> Measurement:
    return Measurement(name, text, "counter", (Sample((), value),))


def _gauge(name: str, text: str, value: int) -> Measurement:
    return Measurement(name, text, "gauge", (Sample((), value),))
