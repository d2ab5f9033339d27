"""What is usual at a time of the week: arrivals of each limit instance in local slots of five minutes.

For each weekday and slot the calls and the time watched are kept, both fading by a factor a day, so that
their ratio is a rate whatever was missed. The usual rate of a slot leans on the same weekday, three to one
against each other weekday that is alike: kin is measured by calls in blocks of four hours (a working day says
nothing of a Sunday), and the calls of a kin day are scaled to the day asked for. Neighbouring slots are
smoothed [1, 2, 1]. Rejected: other weekdays as they are, which puts working days into weekends; and a mean
over days instead of calls over time watched, which an outage pulls down. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.settings import UtcOffsets

NS = 1_000_000_000
SLOT_NS = 300 * NS
SLOT_S = 300.0
DAY_NS = 86_400 * NS
SLOTS = 288  # a day
DAYS = 7
WEEK_SLOTS = DAYS * SLOTS
BLOCKS = 6  # of four hours: what days are compared by
FIRST_WEEKDAY = 3  # of 1970-01-01, Monday being 0
KEEP_A_DAY = 0.975  # half of it is of the last four weeks
OWN_WEIGHT = 3.0  # of the same weekday against one other
KIN_SD = 0.35  # of the log ratio by which days may differ and still be alike
KIN_MIN = 0.02
CALLS_HALF = 0.5  # what stands in for no calls
FLOOR_RATIO = 0.01  # of the busiest slot of the day: beside it less than this is nothing
CLIP_RATIO = 2.0  # what is further above the usual than this is an incident, not a habit ...
CLIP_SD = 4.0
CLIP_DAYS = 3.0  # ... once the usual is known from so many days


class Baseline(NamedTuple):
    """Calls and time watched by local weekday (Monday first) and slot, float32 (instances, 2,016), fading."""

    calls: NDArray[np.float32]
    watched_s: NDArray[np.float32]
    day: int  # the local day, counted from 1970-01-01, that both have faded to; -1: nothing yet


class Usual(NamedTuple):
    """What is usual in a run of slots; float64 (instances, slots)."""

    rate_per_s: NDArray[np.float64]
    calls: NDArray[np.float64]  # that the rate rests on
    days: NDArray[np.float64]  # watched days that it rests on; another weekday counts a third


def new_baseline(rows: int) -> Baseline:
    """Give a baseline that has seen nothing."""
    return Baseline(np.zeros((rows, WEEK_SLOTS), np.float32), np.zeros((rows, WEEK_SLOTS), np.float32), -1)


def local_ns(time_ns: int, offsets: UtcOffsets) -> int:
    """Give local time as if it were UTC."""
    for from_ns, offset_ns in reversed(offsets):
        if time_ns >= from_ns:
            return time_ns + offset_ns
    return time_ns + offsets[0][1]


def day_and_slot(time_ns: int, offsets: UtcOffsets) -> tuple[int, int]:
    """Give the local day since 1970-01-01 and the slot of the week of a moment."""
    day, within_ns = divmod(local_ns(time_ns, offsets), DAY_NS)
    return day, (day + FIRST_WEEKDAY) % DAYS * SLOTS + within_ns // SLOT_NS


def faded(baseline: Baseline, day: int) -> Baseline:
    """Let days pass; a day that lies behind leaves everything as it is."""
    days = day - baseline.day
    if baseline.day < 0 or days <= 0:
        return baseline._replace(day=max(day, baseline.day))
    keep = np.float32(KEEP_A_DAY**days)
    return Baseline(baseline.calls * keep, baseline.watched_s * keep, day)


def with_slots(
    baseline: Baseline,
    day: int,
    slots: NDArray[np.int64],
    calls: NDArray[np.float64],
    watched_s: NDArray[np.float64],
) -> Baseline:
    """Give the baseline with slots of one local day taken in; `calls` and `watched_s` (instances, slots).

    A surge far above the usual counts only up to a bound: what happens once is no habit, what comes back
    every week becomes one.
    """
    baseline = faded(baseline, day)
    usual = usual_at(baseline, slots)
    expected = usual.rate_per_s * watched_s
    most = CLIP_RATIO * expected + CLIP_SD * np.sqrt(expected + 1.0)
    taken = np.where(usual.days >= CLIP_DAYS, np.minimum(calls, most), calls)
    taken = np.where(watched_s > 0.0, taken, 0.0)
    baseline = Baseline(baseline.calls.copy(), baseline.watched_s.copy(), baseline.day)
    # A slot may be there twice: when clocks are put back.
    for at, slot in enumerate(slots):
        baseline.calls[:, slot] += taken[:, at].astype(np.float32)
        baseline.watched_s[:, slot] += watched_s[:, at].astype(np.float32)
    return baseline


def usual_at(baseline: Baseline, slots: NDArray[np.int64]) -> Usual:
    """Give what is usual in these slots of the week."""
    rows = len(baseline.calls)
    shape = (rows, len(slots))
    usual = Usual(np.zeros(shape), np.zeros(shape), np.zeros(shape))
    around = (slots[:, None] + np.array([-1, 0, 1])) % WEEK_SLOTS
    weekdays = around // SLOTS
    calls, watched_s = np.zeros((rows, *around.shape)), np.zeros((rows, *around.shape))
    floor = np.zeros((rows, *around.shape))
    for weekday in np.unique(weekdays):
        here = weekdays == weekday
        day_calls, day_watched_s = pooled(baseline, int(weekday))
        calls[:, here] = day_calls[:, around[here] % SLOTS]
        watched_s[:, here] = day_watched_s[:, around[here] % SLOTS]
        rate = day_calls / np.maximum(day_watched_s, SLOT_S)
        floor[:, here] = FLOOR_RATIO * rate.max(axis=1, initial=0.0)[:, None]
    smooth = np.array([0.25, 0.5, 0.25])
    calls, watched_s = calls @ smooth, watched_s @ smooth
    known = watched_s > 0.0
    np.divide(calls + CALLS_HALF, watched_s, out=usual.rate_per_s, where=known)
    usual.rate_per_s[:] = np.where(known, usual.rate_per_s + floor[:, :, 1], 0.0)
    usual.calls[:] = calls
    usual.days[:] = watched_s / SLOT_S
    return usual


def pooled(baseline: Baseline, weekday: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give calls and time watched, (instances, 288) each, of one weekday with its kin."""
    by_day = baseline.calls.reshape(-1, DAYS, SLOTS), baseline.watched_s.reshape(-1, DAYS, SLOTS)
    weight, scale = kinship(*by_day, weekday)
    calls = np.einsum("rds,rd->rs", by_day[0], weight * scale)
    return calls, np.einsum("rds,rd->rs", by_day[1], weight)


