"""From a merged summary to the facts of its slice: names become rows, and causes what they mean.

Timing rows, score rows and dependencies are numbered in order of appearance and never renumbered. Of what
comes late, scores and calls of dependencies are here (late.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.decode.events import DEPENDENCY as DEPENDENCY_PREFIX
from engine.decode.events import TRANSFER as TRANSFER_OPERATION
from engine.decode.stages import METRIC
from engine.judge.declines import LIMIT_CLASSES, TIMEOUT
from engine.judge.facts import (
    CALL,
    SETUP,
    TRANSFER,
    DependencyUse,
    FailureDurations,
    SliceFacts,
    SliceScores,
)
from engine.judge.measures import DECLINED, EMPTY_I4, EMPTY_I8, ENDED, ERRORS
from engine.judge.sparse import scatter_add
from engine.judge.spread import spread_over_rows
from engine.judge.stage_rows import StageRows
from engine.limits import OTHER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.decode.events import Cause
    from engine.judge.declines import Classifier
    from engine.judge.measures import Newest
    from engine.judge.series import SeriesIndex
    from engine.observe.summary import SliceSummary

DEPENDENCIES_MAX = 64  # names; the last one is `__other__`
HUNG_UP = frozenset(("abandoned", "canceled"))
POLICIES = {"open": 1, "closed": 2}


class Meaning(NamedTuple):
    """What a cause says of a dependency."""

    is_failed: bool
    is_timeout: bool
    is_throttled: bool


class Slice(NamedTuple):
    """A slice over all partitions."""

    merged: SliceSummary | None  # None: without events
    ids: NDArray[np.int32]  # (series of `merged`,): their numbers in the index


class FactRows:
    """Numbers the rows of slice facts, and gathers the facts."""

    def __init__(self, index: SeriesIndex) -> None:
        """Start without rows; `index` numbers the window rows and is shared with the roller."""
        self.index = index
        self.timings = StageRows()
        self.scores = StageRows()
        self.dependencies: list[str] = []
        self.dependencies_refused = 0  # times that a name fell to `__other__`

    def gather(self, own: Slice, told: Slice, newest: Newest, classifier: Classifier) -> SliceFacts:
        """Give the facts of a slice: of its own events, or of those that are told with it, late ones too."""
        return SliceFacts(
            ended=newest.counts[ENDED],
            errors=newest.counts[ERRORS],
            declined=newest.counts[DECLINED],
            latency=newest.latency,
            failures=self._failures(own.merged, own.ids, classifier),
            scores=self._scores(told.merged, told.ids),
            dependencies=self._dependencies(told.merged, classifier),
        )

    def _failures(
        self, merged: SliceSummary | None, ids: NDArray[np.int32], classifier: Classifier
    ) -> FailureDurations:
        if merged is None or not len(merged.failure_series):
            return FailureDurations(*self.timings.columns(), EMPTY_I4, EMPTY_I4, EMPTY_I8)
        is_error = np.array([classifier.is_error(one) for one in merged.causes], np.bool_)
        answered = merged.failure_answered.astype(np.int64)
        places: dict[str, int] = {}
        place_of = np.zeros((len(merged.causes), 2), np.int16)
        for cause in np.unique(merged.failure_cause).tolist():
            for column, name in enumerate(self._operations(merged.causes[cause])):
                place_of[cause, column] = places.setdefault(name, len(places))
        keep = is_error[merged.failure_cause]
        rows = self.index.rows.arrays()
        spread = spread_over_rows(rows.start, rows.instance, ids[merged.failure_series[keep]])
        place = place_of[merged.failure_cause[keep], answered[keep]]
        row = self.timings.ids(spread.row, place[spread.item], tuple(places)).astype(np.int32)
        timing_row, operation = self.timings.columns()
        return FailureDurations(
            timing_row,
            operation,
            row,
            merged.failure_bin[keep][spread.item],
            merged.failure_count[keep][spread.item],
        )

    def _operations(self, cause: Cause) -> tuple[str, str]:
        """Name what failed: unless the call was answered, and if it was."""
        if not cause.operation:
            return SETUP, CALL
        if cause.operation == TRANSFER_OPERATION:
            return TRANSFER, TRANSFER
        name = DEPENDENCY_PREFIX + self.dependencies[self._dependency(cause)]
        return name, name

    def _scores(self, merged: SliceSummary | None, ids: NDArray[np.int32]) -> SliceScores:
        if merged is None or not len(merged.score_series):
            return SliceScores(*self.scores.columns(), EMPTY_I4, EMPTY_I4, EMPTY_I8)
        rows = self.index.rows.arrays()
        spread = spread_over_rows(rows.start, rows.instance, ids[merged.score_series])
        metrics = tuple(name.removeprefix(METRIC) for name in merged.stages)
        row = self.scores.ids(spread.row, merged.score_stage[spread.item], metrics).astype(np.int32)
        score_row, metric = self.scores.columns()
        return SliceScores(
            score_row,
            metric,
            row,
            merged.score_bin[spread.item].astype(np.int32),
            merged.score_count[spread.item],
        )

    def _dependency(self, cause: Cause) -> int:
        """Give the number of what a cause is of; a name is taken up when it is first seen."""
        name = cause.operation.removeprefix(DEPENDENCY_PREFIX) or OTHER
        if name not in self.dependencies:
            if len(self.dependencies) >= DEPENDENCIES_MAX - 1 and name != OTHER:
                name = OTHER
                self.dependencies_refused += 1
            if name not in self.dependencies:
                self.dependencies.append(name)
        return self.dependencies.index(name)

    def _dependencies(self, merged: SliceSummary | None, classifier: Classifier) -> DependencyUse:
        if merged is None or not (len(merged.side_series) or len(merged.caller_series)):
            return self._nothing_called()
        counted = np.zeros(len(merged.causes), np.int64)
        scatter_add(counted, merged.side_cause, merged.side_count, 1)
        wanted = np.union1d(np.flatnonzero(counted), merged.caller_cause).tolist()
        numbers = {cause: self._dependency(merged.causes[cause]) for cause in wanted}
        use = self._nothing_called()
        for cause in np.flatnonzero(counted).tolist():
            self._add(use, numbers[cause], merged.causes[cause], int(counted[cause]), classifier)
        callers = zip(
            merged.caller_cause.tolist(), merged.caller_end.tolist(), merged.caller_count, strict=True
        )
        for cause, end, many in callers:
            row, ended = numbers[cause], merged.causes[end]
            use.callers[row] += many
            use.callers_failed[row] += many * classifier.is_error(ended)
            use.callers_hung_up[row] += many * (ended.outcome in HUNG_UP)
        return use

    def _add(self, use: DependencyUse, row: int, cause: Cause, many: int, classifier: Classifier) -> None:
        meaning = meaning_of(cause, classifier)
        use.calls[row] += many
        use.failed[row] += many * meaning.is_failed
        use.timeouts[row] += many * meaning.is_timeout
        use.throttled[row] += many * meaning.is_throttled
        if meaning.is_failed or meaning.is_throttled:
            use.opened[row] += many * (cause.fallback == "open")
            use.closed[row] += many * (cause.fallback == "closed")

    def _nothing_called(self) -> DependencyUse:
        known: dict[str, int] = {}
        if self.dependencies:
            known = {one.name: POLICIES.get(one.on_check_error, 0) for one in self.index.register.guardrails}
        policy = np.array([known.get(name, 0) for name in self.dependencies], np.int8)
        rows = np.zeros((9, len(self.dependencies)), np.int64)
        return DependencyUse(
            name=tuple(self.dependencies),
            calls=rows[0],
            failed=rows[1],
            timeouts=rows[2],
            throttled=rows[3],
            opened=rows[4],
            closed=rows[5],
            policy=policy,
            callers=rows[6],
            callers_failed=rows[7],
            callers_hung_up=rows[8],
        )


def meaning_of(cause: Cause, classifier: Classifier) -> Meaning:
    """Say what an end of a transfer or of a dependency's call means."""
    decline_class = classifier.classify(cause)
    is_throttled = cause.outcome == "throttled" or decline_class in LIMIT_CLASSES
    is_failed = not is_throttled and classifier.is_error(cause)
    is_timeout = is_failed and (cause.outcome == "timeout" or decline_class == TIMEOUT)
    return Meaning(is_failed, is_timeout, is_throttled)
