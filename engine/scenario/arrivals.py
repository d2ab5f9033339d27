"""Who calls when: Poisson arrivals at a rate that is constant within each second, and bursts of dialers.

Everything random of one statement is drawn from a generator of its own, made of the seed and what is drawn:
to add a statement changes nothing that was there before.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from engine.scenario.callers import Burst, Profile, RateChange
from engine.scenario.zones import SATURDAY, SECONDS_PER_DAY, local_s

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.scenario.callers import Group
    from engine.scenario.scenario import Scenario


def generator(scenario: Scenario, *purpose: object) -> np.random.Generator:
    """Give the generator of one purpose."""
    name = " ".join(map(str, purpose))
    return np.random.default_rng([scenario.frame.seed, zlib.crc32(name.encode())])


def draw_arrivals(scenario: Scenario) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give when each caller first calls (s), in order, and its group; arrays of shape (callers,)."""
    starts: list[NDArray[np.float64]] = [np.empty(0)]
    groups: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for row, group in enumerate(scenario.groups):
        if group.parent:
            continue
        start_s = np.concatenate((_poisson(scenario, group, row), _bursts(scenario, group, row)))
        starts.append(start_s)
        groups.append(np.full(len(start_s), row, np.int64))
    start_s = np.concatenate(starts)
    order = np.argsort(start_s, kind="stable")
    order = order[start_s[order] < scenario.frame.length_s]
    start_s, group_row = start_s[order], np.concatenate(groups)[order]
    return start_s, _shared_out(scenario, start_s, group_row)


def rate_per_s(scenario: Scenario, group: Group, row: int) -> NDArray[np.float64]:
    """Give the rate of a group in each second, shape (seconds,)."""
    at_s = np.arange(math.ceil(scenario.frame.length_s), dtype=np.float64)
    rate = group.rate_per_s * group.change.weight(at_s)
    for profile in scenario.of(Profile):
        if scenario.members(profile.group)[row]:
            rate *= _profile_factor(profile, scenario.frame.start_ns, at_s)
    for change in scenario.of(RateChange):
        if scenario.members(change.group)[row]:
            rate = _changed(rate, change, at_s)
    return np.asarray(rate, np.float64)


def _changed(rate: NDArray[np.float64], change: RateChange, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply one change. A rate that doubles stays where it is when its `over` has passed."""
    if change.doubling_s > 0:
        grown_s = at_s - change.change.from_s
        if change.change.over_s > 0:
            grown_s = np.minimum(grown_s, change.change.over_s)
        is_grown = (at_s >= change.change.from_s) & (at_s < change.change.until_s)
        return rate * np.where(is_grown, 2.0 ** (np.maximum(grown_s, 0.0) / change.doubling_s), 1.0)
    weight = change.change.weight(at_s)
    if change.to_per_s >= 0:
        return rate + (change.to_per_s - rate) * weight
    return rate * (1.0 + (change.factor - 1.0) * weight)


def _profile_factor(profile: Profile, start_ns: int, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    local = local_s(start_ns, at_s, profile.zone)
    factor = np.interp(local % SECONDS_PER_DAY, profile.at_s, profile.factor, period=SECONDS_PER_DAY)
    is_weekend = np.floor(local / SECONDS_PER_DAY) % 7 >= SATURDAY
    return np.where(is_weekend, factor * profile.weekend_factor, factor)


def _poisson(scenario: Scenario, group: Group, row: int) -> NDArray[np.float64]:
    rng = generator(scenario, "calls", group.name)
    counts = rng.poisson(rate_per_s(scenario, group, row) / group.bunch)
    first_s = np.repeat(np.arange(len(counts)), counts) + rng.random(int(counts.sum()))
    if group.bunch == 1:
        return np.asarray(first_s, np.float64)
    return np.repeat(first_s, group.bunch) + rng.random(len(first_s) * group.bunch)


def _bursts(scenario: Scenario, group: Group, row: int) -> NDArray[np.float64]:
    parts = [np.empty(0)]
    for number, burst in enumerate(scenario.of(Burst)):
        if not scenario.members(burst.group)[row]:
            continue
        rng = generator(scenario, "burst", number, group.name)
        until_s = min(burst.until_s, scenario.frame.length_s)
        times = np.arange(burst.at_s, until_s, burst.every_s) if burst.every_s else np.array([burst.at_s])
        parts.append(np.repeat(times, burst.calls) + rng.random(len(times) * burst.calls) * burst.within_s)
    return np.concatenate(parts)


def _shared_out(
    scenario: Scenario, start_s: NDArray[np.float64], group: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Move callers to the shares of their group; shares of one group never overlap."""
    for parent_row, parent in enumerate(scenario.groups):
        shares = [(row, one) for row, one in enumerate(scenario.groups) if one.parent == parent.name]
        if not shares:
            continue
        drawn = generator(scenario, "share", parent.name).random(len(start_s))
        is_parent = group == parent_row
        taken = np.zeros(len(start_s))
        for row, share in shares:
            upto = taken + share.share_ratio * share.change.weight(start_s)
            group = np.where(is_parent & (drawn >= taken) & (drawn < upto), row, group)
            taken = upto
    return group
