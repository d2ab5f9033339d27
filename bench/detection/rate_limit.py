"""The rate limit, measured: are clumps and ramps paged, and nothing else.

Calls a second are negative binomial with a stated dispersion, independent by bins of 100 ms. A healthy limit
is one at whose load a hundredth of a violation an hour is expected at that dispersion, all the time: busier
than any real day. A page counts when the alert begins to fire after an hour of silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.detection.limit_slices import limit_slice, rate_limits
from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_least, at_most, digest_of
from detectors.rate_excess import excess_above
from detectors.rate_limit import RateLimit
from detectors.rate_limit_state import RateLimitParams

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SEED = 20_261_125
CAPS = (5.0, 10.0, 50.0, 200.0)
DISPERSIONS = (1.0, 2.0, 4.0)
HEALTHY_PER_HOUR = 0.01
PAGES_PER_WEEK = 0.05
SERIES = {TINY: 1, SMOKE: 20, FULL: 50}  # of each cap
DAYS = {TINY: 0.01, SMOKE: 0.1, FULL: 1.0}
RUNS = {TINY: 2, SMOKE: 20, FULL: 40}
SLICE_S = 15
BINS = SLICE_S * 10
QUIET = 240  # slices without, after which the next is a page of its own
BEFORE = 120  # slices of health before a ramp or clumps begin
DOUBLING_S = 600.0
RAMP = 240  # slices
CLUMPS = 40
DIALER_SHARE, DIALER_DISPERSION = 0.3, 6.0
NEVER = -1


class Watched(NamedTuple):
    """By slice and limit."""

    fires: NDArray[np.bool_]
    over: NDArray[np.int64]  # attempts over the cap in the slice's busiest second


def healthy_mean(cap: float, dispersion: float) -> float:
    """Give the mean of calls a second at which a hundredth of a violation an hour is expected."""
    low, high = 1e-9, cap
    for _ in range(100):
        middle = (low * high) ** 0.5
        excess, _ = excess_above(np.array([middle]), np.array([dispersion]), np.array([cap]))
        low, high = (middle, high) if excess[0] * 3600.0 < HEALTHY_PER_HOUR else (low, middle)
    return low


def clumped(rng: np.random.Generator, mean: NDArray[np.float64], dispersion: float) -> NDArray[np.int32]:
    """Draw the bins of one slice, for limits with these means a second."""
    shape = (len(mean), BINS)
    per_bin = np.broadcast_to(mean[:, None] / 10.0, shape)
    if dispersion == 1.0:
        return rng.poisson(per_bin).astype(np.int32)
    return rng.negative_binomial(per_bin / (dispersion - 1.0), 1.0 / dispersion).astype(np.int32)


def watch(
    cap: NDArray[np.float64],
    slices: int,
    draw: Callable[[int], NDArray[np.int32]],
    params: RateLimitParams | None = None,
) -> Watched:
    """Show slices to the detector; give when the alert holds, two evaluations in a row."""
    detector = RateLimit(params)
    limits = rate_limits(cap)
    state = detector.new_state()
    found = np.zeros((slices, len(cap)), np.bool_)
    over = np.zeros((slices, len(cap)), np.int64)
    before = np.zeros((len(cap), 9), np.int32)
    for at in range(slices):
        bins = draw(at)
        detection = detector.detect(state, limit_slice(at, cap, bins, SLICE_S), limits)
        state = detection.state
        for finding in detection.findings:
            found[at, finding.subject[1]] = True
        rolling = np.lib.stride_tricks.sliding_window_view(np.hstack([before, bins]), 10, axis=1).sum(axis=2)
        over[at] = np.maximum(rolling.max(axis=1) - cap, 0)
        before = bins[:, -9:]
    return Watched(found & np.vstack([np.zeros_like(found[:1]), found[:-1]]), over)


def pages(fires: NDArray[np.bool_]) -> int:
    """Count the pages of all limits."""
    many = 0
    for one in fires.T:
        at = np.flatnonzero(one)
        many += int(len(at) > 0) + int(np.count_nonzero(np.diff(at) > QUIET))
    return many


def first(is_so: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the first slice in which it is so, by limit; inf: none."""
    return np.where(is_so.any(axis=0), is_so.argmax(axis=0), np.inf)


