"""What does a scrape cost? Latency histograms as text and protobuf, and prometheus_client on the same series.

`python -m bench.metrics_render [rows]` prints the best of several runs, so that neighbours on the machine
matter little, and a hash of what was rendered, so that two runs can be seen to have done the same. One row is
one (series, stage): with the classic bounds, count and sum it makes twenty series.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily

from engine.deliver import histograms, native, text
from tests.snapshots import histograms as some_histograms

if TYPE_CHECKING:
    from engine.judge.snapshot import HistogramFamily

ROWS = 500
RUNS = 10


class SameSeries:
    """The histograms as a custom collector of prometheus_client gives them."""

    def __init__(self, family: HistogramFamily) -> None:
        self._family = family

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Make the family anew, as each scrape does."""
        family = self._family
        octaves = histograms.classic_octaves(family.counts.shape[1])
        bounds = [*map(histograms.bound_text, octaves), "+Inf"]
        made = HistogramMetricFamily(histograms.NAME, histograms.HELP, labels=family.labels)
        counts = histograms.cumulative_counts(family.counts, octaves).tolist()
        for values, row, sum_us in zip(family.values, counts, family.sum_us.tolist(), strict=True):
            made.add_metric(values, list(zip(bounds, row, strict=True)), sum_us / histograms.US_PER_S)
        yield made


def best_ms(render: Callable[[], bytes], runs: int) -> float:
    """Give the shortest of several runs, the first one (which fills the caches) not counted."""
    render()
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        render()
        times.append(time.perf_counter() - begun)
    return min(times) * 1000


def main(rows: int = ROWS, runs: int = RUNS) -> None:
    """Print one line for each way to render."""
    family = some_histograms(rows)
    texts, messages = text.LabelTexts(), native.LabelMessages()
    registry = CollectorRegistry()
    registry.register(SameSeries(family))
    ways: dict[str, Callable[[], bytes]] = {
        "prometheus_client text": lambda: prometheus_client.generate_latest(registry),
        "callgauge text": lambda: histograms.histograms_text(family, texts).encode(),
        "callgauge protobuf": lambda: native.histograms_protobuf(family, messages),
    }
    series = sum(not line.startswith(b"#") for line in ways["callgauge text"]().splitlines())
    slowest = 0.0
    for name, render in ways.items():
        milliseconds = best_ms(render, runs)
        slowest = slowest or milliseconds
        body = render()
        digest = hashlib.sha256(body).hexdigest()[:12]
        print(
            f"{name:24} {series} series {len(body):9} bytes {milliseconds:8.2f} ms"
            f" {slowest / milliseconds:6.1f} x  {digest}"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
