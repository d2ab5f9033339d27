"""Slow twins of detectors/rate_excess.py: sums over every count there is, from probabilities."""

from __future__ import annotations

import math

from tests import oracle_headroom as headroom


def log_chances(most: int, mean: float, dispersion: float) -> list[float]:
    """Multiply the chances up, one count after the other: Panjer's recursion from none."""
    size = mean / (dispersion - 1.0) if dispersion > 1.0 else 0.0
    logs = [-size * math.log(dispersion) if size else -mean]
    for k in range(1, most + 1):
        ratio = (k - 1 + size) / k * (dispersion - 1.0) / dispersion if size else mean / k
        logs.append(logs[-1] + math.log(ratio))
    return logs


def log_chance(count: int, mean: float, dispersion: float) -> float:
    """Give the last one."""
    return log_chances(count, mean, dispersion)[-1]


def excess_above(mean: float, dispersion: float, cap: float, most: int = 3000) -> tuple[float, float]:
    """Add up every count above the cap."""
    if not (mean > 0 and cap >= 0):
        return 0.0, 0.0
    above = [
        (count, math.exp(log)) for count, log in enumerate(log_chances(most, mean, dispersion)) if count > cap
    ]
    return math.fsum((count - cap) * chance for count, chance in above), math.fsum(one for _, one in above)


def follow_rates(
    bank: list[headroom.Filter] | None,
    seen: tuple[float, float, float],
    noise: list[tuple[float, float]],
    damping: float,
    switch: float,
    steps: int,
    fresh: tuple[list[float], list[float]],
) -> list[headroom.Filter] | None:
    """Go on by `steps`, then see (count, watched, dispersion); None: nothing is known yet."""
    count, watched, dispersion = seen
    if bank is None:
        return headroom.first_level(count, watched, *fresh) if watched > 0 else None
    bank = headroom.pass_time(bank, noise, damping, switch, steps)
    return headroom.observe_row(bank, count, watched, dispersion) if watched > 0 else bank


def look_at_bins(
    bins: list[int], before: int, window: int, cap: float, high: float, per_second: int
) -> tuple[int, int, int, int, int]:
    """Look at every second of the slice and at every period that ends in it; `before` bins are earlier."""
    slice_ = bins[before:]
    seconds = [sum(slice_[at : at + per_second]) for at in range(0, len(slice_), per_second)]
    whole = seconds[: len(slice_) // per_second]
    periods = [sum(bins[end - window : end]) for end in range(before + 1, len(bins) + 1)]
    over, above = sum(one > cap for one in periods), sum(one > high for one in periods)
    return sum(slice_), sum(one * one for one in whole), max(periods, default=0), over, above