def quiet(size: str, rng: np.random.Generator) -> tuple[list[Row], list[int]]:
    """Watch healthy limits."""
    rows, counts = [], []
    cap = np.repeat(CAPS, SERIES[size])
    slices = max(int(DAYS[size] * 86_400 / SLICE_S), 40)
    weeks = slices * SLICE_S / (7 * 86_400) * len(cap)
    for dispersion in DISPERSIONS:
        mean = np.repeat([healthy_mean(one, dispersion) for one in CAPS], SERIES[size])

        def draw(
            _: int, mean: NDArray[np.float64] = mean, dispersion: float = dispersion
        ) -> NDArray[np.int32]:
            return clumped(rng, mean, dispersion)

        found = watch(cap, slices, draw)
        many = pages(found.fires)
        counts.append(many)
        rows.append(
            at_most(
                f"false pages a week and limit at dispersion {dispersion:g}, caps 5 to 200",
                many / weeks,
                PAGES_PER_WEEK,
                "pages",
                measured=f"{many / weeks:.3f} ({many} in {weeks:.1f} weeks)",
            )
        )
    return rows, counts


def leads(found: Watched) -> NDArray[np.float64]:
    """Give seconds from page to the first attempt over the cap, by limit; -inf: never paged."""
    return np.asarray((first(found.over > 0) - first(found.fires)) * SLICE_S)


def rough(size: str, rng: np.random.Generator) -> tuple[list[Row], list[float]]:
    """Let rates rise, and a dialer clump."""
    rows, told = [], []
    for value in (10.0, 50.0, 200.0):
        cap = np.full(RUNS[size], value)
        mean = healthy_mean(value, 1.0) * 0.5

        def ramp(at: int, mean: float = mean, cap: NDArray[np.float64] = cap) -> NDArray[np.int32]:
            doublings = max(at - BEFORE, 0) * SLICE_S / DOUBLING_S
            return clumped(rng, np.full(len(cap), mean * 2.0**doublings), 1.0)

        found = watch(cap, BEFORE + RAMP, ramp)
        lead = leads(found)
        early = float(np.mean(first(found.fires) < BEFORE))
        shown = f"{np.median(lead):.0f} s (worst tenth {np.quantile(lead, 0.1):.0f} s, {early:.0%} before it)"
        what = f"lead before the first attempt over a cap of {value:g}, doubling in 10 min, median"
        rows.append(at_least(what, float(np.median(lead)), 60, "s", measured=shown))
        told += lead.tolist()
    for value in (10.0, 50.0):
        cap = np.full(RUNS[size], value)
        dialed = np.full(RUNS[size], DIALER_SHARE * value)

        def dial(at: int, mean: NDArray[np.float64] = dialed) -> NDArray[np.int32]:
            return clumped(rng, mean, 1.0 if at < BEFORE else DIALER_DISPERSION)

        found = watch(cap, BEFORE + CLUMPS, dial)
        delay = (first(found.fires[BEFORE:]) + 1) * SLICE_S
        lead = leads(found)
        shown = (
            f"{np.median(delay):.0f} s (worst tenth {np.quantile(delay, 0.9):.0f} s; before the first "
            f"attempt over the cap in {np.mean(lead > 0):.0%})"
        )
        what = (
            f"from the first clump to the page, cap {value:g}, mean at {DIALER_SHARE:.0%}, "
            f"dispersion {DIALER_DISPERSION:g}, median"
        )
        rows.append(at_most(what, float(np.median(delay)), 180, "s", measured=shown))
        told += delay.tolist()
    return rows, told


def run(size: str) -> Result:
    """Measure both."""
    rng = np.random.default_rng(SEED)
    calm, counts = quiet(size, rng)
    busy, times = rough(size, rng)
    note = (
        "A dialer that clumps passes a small cap within seconds of its first clump: nothing leads that, and "
        "the page comes as soon as three seconds were over the cap or the clumps are known."
    )
    return Result((*calm, *busy), SEED, digest_of(counts, times), (note,))


BENCHMARK = Benchmark("rate_limit", "Does the rate limit page for clumps and ramps, and only for them?", run)
