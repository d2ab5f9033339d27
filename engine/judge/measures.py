"""What is measured by label set: arrivals, ends, errors, declines and latency, rolled into windows.

Detectors look at the total, at each single label value and at each whole series; sketches merge, so these
rows are sums of the same facts. Quantiles are computed when somebody asks (`quantiles.py`). Beside the
windows stand the totals since the start, which metrics export as counters and histograms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.facts import SliceLatency
from engine.judge.quantiles import Quantiles
from engine.judge.sketch_pages import SketchPages
from engine.judge.snapshot import HistogramFamily
from engine.judge.sparse import SumTable, add_sums, contribution_of, scatter_add, summed_up
from engine.judge.spread import SeriesFacts, added_up, spread_counts
from engine.judge.stage_rows import StageRows
from engine.judge.windows import WINDOWS, RollingSums, WindowView
from engine.kernel import kernel
from engine.observe.latency import PER_OCTAVE
from engine.observe.summary import Count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.declines import Classifier
    from engine.judge.quantiles import LatencyQuantiles
    from engine.judge.series import SeriesIndex
    from engine.judge.sparse import Contribution
    from engine.observe.summary import SliceSummary

ARRIVALS, ENDED, ERRORS, DECLINED = range(4)
COLUMNS = 4
EMPTY_I8 = np.zeros(0, np.int64)
EMPTY_I4 = np.zeros(0, np.int32)
# What windows count of a summary, in the order of their columns; errors take the place of their column after.
COUNTED = [int(one) for one in (Count.STARTED, Count.ENDED, Count.ENDED, Count.DECLINED)]
TOTALS = (Count.STARTED, Count.ANSWERED, Count.ENDED, Count.DECLINED)
TOTALS_COLUMNS: NDArray[np.int64] = np.array(TOTALS, np.int64)


@kernel
def count_errors(
    series: NDArray[np.int32],
    cause: NDArray[np.int32],
    many: NDArray[np.int64],
    is_error: NDArray[np.bool_],
    into: NDArray[np.int64],
) -> None:
    """Add up how many ends of each series are errors, of (series, cause, how many), to `into` (series,)."""
    for row in range(len(series)):
        if is_error[cause[row]]:
            into[series[row]] += many[row]


@kernel
def add_totals(
    totals: NDArray[np.int64],
    errors_total: NDArray[np.int64],
    series: NDArray[np.int32],
    counts: NDArray[np.int64],
    columns: NDArray[np.int64],
    errors: NDArray[np.int64],
    sign: int,
) -> None:
    """Add `sign` x some columns of `counts` (rows, ...) to `totals` (series, columns), and `errors` (rows,).

    `series` (rows,) says which series each row is of.
    """
    for row in range(len(series)):
        for place in range(len(columns)):
            totals[series[row], place] += sign * counts[row, columns[place]]
        errors_total[series[row]] += sign * errors[row]


class Newest(NamedTuple):
    """What the newest slice alone adds to the windows."""

    counts: NDArray[np.int64]  # (COLUMNS, window rows)
    latency: SliceLatency


def latency_facts(merged: SliceSummary, ids: NDArray[np.int32]) -> SeriesFacts:
    """Give the latencies of a summary, by the series' own numbers."""
    series, stage = ids[merged.latency_series], merged.latency_stage
    return SeriesFacts(series, stage, merged.latency_bucket, merged.latency_count)


