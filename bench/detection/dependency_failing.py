"""How soon a failing dependency is paged, and how often a healthy one.

The detector itself looks at many dependencies at a time, each called 1, 10 or 60 times a minute: a month in
which each fails as often as is usual for it (0.5 %, 2 % or 10 %), and outages after an hour of health. Delays
are from the first failing slice, five seconds each; the month is looked at every 15 s, the longest slice that
there is, since its length only counts the looks. False pages are budgeted over all dependencies together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.harness import FULL, MET, MISSED, SMOKE, TINY, Benchmark, Result, Row, digest_of
from detectors.dependency_failing import DependencyFailing, followed
from detectors.sequential import log_alarm_level
from engine.judge.facts import DependencyUse

SEED = 20_261_127
NS = 1_000_000_000
CALLS_PER_MIN = (1.0, 10.0, 60.0)
USUAL = (0.005, 0.02, 0.1)
EACH = {TINY: 2, SMOKE: 10, FULL: 10}  # dependencies of a kind
DAYS = {TINY: 0.05, SMOKE: 30.0, FULL: 30.0}
TRIALS = {TINY: 10, SMOKE: 200, FULL: 500}
OUTAGES = (1.0, 0.5, 0.2)
OUTAGE_USUAL, HEALTHY_MIN, OUTAGE_MIN = 0.005, 60, 30
LONG_SLICE_S, SLICE_S = 15, 5
BATCH = 2000  # slices drawn at a time
ONE_MINUTE = 1.0
# An outage of a dependency that is called ten times a minute is paged within a minute.
ASKED = {(10.0, 1.0): ONE_MINUTE, (60.0, 1.0): ONE_MINUTE}


class Watched(NamedTuple):
    """What the detector said of many dependencies."""

    alarmed: np.ndarray  # (slices, dependencies), whether a finding stood
    delays_min: np.ndarray  # (dependencies,) from the first slice to the first finding; inf: none


def use_of(calls: np.ndarray, failed: np.ndarray) -> DependencyUse:
    """Say what was called in a slice."""
    none = np.zeros(len(calls), np.int64)
    names = tuple(map(str, range(len(calls))))
    return DependencyUse(names, calls, failed, none, none, none, none, none.astype(np.int8), none, none, none)


def watch(calls_per_min: np.ndarray, failed: np.ndarray, slice_s: int, rng: np.random.Generator) -> Watched:
    """Show slices to the detector; `failed` (slices, dependencies) is the ratio."""
    detector, slices, count = DependencyFailing(), len(failed), len(calls_per_min)
    state = followed(detector.new_state(), count)
    level = log_alarm_level(2 * count, slice_s, detector.pages_per_week)
    alarmed = np.zeros((slices, count), np.bool_)
    for first in range(0, slices, BATCH):
        part = failed[first : first + BATCH]
        drawn = rng.poisson(calls_per_min * slice_s / 60, part.shape)
        bad = rng.binomial(drawn, part)
        for offset in range(len(part)):
            start_ns = (first + offset) * slice_s * NS
            span_ns = start_ns, start_ns + slice_s * NS
            state = detector.advanced(state, use_of(drawn[offset], bad[offset]), span_ns, level)
            alarmed[first + offset] = state.is_alarmed.any(axis=1)
    first_alarm = np.where(alarmed.any(axis=0), alarmed.argmax(axis=0) + 1.0, np.inf)
    return Watched(alarmed, first_alarm * slice_s / 60)


def false_pages(size: str, rng: np.random.Generator) -> tuple[int, int, float]:
    """Give false pages, dependencies and days of a healthy month."""
    kinds = [(rate, usual) for rate in CALLS_PER_MIN for usual in USUAL] * EACH[size]
    rates, usual = np.array([one[0] for one in kinds]), np.array([one[1] for one in kinds])
    slices = int(DAYS[size] * 86_400 / LONG_SLICE_S)
    said = watch(rates, np.broadcast_to(usual, (slices, len(kinds))), LONG_SLICE_S, rng).alarmed
    begins = said[1:] & ~said[:-1]
    return int(begins.sum() + said[0].sum()), len(kinds), DAYS[size]


def outage(rate: float, failed: float, trials: int, rng: np.random.Generator) -> np.ndarray:
    """Give the delays, in minutes, of outages after an hour of health."""
    before, after = HEALTHY_MIN * 60 // SLICE_S, OUTAGE_MIN * 60 // SLICE_S
    ratio = np.full((before + after, trials), OUTAGE_USUAL)
    ratio[before:] = failed
    said = watch(np.full(trials, rate), ratio, SLICE_S, rng).alarmed[before:]
    return np.where(said.any(axis=0), (said.argmax(axis=0) + 1) * SLICE_S / 60, np.inf)


def run(size: str) -> Result:
    """Watch a healthy month, then outages."""
    rng = np.random.default_rng(SEED)
    pages, many, days = false_pages(size, rng)
    budget = DependencyFailing().pages_per_week * max(days, 7.0) / 7.0
    rows = [
        Row(
            f"false pages, {many} healthy dependencies, {days:g} days",
            f"{pages}",
            f"at most {budget:.2g} on average",
            MET if pages <= max(budget, 1.0) else MISSED,
        )
    ]
    computed: list[object] = [pages]
    for rate in CALLS_PER_MIN:
        for failed in OUTAGES:
            delays = outage(rate, failed, TRIALS[size], rng)
            middle, late = np.quantile(delays, [0.5, 0.9], method="higher")
            asked = ASKED.get((rate, failed))
            rows.append(
                Row(
                    f"{rate:g} calls a minute, {100 * failed:g} % fail: paged after",
                    f"{middle:.1f} min (one in ten later than {late:.1f})",
                    f"at most {asked:g} min" if asked else "",
                    "" if asked is None else MET if middle <= asked else MISSED,
                )
            )
            computed += [round(float(middle), 3), round(float(late), 3)]
    notes = (
        f"{TRIALS[size]} outages a row, all of them watched together, so each has the level of that many.",
    )
    return Result(tuple(rows), SEED, digest_of(computed), notes)


BENCHMARK = Benchmark(
    "dependency_failing", "How soon is a failing dependency paged, and how often is a healthy one?", run
)
