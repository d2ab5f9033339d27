"""Families as delimited protobuf, the only format with native histograms.

Prometheus asks for it when native histograms are switched on, and then takes everything from it, so all
families are written in it, those of prometheus_client as well. The encoder (`MetricFamily`) is by hand: six
messages, and the field numbers are those of `metrics.proto` of prometheus/client_model.
Rejected: the protobuf package (a compiled schema and a message object per sample); prometheus_client, which
has no native histograms.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.metrics_core import Metric

from engine.deliver import histograms
from engine.deliver.families import COUNTER, GAUGE, Family
from engine.deliver.fingerprint import Labels
from engine.observe.latency import BUCKET_FIRST, PER_OCTAVE, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from prometheus_client.registry import Collector
    from prometheus_client.samples import Sample

    from engine.judge.snapshot import HistogramFamily

CONTENT_TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
ZERO_THRESHOLD = 2.0**-128  # what other clients send; no latency is that short
METRIC_TYPE = {"counter": 0, "gauge": 1, "summary": 2, "unknown": 3, "histogram": 4}
VALUE_FIELD = {"gauge": 2, "counter": 3, "unknown": 5}
LABEL_SETS_MAX = 200_000

SEVEN_BITS, LOW_BITS, MORE_FOLLOWS = 7, 0x7F, 0x80
_VARINT, _FIXED64, _LENGTH = 0, 1, 2


def varint(value: int) -> bytes:
    """Encode a non-negative integer."""
    if value < MORE_FOLLOWS:
        return bytes((value,))
    out = bytearray()
    while value >> SEVEN_BITS:
        out.append(value & LOW_BITS | MORE_FOLLOWS)
        value >>= SEVEN_BITS
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> int:
    """Map a signed integer to a non-negative one, small to small."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def _uint(field: int, value: int) -> bytes:
    return bytes((field << 3 | _VARINT,)) + varint(value)


def _sint(field: int, value: int) -> bytes:
    return _uint(field, zigzag(value))


def _double(field: int, value: float) -> bytes:
    return bytes((field << 3 | _FIXED64,)) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return bytes((field << 3 | _LENGTH,)) + varint(len(value)) + value


class LabelMessages:
    """Label sets as repeated `LabelPair` fields, each made once. Not safe for two threads at a time."""

    def __init__(self, label_sets_max: int = LABEL_SETS_MAX) -> None:
        self._label_sets_max = label_sets_max
        self._messages: dict[Labels, bytes] = {}

    def pairs(self, labels: Labels) -> bytes:
        """Encode field 1 of `Metric` once for every label."""
        message = self._messages.get(labels)
        if message is None:
            if len(self._messages) >= self._label_sets_max:
                self._messages.clear()
            encoded = ((name.encode(), value.encode()) for name, value in labels)
            message = b"".join(_bytes(1, _bytes(1, name) + _bytes(2, value)) for name, value in encoded)
            self._messages[labels] = message
        return message


def _family(name: str, text: str, kind: str, metrics: Iterable[bytes]) -> bytes:
    parts = [_bytes(1, name.encode()), _bytes(2, text.encode()), _uint(3, METRIC_TYPE[kind])]
    parts += (_bytes(4, metric) for metric in metrics)
    message = b"".join(parts)
    return varint(len(message)) + message


def families_protobuf(families: Iterable[Family], messages: LabelMessages) -> bytes:
    """Encode families of counters and gauges. A family without samples is left out, as the format has it."""
    out = []
    for family in families:
        field = VALUE_FIELD[family.kind]
        metrics = [
            messages.pairs(labels) + _bytes(field, _double(1, value))
            for labels, value in zip(family.labels, family.values, strict=True)
        ]
        if metrics:
            out.append(_family(family.name, family.help, family.kind, metrics))
    return b"".join(out)


def histograms_protobuf(family: HistogramFamily, messages: LabelMessages) -> bytes:
    """Encode all rows, each with its native buckets and with the classic ones for servers that keep both."""
    if not family.values:
        return b""
    cumulative = histograms.cumulative_counts(family).tolist()
    bounds = [_double(2, 2.0**octave) for octave in histograms.CLASSIC_OCTAVES]
    row_of_page, octave_of_page = np.nonzero(family.page_of >= 0)
    counts = family.pages[family.page_of[row_of_page, octave_of_page]]
    page, place = np.nonzero(counts)
    row_of, amounts = row_of_page[page], counts[page, place]
    ends = np.searchsorted(row_of, np.arange(len(family.values)), side="right").tolist()
    indexes = octave_of_page[page] * PER_OCTAVE + place + BUCKET_FIRST
    # Each count but the first of a row is written as the difference to the one before.
    deltas = np.diff(amounts, prepend=0)
    is_first = np.diff(row_of, prepend=-1) != 0
    deltas[is_first] = amounts[is_first]
    packed, at = _signed_varints(deltas)
    metrics, begin = [], 0
    for values, end, up_to, sum_us in zip(
        family.values, ends, cumulative, family.sum_us.tolist(), strict=True
    ):
        histogram = b"".join(
            (
                _uint(1, up_to[-1]),
                _double(2, sum_us / histograms.US_PER_S),
                _classic_buckets(zip(bounds, up_to[:-1], strict=True)),
                _sint(5, SCHEMA),
                _double(6, ZERO_THRESHOLD),
                _uint(7, 0),
                _spans(indexes[begin:end]),
                _bytes(13, packed[at[begin] : at[end]]),
            )
        )
        begin = end
        labels = messages.pairs(tuple(zip(family.labels, values, strict=True)))
        metrics.append(labels + _bytes(7, histogram))
    return _family(histograms.NAME, histograms.HELP, "histogram", metrics)


