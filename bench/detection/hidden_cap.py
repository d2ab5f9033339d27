"""How soon a cap is found that nobody wrote down, how exactly, and what is taken for one.

Calls of 180 s on average ramp from 0.8 to 1.15 of the cap within an hour, after half an hour at 0.8: the case
of detection.md 1g. Delay and lost calls are counted from the first declined one until the end of the slice
that tells it, so a step of five seconds is in them. A cap that moves is halved in mid-run. Nothing may be
found where nothing stops calls: at a steady load, by days, and where few sources hold the line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.detection.binned_slices import (
    NS,
    ORIGIN_S,
    Calls,
    Feed,
    admitted,
    instances,
    poisson,
    slices,
    unseen,
)
from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_least, at_most, digest_of
from detectors.hidden_cap import HiddenCap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SEED = 20_260_605
HOLDING_S = 180.0
WARM_S, RAMP_S = 1800.0, 3600.0
FIRST, LAST = 0.8, 1.15
CAPS = {TINY: (20,), SMOKE: (20, 100, 1000), FULL: (20, 100, 1000)}
RUNS = {TINY: 3, SMOKE: 20, FULL: 60}
LOST_ASKED = 18.0
LOADS = (18.0, 90.0)
DAYS_ASKED = 160
STREAMS = {TINY: 2, SMOKE: 20, FULL: 40}
DAYS = {TINY: 0.1, SMOKE: 1.0, FULL: 2.0}
MOVE_S = 4 * 3600.0
MOVE_LOAD = 1.15
CLOSED = ((20, 30.0), (20, 120.0), (8, 20.0))  # sources, and the pause of each between calls


class Found(NamedTuple):
    """What was learned of one stream: (second, value), in order."""

    learned: tuple[tuple[float, float], ...]

    def first(self) -> tuple[float, float]:
        """Give the first value and when."""
        return self.learned[0] if self.learned else (np.inf, np.nan)


def find(streams: Sequence[Calls], stop_s: float) -> list[Found]:
    """Show streams side by side to the detector; what it learns is in force from then on."""
    nothing, known = np.full(len(streams), np.nan), np.full(len(streams), np.nan)
    detector, limits = HiddenCap(1.0), instances(len(streams))
    state, found = detector.new_state(), [[] for _ in streams]  # type: ignore[var-annotated]
    for summary in slices(Feed(streams, nothing, stop_s), lambda: known):
        detection = detector.detect(state, summary, limits)
        state = detection.state
        for one in detection.learned:
            known[one.row] = one.value
            found[one.row].append((summary.end_ns / NS - ORIGIN_S, one.value))
    return [Found(tuple(one)) for one in found]


def ramp(rng: np.random.Generator, cap: float) -> Calls:
    """Ramp over a cap."""

    def rate(times: NDArray[np.float64]) -> NDArray[np.float64]:
        grown = FIRST + (LAST - FIRST) * np.clip((times - WARM_S) / RAMP_S, 0.0, 1.0)
        return np.asarray(grown * cap / HOLDING_S)

    starts = poisson(rng, rate, LAST * cap / HOLDING_S, WARM_S + RAMP_S)
    return admitted(starts, rng.exponential(HOLDING_S, len(starts)), lambda _: cap)


def steady(rng: np.random.Generator, load: float, stop_s: float) -> Calls:
    """Let calls come at a steady load that nothing stops."""
    starts = poisson(rng, lambda times: np.full(len(times), load / HOLDING_S), load / HOLDING_S, stop_s)
    return Calls(starts, starts + rng.exponential(HOLDING_S, len(starts)), np.zeros(len(starts), np.bool_))


def moved(rng: np.random.Generator, cap: float) -> Calls:
    """Let a cap fall to half of itself in mid-run, under a load that is too much for both."""
    load = MOVE_LOAD * cap

    def rate(times: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.where(times < MOVE_S / 2, load, 0.6 * load) / HOLDING_S)

    starts = poisson(rng, rate, load / HOLDING_S, MOVE_S)
    held = rng.exponential(HOLDING_S, len(starts))
    return admitted(starts, held, lambda at_s: cap if at_s < MOVE_S / 2 else cap // 2)


def closed(rng: np.random.Generator, sources: int, pause_s: float, stop_s: float) -> Calls:
    """Let each of some sources call again after a pause: their number is a ceiling, and stops nobody."""
    starts, held = [], []
    for _ in range(sources):
        many = int(1.3 * stop_s / (HOLDING_S + pause_s)) + 10
        lasts = rng.exponential(HOLDING_S, many)
        starts.append(np.cumsum(rng.exponential(pause_s, many) + np.r_[0.0, lasts[:-1]]))
        held.append(lasts)
    start_s, held_s = np.concatenate(starts), np.concatenate(held)
    order = np.argsort(start_s)
    return Calls(start_s[order], (start_s + held_s)[order], np.zeros(len(order), np.bool_))


def ramp_rows(rng: np.random.Generator, cap: int, size: str) -> list[Row]:
    """Measure ramps over one cap, with declines and without any event."""
    calls = [ramp(rng, cap) for _ in range(RUNS[size])]
    rows = []
    for how, streams in (("silent", [unseen(one) for one in calls]), ("declined", calls)):
        found = [one.first() for one in find(streams, WARM_S + RAMP_S)]
        declines = [one.start_s[one.is_declined] for one in calls]
        met = [number for number, times in enumerate(declines) if len(times)]
        delay_s = [found[number][0] - declines[number][0] for number in met]
        lost = [np.count_nonzero(declines[number] <= found[number][0]) for number in met]
        exact = 100.0 * float(np.mean([found[number][1] == cap for number in met]))
        what = f"cap {cap}, {how}"
        spread = f"median {np.median(lost):.0f}, p90 {np.quantile(lost, 0.9):.0f}"
        rows += [
            at_most(f"{what}: calls lost", float(np.median(lost)), LOST_ASKED, "calls", measured=spread),
            at_least(f"{what}: value exact", exact, 100.0, "%"),
            Row(
                f"{what}: delay after the first lost call",
                f"median {np.median(delay_s):.0f} s, p90 {np.quantile(delay_s, 0.9):.0f} s",
            ),
        ]
    return rows


def quiet_rows(rng: np.random.Generator, size: str) -> list[Row]:
    """Count what is found where nothing stops calls."""
    stop_s = DAYS[size] * 86_400.0
    rows = []
    for load in LOADS:
        found = find([steady(rng, load, stop_s) for _ in range(STREAMS[size])], stop_s)
        days = f"{DAYS[size] * STREAMS[size]:.0f} days"
        many = sum(len(one.learned) for one in found)
        rows.append(at_most(f"load {load:.0f}: false findings in {days}", many, 0.0, "findings"))
    streams = [closed(rng, *one, stop_s) for one in CLOSED]
    many = sum(len(one.learned) for one in find(streams, stop_s))
    days = f"{DAYS[size] * len(CLOSED):.1f} days"
    rows.append(at_most(f"8 and 20 sources that hold the line: findings in {days}", many, 0.0, "findings"))
    return rows


def move_rows(rng: np.random.Generator, size: str) -> list[Row]:
    """Measure how soon a cap that moves is followed."""
    rows = []
    for cap in CAPS[size][:2]:
        calls = [moved(rng, cap) for _ in range(RUNS[size] // 3)]
        for how, streams in (("silent", [unseen(one) for one in calls]), ("declined", calls)):
            found = find(streams, MOVE_S)
            after = [[at_s for at_s, value in one.learned if value == cap // 2] for one in found]
            delays = [(min(one, default=np.inf) - MOVE_S / 2) / 60.0 for one in after]
            rows.append(
                at_most(
                    f"cap {cap} becomes {cap // 2}, {how}: followed after",
                    float(np.median(delays)),
                    60.0,
                    "min",
                    measured=f"median {np.median(delays):.0f} min, at most {max(delays):.0f} min",
                )
            )
    return rows


def run(size: str) -> Result:
    """Measure all of it."""
    rng = np.random.default_rng(SEED)
    rows = [row for cap in CAPS[size] for row in ramp_rows(rng, cap, size)]
    rows += quiet_rows(rng, size)
    rows += move_rows(rng, size)
    notes = (f"{DAYS_ASKED} days without a false finding are asked for, as the two loads together give them",)
    return Result(tuple(rows), SEED, digest_of(tuple(rows)), notes)


BENCHMARK = Benchmark("hidden_cap", "How soon is a cap found that nobody wrote down?", run)
