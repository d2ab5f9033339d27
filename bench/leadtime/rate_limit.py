"""A limit of calls per second and a dialer that calls in clumps: bursts inside a second hit it, not the mean.

The truth is the first call that is one too many in its rolling second. Ordinary weeks keep the mean at a
fiftieth of the limit; in an incident it doubles every 5, 15 or 60 minutes. The rules of others look at what
their metrics have: the mean rate over a minute, or the busiest second of each evaluation. Ours is the
product's detector, as shipped and with its one threshold moved to the budget like those of the others.

`python -m bench.leadtime.rate_limit [SEED]` writes this section alone, at the full size.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.harness import machine, write_result
from bench.leadtime.baselines import per_minute, predict_linear, samples
from bench.leadtime.corpus import Truth
from bench.leadtime.measures import MAIN_BUDGET, leads_min
from bench.leadtime.paging import count_pages, tuned_threshold
from bench.leadtime.rate_limit_ours import SHIPPED, our_scores
from bench.leadtime.report import lead_of, table
from bench.leadtime.sizes import SIZES
from bench.leadtime.traffic import DAY_S, STEP_S, WEEK_STEPS, slow_factor, week_profile
from engine.kernel import allocating_kernel

OURS = "ours"
SCALE = 50.0  # of scores: the mean is a small share of the limit, and thresholds are tried in hundredths
LIMITS = (10, 50)  # calls per second
CLUMP_SHARE = 0.3  # of the limit: the largest clump
CLUMP_LASTS_S = 0.2
BASE_SHARE = 0.02  # of the limit: the mean rate at the busiest time of an ordinary week
HIGHEST_SHARE = 0.6  # where a ramp stops
BEFORE_S, LASTS_S = 3600.0, 5 * 3600.0
DOUBLING_MIN = (5.0, 15.0, 60.0)
TRIES_MAX = 500


class Dialling(NamedTuple):
    """Calls by their start, and when the first was one too many (inf: never)."""

    start_s: NDArray[np.float64]
    onset_s: float
    decline_s: float


class Streams(NamedTuple):
    """Ordinary weeks for setting thresholds and for counting, and incidents by doubling time."""

    calibration: list[Dialling]
    validation: list[Dialling]
    incidents: dict[float, list[Dialling]]


def draw_clumps(rate_per_s: NDArray[np.float64], limit: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the starts of calls that come in clumps of 1 to a share of the limit."""
    largest = max(int(CLUMP_SHARE * limit), 1)
    many = rng.poisson(rate_per_s * STEP_S / (0.5 * (largest + 1)))
    at = np.repeat(np.arange(len(many)), many)
    begin = (at + rng.random(len(at))) * STEP_S
    begin = np.repeat(begin, rng.integers(1, largest + 1, len(begin)))
    return np.sort(begin + rng.random(len(begin)) * CLUMP_LASTS_S)


def first_excess_s(start_s: NDArray[np.float64], limit: int) -> float:
    """Give the first call with `limit` others in the second before it; inf: none."""
    close = np.flatnonzero(start_s[limit:] - start_s[:-limit] < 1.0)
    return float(start_s[limit + close[0]]) if len(close) else np.inf


def week(limit: int, rng: np.random.Generator, days: float) -> Dialling:
    """Draw ordinary days without a call too many."""
    steps = int(days * DAY_S / STEP_S)
    for _ in range(TRIES_MAX):
        rate = BASE_SHARE * limit * week_profile()[:steps] * slow_factor(steps, rng)
        start = draw_clumps(rate, limit, rng)
        if np.isinf(first_excess_s(start, limit)):
            return Dialling(start, 0.0, np.inf)
    raise RuntimeError("every week has a call too many")


def incident(limit: int, doubling_min: float, rng: np.random.Generator) -> Dialling:
    """Draw a dialler that is turned up, until the first call too many comes after the onset."""
    steps = int((BEFORE_S + LASTS_S) / STEP_S)
    since_s = np.maximum(np.arange(steps) * STEP_S - BEFORE_S, 0.0)
    profile = week_profile()
    for _ in range(TRIES_MAX):
        first = int(rng.choice(np.flatnonzero(profile > 0.3)))
        base = BASE_SHARE * limit * profile[(first + np.arange(steps)) % WEEK_STEPS]
        rate = np.minimum(
            base * 2.0 ** np.minimum(since_s / (60.0 * doubling_min), 30), HIGHEST_SHARE * limit
        )
        start = draw_clumps(rate * slow_factor(steps, rng), limit, rng)
        excess_s = first_excess_s(start, limit)
        if BEFORE_S <= excess_s < np.inf:
            return Dialling(start[start < excess_s + 2 * STEP_S], BEFORE_S, excess_s)
    raise RuntimeError("no incident has a call too many")


