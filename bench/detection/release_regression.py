"""How soon a bad release is found, and how often a good one is rolled back.

Ten calls a minute of the new release beside ninety of the old one, of which one in two hundred fails; an
hour, five-second slices. Trials go side by side through the detector's own arithmetic (blocks, e-values,
restarts); a test shows that the detector itself says the same of the same calls. Beside it stand what people
use: a one-sided binomial test at 2 % that is made again each minute, and Flagger's rule (a minute with less
than 99 % good calls is a failed check; the fifth rolls back). Latencies are lognormal with sigma 0.6.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_most, digest_of
from detectors.release_comparison import PARAMS
from detectors.release_evidence import (
    NO_SHARE,
    ODDS,
    START_WEIGHT,
    log_e_block,
    with_restart,
)
from engine.observe.latency import PER_OCTAVE
from engine.settings import DetectionSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 20_261_126
TRIALS = {TINY: 40, SMOKE: 2000, FULL: 10_000}
SLICE_NS = 5_000_000_000
SLICES, PER_MINUTE = 720, 12
CALLS_PER_MIN = (10.0, 90.0)
USUAL = 0.005
FAILED = (0.005, 0.02, 0.05, 0.1)
ASKED = {0.02: "40 %, 38 min", 0.05: "100 %, 14 min", 0.1: "100 %, 6 min"}
SLOWER = (1.0, 1.1, 1.25, 1.5)
SIGMA = 0.6
BEYOND_Z = (0.0, 1.2815515655, 2.3263478740)  # of q50, q90 and q99
SLOWER_LN = PARAMS.slower_buckets * math.log(2.0) / PER_OCTAVE  # a latency is bad by so much above them
ALPHA = DetectionSettings().false_rollback_ratio
FALSE_PERCENT_MAX = 0.2
RETEST_LEVEL, FLAGGER_GOOD, FLAGGER_CHECKS = 0.02, 0.99, 5
NEVER = np.iinfo(np.int64).max


class Calls(NamedTuple):
    """Of all trials: (trials, slices, 2), and the bad ones (trials, slices, levels, 2)."""

    calls: NDArray[np.float64]
    bad: NDArray[np.float64]


def failures(rng: np.random.Generator, trials: int, failed: float) -> Calls:
    """Draw calls that fail."""
    calls = rng.poisson(np.array(CALLS_PER_MIN) / PER_MINUTE, (trials, SLICES, 2))
    bad = rng.binomial(calls, np.array([failed, USUAL]))
    return Calls(calls.astype(float), bad[:, :, None, :].astype(float))


def latencies(rng: np.random.Generator, trials: int, slower: float, rate: float = 1.0) -> Calls:
    """Draw one latency a call, by how many of the baseline's quantiles it exceeds by enough."""
    calls = rng.poisson(rate * np.array(CALLS_PER_MIN) / PER_MINUTE, (trials, SLICES, 2))
    beyond = np.zeros((trials, SLICES, len(BEYOND_Z), 2))
    for side, times in enumerate((slower, 1.0)):
        left = calls[:, :, side]
        chance_before = 1.0
        for level, z in enumerate(BEYOND_Z):
            chance = 0.5 * math.erfc((z + (SLOWER_LN - math.log(times)) / SIGMA) / math.sqrt(2.0))
            left = rng.binomial(left, chance / chance_before)
            chance_before = chance
            beyond[:, :, level, side] = left
    return Calls(calls.astype(float), beyond)


def evidence(drawn: Calls, *, settle: bool) -> NDArray[np.float64]:
    """Give ln of the e-value after each slice, (trials, slices), as the detector computes it."""
    trials, levels = len(drawn.calls), drawn.bad.shape[2]
    log_m = np.full((trials, levels, len(ODDS)), math.log(START_WEIGHT))
    calls, bad = np.zeros((trials, 2)), np.zeros((trials, levels, 2))
    opened = np.full(trials, -1)
    found = np.zeros((trials, SLICES))
    settled = PARAMS.settle_ns // SLICE_NS - 1 if settle else -1
    for number in range(SLICES):
        calls, bad = calls + drawn.calls[:, number], bad + drawn.bad[:, number]
        opened = np.where((opened < 0) & (calls.sum(axis=1) > 0), number, opened)
        is_old = (opened >= 0) & ((number + 1 - opened) * SLICE_NS >= PARAMS.block_ns)
        closed = (calls >= PARAMS.block_calls).all(axis=1) | is_old
        log_m = with_restart(log_m, SLICE_NS)
        share = calls[closed, 0] / np.maximum(calls[closed].sum(axis=1), 1.0)
        share = np.where(opened[closed] < settled, share, NO_SHARE)
        log_m[closed] += log_e_block(calls[closed][:, None, :], bad[closed], share[:, None])
        calls, bad = calls * ~closed[:, None], bad * ~closed[:, None, None]
        opened = np.where(closed, -1, opened)
        best = log_m.max(axis=(1, 2))
        found[:, number] = best + np.log(np.exp(log_m - best[:, None, None]).mean(axis=(1, 2)))
    return found


