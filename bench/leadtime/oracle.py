"""The ceiling: one who knows that a cause may come, how big it would be and how ordinary traffic behaves.

CUSUM on the likelihood ratio of what is seen under the cause against ordinary traffic, sure at an average run
length of four weeks. Two kinds of evidence: arrivals (Poisson, the true rate against the ordinary one) and
stays (each call begun since the onset: ended at its age, or still there at it). It alarms on any such cause,
also on one that would stop short of the cap: a ceiling, not a target.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls
from bench.leadtime.traffic import HOLDING_SIGMA, STEP_S, Plan
from engine.kernel import allocating_kernel, kernel

ALARM = math.log(4 * 7 * 86_400 / STEP_S)  # one false alarm in four weeks of evaluations, at most


def arrival_evidence(
    counts: NDArray[np.float64], usual: NDArray[np.float64], true: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give ln of the likelihood ratio of each step's count; rates are a step's expected counts."""
    usual, true = np.maximum(usual, 1e-9), np.maximum(true, 1e-9)
    return np.asarray(counts * np.log(true / usual) - (true - usual))


@kernel
def log_survival(age_s: float, holding_s: float, sigma: float) -> float:
    """Give ln of the chance to hold longer than `age_s`, lognormal with mean `holding_s`."""
    z = (math.log(max(age_s, 1e-3) / holding_s) + 0.5 * sigma * sigma) / sigma
    return math.log(max(0.5 * math.erfc(z / math.sqrt(2.0)), 1e-300))


@allocating_kernel
def stay_evidence(
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    holding_s: NDArray[np.float64],
    leak_ratio: NDArray[np.float64],
    usual_and_step: tuple[float, float, float],
    steps: int,
) -> NDArray[np.float64]:
    """Give ln of the likelihood ratio of all stays, summed up to the end of each step.

    `start_s`, `end_s` are of the calls begun since the onset; `holding_s` and `leak_ratio` of each of them
    under the cause; `usual_and_step` = (ordinary holding time, sigma, step).
    """
    usual_s, sigma, step_s = usual_and_step
    evidence = np.zeros(steps)
    for i in range(len(start_s)):
        first = int(start_s[i] / step_s)
        for k in range(first, steps):
            age_s = (k + 1) * step_s - start_s[i]
            stays = 1.0 - leak_ratio[i]
            if start_s[i] + age_s < end_s[i]:
                usual = log_survival(age_s, usual_s, sigma)
                cause = stays * math.exp(log_survival(age_s, holding_s[i], sigma)) + leak_ratio[i]
                evidence[k] += math.log(max(cause, 1e-300)) - usual
                continue
            age_s = max(end_s[i] - start_s[i], 1e-3)
            usual_z = (math.log(age_s / usual_s) + 0.5 * sigma * sigma) / sigma
            cause_z = (math.log(age_s / holding_s[i]) + 0.5 * sigma * sigma) / sigma
            final = math.log(max(stays, 1e-300)) + 0.5 * (usual_z * usual_z - cause_z * cause_z)
            evidence[k:] += final
            break
    return evidence


def oracle_s(calls: Calls, usual: Plan, true: Plan, onset_s: float, until_s: float) -> float:
    """Give when the evidence since the onset is enough; inf: not before `until_s`."""
    steps = min(int(until_s / STEP_S), len(true.rate_per_s))
    first = int(onset_s / STEP_S)
    counts = np.bincount((calls.start_s / STEP_S).astype(np.int64), minlength=steps)[:steps]
    by_step = arrival_evidence(
        counts.astype(np.float64), usual.rate_per_s[:steps] * STEP_S, true.rate_per_s[:steps] * STEP_S
    )
    by_step[:first] = 0.0
    since = slice(*np.searchsorted(calls.start_s, (onset_s, steps * STEP_S)))
    at = (calls.start_s[since] / STEP_S).astype(np.int64)
    if np.array_equal(true.holding_s, usual.holding_s) and not true.leak_ratio.any():
        stays = np.zeros(steps)
    else:
        stays = stay_evidence(
            calls.start_s[since], calls.end_s[since], true.holding_s[at], true.leak_ratio[at],
            (float(usual.holding_s[0]), HOLDING_SIGMA, STEP_S), steps,
        )  # fmt: skip
    sure = np.flatnonzero(cusum(by_step + np.diff(stays, prepend=0.0)) >= ALARM)
    return float((sure[0] + 1) * STEP_S) if len(sure) else np.inf


def cusum(by_step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give how far the sum stands above its lowest so far, at each step; it starts at 0."""
    total = np.cumsum(by_step)
    return np.asarray(total - np.minimum.accumulate(np.minimum(total, 0.0)))
