"""All metrics of a gateway, as families; every name is in the table of docs/observability.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from rlu_server.adapters.gate import Gate
from rlu_server.adapters.ledger import Ledger
from rlu_server.adapters.measures import BOUNDS, Measures, Spread, Standing
from rlu_server.adapters.relay import Relay
from rlu_server.adapters.responses import Responses, ResponseStore
from rlu_server.attestor.messages import SIGNING_BUCKETS, Condition
from rlu_server.core.limits.rules import Priority
from rlu_server.endpoints.context import Distribution, Measurement, Sample

Labels = tuple[tuple[str, str], ...]


def gateway_measurements(relay: Relay, ledger: Ledger) -> list[Measurement]:
    """What passed, and what there is now."""
    m = relay.measures
    requests = tuple(
        Sample((("route", route), ("status", str(status))), count)
        for (route, status), count in m.requests.items()
    )
    durations = [((("route", route),), spread) for route, spread in m.durations.items()]
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
        _total("request_bytes", "Content received from clients.", m.request_bytes),
        _total("response_bytes", "Content sent to clients.", m.response_bytes),
        _gauge("connections", "Client connections.", relay.connection_count),
        _gauge("request_scratch_bytes", "Memory for content of requests.", relay.held_bytes),
        _gauge("exchanges", "Exchanges in flight.", relay.exchange_count),
        _gauge("sessions", "Open sessions.", ledger.table.open_count),
        _gauge("receipts_pending", "Exchanges that wait for their receipt.", ledger.recorder.pending),
        _gauge("ready", "1 when requests would be served.", int(not relay.readiness.missing())),
        _times(
            "first_byte_seconds", "From the complete request to the first byte of its answer.", m.first_byte
        ),
        _histogram("request_seconds", "From the complete request to the end of its answer.", durations),
        _times("output_token_seconds", "Mean time between two output tokens of a stream.", m.between_tokens),
        _times(
            "session_wait_seconds", "From asking for a session to a numbered exchange in it.", m.session_wait
        ),
        _times(
            "receipt_seconds",
            "From the end of an exchange to its receipt under a signed head.",
            m.receipt_wait,
        ),
        _total("spans_sent", "Spans of traces handed to the relay.", m.spans_sent),
        _total("spans_dropped", "Spans that did not fit, or that the relay did not take.", m.spans_dropped),
        *_tenants(m),
        *_kept(relay.responses),
    ]


def _tenants(m: Measures) -> list[Measurement]:
    tokens = tuple(
        Sample((("tenant", tenant), ("kind", kind)), count)
        for (tenant, kind), count in m.tenant_tokens.items()
    )
    return [
        _counter("tenant_exchanges", "Exchanges recorded, by tenant.", "tenant", m.tenant_exchanges),
        Measurement("tenant_tokens", "Tokens that tenants used.", "counter", tokens),
        _counter(
            "tenant_refusals", "Requests that a tenant's limits turned away.", "tenant", m.tenant_refusals
        ),
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
        _times("queue_wait_seconds", "Time in line, of requests that had to wait.", m.queue_wait),
    ]


def engine_measurements(engines: Sequence[Standing], m: Measures) -> list[Measurement]:
    """Of each engine, whether it serves, and the three gauges of its load that tell nobody about anybody."""

    def each(name: str, text: str, values: Iterable[tuple[Standing, float]]) -> Measurement:
        samples = tuple(Sample((("engine", one.name), ("model", one.model)), value) for one, value in values)
        return Measurement(name, text, "gauge", samples)

    loads = [(one, one.load) for one in engines if one.load is not None]
    ready = [(one, int(one.probed)) for one in engines]
    return [
        _total("engine_retries", "Requests that were handed to an engine once more.", m.engine_retries),
        each("engine_ready", "1 when this engine is proven and takes requests.", ready),
        each("engine_running", "Requests that it runs.", [(one, load.running) for one, load in loads]),
        each("engine_waiting", "Requests in its own line.", [(one, load.waiting) for one, load in loads]),
        each(
            "engine_kv_cache_usage_ratio",
            "How full its KV cache is.",
            [(one, load.kv_usage) for one, load in loads],
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


def certificate_measurements(expires: float, now: float) -> list[Measurement]:
    """How long the certificate that is shown is good."""
    left = int(expires - now)
    return [_gauge("tls_certificate_expires_seconds", "Until the gateway's TLS certificate ends.", left)]


def attestor_measurements(
    connected: bool, condition: Condition | None, now: float, *, exported: bool
) -> list[Measurement]:
    """What the attestor said of itself last; nothing but that it is away, while it is.

    Args:
        exported: whether somebody may export the log.
    """
    found = [_gauge("attestor_connected", "1 when the gateway has a verified attestor.", int(connected))]
    if condition is None:
        return found
    bounds = (*SIGNING_BUCKETS, float("inf"))
    buckets = tuple(zip(bounds, accumulate(condition.signatures), strict=True))
    found += [
        Measurement(
            "attestor_signing_seconds",
            "Signing a head of the log and writing it, with all leaves under it.",
            "histogram",
            distributions=(Distribution((), buckets, condition.signing_s),),
        ),
        _gauge("attestor_waiting", "Leaves that wait for a signature.", condition.waiting),
        _gauge("attestor_failing", "1 when the latest signature failed.", int(condition.failing)),
        _gauge(
            "attestor_drift", "1 when the operator's policy refuses the instance.", int(bool(condition.drift))
        ),
        _gauge("attestor_leaving", "1 while a former key still has sessions.", int(condition.leaving)),
        _gauge("log_entries", "Entries under the latest signed head.", condition.entries),
        _age("log_head_age_seconds", "Since the latest head was signed.", condition.head_at, now),
        _age("statement_age_seconds", "Since the instance attested itself.", condition.stated_at, now),
    ]
    if exported:
        lag = condition.entries - condition.exported
        found.append(_gauge("log_export_lag", "Entries that wait for the export.", lag))
    if condition.canary_at is not None:
        found.append(
            _age("canary_age_seconds", "Since the canary test that is stated.", condition.canary_at, now)
        )
    licence = condition.licence
    if licence is not None:
        found.append(
            _gauge(
                "licence_refusing", "1 while the licence lets no session be opened.", int(licence.refusing)
            )
        )
        if licence.ends_in_s is not None and licence.refuses_in_s is not None:
            found += [
                _gauge(
                    "licence_expires_seconds", "Until the licence ends; negative after.", licence.ends_in_s
                ),
                _gauge(
                    "licence_refuses_seconds",
                    "Until the grace period is over, and no session is opened.",
                    licence.refuses_in_s,
                ),
            ]
    return found


def _histogram(name: str, text: str, spreads: Iterable[tuple[Labels, Spread]]) -> Measurement:
    bounds = (*BOUNDS, float("inf"))
    distributions = tuple(
        Distribution(labels, tuple(zip(bounds, accumulate(spread.counts), strict=True)), spread.sum_s)
        for labels, spread in spreads
    )
    return Measurement(name, text, "histogram", distributions=distributions)


def _times(name: str, text: str, spread: Spread) -> Measurement:
    return _histogram(name, text, [((), spread)])


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> Measurement:
    samples = tuple(Sample(((label, value),), count) for value, count in counts.items())
    return Measurement(name, text, "counter", samples)


def _total(name: str, text: str, value: int) -> Measurement:
    return Measurement(name, text, "counter", (Sample((), value),))


def _gauge(name: str, text: str, value: int) -> Measurement:
    return Measurement(name, text, "gauge", (Sample((), value),))


def _age(name: str, text: str, since: int, now: float) -> Measurement:
    return _gauge(name, text, max(int(now - since), 0))
