"""Does the error budget page only for burns? Healthy series by the month, true burns beside the plain rule.

Series are Poisson in attempts and binomial in errors, a label value each; all are watched together
and share one budget of false pages. The plain rule is the one of the workbook: both windows of a pair above
their factor, nothing else. A page counts when the alert begins to fire after an hour of silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.detection.labelled_slices import LabelledSlices
from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_most, digest_of
from detectors.error_burn import ErrorBurn
from engine.judge.detection import CRITICAL
from engine.settings import DetectionSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 20_260_603
RATES = (0.2, 1.0, 10.0, 100.0)  # attempts a minute
OBJECTIVES = (0.99, 0.999)
DAYS = {TINY: 0.5, SMOKE: 30.0, FULL: 30.0}
SERIES = {TINY: 2, SMOKE: 10, FULL: 40}  # of each rate
SLICE_S = 60.0
QUIET = 60  # slices without, after which the next is a page of its own
# Attempts a minute, share of errors, and how many minutes later than the plain rule a page may be.
BURNS = (
    (0.2, 1.0, 15.0),
    (1.0, 0.2, 1.0),
    (1.0, 1.0, 1.0),
    (10.0, 0.1, 1.0),
    (10.0, 0.3, 1.0),
    (100.0, 0.2, 1.0),
)
RUNS = {TINY: 2, SMOKE: 20, FULL: 60}
ROUGH_NS = {TINY: 40, SMOKE: 360, FULL: 360}  # minutes of the burn
BEFORE = 120  # minutes of health before it


class Watched(NamedTuple):
    """Pages by slice and series (bool), of the detector and of the plain rule."""

    ours: NDArray[np.bool_]
    plain: NDArray[np.bool_]


def watch(ended: NDArray[np.int64], errors: NDArray[np.int64], objective: float) -> Watched:
    """Show (slices, series) to the detector, each series a tenant, without their total."""
    slices, series = ended.shape
    labels = [(), *((("tenant", f"t{number}"),) for number in range(series))]
    writer = LabelledSlices(labels, SLICE_S)
    detector = ErrorBurn(DetectionSettings(error_objective_ratio=objective))
    # Every one is asked for by itself: a page that another row speaks for would not be seen here.
    detector.params = detector.params._replace(findings_max=series)
    state = detector.new_state()
    ours = np.zeros((slices, series), np.bool_)
    zero = np.zeros(1, np.int64)
    for at in range(slices):
        summary = writer.write(np.concatenate([zero, ended[at]]), np.concatenate([zero, errors[at]]))
        detection = detector.detect(state, summary, ())
        state = detection.state
        for finding in detection.findings:
            if finding.severity == CRITICAL:
                ours[at, finding.subject[1] - 1] = True
    return Watched(ours, plain_rule(ended, errors, 1.0 - objective))


def plain_rule(ended: NDArray[np.int64], errors: NDArray[np.int64], budget: float) -> NDArray[np.bool_]:
    """Give where the pages of the workbook burn: 14.4 over 1 h and 5 min, or 6 over 6 h and 30 min."""

    def ratio(minutes: int) -> NDArray[np.float64]:
        sums = [np.cumsum(np.vstack([np.zeros((1, one.shape[1]), np.int64), one]), axis=0)
                for one in (errors, ended)]  # fmt: skip
        at = np.arange(1, len(ended) + 1)
        wrong, of = (one[at] - one[np.maximum(at - minutes, 0)] for one in sums)
        return np.asarray(wrong / np.maximum(of, 1))

    fast = (ratio(60) > 14.4 * budget) & (ratio(5) > 14.4 * budget)
    return fast | ((ratio(360) > 6 * budget) & (ratio(30) > 6 * budget))


def pages(burning: NDArray[np.bool_]) -> int:
    """Count the pages of all series."""
    many = 0
    for series in burning.T:
        at = np.flatnonzero(series)
        many += int(len(at) > 0) + int(np.count_nonzero(np.diff(at) > QUIET))
    return many


def healthy(size: str, rng: np.random.Generator) -> tuple[list[Row], list[int]]:
    """Give series that fail half as often as they may."""
    rows, counts = [], []
    slices = int(DAYS[size] * 1440)
    rate = np.repeat(RATES, SERIES[size])
    for objective in OBJECTIVES:
        ended = rng.poisson(rate, (slices, len(rate)))
        errors = rng.binomial(ended, 0.5 * (1.0 - objective))
        found = watch(ended, errors, objective)
        for number, one in enumerate(RATES):
            series = slice(number * SERIES[size], (number + 1) * SERIES[size])
            ours, plain = pages(found.ours[:, series]), pages(found.plain[:, series])
            shown = f"{ours} (plain rule: {plain / SERIES[size]:.1f} a series)"
            what = (
                f"pages of {SERIES[size]} healthy series in {DAYS[size]:g} days, objective "
                f"{objective:.1%}, {one:g} a minute"
            )
            rows.append(at_most(what, ours, 0, "pages", measured=shown))
            counts += [ours, plain]
    return rows, counts


def burning(size: str, rng: np.random.Generator) -> tuple[list[Row], list[float]]:
    """Give series that begin to fail, and say how soon each way pages."""
    rows: list[Row] = []
    delays: list[float] = []
    slices = BEFORE + ROUGH_NS[size]
    for rate, ratio, later_max in BURNS:
        ended = rng.poisson(rate, (slices, RUNS[size]))
        share = np.where(np.arange(slices) < BEFORE, 0.005, ratio)[:, None]
        found = watch(ended, rng.binomial(ended, share), 0.99)
        ours, plain = (
            np.where(one[BEFORE:].any(axis=0), one[BEFORE:].argmax(axis=0) + 1.0, np.inf)
            for one in (found.ours, found.plain)
        )
        later = float(np.median(ours) - np.median(plain)) if np.isfinite(np.median(ours)) else np.inf
        shown = f"{later:.0f} min (page after {np.median(ours):.0f} min)"
        what = f"{ratio:.0%} failing at {rate:g} a minute, objective 99 %: later than the plain rule, median"
        rows.append(at_most(what, later, later_max, "min", measured=shown))
        delays.append(later)
    return rows, delays


def run(size: str) -> Result:
    """Measure both."""
    rng = np.random.default_rng(SEED)
    quiet, counts = healthy(size, rng)
    rough, delays = burning(size, rng)
    note = (
        "The plain rule pages a few minutes sooner where so few calls have failed that chance does the same "
        "somewhere among all series: the evidence waits for more."
    )
    return Result((*quiet, *rough), SEED, digest_of(counts, delays), (note,))


BENCHMARK = Benchmark("error_burn", "Does the error budget page only for burns?", run)