def _classic_buckets(buckets: Iterable[tuple[bytes, int]]) -> bytes:
    """Encode (upper bound as field 2, cumulative count) pairs."""
    return b"".join(_bytes(3, _uint(1, count) + bound) for bound, count in buckets)


def _spans(indexes: NDArray[np.int64]) -> bytes:
    """Encode the indexes of filled buckets as spans of neighbours: first index or gap, and length."""
    if not len(indexes):
        return _EMPTY_SPAN  # Without a span it would be taken for a classic histogram.
    begins = np.flatnonzero(np.diff(indexes, prepend=indexes[0] - 2) != 1)
    lengths = np.diff(begins, append=len(indexes))
    after = np.concatenate(([0], (indexes[begins] + lengths)[:-1]))
    gaps = indexes[begins] - after
    return b"".join(
        _bytes(12, _sint(1, gap) + _uint(2, length))
        for gap, length in zip(gaps.tolist(), lengths.tolist(), strict=True)
    )


_EMPTY_SPAN = _bytes(12, _sint(1, 0) + _uint(2, 0))


def _signed_varints(values: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
    """Encode signed integers one after another; also give where each begins, and the end."""
    zigzagged = ((values << 1) ^ (values >> 63)).view(np.uint64)
    sizes = np.ones(len(values), np.int64)
    for bits in range(SEVEN_BITS, 64, SEVEN_BITS):
        sizes += zigzagged >= np.uint64(1 << bits)
    begins = np.concatenate(([0], sizes.cumsum()))
    encoded = np.empty(begins[-1], np.uint8)
    for place in range(int(sizes.max(initial=0))):
        rows = np.flatnonzero(sizes > place)
        low_bits = (zigzagged[rows] >> np.uint64(SEVEN_BITS * place)) & np.uint64(LOW_BITS)
        more = np.where(sizes[rows] > place + 1, MORE_FOLLOWS, 0)
        encoded[begins[rows] + place] = low_bits.astype(np.uint8) | more.astype(np.uint8)
    return encoded.tobytes(), begins


def registry_protobuf(registry: Collector, messages: LabelMessages) -> bytes:
    """Encode what prometheus_client collects."""
    return b"".join(_collected(metric, messages) for metric in registry.collect() if metric.samples)


def _collected(metric: Metric, messages: LabelMessages) -> bytes:
    if metric.type in {"histogram", "summary"}:
        return _grouped(metric, messages)
    kind = metric.type if metric.type in VALUE_FIELD else GAUGE  # info, stateset
    suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
    name = metric.name + suffix
    samples = [sample for sample in metric.samples if sample.name == name]
    labels = [tuple(sample.labels.items()) for sample in samples]
    values = [sample.value for sample in samples]
    assert kind != COUNTER or len(samples) == len(metric.samples), "created series are switched off"
    return families_protobuf([Family(name, kind, metric.documentation, labels, values)], messages)


def _grouped(metric: Metric, messages: LabelMessages) -> bytes:
    """Encode a classic histogram or summary: samples grouped by all labels but `le` or `quantile`."""
    is_histogram = metric.type == "histogram"
    edge = "le" if is_histogram else "quantile"
    groups: dict[Labels, list[Sample]] = {}
    for sample in metric.samples:
        key = tuple((name, value) for name, value in sample.labels.items() if name != edge)
        groups.setdefault(key, []).append(sample)
    metrics = []
    for labels, samples in groups.items():
        parts = []
        for sample in samples:
            if sample.name == f"{metric.name}_count":
                parts.append(_uint(1, int(sample.value)))
            elif sample.name == f"{metric.name}_sum":
                parts.append(_double(2, sample.value))
            elif is_histogram:
                bucket = _uint(1, int(sample.value)) + _double(2, float(sample.labels[edge]))
                parts.append(_bytes(3, bucket))
            else:
                parts.append(_bytes(3, _double(1, float(sample.labels[edge])) + _double(2, sample.value)))
        metrics.append(messages.pairs(labels) + _bytes(7 if is_histogram else 4, b"".join(parts)))
    return _family(metric.name, metric.documentation, metric.type, metrics)
