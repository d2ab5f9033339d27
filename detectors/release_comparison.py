"""One release beside the older ones: what is counted of both, and what it has come to so far.

Calls are compared within strata (the other labels of a series), so a canary that was given the hard tenant is
no regression. Failures are ends that were errors. Latencies are compared by how many exceed the older
releases' own q50, q90 and q99 of the last half hour by about a tenth, scores by how many fall below their
q50, q10 and q1. Without that tenth, a stage that hardly varies would cost a rollback for a fraction of a
millisecond.
Short calls end first: soon after a release began to take calls, or took more of them, too few of its good
calls have ended. While that is so, its share is at least its share of the calls that began.
Rejected: its share of the traffic over minutes, whose error adds up where many calls fail anyway.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.release_evidence import (
    NO_SHARE,
    ODDS,
    START_WEIGHT,
    log_average,
    log_e_block,
    log_e_not_worse,
    with_restart,
)
from detectors.release_rows import Releases
from detectors.rows import grown
from engine.judge.detection import MINUTE_NS, NS
from engine.observe.latency import BUCKETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary

FAILURES, LATENCY, QUALITY = "failures", "latency", "quality"
LEVELS = {LATENCY: (0.5, 0.9, 0.99), QUALITY: (0.5, 0.1, 0.01)}
CANARY, BASELINE = 0, 1


class Params(NamedTuple):
    """Constants, with units."""

    block_calls: int = 5  # (or values) of each side close a block ...
    block_ns: int = 5 * MINUTE_NS  # ... or its age does
    reference_calls: int = 200  # of the baseline, before its quantiles mean anything
    reference_half_ns: int = 30 * MINUTE_NS
    slower_buckets: int = 4  # of 2 % each, above the quantile's own: what is less slow than that is not worse
    settle_ns: int = 5 * MINUTE_NS  # after the first call: fewer good calls than bad ones have ended
    settle_deviations: float = 1.5  # by which its share of starts exceeds that of ends
    flows_half_ns: tuple[int, ...] = (NS, 30 * NS, 3 * MINUTE_NS)  # a step shows first in the shortest
    likeness: float = 0.1  # correlation between values of one call, which are no independent evidence
    dispersion_max: float = 4.0
    learn_calls: int = 30  # of the canary, before "not worse" is asked
    margin_ratio: float = 2.0  # failures up to twice as often, or ...
    margin_floor: float = 0.01  # ... one in a hundred more, are not called worse
    margin_odds: float = 1.5  # (or by the same floor) of exceedances of quantiles


PARAMS = Params()


class Signals(NamedTuple):
    """What is compared: (kind, stage or metric), failures first; and which facts belong to which."""

    names: tuple[tuple[str, str], ...]
    latency: NDArray[np.int16]  # (latency rows,) signal; -1: not compared
    score: NDArray[np.int16]  # (score rows,)
    signals_refused: int = 0  # stages and metrics without room


class Comparison(NamedTuple):
    """Of one release. Sides are (canary, baseline), levels the quantiles; failures use the first level."""

    canary: int  # number of the release
    since_ns: int
    calls: NDArray[np.float64]  # (strata, signals, 2) open blocks
    bad: NDArray[np.float64]  # (strata, signals, levels, 2)
    opened_ns: NDArray[np.int64]  # (strata, signals) -1: empty
    arrivals: NDArray[np.float64]  # (strata, 2) since the block of failures was opened
    log_m: NDArray[np.float64]  # (signals, levels, odds)
    log_not_worse: NDArray[np.float64]  # (signals, levels)
    seen: NDArray[np.float64]  # (signals, 2) in closed blocks with both sides
    seen_bad: NDArray[np.float64]  # (signals, levels, 2)
    usual: NDArray[np.float64]  # (signals, levels) bad ones of the canary, had it been like its baseline
    reference: NDArray[np.float64]  # (signals, buckets) values of the baseline
    flow: NDArray[np.float64]  # (spans, 2, 2) starts and ends lately, by side
    settling_ns: int  # when it was last settling; blocks that were open then are weighed with care
    arrived: float  # calls of both sides
    rollback_ns: int  # since when the verdict is rollback; -1: it is not


def new_comparison(canary: int, since_ns: int, strata: int, signals: int) -> Comparison:
    """Begin a comparison."""
    none = Comparison(
        canary=canary,
        since_ns=since_ns,
        calls=np.zeros((0, 0, 2)),
        bad=np.zeros((0, 0, 3, 2)),
        opened_ns=np.zeros((0, 0), np.int64),
        arrivals=np.zeros((0, 2)),
        log_m=np.zeros((0, 3, len(ODDS))),
        log_not_worse=np.zeros((0, 3)),
        seen=np.zeros((0, 2)),
        seen_bad=np.zeros((0, 3, 2)),
        usual=np.zeros((0, 3)),
        reference=np.zeros((0, BUCKETS)),
        flow=np.zeros((len(PARAMS.flows_half_ns), 2, 2)),
        settling_ns=since_ns,
        arrived=0.0,
        rollback_ns=-1,
    )
    return widened(none, strata, signals)


def widened(one: Comparison, strata: int, signals: int) -> Comparison:
    """Make room for more strata and signals."""
    if one.calls.shape[:2] == (strata, signals):
        return one

    def both(array: NDArray[np.float64]) -> NDArray[np.float64]:
        larger = np.zeros((strata, signals, *array.shape[2:]))
        larger[: array.shape[0], : array.shape[1]] = array
        return larger

    opened_ns = np.full((strata, signals), -1, np.int64)
    opened_ns[: one.opened_ns.shape[0], : one.opened_ns.shape[1]] = one.opened_ns
    return one._replace(
        calls=both(one.calls),
        bad=both(one.bad),
        opened_ns=opened_ns,
        arrivals=grown(one.arrivals, strata, 0.0),
        log_m=grown(one.log_m, signals, math.log(START_WEIGHT)),
        log_not_worse=grown(one.log_not_worse, signals, 0.0),
        seen=grown(one.seen, signals, 0.0),
        seen_bad=grown(one.seen_bad, signals, 0.0),
        usual=grown(one.usual, signals, 0.0),
        reference=grown(one.reference, signals, 0.0),
    )


class Sides(NamedTuple):
    """Which window rows are of the canary, and which of its baseline."""

    side: NDArray[np.int8]  # (window rows,) -1: neither
    stratum: NDArray[np.int32]  # (window rows,)
    strata: int


def sides_of(known: Releases, canary: int, older: NDArray[np.bool_]) -> Sides:
    """Split the rows; `older` (releases,) says which releases are the baseline."""
    by_release = np.where(older, BASELINE, -1).astype(np.int8)
    by_release[canary] = CANARY
    of_row = by_release[known.row_release]
    return Sides(
        np.where(known.row_release >= 0, of_row, -1).astype(np.int8), known.row_stratum, len(known.strata)
    )


def by_stratum(sides: Sides, row: NDArray[np.int32], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add up `values` (facts, ...) of window rows `row` by stratum and side: (strata, 2, ...).

    What the release has beyond its series rows is left for stratum 0.
    """
    side, stratum = sides.side[row], sides.stratum[row]
    found = np.zeros((sides.strata, 2, *values.shape[1:]))
    is_own = (side >= 0) & (stratum >= 0)
    np.add.at(found, (stratum[is_own], side[is_own]), values[is_own])
    is_series = (side >= 0) & (stratum != 0)
    np.subtract.at(found[0], side[is_series], values[is_series])
    return np.maximum(found, 0.0)


