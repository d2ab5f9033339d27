"""How soon is a slower stage told, and how often is one that only varies? Against a rule on p99.

60 values a minute, lognormal (sigma 0.6), one row at a level of one page a week. The figures that are asked
are those of detection.md 1e, whose reference was exact; here it is what was seen before: eight hours, or one
where it says so. Slow values are its own: twice or three times as long, and three medians more. The rule that
many use beside it: p99 of five minutes above 1.5 times the usual, twice in a row.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.detection.labelled_slices import LabelledSlices, Latencies
from bench.harness import FOR_INFORMATION, FULL, MET, MISSED, SMOKE, TINY, Benchmark, Result, Row, digest_of
from detectors.latency_shift import LatencyShift
from engine.observe.latency import BUCKET_FIRST, PER_OCTAVE

if TYPE_CHECKING:
    from detectors.latency_shift import State

SEED = 20_261_125
A_MINUTE = 60
SLICES_A_MINUTE = 12
HOURS_BEFORE = 8
LASTS_MIN = 60
TRIALS = {TINY: 1, SMOKE: 20, FULL: 60}
HISTORIES = {TINY: 1, SMOKE: 4, FULL: 12}  # from each of which several trials go on
QUIET_HOURS = {TINY: 1, SMOKE: 6, FULL: 6}
QUIET_TRIALS = {TINY: 1, SMOKE: 20, FULL: 100}
P99_FACTOR = 1.5
MEDIAN_S, SIGMA = 0.45, 0.6
NEVER = float("inf")


class Case(NamedTuple):
    """What happens to a share of the values, and what is asked of the median delay; NEVER: nothing."""

    name: str
    factor: float
    share: float = 1.0
    medians_more: float = 0.0
    asked_min: float = NEVER
    hours_before: int = HOURS_BEFORE
    wobble: float = 0.0  # sd of the logarithm of a factor that all values of a minute share


CASES = (
    Case("x1.1", 1.1, asked_min=24.0),
    Case("x1.25", 1.25, asked_min=6.0),
    Case("x1.5", 1.5, asked_min=1.6),
    Case("x2", 2.0, asked_min=0.7),
    Case("2 % of values slow", 3.0, 0.02, 3.0, asked_min=16.0),
    Case("5 % of values slow", 2.0, 0.05, 3.0, asked_min=6.0),
    Case("5 % of values x5", 5.0, 0.05),
    Case("x1.1 after one hour", 1.1, hours_before=1),
    Case("x1.25 after one hour", 1.25, hours_before=1, asked_min=6.0),
    Case("5 % slow after one hour", 2.0, 0.05, 3.0, hours_before=1),
    Case("x1.25, minutes differ by 10 %", 1.25, wobble=0.1),
)
QUIET = (
    Case("no change", 1.0),
    Case("no change, minutes differ by 10 %", 1.0, wobble=0.1),
    Case("no change after one hour", 1.0, hours_before=1),
)


class Told(NamedTuple):
    """When it was told after the change, in minutes, by each."""

    ours_min: float
    rule_min: float


class Stream:
    """A detector and what it was shown."""

    def __init__(self, hours: int, wobble: float, rng: np.random.Generator) -> None:
        """Let some hours pass without a change."""
        self.slices = LabelledSlices(((),), stages=((0, "llm"),))
        self.detector = LatencyShift()
        self.state: State = self.detector.new_state()
        calm = Case("", 1.0, wobble=wobble)
        self.told_before = 0
        for _ in range(60 * hours):
            self.told_before += self.show(minute_of(calm, rng)) < NEVER

    def show(self, values_s: np.ndarray) -> float:
        """Show the values of a minute; give the part of it after which something was told."""
        told = NEVER
        for part, bucket in enumerate(np.array_split(buckets(values_s), SLICES_A_MINUTE)):
            summary = self.slices.write(latencies=Latencies(np.zeros(len(bucket), np.int64), bucket))
            detection = self.detector.detect(self.state, summary, ())
            self.state = detection.state
            if detection.findings:
                told = min(told, (part + 1) / SLICES_A_MINUTE)
        return told

    def copied(self) -> Stream:
        """Give another that has seen the same."""
        other = copy.copy(self)
        other.slices = copy.deepcopy(self.slices)
        return other


def minute_of(case: Case, rng: np.random.Generator) -> np.ndarray:
    """Give the values of a minute."""
    values = rng.lognormal(case.wobble * rng.standard_normal(), SIGMA, rng.poisson(A_MINUTE))
    is_slow = rng.random(len(values)) < case.share
    return MEDIAN_S * np.where(is_slow, case.factor * values + case.medians_more, values)


def buckets(values_s: np.ndarray) -> np.ndarray:
    """Give the sketch's buckets of values."""
    return np.asarray(np.ceil(np.log2(values_s) * PER_OCTAVE), np.int64) - BUCKET_FIRST