@allocating_kernel
def busiest_seconds(start_s: NDArray[np.float64], steps: int, step_s: float) -> NDArray[np.float64]:
    """Give the most calls in a rolling second that ends within each evaluation."""
    most = np.zeros(steps)
    first = 0
    for k in range(len(start_s)):
        while start_s[k] - start_s[first] >= 1.0:
            first += 1
        at = min(int(start_s[k] / step_s), steps - 1)
        most[at] = max(most[at], k - first + 1.0)
    return most


def gauges(streams: list[Dialling], steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give calls a second over the last minute, and in the busiest second; (streams, evaluations)."""
    minute = per_minute(1)
    counts = np.zeros((len(streams), steps + minute))
    peaks = np.zeros((len(streams), steps))
    for row, stream in enumerate(streams):
        at = (stream.start_s / STEP_S).astype(np.int64)
        counts[row, minute:] = np.bincount(at, minlength=steps)[:steps]
        peaks[row] = busiest_seconds(stream.start_s, steps, STEP_S)
    total = np.cumsum(counts, axis=1)
    return (total[:, minute:] - total[:, :-minute]) / 60.0, peaks


def rules(streams: list[Dialling], limit: int, steps: int) -> dict[str, NDArray[np.float64]]:
    """Give every rule's score: a share of the limit, times `SCALE`."""
    mean, peak = (SCALE * gauge / limit for gauge in gauges(streams, steps))
    found = {
        OURS: our_scores([stream.start_s for stream in streams], limit, steps),
        "mean over a minute": mean,
        "busiest second": peak,
    }
    for window in (5, 30, 60):
        for ahead in (10, 30):
            at = samples(window), per_minute(ahead)
            found[f"predict_linear of the mean, {window}m, {ahead}m"] = predict_linear(mean, *at)
            found[f"predict_linear of the busiest second, {window}m, {ahead}m"] = predict_linear(peak, *at)
    return found


def draw(limit: int, weeks: int, days: float, repeats: int, seed: int) -> Streams:
    """Draw all streams of one limit."""

    def rng(part: int, number: int) -> np.random.Generator:
        return np.random.default_rng([seed, 95, limit, part, number])

    return Streams(
        [week(limit, rng(0, k), days) for k in range(weeks)],
        [week(limit, rng(1, k), days) for k in range(weeks)],
        {
            doubling: [incident(limit, doubling, rng(2 + at, k)) for k in range(repeats)]
            for at, doubling in enumerate(DOUBLING_MIN)
        },
    )


def rate_section(weeks: int, days: float, repeats: int, seed: int) -> str:
    """Write the section on calls per second."""
    parts = []
    for limit in LIMITS:
        on = draw(limit, weeks, days, repeats, seed)
        week_steps, steps = int(days * DAY_S / STEP_S), int((BEFORE_S + LASTS_S) / STEP_S)
        calibration, validation = (rules(part, limit, week_steps) for part in (on.calibration, on.validation))
        by_doubling = {doubling: rules(some, limit, steps) for doubling, some in on.incidents.items()}
        allowed = MAIN_BUDGET * weeks * days / 7
        rows = []
        for name, score in calibration.items():
            threshold = tuned_threshold(score, allowed)
            false = count_pages(validation[name], threshold) / (weeks * days / 7)
            rows.append([f"{name}, tuned", f"{false:.2f}", *cells(on, by_doubling, name, threshold)])
        for label, name, threshold in (
            ("mean over a minute, 80 %", "mean over a minute", 0.8 * SCALE),
            ("ours, as shipped", OURS, SHIPPED),
        ):
            false = count_pages(validation[name], threshold) / (weeks * days / 7)
            rows.append([label, f"{false:.2f}", *cells(on, by_doubling, name, threshold)])
        head = [
            "rule",
            "false pages a week",
            *(f"doubling in {doubling:.0f} min" for doubling in DOUBLING_MIN),
        ]
        parts.append(f"### {limit} calls a second\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def cells(
    on: Streams, by_doubling: dict[float, dict[str, NDArray[np.float64]]], name: str, threshold: float
) -> list[str]:
    """Give a rule's leads by doubling time."""
    return [
        str(lead_of(leads_min(by_doubling[doubling][name], threshold, truth(some))))
        for doubling, some in on.incidents.items()
    ]


def truth(streams: list[Dialling]) -> Truth:
    """Give the truth about some streams."""
    return Truth(np.array([s.onset_s for s in streams]), np.array([s.decline_s for s in streams]))


def main() -> None:
    """Write the section as a page of its own."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    text = f"# Calls per second, from a dialler that clumps\n\nSeed {seed}.\n\n"
    text += f"{rate_section(*SIZES['full'].rate, seed)}\n\n{machine()}.\n"
    write_result("leadtime_rate", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
