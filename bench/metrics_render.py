"""What does a scrape cost? Latency histograms as text and protobuf, and prometheus_client on the same series.

One row is one (series, stage): with the classic bounds, count and sum it makes twenty series.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily

from bench.harness import (
    FULL,
    SMOKE,
    TINY,
    Benchmark,
    Result,
    Row,
    at_most,
    digest_of,
    in_turns,
    ratios,
    spread,
)
from engine.deliver import histograms, native, text
from tests.snapshots import histograms as some_histograms

if TYPE_CHECKING:
    from engine.judge.snapshot import HistogramFamily

SEED = 0  # tests.snapshots draws with a seed of its own
BUDGET_MS = 10.0
ROWS = {TINY: 5, SMOKE: 500, FULL: 500}
TURNS = {TINY: 1, SMOKE: 15, FULL: 100}
LIBRARY, TEXT, PROTOBUF = "prometheus_client text", "callgauge text", "callgauge protobuf"


class SameSeries:
    """The histograms as a custom collector of prometheus_client gives them."""

    def __init__(self, family: HistogramFamily) -> None:
        self._family = family

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Make the family anew, as each scrape does."""
        family = self._family
        bounds = [*map(histograms.bound_text, histograms.CLASSIC_OCTAVES), "+Inf"]
        made = HistogramMetricFamily(histograms.NAME, histograms.HELP, labels=family.labels)
        counts = histograms.cumulative_counts(family).tolist()
        for values, row, sum_us in zip(family.values, counts, family.sum_us.tolist(), strict=True):
            made.add_metric(values, list(zip(bounds, row, strict=True)), sum_us / histograms.US_PER_S)
        yield made


def run(size: str) -> Result:
    """Render the same rows in three ways, in turns; the first turn fills the caches and does not count."""
    family = some_histograms(ROWS[size])
    texts, messages = text.LabelTexts(), native.LabelMessages()
    registry = CollectorRegistry()
    registry.register(SameSeries(family))
    ways: dict[str, Callable[[], bytes]] = {
        LIBRARY: lambda: prometheus_client.generate_latest(registry),
        TEXT: lambda: histograms.histograms_text(family, texts).encode(),
        PROTOBUF: lambda: native.histograms_protobuf(family, messages),
    }
    bodies = {name: render() for name, render in ways.items()}
    series = sum(not line.startswith(b"#") for line in bodies[TEXT].splitlines())
    seconds = in_turns(ways, TURNS[size])
    rows = []
    for name, each in seconds.items():
        shown = f"{spread([one * 1000 for one in each], 'ms')}, {len(bodies[name]):,} bytes"
        what = f"/metrics, {series:,} series: {name}"
        if name == LIBRARY:
            rows.append(Row(what, shown))
        else:
            rows.append(at_most(what, statistics.median(each) * 1000, BUDGET_MS, "ms", measured=shown))
            rows.append(Row(f"{what}: the library takes", spread(ratios(seconds, LIBRARY, name), "x", 1)))
    return Result(tuple(rows), SEED, digest_of(*bodies.values()))


BENCHMARK = Benchmark("metrics_render", "What does a scrape cost?", run)