def advanced(
    one: Comparison, sides: Sides, signals: Signals, summary: WindowSummary, params: Params = PARAMS
) -> Comparison:
    """Add one slice, close the blocks that have enough, and weigh them."""
    one = widened(one, sides.strata, len(signals.names))
    one = _with_calls(one, sides, summary, params)
    one = _with_values(one, sides, signals, summary, params)
    held = one.calls[:, :, CANARY] + one.calls[:, :, BASELINE]
    held[:, 0] += one.arrivals.sum(axis=1)
    opened_ns = np.where((one.opened_ns < 0) & (held > 0.0), summary.start_ns, one.opened_ns)
    is_full = one.calls.min(axis=2) >= params.block_calls
    # Which calls end soon depends on how they go; how many begin does not.
    is_full[:, 0] = one.arrivals.min(axis=1) >= params.block_calls
    is_old = (opened_ns >= 0) & (summary.end_ns - opened_ns >= params.block_ns)
    closed = is_full | is_old
    one = one._replace(
        opened_ns=opened_ns,
        log_m=with_restart(one.log_m, summary.end_ns - summary.start_ns),
        settling_ns=summary.end_ns if is_settling(one, summary.end_ns, params) else one.settling_ns,
    )
    return _weighed(one, closed, params) if closed.any() else one


