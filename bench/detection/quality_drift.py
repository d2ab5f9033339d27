"""How soon are worse answers told, and what else is taken for them? Scores of two tenants, half of them each.

Scores are normal (mean 0.8, sd 0.15), cut to 0 and 1; one slice in three has any, so that days are short. The
reference is the same two hours of the day before, or one hour earlier the same day. What is not drift: a mean
that falls by 0.1 every night (told on the first day if it must be, never after it), and scores of a tenant
who has always been harder to serve and now calls more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.harness import FOR_INFORMATION, FULL, MET, MISSED, SMOKE, TINY, Benchmark, Result, Row, digest_of
from detectors.quality_drift import QualityDrift
from tests.slices_by_hand import Did, Slices

if TYPE_CHECKING:
    from detectors.quality_drift import State

SEED = 20_261_126
LOOKS_A_MINUTE = 4
GAP_S = 10.0
SD = 0.15
MEAN, HARDER_MEAN = 0.8, 0.65
DROPS = (0.02, 0.05, 0.1)
RATES = (20, 60)
LASTS_MIN = 120
TRIALS = {TINY: 1, SMOKE: 6, FULL: 30}
DAYS = {TINY: 1, SMOKE: 4, FULL: 10}
MIXES = {TINY: 1, SMOKE: 6, FULL: 30}
NIGHT_DROP = 0.1
NEVER = float("inf")
LabelSet = tuple[tuple[str, str], ...]
TENANTS: tuple[LabelSet, ...] = ((("tenant", "acme"),), (("tenant", "globex"),))


class Mix(NamedTuple):
    """What scores are drawn from: the mean of either tenant, and the share of the first."""

    means: tuple[float, float] = (MEAN, MEAN)
    share: float = 0.5


class Stream:
    """A detector and what it was shown."""

    def __init__(self, a_minute: int, rng: np.random.Generator) -> None:
        self.a_minute, self.rng = a_minute, rng
        self.slices, self.detector = Slices(), QualityDrift()
        self.state: State = self.detector.new_state()

    def show(self, minutes: float, mix: Mix) -> float:
        """Let so many minutes pass; give when the first thing was told, in minutes."""
        told = NEVER
        for look in range(round(minutes * LOOKS_A_MINUTE)):
            many = self.rng.poisson(self.a_minute / LOOKS_A_MINUTE)
            is_second = self.rng.random(many) >= mix.share
            scores = np.clip(self.rng.normal(np.take(mix.means, is_second.astype(int)), SD), 0.0, 1.0)
            did: dict[LabelSet, Did] = {
                labels: Did(scores={"csat": scores[is_second == number].tolist()})
                for number, labels in enumerate(TENANTS)
                if (is_second == number).any()
            }
            detection = self.detector.detect(self.state, self.slices.write(did), ())
            self.state = detection.state
            self.slices.skip(GAP_S)
            if detection.findings and told == NEVER:
                told = (look + 1) / LOOKS_A_MINUTE
        return told


def delay(a_minute: int, drop: float, rng: np.random.Generator, *, is_next_day: bool) -> float:
    """Give when a drop of the mean is told."""
    stream = Stream(a_minute, rng)
    if is_next_day:
        stream.show(180, Mix())
        stream.slices.skip(21 * 3600.0)
    stream.show(60 if not is_next_day else 30, Mix())
    for minute in range(LASTS_MIN):
        if (told := stream.show(1, Mix((MEAN - drop, MEAN - drop)))) < NEVER:
            return minute + told
    return NEVER


def nights(days: int, rng: np.random.Generator) -> list[float]:
    """Give for each day when something was told, in minutes; the mean falls every night."""
    stream = Stream(RATES[0], rng)
    told = []
    for _ in range(days):
        first = NEVER
        for minute in range(0, 24 * 60, 5):
            mean = MEAN - NIGHT_DROP * (1.0 - math.cos(2.0 * math.pi * minute / 1440)) / 2.0
            first = min(first, minute + stream.show(5, Mix((mean, mean))))
        told.append(first)
    return told


def shown(values: list[float]) -> str:
    """Say how many were told, and after how long."""
    told = [one for one in values if one < NEVER]
    share = f"{100 * len(told) / len(values):.0f} %"
    return f"{share}, {np.median(values):.1f} min" if 2 * len(told) > len(values) else share


def none_told(what: str, told: list[float]) -> Row:
    """Put what was told beside nothing."""
    many = sum(one < NEVER for one in told)
    return Row(what, f"{many} of {len(told)} told", "0 told", MISSED if many else MET)


def measure(size: str) -> Result:
    """Measure drops, nights and a change of who calls."""
    rng = np.random.default_rng(SEED)
    rows, everything = [], []
    for is_next_day, against in ((False, "an hour earlier today"), (True, "yesterday")):
        for a_minute in RATES:
            for drop in DROPS:
                told = [delay(a_minute, drop, rng, is_next_day=is_next_day) for _ in range(TRIALS[size])]
                everything += told
                what = f"mean -{drop:g} against {against}, {a_minute} scores a minute"
                rows.append(Row(what, shown(told), "", FOR_INFORMATION))
    days = nights(DAYS[size], rng)
    rows.append(Row("a fall every night, first day", shown(days[:1]), "", FOR_INFORMATION))
    if days[1:]:
        rows.append(none_told("a fall every night, days after", days[1:]))
    mixes = []
    for _ in range(MIXES[size]):
        stream = Stream(RATES[1], rng)
        stream.show(90, Mix((MEAN, HARDER_MEAN), 0.7))
        mixes.append(stream.show(120, Mix((MEAN, HARDER_MEAN), 0.2)))
    rows.append(none_told("a harder tenant calls more (30 to 80 %)", mixes))
    return Result(tuple(rows), SEED, digest_of(repr(everything + days + mixes).encode()))


BENCHMARK = Benchmark(
    "quality_drift", "How soon are worse answers told, and what else is taken for them?", measure
)