def kinship(
    calls: NDArray[np.float32], watched_s: NDArray[np.float32], weekday: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give what each weekday's calls are worth for `weekday`, and what to multiply them by; (instances, 7).

    Days are compared where both were watched.
    """
    rows = len(calls)
    both = (watched_s > 0.0) & (watched_s[:, weekday : weekday + 1] > 0.0)
    own_rate = calls[:, weekday] / np.maximum(watched_s[:, weekday], 1.0)
    # Calls that either day would have had in the time the other was watched, by block.
    blocks = (rows, DAYS, BLOCKS, SLOTS // BLOCKS)
    theirs = np.where(both, calls, 0.0).reshape(blocks).sum(axis=3, dtype=np.float64)
    ours = np.where(both, own_rate[:, None, :] * watched_s, 0.0).reshape(blocks).sum(axis=3, dtype=np.float64)
    watched_ratio = (
        np.where(both, watched_s[:, weekday : weekday + 1], 0.0).sum(axis=2, dtype=np.float64)
        / np.maximum(np.where(both, watched_s, 0.0).sum(axis=2, dtype=np.float64), 1.0)
    )[:, :, None]
    chance = 1.0 / (theirs + 1.0) + 1.0 / (ours * watched_ratio + 1.0)
    off = np.maximum(np.square(np.log((ours + 1.0) / (theirs + 1.0))) - chance, 0.0)
    worth = theirs + ours
    seen = worth.sum(axis=2)
    distance = (off * worth).sum(axis=2) / np.maximum(seen, 1.0)
    kin = np.where(seen > 0.0, np.exp(-0.5 * distance / KIN_SD**2), 0.0)
    weight = np.where(kin < KIN_MIN, 0.0, kin) / OWN_WEIGHT
    scale = np.clip((ours.sum(axis=2) + 1.0) / (theirs.sum(axis=2) + 1.0), 0.25, 4.0)
    weight[:, weekday], scale[:, weekday] = 1.0, 1.0
    return weight, scale