def _with_calls(one: Comparison, sides: Sides, summary: WindowSummary, params: Params) -> Comparison:
    rows = np.flatnonzero(sides.side >= 0).astype(np.int32)
    arrived = summary.windows.arrivals_in_slice[rows]
    table = np.stack([arrived, summary.facts.ended[rows], summary.facts.errors[rows]], axis=1)
    found = by_stratum(sides, rows, table.astype(np.float64))
    calls, bad = one.calls.copy(), one.bad.copy()
    calls[:, 0] += found[:, :, 1]
    bad[:, 0, 0] += found[:, :, 2]
    kept = 0.5 ** ((summary.end_ns - summary.start_ns) / np.array(params.flows_half_ns))
    flow = one.flow * kept[:, None, None] + found[:, :, :2].sum(axis=0).T
    return one._replace(
        calls=calls,
        bad=bad,
        arrivals=one.arrivals + found[:, :, 0],
        flow=flow,
        arrived=one.arrived + float(found[:, :, 0].sum()),
    )


def _with_values(
    one: Comparison, sides: Sides, signals: Signals, summary: WindowSummary, params: Params
) -> Comparison:
    """Sort the latencies and scores of the slice by what the quantiles of the baseline were before it."""
    latency, scores, windows = summary.facts.latency, summary.facts.scores, summary.windows
    row = np.concatenate([windows.latency_row[latency.row], scores.score_row[scores.row]])
    signal = np.concatenate([signals.latency[latency.row], signals.score[scores.row]])
    bucket = np.concatenate([latency.bucket, scores.bin]).astype(np.int64)
    counted = np.concatenate([latency.counted, scores.counted]).astype(np.float64)
    of_both = (signal >= 0) & (sides.side[row] >= 0)
    kept = 0.5 ** ((summary.end_ns - summary.start_ns) / params.reference_half_ns)
    if not of_both.any():
        return one._replace(reference=one.reference * kept)
    row, signal, bucket, counted = row[of_both], signal[of_both], bucket[of_both], counted[of_both]
    limits, is_known = thresholds(one.reference, signals.names, params)
    is_score = np.array([kind == QUALITY for kind, _ in signals.names])[signal]
    above, below = bucket[:, None] > limits[signal], bucket[:, None] < limits[signal]
    is_bad = np.where(is_score[:, None], below, above)
    table = np.concatenate([counted[:, None], counted[:, None] * is_bad], axis=1)
    calls, bad = one.calls.copy(), one.bad.copy()
    for number in np.unique(signal):
        if is_known[number]:
            of_it = signal == number
            found = by_stratum(sides, row[of_it].astype(np.int32), table[of_it])
            calls[:, number] += found[:, :, 0]
            bad[:, number] += np.swapaxes(found[:, :, 1:], 1, 2)
    reference = one.reference * kept
    is_usual = (sides.side[row] == BASELINE) & (sides.stratum[row] == 0)
    np.add.at(reference, (signal[is_usual], bucket[is_usual]), counted[is_usual])
    return one._replace(calls=calls, bad=bad, reference=reference)


