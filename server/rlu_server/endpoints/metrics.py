"""Prometheus text from the gateway's measurements, with the promise of P5 enforced where they leave the process.

The counters themselves are plain numbers kept by the data path. Here is the last gate: a label value that does not look like one of
our own words, or a family with more series than our fixed sets allow, is left out and counted, because a mistake elsewhere must not
turn a metric into a leak.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from rlu_server.endpoints.context import Measurement

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
MAX_SERIES = 256
_WORD = re.compile(r"[a-z0-9/][a-z0-9_./{}-]{0,39}", re.ASCII)
_FORMS = {
    "model": re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:+-]{0,127}", re.ASCII),  # the operator names it
    "tenant": re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII),
}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


class _Families(Collector):
    def __init__(self, measurements: Sequence[Measurement]) -> None:
        self.measurements = measurements

    def collect(self) -> Iterator[Metric]:
        withheld = 0
        for measurement in self.measurements:
            family, dropped = _family(measurement)
            withheld += dropped
            yield family
        yield GaugeMetricFamily(
            "rlu_metrics_withheld",
            "Series left out because their labels were not of the fixed sets.",
            withheld,
        )


def exposition(measurements: Sequence[Measurement]) -> bytes:
    """The measurements in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(measurements))
    return generate_latest(registry)


def _family(measurement: Measurement) -> tuple[Metric, int]:
    names = _label_names(measurement)
    name = f"rlu_{measurement.name}"
    kept = dropped = 0
    family: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
    if measurement.kind == "histogram":
        family = HistogramMetricFamily(name, measurement.help, labels=names)
        for series in measurement.distributions:
            if kept < MAX_SERIES and _bounded(series.labels, names):
                buckets = [
                    ("+Inf" if bound == float("inf") else repr(bound), count)
                    for bound, count in series.buckets
                ]
                family.add_metric([value for _, value in series.labels], buckets, series.sum)
                kept += 1
            else:
                dropped += 1
        return family, dropped
    kind = CounterMetricFamily if measurement.kind == "counter" else GaugeMetricFamily
    family = kind(name, measurement.help, labels=names)
    for sample in measurement.samples:
        if kept < MAX_SERIES and _bounded(sample.labels, names):
            family.add_metric([value for _, value in sample.labels], sample.value)
            kept += 1
        else:
            dropped += 1
    return family, dropped


def _label_names(measurement: Measurement) -> list[str]:
    series: Iterable[tuple[tuple[str, str], ...]] = [s.labels for s in measurement.samples]
    for labels in (*series, *(d.labels for d in measurement.distributions)):
        return [name for name, _ in labels]
    return []


def _bounded(labels: tuple[tuple[str, str], ...], names: list[str]) -> bool:
    return [name for name, _ in labels] == names and all(
        _NAME.fullmatch(name) and _FORMS.get(name, _WORD).fullmatch(value) for name, value in labels
    )