def run(case: Case, stream: Stream, minutes: int, rng: np.random.Generator) -> Told:
    """Give when one change is told."""
    ours = rule = NEVER
    in_a_row, recent = 0, [np.zeros(0)]
    usual_p99_s = MEDIAN_S * np.exp(SIGMA * 2.326)
    for minute in range(minutes):
        recent = [*recent[-4:], minute_of(case, rng)]
        ours = min(ours, minute + stream.show(recent[-1]))
        if minute % 5 == 4:
            p99_s = np.quantile(np.concatenate(recent), 0.99)
            in_a_row = in_a_row + 1 if p99_s > P99_FACTOR * usual_p99_s else 0
            if in_a_row >= 2:
                rule = min(rule, minute + 1.0)
        if ours < NEVER and (rule < NEVER or minutes > LASTS_MIN):
            break
    return Told(ours, rule)


def trials(case: Case, many: int, histories: int, minutes: int, rng: np.random.Generator) -> list[Told]:
    """Run a case many times, several times from each history."""
    told = []
    for number in range(many):
        if number % -(-many // histories) == 0:
            stream = Stream(case.hours_before, case.wobble, rng)
        told.append(run(case, stream.copied(), minutes, rng))
    return told


def shown(values: list[float]) -> str:
    """Say how many were told, and after how long."""
    told = [one for one in values if one < NEVER]
    share = f"{100 * len(told) / len(values):.0f} %"
    return f"{share}, {np.median(values):.1f} min" if 2 * len(told) > len(values) else share


def measure(size: str) -> Result:
    """Measure every case."""
    rng = np.random.default_rng(SEED)
    rows, all_told = [], []
    for case in CASES:
        told = trials(case, TRIALS[size], HISTORIES[size], LASTS_MIN, rng)
        all_told += told
        ours = [one.ours_min for one in told]
        is_judged = size != TINY and case.asked_min < NEVER
        verdict = MET if np.median(ours) <= case.asked_min else MISSED
        said = f"{shown(ours)}; the rule {shown([one.rule_min for one in told])}"
        asked = f"{case.asked_min:g} min" if case.asked_min < NEVER else ""
        rows.append(Row(case.name, said, asked, verdict if is_judged else FOR_INFORMATION))
    hours = QUIET_HOURS[size]
    for case in QUIET:
        told = trials(case, QUIET_TRIALS[size], HISTORIES[size], 60 * hours, rng)
        all_told += told
        false = sum(one.ours_min < NEVER for one in told)
        name = f"{case.name}, {QUIET_TRIALS[size]} x {hours} h"
        is_judged = case.hours_before == HOURS_BEFORE and not case.wobble
        row = Row(name, f"{false} told")
        verdict = MET if false == 0 else MISSED
        rows.append(row._replace(budget="0 told", verdict=verdict) if is_judged else row)
    return Result(tuple(rows), SEED, digest_of(repr(all_told).encode()))


BENCHMARK = Benchmark("latency_shift", "How soon is a slower stage told, and how often for nothing?", measure)
