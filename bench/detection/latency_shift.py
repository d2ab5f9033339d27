"""How soon is a slower stage told, and how often is one that only varies? Against a rule on p99.

60 values a minute, lognormal (sigma 0.6), one row at a level of one page a week; the reference is the hour
before. The rule that many use beside it: p99 of five minutes above 1.5 times the usual, twice in a row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.detection.labelled_slices import LabelledSlices, Latencies
from bench.harness import FOR_INFORMATION, FULL, MET, MISSED, SMOKE, TINY, Benchmark, Result, Row, digest_of
from detectors.latency_shift import LatencyShift
from engine.observe.latency import BUCKET_FIRST, PER_OCTAVE

SEED = 20_261_125
A_MINUTE = 60
SLICES_A_MINUTE = 12
BEFORE_MIN = 60
LASTS_MIN = 60
TRIALS = {TINY: 1, SMOKE: 20, FULL: 60}
QUIET_HOURS = {TINY: 1, SMOKE: 6, FULL: 6}
QUIET_TRIALS = {TINY: 1, SMOKE: 20, FULL: 100}
P99_FACTOR = 1.5
NEVER = float("inf")


class Case(NamedTuple):
    """A change, and what is asked of the median delay; NaN: nothing."""

    name: str
    factor: float
    share: float
    asked_min: float


CASES = (
    Case("x1.1", 1.1, 1.0, 24.0),
    Case("x1.25", 1.25, 1.0, 6.0),
    Case("x1.5", 1.5, 1.0, 2.0),
    Case("x2", 2.0, 1.0, 1.0),
    Case("2 % of values x5", 5.0, 0.02, 16.0),
    Case("5 % of values x5", 5.0, 0.05, 6.0),
)


class Told(NamedTuple):
    """When it was told after the change, in minutes, by each."""

    ours_min: float
    rule_min: float


def buckets(values_s: np.ndarray) -> np.ndarray:
    """Give the sketch's buckets of values."""
    return np.asarray(np.ceil(np.log2(values_s) * PER_OCTAVE), np.int64) - BUCKET_FIRST


def run(case: Case, minutes: int, rng: np.random.Generator) -> Told:
    """Give when one change is told; `minutes` after the hour before it."""
    slices, detector = LabelledSlices(((),), stages=((0, "llm"),)), LatencyShift()
    state = detector.new_state()
    minute_values: list[np.ndarray] = []
    ours = rule = NEVER
    in_a_row = 0
    usual_p99_s = 0.45 * np.exp(0.6 * 2.326)
    for minute in range(BEFORE_MIN + minutes):
        many = rng.poisson(A_MINUTE)
        values_s = rng.lognormal(np.log(0.45), 0.6, many)
        if minute >= BEFORE_MIN:
            values_s = np.where(rng.random(many) < case.share, case.factor, 1.0) * values_s
        minute_values.append(values_s)
        parts = np.array_split(buckets(values_s), SLICES_A_MINUTE)
        for part, bucket in enumerate(parts):
            summary = slices.write(latencies=Latencies(np.zeros(len(bucket), np.int64), bucket))
            detection = detector.detect(state, summary, ())
            state = detection.state
            since = minute - BEFORE_MIN + (part + 1) / SLICES_A_MINUTE
            if detection.findings and since > 0:
                ours = min(ours, since)
        if minute >= BEFORE_MIN and minute % 5 == 4:
            p99_s = np.quantile(np.concatenate(minute_values[-5:]), 0.99)
            in_a_row = in_a_row + 1 if p99_s > P99_FACTOR * usual_p99_s else 0
            if in_a_row >= 2:
                rule = min(rule, minute + 1 - BEFORE_MIN)
        if ours < NEVER and (rule < NEVER or minutes > LASTS_MIN):
            break
    return Told(ours, rule)


def shown(values: list[float]) -> str:
    """Say how many were told, and after how long."""
    told = [one for one in values if one < NEVER]
    share = f"{100 * len(told) / len(values):.0f} %"
    return f"{share}, {np.median(told):.1f} min" if told else share


def measure(size: str) -> Result:
    """Measure every case."""
    rng = np.random.default_rng(SEED)
    rows, all_told = [], []
    for case in CASES:
        told = [run(case, LASTS_MIN, rng) for _ in range(TRIALS[size])]
        all_told += told
        ours = [one.ours_min for one in told]
        median = float(np.median(ours))
        verdict = FOR_INFORMATION if size == TINY else MET if median <= case.asked_min else MISSED
        said = f"{shown(ours)}; the rule {shown([one.rule_min for one in told])}"
        rows.append(Row(case.name, said, f"100 %, {case.asked_min:g} min", verdict))
    quiet = Case("", 1.0, 1.0, NEVER)
    alarms = [run(quiet, 60 * QUIET_HOURS[size], rng) for _ in range(QUIET_TRIALS[size])]
    false = sum(one.ours_min < NEVER for one in alarms)
    name = f"no change, {QUIET_TRIALS[size]} x {QUIET_HOURS[size]} h"
    rows.append(Row(name, f"{false} told", "0 told", MET if false == 0 else MISSED))
    return Result(tuple(rows), SEED, digest_of(repr(all_told + alarms).encode()))


BENCHMARK = Benchmark("latency_shift", "How soon is a slower stage told, and how often for nothing?", measure)
