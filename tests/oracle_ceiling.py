"""Slow, obvious twins of detectors/ceiling.py: orders of steps one step at a time, ceilings bin by bin."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

EVENTS_MAX, DEPTHS, OVER_BINS_MAX, CALLS_MIN, SEEN = 12, 32, 50, 8.0, 0.5


@cache
def walks(room: int, ups: int, downs: int) -> tuple[int, int]:
    """Count the orders of steps that climb at most `room`, and their visits up there."""
    if room < 0:
        return 0, 0
    ways, visits = (1, 0) if ups == downs == 0 else (0, 0)
    for left, one in (((room - 1, ups - 1, downs), ups), ((room + 1, ups, downs - 1), downs)):
        if one:
            more = walks(*left)
            ways, visits = ways + more[0], visits + more[1]
    return ways, visits + (ways if room == 0 else 0)


def paths(room: int, ups: int, downs: int) -> tuple[float, float]:
    """Give ln of the share of orders that climb at most `room`, and the mean share of time spent up there."""
    ways, visits = walks(room, ups, downs)
    if not ways:
        return -math.inf, 0.0
    return math.log(ways / math.comb(ups + downs, ups)), visits / ways / (ups + downs + 1)


class Bin(NamedTuple):
    """What one bin says."""

    level: int
    arrivals: int
    declines: int


class Row:
    """One instance."""

    def __init__(self) -> None:
        self.level = self.ceiling = self.peak = self.peak_before = 0
        self.declines = self.refills = self.touches = self.since = self.bins = 0
        self.new_declines = self.new_touches = 0
        self.is_armed = False
        self.over: list[Bin] = []  # the excursion above the ceiling, if there is one
        self.over_from = 0  # the level before it
        self.over_spans = False
        self.attempts_below = self.declines_below = self.roughness = self.expected = 0.0
        self.log_e = self.missing = self.residual = self.slice_calls = self.at_ceiling_s = 0.0
        self.rate = self.cautious_rate = 0.0
        self.calls, self.seconds = [0.0] * DEPTHS, [0.0] * DEPTHS

    def fade(self, keep: float) -> None:
        """Let what is old count less."""
        for name in ("roughness", "expected", "at_ceiling_s"):
            setattr(self, name, getattr(self, name) * keep)
        self.calls = [one * keep for one in self.calls]
        self.seconds = [one * keep for one in self.seconds]

    def move_ceiling(self, ceiling: int) -> None:
        """Begin anew at another ceiling."""
        moved = ceiling - self.ceiling
        for name in ("calls", "seconds"):
            fresh = [0.0] * DEPTHS
            for depth, value in enumerate(getattr(self, name)):
                to = min(depth + moved, DEPTHS - 1)
                if to >= 0:
                    fresh[to] += value
            setattr(self, name, fresh)
        if moved > 0:
            self.attempts_below += self.declines
            self.declines_below += self.declines
        self.log_e = self.missing = self.at_ceiling_s = 0.0
        self.ceiling, self.touches, self.declines, self.refills, self.bins = ceiling, 0, 0, 0, 0
        self.is_armed = False
        self.over = []

    def begin_quarter(self) -> None:
        """Forget the peak before the last one."""
        highest = max(self.peak, self.peak_before)
        if highest < self.ceiling and not self.over:
            self.move_ceiling(highest)
        self.peak_before, self.peak = self.peak, self.level

    def walk_bins(self, bins: list[Bin], bin_s: float, errors: float, caution: float) -> None:
        """Take in one slice."""
        calls, seconds = sum(self.calls), sum(self.seconds)
        self.rate = calls / seconds if calls >= CALLS_MIN and seconds > 0.0 else 0.0
        share = 1.0 - errors / math.sqrt(max(calls, CALLS_MIN))
        self.cautious_rate = max(min(share, caution), 0.0) * self.rate
        self.new_declines = self.new_touches = 0
        self.over_spans |= bool(self.over)
        accepted = expected = 0.0
        for one in bins:
            if self.over or one.level > self.ceiling:
                self.walk_over(one, bin_s)
            else:
                below_s, came = self.walk_under(one, bin_s)
                accepted += came
                expected += self.rate * below_s
            self.peak = max(self.peak, min(one.level, self.ceiling))
            self.level = one.level
        residual = accepted - expected
        self.roughness += (residual - self.residual) ** 2 / 2
        self.expected += (expected + self.slice_calls) / 2
        self.residual, self.slice_calls = residual, expected

    def at_the_top(self, top: int, before: int, one: Bin) -> tuple[float, float]:
        """Give the share of the bin at the top and the ln of the share of orders below it."""
        ups, downs = self.steps_of(before, one)
        if max(ups, downs) > EVENTS_MAX or not 0 <= top - before <= EVENTS_MAX or one.level > top:
            return 0.0, 0.0
        log_share, dwelt = paths(top - before, ups, downs)
        return dwelt, log_share

    def steps_of(self, before: int, one: Bin) -> tuple[int, int]:
        """Count the steps up and down."""
        ups = max(one.arrivals - one.declines, one.level - before, 0)
        return ups, ups + before - one.level

    def walk_over(self, one: Bin, bin_s: float) -> None:
        """Go on with an excursion; when it is over, look at all of it."""
        if not self.over:
            self.over_from, self.over_spans = self.level, False
        self.over.append(one)
        is_above = one.level > self.ceiling
        if is_above and len(self.over) <= OVER_BINS_MAX:
            return
        levels = [self.over_from, *(each.level for each in self.over)]
        peak = max(levels[1:])
        first = levels.index(peak, 1) - 1
        declined = sum(each.declines for each in self.over[first:])
        ends = any(
            before > each.level and each.declines < before - each.level
            for before, each in zip(levels, self.over, strict=False)
        )
        seen = self.declines + declined + self.declines_below > SEEN
        if not is_above and (not ends or (self.over_spans and seen)):
            self.over, self.since = [], 0
            self.declines += declined
            self.new_declines += declined
            self.is_armed = True
            return
        at_s = log_e = 0.0
        for before, each in zip(levels[first + 1 :], self.over[first + 1 :], strict=False):
            share, log_share = self.at_the_top(peak, before, each)
            if share > 0 and not each.declines:
                at_s += share * bin_s
                log_e += self.cautious_rate * share * bin_s + log_share
        self.move_ceiling(peak)
        self.touches = self.new_touches = 1
        self.declines = self.new_declines = declined
        self.is_armed = declined > 0
        self.log_e, self.missing, self.at_ceiling_s = log_e, self.rate * at_s, at_s
        self.since = 0
        self.peak = max(self.peak, peak)

    def walk_under(self, one: Bin, bin_s: float) -> tuple[float, float]:
        """Take in a bin at the ceiling or below."""
        ceiling, before = self.ceiling, self.level
        ups, _ = self.steps_of(before, one)
        share, log_share = self.at_the_top(ceiling, before, one)
        is_at = share > 0 or one.level == ceiling
        self.since = 0 if is_at else self.since + 1
        if is_at and ups:
            self.touches += 1
            self.new_touches += 1
        if before < ceiling == one.level:
            self.refills += self.is_armed
            self.is_armed = False
        self.bins += 1
        keep = 0.5 ** ((ups + one.declines) / 60.0)
        self.attempts_below = keep * self.attempts_below + ups
        self.declines_below *= keep
        if one.declines and ceiling > 0 and self.since <= 1:
            self.declines += one.declines
            self.new_declines += one.declines
            self.is_armed = True
        else:
            self.declines_below += one.declines
            self.attempts_below += one.declines
        self.at_ceiling_s += share * bin_s
        if share > 0 and not one.declines and self.rate > 0:
            self.log_e += self.cautious_rate * share * bin_s + log_share
            self.missing += self.rate * share * bin_s
        depth = min(max(ceiling - before, 1), DEPTHS) - 1
        self.calls[depth] += ups
        self.seconds[depth] += (1 - share) * bin_s
        return (1 - share) * bin_s, float(ups)
