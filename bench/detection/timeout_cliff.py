"""How many failures pass until a timeout is told, and how long before the first one is it told.

Failures last as a lognormal law of median 8 s says, and a share of them ends at 15.0 s with a jitter of 20
ms: the case of detection.md 1f. The level is that of a full table of 256 timing rows under the usual budget,
also where one row is shown. Creeping set-ups are cut at 15 s; the lead is from the warning to the first cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.detection.labelled_slices import Failures, LabelledSlices, Latencies
from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_least, at_most, digest_of
from detectors.timeout_cliff import TimeoutCliff
from engine.judge.detection import CRITICAL, WARNING
from engine.limits import Limit, LimitInstance
from engine.observe.latency import bucket_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SEED = 20_260_604
ROWS_MAX = 256
ATOM_S, JITTER_S = 15.0, 0.02
MEDIAN_S, SIGMA = 8.0, 0.8
ASKED = ((1.0, 7.0), (0.3, 23.0), (0.1, 83.0), (0.05, 0.0))  # share of the atom, failures; 0: not asked
RUNS = {TINY: 2, SMOKE: 200, FULL: 1000}
FAILURES_MAX = {TINY: 150, SMOKE: 1000, FULL: 1000}
SERIES = {TINY: 3, SMOKE: 60, FULL: 240}
OF_EACH = {TINY: 200, SMOKE: 4000, FULL: 4000}
PER_SLICE = 20
CREEPS = {TINY: 1, SMOKE: 10, FULL: 40}
CALLS_PER_MINUTE = 60.0
QUIET_HOURS = {TINY: 1.0, SMOKE: 24.0, FULL: 72.0}
GATEWAY = LimitInstance(0, Limit(name="gateway", kind="timeout", value=ATOM_S, stage="setup"))


class Creep(NamedTuple):
    """Median set-up time from `from_s` to `to_s` within `minutes`, after an hour of peace."""

    from_s: float
    to_s: float
    minutes: float
    sigma: float


KINDS = (Creep(5.0, 13.0, 30.0, 0.1), Creep(3.0, 13.0, 60.0, 0.15), Creep(8.0, 14.0, 180.0, 0.1))


def smooth(rng: np.random.Generator, many: int) -> NDArray[np.float64]:
    """Give durations without an atom."""
    return np.asarray(MEDIAN_S * np.exp(SIGMA * rng.standard_normal(many)))


def half_rounded(rng: np.random.Generator, many: int) -> NDArray[np.float64]:
    """Give durations of which every other one is rounded to seconds."""
    lasted = smooth(rng, many)
    return np.where(rng.random(many) < 0.5, np.round(lasted), lasted)


def failures_needed(rng: np.random.Generator, share: float, many: int) -> float:
    """Give how many failures pass until the atom is told; inf: never."""
    is_cut = rng.random(many) < share
    lasted = np.where(is_cut, ATOM_S + rng.exponential(JITTER_S, many), smooth(rng, many))
    writer = LabelledSlices([()], timings=[(0, "setup")])
    detector = TimeoutCliff(1.0 / ROWS_MAX)
    state = detector.new_state()
    for at in range(many):
        failed = Failures(np.zeros(1, np.int64), lasted[at : at + 1])
        detection = detector.detect(state, writer.write(failures=failed), ())
        state = detection.state
        if detection.findings:
            return at + 1.0
    return float("inf")


def false_alarms(size: str, durations: Callable[[int], NDArray[np.float64]]) -> int:
    """Count the series in which something is told; all are watched together."""
    series = SERIES[size]
    labels = [(), *((("tenant", f"t{number}"),) for number in range(series))]
    writer = LabelledSlices(labels, timings=[(row, "setup") for row in range(1, series + 1)])
    detector = TimeoutCliff(1.0)
    state = detector.new_state()
    told = set()
    row = np.repeat(np.arange(series), PER_SLICE)
    for _ in range(OF_EACH[size] // PER_SLICE):
        detection = detector.detect(
            state, writer.write(failures=Failures(row, durations(series * PER_SLICE))), ()
        )
        state = detection.state
        told |= {one.subject for one in detection.findings}
    return len(told)


def leads_min(
    rng: np.random.Generator, creep: Creep, limits: tuple[LimitInstance, ...]
) -> tuple[float, float]:
    """Give the minutes from the warning, and from the critical alert, to the first call that is cut.

    Negative: after it; -inf: never.
    """
    writer = LabelledSlices([()], timings=[(0, "setup")], stages=[(0, "setup")], limits=limits)
    detector = TimeoutCliff()
    state = detector.new_state()
    told: dict[str, float] = {}
    first_cut = np.inf
    minute, slices = 0.0, 0
    while minute < first_cut + 60.0 and CRITICAL not in told and minute < 60.0 + 2.0 * creep.minutes:
        minute = slices / 12.0
        slices += 1
        through = np.clip((minute - 60.0) / creep.minutes, 0.0, 1.0)
        median = creep.from_s * (creep.to_s / creep.from_s) ** through
        taken = median * np.exp(creep.sigma * rng.standard_normal(rng.poisson(CALLS_PER_MINUTE / 12.0)))
        is_cut = taken >= ATOM_S
        if is_cut.any():
            first_cut = min(first_cut, minute)
        told_now, state = show(detector, state, writer, (rng, taken, is_cut), limits)
        for severity in told_now:
            told.setdefault(severity, minute)
    return first_cut - told.get(WARNING, np.inf), first_cut - told.get(CRITICAL, np.inf)


def show(
    detector: TimeoutCliff,
    state: Any,
    writer: LabelledSlices,
    calls: tuple[np.random.Generator, NDArray[np.float64], NDArray[np.bool_]],
    limits: tuple[LimitInstance, ...],
) -> tuple[list[str], Any]:
    """Show the set-ups of a slice, of which some are cut; give the severities that are told."""
    rng, taken, is_cut = calls
    buckets = np.array([bucket_number(one) for one in taken[~is_cut].tolist()], np.int64)
    cut = int(is_cut.sum())
    summary = writer.write(
        np.array([len(taken)]),
        np.array([cut]),
        Failures(np.zeros(cut, np.int64), ATOM_S + rng.exponential(JITTER_S, cut)),
        Latencies(np.zeros(len(buckets), np.int64), buckets),
    )
    detection = detector.detect(state, summary, limits)
    return [one.severity for one in detection.findings], detection.state


def false_warnings(
    rng: np.random.Generator, hours: float, median_at: Callable[[float], float], sigma: float
) -> int:
    """Count the times at which warnings begin, while latency lives its usual life below the wall."""
    limits = (GATEWAY,)
    writer = LabelledSlices([()], timings=[(0, "setup")], stages=[(0, "setup")], limits=limits)
    detector = TimeoutCliff()
    state = detector.new_state()
    began, was_told = 0, False
    for number in range(int(hours * 720)):
        median = median_at(number / 720.0)
        taken = median * np.exp(sigma * rng.standard_normal(rng.poisson(CALLS_PER_MINUTE / 12.0)))
        told, state = show(detector, state, writer, (rng, taken, np.zeros(len(taken), np.bool_)), limits)
        began += bool(told) and not was_told
        was_told = bool(told)
    return began


def minutes_on_phase(rng: np.random.Generator, cycle_s: int) -> float:
    """Give how long failures of ten seconds in every cycle go on until it is told; inf: never."""
    writer = LabelledSlices([()])
    detector = TimeoutCliff(1.0 / ROWS_MAX)
    state = detector.new_state()
    begins_s = int(rng.integers(0, cycle_s // 5)) * 5
    for number in range(12 * cycle_s // 5 * 3):
        ended = rng.poisson(5.0, 1)
        is_bad = (number * 5 - begins_s) % cycle_s < 10
        errors = ended if is_bad else rng.binomial(ended, 0.02)
        detection = detector.detect(state, writer.write(ended, errors), ())
        state = detection.state
        if detection.findings:
            return number / 12.0
    return float("inf")


def run(size: str) -> Result:
    """Measure all of it."""
    rng = np.random.default_rng(SEED)
    rows: list[Row] = []
    figures: list[float] = []
    for share, asked in ASKED:
        needed = [failures_needed(rng, share, FAILURES_MAX[size]) for _ in range(RUNS[size])]
        value = float(np.median(needed))
        what = f"failures until an atom of {share:.0%} at 15.0 s is told, median of {RUNS[size]}"
        shown = f"{value:.0f} (90 % of runs: {np.quantile(needed, 0.9, method='higher'):.0f})"
        rows.append(at_most(what, value, asked, "failures", measured=shown) if asked else Row(what, shown))
        figures.append(value)
    many = SERIES[size] * OF_EACH[size]
    for name, durations in (
        ("as they are", lambda n: smooth(rng, n)),
        ("rounded to 100 ms", lambda n: np.round(smooth(rng, n), 1)),
        ("rounded to seconds", lambda n: np.round(smooth(rng, n))),
        ("rounded up to 5 s", lambda n: 5.0 * np.ceil(smooth(rng, n) / 5.0)),
        ("half of them rounded to seconds", lambda n: half_rounded(rng, n)),
    ):  # fmt: skip
        found = false_alarms(size, durations)
        rows.append(at_most(f"false alarms in {many:,} failures, durations {name}", found, 0, "series"))
        figures.append(found)
    for creep in KINDS[: 1 if size == TINY else len(KINDS)]:
        leads = np.array([leads_min(rng, creep, (GATEWAY,)) for _ in range(CREEPS[size])])
        what = f"set-ups from {creep.from_s:g} to {creep.to_s:g} s within {creep.minutes:g} min, wall at 15 s"
        shown = f"{np.median(leads[:, 0]):.0f} min (least {leads[:, 0].min():.0f})"
        rows.append(
            at_least(
                f"{what}: warning before the first cut", np.median(leads[:, 0]), 1.0, "min", measured=shown
            )
        )
        rows.append(Row(f"{what}: critical after it", f"{-np.median(leads[:, 1]):.1f} min"))
        figures += [float(one) for one in np.median(leads, axis=0)]
    for cycle_s in (60, 300, 3600)[: 1 if size == TINY else 3]:
        minutes = [minutes_on_phase(rng, cycle_s) for _ in range(CREEPS[size])]
        what = f"ten seconds of failures every {cycle_s} s, among others at random: told after, median"
        rows.append(Row(what, f"{np.median(minutes):.0f} min (most {max(minutes):.0f})"))
        figures.append(float(np.median(minutes)))
    for name, median_at, sigma in (
        ("steady at 5 s", lambda _: 5.0, 0.25),
        ("between 3 and 5 s over the day", lambda hour: 4.0 - np.cos(hour * np.pi / 12.0), 0.2),
        ("up from 5 to 7 s and back every three hours", lambda hour: 5.0 + 2.0 * (hour % 6.0 >= 3.0), 0.15),
    ):
        found = false_warnings(rng, QUIET_HOURS[size], median_at, sigma)
        rows.append(at_most(f"warnings in {QUIET_HOURS[size]:g} h of set-ups {name}", found, 0, "warnings"))
        figures.append(found)
    return Result(tuple(rows), SEED, digest_of(figures))


BENCHMARK = Benchmark(
    "timeout_cliff", "How many failures until a timeout is told, how long before the first?", run
)
