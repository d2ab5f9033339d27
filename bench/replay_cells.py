"""What a person asks of a log, cell by cell: counts, quantiles and calls in flight, by minute and labels.

    counts   (minute, labels): attempts started, ended, and ended as failed or timed out
    latency  (minute, labels, stage): how many, p50 and p99 in ms
    peaks    (minute, labels): the most calls in flight, looked at after every 100 ms in which that changed

Ours are added up from what observe hands to judge, and nothing else: so they are the engine's own numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.app import REPLAY_HASH_KEY, build_line
from engine.observe.latency import BUCKETS, quantile
from engine.observe.summary import Count
from engine.source.file import FileSource

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from engine.app import Configuration
    from engine.observe.summary import SliceSummary

MINUTE_NS = 60_000_000_000
BIN_NS = 100_000_000
LABELS = ("tenant", "trunk", "provider")
STAGES = ("setup", "stt", "llm", "tts", "e2e")
FAILED = ("failed", "timeout")
GUARANTEE_RATIO = 0.011  # of the sketch, see engine.observe.latency

Labels = tuple[str, ...]


class Cells(NamedTuple):
    """The answers; see above."""

    counts: dict[tuple[int, Labels], tuple[int, int, int]]
    latency: dict[tuple[int, Labels, str], tuple[int, float, float]]
    peaks: dict[tuple[int, Labels], int]


class Compared(NamedTuple):
    """What comparing with exact answers came to."""

    cells: int
    wrong: int  # counts and peaks that differ, cells that only one of them has
    error_ratio: float  # the largest one of a quantile


def compared(found: Cells, exact: Cells) -> Compared:
    """Compare answers with exact ones."""
    wrong = 0
    for ours, theirs in ((found.counts, exact.counts), (found.peaks, exact.peaks)):
        wrong += sum(ours.get(cell) != theirs.get(cell) for cell in ours.keys() | theirs.keys())
    error_ratio = 0.0
    for cell in found.latency.keys() | exact.latency.keys():
        count, *quantiles = found.latency.get(cell, (0,))
        exact_count, *exact_quantiles = exact.latency.get(cell, (0,))
        wrong += count != exact_count
        for one, other in zip(quantiles, exact_quantiles, strict=False):
            error_ratio = max(error_ratio, abs(one / other - 1.0))
    return Compared(len(exact.counts) + len(exact.peaks) + len(exact.latency), wrong, error_ratio)


async def cells_of(path: Path, configuration: Configuration) -> Cells:
    """Take a log through decode and observe, and add up."""
    pipeline = build_line(configuration, REPLAY_HASH_KEY).pipeline
    adding = _Adding()
    source = FileSource((str(path),))
    await source.start()
    while (raw := await source.read()) is not None:
        pipeline.observer.absorb(raw, pipeline.decoder.decode(raw))
        adding.add(pipeline.observer.close())
    adding.add(pipeline.observer.finish())
    await source.close()
    return adding.cells()


class _Adding:
    """Adds slices up to cells."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, Labels], list[int]] = {}
        self._sketches: dict[tuple[int, Labels, str], NDArray[np.int64]] = {}
        self._levels: dict[Labels, int] = {}
        self._peaks: dict[tuple[int, Labels], int] = {}

    def add(self, summaries: list[SliceSummary]) -> None:
        """Add slices, in their order."""
        for summary in summaries:
            minute = summary.start_ns // MINUTE_NS
            places = [summary.labels.index(label) for label in LABELS]
            series = [tuple(values[place] for place in places) for values in summary.series]
            for labels, counts in zip(series, summary.counts.tolist(), strict=True):
                mine = self._counts.setdefault((minute, labels), [0, 0, 0])
                mine[0] += counts[Count.STARTED]
                mine[1] += counts[Count.ENDED]
            for row, cause, count in zip(
                summary.cause_series.tolist(), summary.cause_index.tolist(), summary.cause_count.tolist(),
                strict=True,
            ):  # fmt: skip
                if summary.causes[cause].outcome in FAILED:
                    self._counts[minute, series[row]][2] += count
            for row, change in zip(summary.bin_series.tolist(), summary.bin_level.tolist(), strict=True):
                if change:
                    labels = series[row]
                    level = self._levels[labels] = self._levels.get(labels, 0) + change
                    self._peaks[minute, labels] = max(self._peaks.get((minute, labels), level), level)
            for row, stage, bucket, count in zip(
                summary.latency_series.tolist(), summary.latency_stage.tolist(),
                summary.latency_bucket.tolist(), summary.latency_count.tolist(), strict=True,
            ):  # fmt: skip
                cell = (minute, series[row], summary.stages[stage])
                sketch = self._sketches.get(cell)
                if sketch is None:
                    sketch = self._sketches[cell] = np.zeros(BUCKETS, np.int64)
                sketch[bucket] += count

    def cells(self) -> Cells:
        """Give the cells in which something happened."""
        counts = {cell: (row[0], row[1], row[2]) for cell, row in self._counts.items() if any(row)}
        latency = {
            cell: (int(sketch.sum()), 1000.0 * quantile(sketch, 0.5), 1000.0 * quantile(sketch, 0.99))
            for cell, sketch in self._sketches.items()
        }
        return Cells(counts, latency, self._peaks)