class Measures:
    """Windows and totals of every label set."""

    def __init__(self, slice_ns: int, index: SeriesIndex, classifier: Classifier) -> None:
        """Start empty; `index` numbers the rows and is shared with the roller."""
        self.index = index
        self.classifier = classifier
        self.counts = RollingSums(COLUMNS, slice_ns)
        self.sketches = RollingSums(PER_OCTAVE, slice_ns)  # its rows are pages
        self.latency_rows = StageRows()  # (window row, stage)
        self.pages = SketchPages()  # of latency rows
        self.quantiles = Quantiles(self.sketches, self.pages)
        self.table = SumTable()
        self.totals = np.zeros((0, len(TOTALS)), np.int64)  # (series, TOTALS), since the start
        self.errors_total = np.zeros(0, np.int64)
        self.histogram_rows = StageRows()  # (series, stage)
        self.histogram_pages = SketchPages()
        self.histograms = np.zeros((0, PER_OCTAVE), np.int64)  # (pages or more, PER_OCTAVE)
        self.sums_us = np.zeros(0, np.int64)
        self._histogram_values: tuple[tuple[str, ...], ...] = ()

    def advance(
        self, start_ns: int, end_ns: int, merged: SliceSummary | None, ids: NDArray[np.int32]
    ) -> tuple[WindowView, Newest]:
        """Move every window on to [.., end_ns), adding the merged summary of the newest slice."""
        counts, sketches = self._taken(start_ns, merged, ids)
        self.counts.grow(len(self.index.row_labels))
        self.counts.advance(end_ns, counts)
        self.sketches.grow(self.pages.many)
        self.quantiles.mark(self.sketches.advance(end_ns, sketches))
        by_row = np.zeros(self.counts.rows * COLUMNS, np.int32)
        scatter_add(by_row, counts.flat, counts.values, 1)
        newest = by_row.reshape(-1, COLUMNS).T.astype(np.int64, order="C")
        row, bucket = self.pages.rows_and_buckets(sketches.flat)
        latency = SliceLatency(row, bucket, sketches.values.astype(np.int64))
        return self._view(newest[ARRIVALS]), Newest(newest, latency)

    def amend(self, change: SliceSummary, ids: NDArray[np.int32], end_ns: int) -> None:
        """Add what came late to its slice, in windows that end at `end_ns`."""
        counts, sketches = self._taken(change.start_ns, change, ids)
        self.counts.grow(len(self.index.row_labels))
        self.sketches.grow(self.pages.many)
        self.counts.amend(counts, end_ns)
        self.sketches.amend(sketches, end_ns)
        self.quantiles.mark([[sketches.flat]] * len(WINDOWS))

    def _taken(
        self, start_ns: int, merged: SliceSummary | None, ids: NDArray[np.int32]
    ) -> tuple[Contribution, Contribution]:
        """Add a summary to the totals, and spread it over its rows: as flat positions in both tables."""
        if merged is None or not len(ids):
            nothing = contribution_of(start_ns, EMPTY_I4, EMPTY_I4)
            return nothing, nothing
        errors = np.zeros(len(ids), np.int64)
        is_error = np.array([self.classifier.is_error(one) for one in merged.causes], np.bool_)
        count_errors(merged.cause_series, merged.cause_index, merged.cause_count, is_error, errors)
        facts = latency_facts(merged, ids)
        self._add_totals(merged, ids, errors)
        self._add_histograms(merged, ids, facts)
        return self._spread(start_ns, merged, ids, errors), self._latency(start_ns, merged, facts)

    def _spread(
        self, start_ns: int, merged: SliceSummary, ids: NDArray[np.int32], errors: NDArray[np.int64]
    ) -> Contribution:
        """Spread the counts over their rows."""
        rows = self.index.rows.arrays()
        per_series = merged.counts[:, COUNTED]
        per_series[:, ERRORS] = errors
        sums = self.table.empty(COLUMNS * len(self.index.row_labels))
        spread_counts(ids, per_series, rows.start, rows.instance, sums)
        return summed_up(start_ns, sums)

    def _latency(self, start_ns: int, merged: SliceSummary, facts: SeriesFacts) -> Contribution:
        """Spread the latencies over their rows."""
        sums = added_up(
            facts, self.index.rows.arrays(), self.latency_rows, merged.stages, self.pages, self.table
        )
        return summed_up(start_ns, sums)

    def _add_totals(self, merged: SliceSummary, ids: NDArray[np.int32], errors: NDArray[np.int64]) -> None:
        series = len(self.index.series)
        if series > len(self.totals):
            self.totals = np.concatenate(
                [self.totals, np.zeros((series - len(self.totals), len(TOTALS)), np.int64)]
            )
            self.errors_total = np.concatenate(
                [self.errors_total, np.zeros(series - len(self.errors_total), np.int64)]
            )
        add_totals(self.totals, self.errors_total, ids, merged.counts, TOTALS_COLUMNS, errors, 1)

    def _add_histograms(self, merged: SliceSummary, ids: NDArray[np.int32], facts: SeriesFacts) -> None:
        rows = self.histogram_rows.ids(ids[merged.sum_series], merged.sum_stage, merged.stages)
        missing = len(self.histogram_rows.pairs) - len(self.sums_us)
        if missing > 0:
            self.sums_us = np.concatenate([self.sums_us, np.zeros(missing, np.int64)])
        scatter_add(self.sums_us, rows, merged.sum_us, 1)
        series = len(self.index.series)
        itself = np.arange(series + 1), np.arange(series, dtype=np.int32)
        pages = self.histogram_pages
        sums = added_up(facts, itself, self.histogram_rows, merged.stages, pages, self.table)
        if pages.many > len(self.histograms):
            larger = np.zeros((2 * pages.many, PER_OCTAVE), np.int64)
            larger[: len(self.histograms)] = self.histograms
            self.histograms = larger
        add_sums(sums, self.histograms.reshape(-1), 1)

    def _view(self, arrivals_in_slice: NDArray[np.int64]) -> WindowView:
        stacked = np.empty((self.counts.rows, len(WINDOWS), COLUMNS), np.int64)
        for window in range(len(WINDOWS)):
            stacked[:, window] = self.counts.table(window)
        latency_row, latency_stage = self.latency_rows.columns()
        return WindowView(
            labels=tuple(self.index.row_labels),
            arrivals_in_slice=arrivals_in_slice,
            arrivals=stacked[:, :, ARRIVALS],
            ended=stacked[:, :, ENDED],
            errors=stacked[:, :, ERRORS],
            declined=stacked[:, :, DECLINED],
            latency_row=latency_row,
            latency_stage=latency_stage,
        )

    def latency_quantiles(self) -> LatencyQuantiles:
        """Give the quantiles of every latency row, as the windows are now."""
        return self.quantiles.of_all(len(self.latency_rows.pairs))

    def latency_quantile_s(self, row: int, stage: str, window: int, rank: float) -> float:
        """Give one quantile of a stage in a window row, as windows are now; NaN if nothing was measured."""
        return self.quantiles.of_row(self.latency_rows.number_of(row, stage), window, rank)

    def empty_view(self) -> WindowView:
        """Give the windows before the first slice."""
        return self._view(np.zeros(self.counts.rows, np.int64))

    def histogram_family(self, labels: tuple[str, ...]) -> HistogramFamily:
        """Copy the latency histograms since the start, for export.

        `labels` are the names of the series labels.
        """
        known = self._histogram_values
        fresh = self.histogram_rows.pairs[len(known) :]
        given = [dict(self.index.series[series]) for series, _ in fresh]
        self._histogram_values = known + tuple(
            (*(one.get(label, "") for label in labels), stage)
            for one, (_, stage) in zip(given, fresh, strict=True)
        )
        self.histogram_pages.grow(len(self.histogram_rows.pairs))
        return HistogramFamily(
            labels=(*labels, "stage"),
            values=self._histogram_values,
            page_of=self.histogram_pages.page_of[: len(self._histogram_values)].copy(),
            pages=self.histograms[: self.histogram_pages.many].copy(),
            sum_us=self.sums_us.copy(),
        )