def first_at(reached: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the first True of each trial, NEVER if there is none."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, NEVER)


def by_minute(drawn: Calls) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give calls and failures of each minute, (trials, minutes, 2)."""
    shape = (len(drawn.calls), SLICES // PER_MINUTE, PER_MINUTE, 2)
    return drawn.calls.reshape(shape).sum(axis=2), drawn.bad[:, :, 0].reshape(shape).sum(axis=2)


def retested_binomial(drawn: Calls) -> NDArray[np.int64]:
    """Test each minute whether the release has more than its share of the failures: minute of rejection."""
    failed = by_minute(drawn)[1].cumsum(axis=1).astype(int)
    both, share = failed.sum(axis=2), CALLS_PER_MIN[0] / sum(CALLS_PER_MIN)
    tails = binomial_tails(int(both.max()), share)
    return first_at(tails[both, failed[..., 0]] <= RETEST_LEVEL)


def binomial_tails(many: int, share: float) -> NDArray[np.float64]:
    """Give P(X >= k) for X binomial(n, share), by [n, k]."""
    tails = np.zeros((many + 1, many + 2))
    for total in range(many + 1):
        chances = [
            math.exp(
                math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
                + k * math.log(share) + (total - k) * math.log1p(-share)
            )
            for k in range(total + 1)
        ]  # fmt: skip
        tails[total, : total + 1] = np.cumsum(chances[::-1])[::-1]
    return tails


def flagger(drawn: Calls) -> NDArray[np.int64]:
    """Count failed checks: minute of the fifth."""
    calls, failed = by_minute(drawn)
    is_failed = (calls[..., 0] > 0) & (1.0 - failed[..., 0] / np.maximum(calls[..., 0], 1) < FLAGGER_GOOD)
    return first_at(is_failed.cumsum(axis=1) >= FLAGGER_CHECKS)


def flagged(minutes: NDArray[np.float64]) -> tuple[float, float]:
    """Give the percentage of trials that were flagged within the hour, and the median minute of those."""
    caught = minutes[minutes <= SLICES / PER_MINUTE]
    return 100.0 * len(caught) / len(minutes), float(np.median(caught)) if len(caught) else math.nan


def shown(percent: float, minute: float) -> str:
    """Write both."""
    return f"{percent:.3g} %" + (f", {minute:.1f} min" if minute == minute else "")  # noqa: PLR0124 - NaN.


def slices_to_minutes(first: NDArray[np.int64]) -> NDArray[np.float64]:
    """Turn slices into minutes."""
    return np.where(first == NEVER, NEVER, first / PER_MINUTE)


def run(size: str) -> Result:
    """Draw every case, and put what flags it side by side."""
    trials = TRIALS[size]
    rng = np.random.default_rng(SEED)
    rows: list[Row] = []
    computed: list[object] = []
    for failed in FAILED:
        drawn = failures(rng, trials, failed)
        log_e = evidence(drawn, settle=True)
        ours = flagged(slices_to_minutes(first_at(log_e >= math.log(1.0 / ALPHA))))
        lax = flagged(slices_to_minutes(first_at(log_e >= math.log(0.1 / ALPHA))))
        others = [flagged(rule(drawn).astype(float)) for rule in (retested_binomial, flagger)]
        computed.append((ours, lax, others))
        text = (
            f"{shown(*ours)} (at alpha {10 * ALPHA:g}: {shown(*lax)}; re-tested binomial "
            f"{shown(*others[0])}; Flagger's rule {shown(*others[1])})"
        )
        what = f"{100 * failed:g} % fail where {100 * USUAL:g} % is usual: rolled back"
        if failed == USUAL:
            rows.append(at_most(what, ours[0], FALSE_PERCENT_MAX, "% of rollouts", measured=text))
        else:
            rows.append(Row(what, text, ASKED[failed]))
    for slower, rate in [(one, 1.0) for one in SLOWER] + [(1.25, 6.0)]:
        log_e = evidence(latencies(rng, max(trials // 4, 20), slower, rate), settle=False)
        late = flagged(slices_to_minutes(first_at(log_e >= math.log(2.0 / ALPHA))))
        computed.append(late)
        per_min = f"{rate * CALLS_PER_MIN[0]:g} of {rate * sum(CALLS_PER_MIN):g} calls a minute"
        what = f"latency x{slower:g}, {per_min}: rolled back"
        if slower == 1.0:
            rows.append(at_most(what, late[0], FALSE_PERCENT_MAX, "% of rollouts", measured=shown(*late)))
        else:
            rows.append(Row(what, shown(*late)))
    notes = (
        f"{trials:,} rollouts a row for failures, {max(trials // 4, 20):,} for latency (one value a call).",
        "Figures asked for are those of the research notes: alpha 0.001, evidence that never starts anew.",
    )
    return Result(tuple(rows), SEED, digest_of(computed), notes)


BENCHMARK = Benchmark(
    "release_regression", "How soon is a bad release found, and how often is a good one rolled back?", run
)
