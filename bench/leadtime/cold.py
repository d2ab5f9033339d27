"""Starts from nothing.

How often the shipped detector pages on a steady load, and how early on a rising one.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls
from bench.leadtime.paging import page_steps
from bench.leadtime.product import product_scores
from bench.leadtime.traffic import STEP_S, start_flat, start_rising
from bench.leadtime.truth import first_decline_s

LASTS_S = 3600.0
LOADS = (0.40, 0.55, 0.65, 0.75)
HOLDINGS_S = (20.0, 60.0, 180.0, 600.0)
CAPS = (20.0, 50.0, 80.0, 100.0, 300.0, 1000.0)
RISE_FROM = 0.15
MINUTES_TO_FULL = (8.0, 15.0, 30.0)
RISING_HOLDINGS_S = (20.0, 180.0)
RISING_CAPS = (80.0, 300.0, 1000.0)


class Start(NamedTuple):
    """One start, with what it is and when its first call is declined (inf: never)."""

    group: str
    cap: float
    calls: Calls
    decline_s: float


def flat_starts(repeats: int, seed: int) -> list[Start]:
    """Draw steady loads on an empty platform."""
    rng = np.random.default_rng([seed, 100])
    starts = []
    for load, holding_s, cap, _ in itertools.product(LOADS, HOLDINGS_S, CAPS, range(repeats)):
        calls = start_flat(load, cap, holding_s, LASTS_S, rng)
        starts.append(Start(f"{100 * load:.0f} % of the cap", cap, calls, first_decline_s(calls, cap)))
    return starts


def rising_starts(repeats: int, seed: int) -> list[Start]:
    """Draw go-lives that rise from 15 % of the cap to all of it, linearly or exponentially."""
    rng = np.random.default_rng([seed, 101])
    share = np.arange(int(LASTS_S / STEP_S)) * STEP_S / 60.0
    starts = []
    for shape, minutes, holding_s, cap, _ in itertools.product(
        ("linear", "exponential"), MINUTES_TO_FULL, RISING_HOLDINGS_S, RISING_CAPS, range(repeats)
    ):
        linear = RISE_FROM + (1 - RISE_FROM) * share / minutes
        load = linear if shape == "linear" else RISE_FROM ** (1 - share / minutes)
        calls = start_rising(np.minimum(load, 1.5), cap, holding_s, rng)
        group = f"{shape}, full in {minutes:.0f} min, holding {holding_s:.0f} s"
        starts.append(Start(group, cap, calls, first_decline_s(calls, cap)))
    return starts


def first_pages_s(starts: list[Start]) -> NDArray[np.float64]:
    """Give when the shipped detector first pages; inf: never."""
    scores = product_scores(tuple(s.calls for s in starts), np.array([s.cap for s in starts]), LASTS_S)
    fires = np.where(scores.page >= scores.page_threshold, 1.0, 0.0)
    into = np.empty(fires.shape[1], np.int64)
    return np.array([(into[0] + 1) * STEP_S if page_steps(row, 1.0, 0, into) else np.inf for row in fires])


def cold_table(repeats: int, seed: int) -> str:
    """Lay it out as Markdown."""
    flat, rising = flat_starts(repeats, seed), rising_starts(repeats, seed)
    flat_pages, rising_pages = first_pages_s(flat), first_pages_s(rising)
    lines = ["| steady load, first hour | starts without a decline | paged |", "|---|---|---|"]
    for group in dict.fromkeys(s.group for s in flat):
        safe = [k for k, s in enumerate(flat) if s.group == group and not np.isfinite(s.decline_s)]
        lines.append(f"| {group} | {len(safe)} | {int(np.isfinite(flat_pages[safe]).sum())} |")
    lines += ["", "| go-live | median lead, min | 10th percentile | paged too late, % |", "|---|---|---|---|"]
    for group in dict.fromkeys(s.group for s in rising):
        at = [k for k, s in enumerate(rising) if s.group == group]
        lead = np.array([(rising[k].decline_s - rising_pages[k]) / 60.0 for k in at])
        lead = np.maximum(lead, -1.0)
        late = 100 * float(np.mean(lead < 1.0))
        lines.append(f"| {group} | {np.median(lead):.1f} | {np.quantile(lead, 0.1):.1f} | {late:.0f} |")
    return "\n".join(lines)