def thresholds(
    reference: NDArray[np.float64], names: tuple[tuple[str, str], ...], params: Params
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give the last buckets that are not worse (signals, levels), and which signals have seen enough.

    For scores they are those of the quantiles, for latencies a tenth above them.
    """
    total = reference.sum(axis=1)
    cumulative = np.cumsum(reference, axis=1)
    limits = np.zeros((len(names), 3), np.int64)
    for number, (kind, _) in enumerate(names):
        if kind in LEVELS:
            wanted = np.array(LEVELS[kind]) * total[number]
            limits[number] = np.searchsorted(cumulative[number], wanted, side="left")
            limits[number] += params.slower_buckets * (kind == LATENCY)
    return limits, total >= params.reference_calls


def _weighed(one: Comparison, closed: NDArray[np.bool_], params: Params) -> Comparison:
    """Turn closed blocks into evidence, and empty them."""
    stratum, signal = np.nonzero(closed)
    calls, bad = one.calls[stratum, signal], one.bad[stratum, signal]
    begun = one.arrivals[stratum]
    share = begun[:, CANARY] / np.maximum(begun.sum(axis=1), 1.0)
    was_settling = (signal == 0) & (one.opened_ns[stratum, signal] < one.settling_ns)
    share_min = np.where(was_settling, share, NO_SHARE)
    dispersion = dispersions(one, params)
    log_e = log_e_block(calls[:, None, :], bad, share_min[:, None]) / dispersion[signal][:, None, None]
    log_m = one.log_m.copy()
    np.add.at(log_m, signal, log_e)
    is_shared = (calls > 0).all(axis=1)
    signal_of = signal[is_shared]
    seen, seen_bad, usual = np.zeros_like(one.seen), np.zeros_like(one.seen_bad), np.zeros_like(one.usual)
    np.add.at(seen, signal_of, calls[is_shared])
    np.add.at(seen_bad, signal_of, bad[is_shared])
    weight = calls[is_shared][:, CANARY] / calls[is_shared][:, BASELINE]
    np.add.at(usual, signal_of, weight[:, None] * bad[is_shared][..., BASELINE])
    log_not_worse = one.log_not_worse + _log_not_worse(one, seen, seen_bad, params) / dispersion[:, None]
    kept = ~closed
    return one._replace(
        calls=one.calls * kept[..., None],
        bad=one.bad * kept[..., None, None],
        opened_ns=np.where(closed, -1, one.opened_ns),
        arrivals=one.arrivals * kept[:, :1],
        log_m=log_m,
        log_not_worse=log_not_worse,
        seen=one.seen + seen,
        seen_bad=one.seen_bad + seen_bad,
        usual=one.usual + usual,
    )


def _log_not_worse(
    one: Comparison, seen: NDArray[np.float64], seen_bad: NDArray[np.float64], params: Params
) -> NDArray[np.float64]:
    """Weigh new blocks against "worse than the margin"; what is usual is known from the blocks before."""
    usual = np.clip((one.usual + 0.5) / (one.seen[:, :1] + 1.0), 1e-6, 0.8)
    odds = params.margin_odds * usual / (1.0 - usual)
    margin = np.maximum(odds / (1.0 + odds), usual + params.margin_floor)
    margin[0] = np.maximum(params.margin_ratio * usual[0], usual[0] + params.margin_floor)
    log_e = log_e_not_worse(seen[:, :1], seen_bad[..., CANARY], usual, np.minimum(margin, 0.95))
    return np.asarray(np.where(one.seen[:, :1] >= params.learn_calls, log_e, 0.0))


def is_settling(one: Comparison, end_ns: int, params: Params) -> bool:
    """Say whether the canary's share of starts is ahead of its share of ends."""
    if end_ns - one.since_ns < params.settle_ns:
        return True
    flow = one.flow + 0.5
    log_odds = np.log(flow[:, :, CANARY] / flow[:, :, BASELINE])
    ahead = log_odds[:, 0] - log_odds[:, 1]
    return bool((ahead > params.settle_deviations * np.sqrt((1.0 / flow).sum(axis=(1, 2)))).any())


def dispersions(one: Comparison, params: Params) -> NDArray[np.float64]:
    """Say how much less than one value each value of a call weighs, by signal; failures are one a call."""
    per_call = one.seen.sum(axis=1) / max(one.arrived, 1.0)
    found = np.clip(1.0 + params.likeness * (per_call - 1.0), 1.0, params.dispersion_max)
    found[0] = 1.0
    return np.asarray(found)


def log_evidence(one: Comparison, signals: Signals, kind: str) -> float:
    """Give ln of the e-value that the canary is worse, over all stages or metrics of a kind."""
    of_kind = np.array([name == kind for name, _ in signals.names])
    chosen = one.log_m[of_kind]
    return log_average(chosen[:, 0] if kind == FAILURES else chosen)
