"""Slow twins of the kernels that add a slice to evidence: by definition, one number after the other."""

from __future__ import annotations

import math
from typing import NamedTuple

GOES_ON_MIN, BACK_MIN, OVER, TALLY_MAX = 0.5, 5.0, 2.0, 3.0


def restarted_once(log_m: float, log_e: float) -> float:
    """Multiply M + 1 by the e-value."""
    return math.log(math.exp(log_m) + 1.0) + log_e


def log_mixture_once(log_m: list[float]) -> float:
    """Average."""
    mean = sum(math.exp(one) for one in log_m) / len(log_m)
    return math.log(mean) if mean > 0.0 else -1e9


def log_e_bernoulli_once(hits: float, trials: float, null: float, odds: float) -> float:
    """Compare the chances of what was seen."""
    likely = odds * null / (1.0 - null + odds * null)
    return hits * (math.log(likely) - math.log(null)) + (trials - hits) * (
        math.log1p(-likely) - math.log1p(-null)
    )


def log_dirichlet(tally: list[float], counts: list[float]) -> float:
    """Take one gamma function after the other."""
    chance = sum(
        math.lgamma(count + one) - math.lgamma(count) for count, one in zip(counts, tally, strict=True)
    )
    return chance - math.lgamma(sum(counts) + sum(tally)) + math.lgamma(sum(counts))


def log_ratio(tally: list[float], moved: list[float], usual: list[float]) -> float:
    """Say how much likelier it has moved (fill_log_ratios: log_moved less log_usual)."""
    return log_dirichlet(tally, moved) - log_dirichlet(tally, usual)


def log_for_usual(new: list[float], tally: list[float], usual: list[float]) -> float:
    """Compare usual shares with those of the tally and one usual value."""
    found = 0.0
    for number, count, many in zip(new, usual, tally, strict=True):
        share = count / sum(usual)
        found += number * math.log(share * (sum(tally) + 1.0) / (many + share))
    return found


class Slot(NamedTuple):
    """The evidence of one slot."""

    log_m: list[float]
    tally: list[list[float]]
    log_ratio: list[float]
    back: float


def weigh_slot(
    slot: Slot, new: list[float], usual: list[float], moved: list[list[float]], level: float, keep: float
) -> tuple[Slot, list[float]]:
    """Give the evidence after a slice, and its e-values."""
    is_told = log_mixture_once(slot.log_m) >= level
    if not usual[0] or (not is_told and not sum(new)):
        return slot, [0.0] * len(moved)
    faded = [[one * (keep if is_told else 1.0) for one in tally] for tally in slot.tally]
    best = slot.log_ratio.index(max(slot.log_ratio))
    back = max(slot.back + log_for_usual(new, faded[best], usual), 0.0) if is_told else 0.0
    tallies = [[one + more for one, more in zip(tally, new, strict=True)] for tally in faded]
    ratios = [log_ratio(tally, law, usual) for tally, law in zip(tallies, moved, strict=True)]
    log_e = [0.0 if is_told else now - was for now, was in zip(ratios, slot.log_ratio, strict=True)]
    log_m = slot.log_m if is_told else [restarted_once(*one) for one in zip(slot.log_m, log_e, strict=True)]
    is_over = is_told and (max(ratios) < GOES_ON_MIN or back > BACK_MIN)
    if is_over:
        return Slot(
            [min(one, level - OVER) for one in log_m], [[0.0] * len(new) for _ in moved],
            [0.0] * len(moved), 0.0,
        ), log_e  # fmt: skip
    for k, law in enumerate(moved):
        surplus = sum(tallies[k]) / (TALLY_MAX * sum(usual))
        tallies[k] = [one / max(surplus, 1.0) for one in tallies[k]]
        ratios[k] = log_ratio(tallies[k], law, usual)
        if not is_told and ratios[k] < 0.0:
            tallies[k], ratios[k] = [0.0] * len(new), 0.0
    return Slot(log_m, tallies, ratios, back), log_e


def add_evidence(
    log_m: list[float], errors: int, ended: int, steps: list[tuple[float, float]], most: float
) -> list[float]:
    """Look at all attempts of a slice at once; `steps` are those of a failed one and of another."""
    found = log_m
    if ended:
        found = [
            restarted_once(one, errors * failed + (ended - errors) * fine)
            for one, (failed, fine) in zip(log_m, steps, strict=True)
        ]
    return [min(one, most) for one in found]


def count_parts(
    slot: list[int], many: list[int], columns: list[int], table: list[list[int]]
) -> list[list[int]]:
    """Say of each place what it has after the slice."""
    return [
        [
            value + sum(more for own, more in zip(slot, many, strict=True) if own == at and column in columns)
            for column, value in enumerate(row)
        ]
        for at, row in enumerate(table)
    ]


def add_to_cuts(
    wall_s: float, lower_s: list[float], past: list[int], new: list[int], rule: tuple[float, float, float]
) -> tuple[float, float]:
    """Give what a minute adds to the evidence of one wall, and to what is missed; NaN: it begins anew.

    `past` and `new` are calls by column, the columns being [lower_s, ...) (column_from).
    """
    slack, near, seen_min = rule

    def beyond(calls: list[int], from_s: float) -> int:
        return sum(many for low, many in zip(lower_s, calls, strict=True) if low >= from_s)

    if math.isnan(wall_s) or beyond(new, wall_s * slack):
        return math.nan, math.nan
    seen = beyond(past, wall_s * slack)
    if seen < seen_min:
        return 0.0, 0.0
    share = min((seen - math.sqrt(seen)) / beyond(past, wall_s * near), 0.95)
    return -beyond(new, wall_s * near) * math.log(1.0 - share), beyond(new, wall_s * near) * share


class Share(NamedTuple):
    """What stream_incomplete knows of one share."""

    bad: float
    all: float
    log_m: list[float]
    new_bad: float
    new_all: float
    since_ns: int


class ShareRule(NamedTuple):
    """Its constants."""

    floor: float
    effect: float
    usual_max: float
    calls_min: float
    odds: tuple[float, ...]
    log_m_max: float
    doubt: float
    doubt_ns: int
    keep: float


def weigh_shares(share: Share, bad: float, total: float, span_ns: tuple[int, int], rule: ShareRule) -> Share:
    """Add a slice to one share."""
    start_ns, end_ns = span_ns
    usual = max(share.bad / max(share.all, 1.0), rule.floor)
    log_m = share.log_m
    if total and usual * rule.effect <= rule.usual_max and share.all - share.bad >= rule.calls_min:
        log_m = [
            restarted_once(one, log_e_bernoulli_once(bad, total, usual * rule.effect, odds))
            for one, odds in zip(log_m, rule.odds, strict=True)
        ]
    log_m = [min(one, rule.log_m_max) for one in log_m]
    is_old = share.since_ns >= 0 and end_ns - share.since_ns > rule.doubt_ns
    if is_old:
        log_m = [-math.inf for _ in log_m]
        share = share._replace(bad=share.new_bad, all=share.new_all)
    if log_mixture_once(log_m) > rule.doubt:
        since_ns = share.since_ns if share.since_ns >= 0 else start_ns
        return Share(share.bad, share.all, log_m, share.new_bad + bad, share.new_all + total, since_ns)
    return Share(rule.keep * share.bad + bad, rule.keep * share.all + total, log_m, 0.0, 0.0, -1)
