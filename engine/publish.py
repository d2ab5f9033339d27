"""A step ends by publishing an immutable picture of the engine.

HTTP, metrics and delivery read nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.errors import LossReason
from engine.judge.bounds import bounds_met
from engine.judge.measures import TOTALS
from engine.judge.snapshot import Snapshot
from engine.judge.statuses import Statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.pipeline import Pipeline

LOSS_NAMES = tuple(reason.name.lower() for reason in LossReason)
COUNTER_NAMES = {
    "STARTED": "calls_started",
    "ANSWERED": "calls_answered",
    "ENDED": "calls_ended",
    "DECLINED": "calls_declined",
}


Pairs = tuple[tuple[str, int], ...]


class MadeOnce:
    """Makes something that is never written of a value, and anew only when the value has changed."""

    def __init__(self, make: Callable[[Any], Pairs]) -> None:
        self._make = make
        self._value: Any = None
        self._made: Pairs = ()

    def of(self, value: Any) -> Pairs:
        """Give what is made of a value, which nobody changes after that."""
        if value != self._value:
            self._value, self._made = value, self._make(value)
        return self._made


class Publisher:
    """Makes snapshots of one pipeline; call it from the thread that steps the pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Read from `pipeline`."""
        self.pipeline = pipeline
        self.statuses = Statuses(pipeline.judge)
        self._last: Snapshot | None = None
        self._slices = -1
        self._lost = MadeOnce(lambda numbers: tuple(zip(LOSS_NAMES, numbers, strict=True)))
        self._ignored, self._healed = (MadeOnce(lambda one: tuple(sorted(one.items()))) for _ in range(2))
        self._label_sets: tuple[tuple[tuple[str, str], ...], ...] = ()
        self._lost_before: tuple[tuple[str, int], ...] = ()

    def note_restored_losses(self) -> None:
        """Keep what the checkpoint says was lost, once the pipeline is restored and before its first step."""
        self._lost_before = self._losses()

    def publish(self, received_ns: int) -> Snapshot:
        """Give the picture after a step; what only changes with a slice is copied only then."""
        decoder, observer, judge = self.pipeline.decoder, self.pipeline.observer, self.pipeline.judge
        roller = judge.roller
        if self._last is None or self._slices != roller.slices_closed:
            self._slices = roller.slices_closed
            self._last = self._of_slice()
        return self._last._replace(
            watermark_ns=observer.watermark_ns,
            received_ns=received_ns,
            rows_read=decoder.rows_read,
            rows_absorbed=observer.rows_absorbed,
            rows_lost=self._losses(),
            rows_lost_before=self._lost_before,
            rows_amended=observer.rows_amended,
            rows_clock_ahead=observer.rows_clock_ahead,
            calls_in_flight=observer.calls_in_flight,
            series_collapsed=decoder.series.rows_collapsed,
            causes_collapsed=decoder.causes.rows_collapsed,
            measures_collapsed=decoder.stages.measures_collapsed,
            fields_ignored=self._ignored.of(dict(decoder.fields_ignored)),
            alerts_refused=judge.book.refused,
            in_flight_healed=self._healed.of(observer.healed),
            bounds_met=(*self._last.bounds_met, *observer.bounds_met),
        )

    def _losses(self) -> tuple[tuple[str, int], ...]:
        losses = self.pipeline.decoder.losses + self.pipeline.observer.losses
        return self._lost.of(losses.tolist())

    def _of_slice(self) -> Snapshot:
        judge = self.pipeline.judge
        roller, alerts = judge.roller, judge.book.alerts()
        measures = roller.measures
        names = self.pipeline.decoder.series.labels
        counters = [
            (COUNTER_NAMES[column.name], measures.totals[:, place].copy())
            for place, column in enumerate(TOTALS)
        ]
        counters.append(("call_errors", measures.errors_total.copy()))
        windows = judge.last.summary.windows if judge.last else roller.measures.empty_view()
        return Snapshot(
            watermark_ns=-1,
            received_ns=-1,
            rows_read=0,
            rows_absorbed=0,
            rows_lost=(),
            rows_amended=0,
            rows_clock_ahead=0,
            calls_in_flight=0,
            series=len(roller.index.series),
            series_collapsed=0,
            causes_collapsed=0,
            measures_collapsed=0,
            fields_ignored=(),
            alerts_refused=0,
            bounds_met=bounds_met(judge),
            slices_closed=roller.slices_closed,
            in_flight_healed=(),
            limits=self.statuses.rows(alerts),
            windows=windows,
            quantiles=measures.latency_quantiles(),
            latency=measures.histogram_family(names),
            arrivals_total=self._labels_of(len(measures.totals)),
            counters=tuple(counters),
            alerts=alerts,
            releases=judge.bank.verdicts,
        )

    def _labels_of(self, series: int) -> tuple[tuple[tuple[str, str], ...], ...]:
        """Give all labels of the first so many series, which are only ever added."""
        names = self.pipeline.decoder.series.labels
        fresh = self.pipeline.judge.roller.index.series[len(self._label_sets) : series]
        if fresh:
            given = [dict(labels) for labels in fresh]
            self._label_sets += tuple(tuple((name, one.get(name, "")) for name in names) for one in given)
        return self._label_sets
