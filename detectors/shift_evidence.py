"""Evidence that values have moved up against a reference, by where they fall between its quantiles.

The quantiles of the reference cut the line into categories. The reference is itself a sample, so its shares
are not taken as known: the null is a Dirichlet law around them (odds times `effect`, so that nobody is woken
for what does not matter), the alternatives are as wide around shares that lie higher, all or the highest. The
ratio of the two for what was counted is an e-process in closed form. Counts since it last was below one are
kept, up to a multiple of the reference, so that what is new is not drowned by what was.
Values that come in bursts (turns of one slow call, a minute in which a host was slow) tell less than they
count: counts are divided by their dispersion from block to block. Rejected: shares with a margin of some
standard deviations, which is blind to the tail and to a tenth; grids of shares, too coarse after hours.
Reference: Shin, Ramdas and Rinaldo, E-detectors (NEJSDS 2024), for the restart.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import grown
from detectors.sequential import log_mixture_once, restarted_once
from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detectors.reference_hours import Expected

SHARE_MAX = 0.98
SHARE_MIN = 1e-6
VALUES_MAX = 20_000.0  # that a reference counts for: no hour is exactly like another
PSEUDO_COUNT_MIN = 1e-6
TALLY_MAX = 3.0  # times what the reference counts for: then the reference is known well enough
GOES_ON_MIN = 0.5  # ln of what recent values must say for an alternative, or it is over
BACK_MIN = 5.0  # ln of how much likelier than not the newest values are usual, and it is over
OVER = 2.0  # the evidence falls so far below the level then
LOG_SQRT_2PI = 0.9189385332046727


class Alternatives(NamedTuple):
    """(rank from which on the odds are multiplied, by how much)."""

    whole: tuple[float, ...]  # every share
    tails: tuple[tuple[int, float], ...]  # (rank, multiple): what is above that rank

    @property
    def many(self) -> int:
        """How many there are."""
        return len(self.whole) + len(self.tails)


class Hypotheses(NamedTuple):
    """Pseudo-counts of Dirichlet laws over categories; a slot without a reference has none."""

    usual: NDArray[np.float64]  # (slots, categories)
    moved: NDArray[np.float64]  # (slots, alternatives, categories)


class LogGammas(NamedTuple):
    """ln of the gamma function of pseudo-counts, and of their totals: what no count changes of a law."""

    usual: NDArray[np.float64]  # (slots, categories)
    usual_total: NDArray[np.float64]  # (slots,)
    moved: NDArray[np.float64]  # (slots, alternatives, categories)
    moved_total: NDArray[np.float64]  # (slots, alternatives)


class Evidence(NamedTuple):
    """Arrays of shape (slots, alternatives, ...)."""

    log_m: NDArray[np.float64]
    tally: NDArray[np.float64]  # (..., categories): counted since the ratio was below one
    log_ratio: NDArray[np.float64]  # of that tally
    back: NDArray[np.float64]  # (slots,): ln of the evidence that it is over


def new_evidence(slots: int, alternatives: int, categories: int) -> Evidence:
    """Have seen nothing."""
    shape = (slots, alternatives)
    return Evidence(np.full(shape, -np.inf), np.zeros((*shape, categories)), np.zeros(shape), np.zeros(slots))


def grown_evidence(evidence: Evidence, slots: int) -> Evidence:
    """Give room for `slots` slots."""
    return Evidence(
        grown(evidence.log_m, slots, -np.inf),
        grown(evidence.tally, slots, 0),
        grown(evidence.log_ratio, slots, 0),
        grown(evidence.back, slots, 0),
    )


def grown_hypotheses(laws: Hypotheses, slots: int) -> Hypotheses:
    """Give room for `slots` slots; new ones have no reference."""
    return Hypotheses(grown(laws.usual, slots, 0), grown(laws.moved, slots, 0))


def without_hypotheses(slots: int, alternatives: int, categories: int) -> Hypotheses:
    """Give slots without a reference."""
    return Hypotheses(np.zeros((slots, categories)), np.zeros((slots, alternatives, categories)))


def log_gammas(laws: Hypotheses) -> LogGammas:
    """Give what is needed of laws at every slice; slots without a reference have none."""
    found = LogGammas(
        np.zeros_like(laws.usual), np.zeros(len(laws.usual)), np.zeros_like(laws.moved),
        np.zeros(laws.moved.shape[:2]),
    )  # fmt: skip
    fill_log_gammas(laws, found)
    return found


@kernel
def fill_log_gammas(laws: Hypotheses, found: LogGammas) -> None:
    """Fill what is 0 for the slots that have a reference."""
    for i in range(len(laws.usual)):
        if laws.usual[i, 0] > 0.0:
            fill_row(laws.usual[i], found.usual[i])
            found.usual_total[i] = log_gamma(np.sum(laws.usual[i]))
            for k in range(laws.moved.shape[1]):
                fill_row(laws.moved[i, k], found.moved[i, k])
                found.moved_total[i, k] = log_gamma(np.sum(laws.moved[i, k]))


@kernel
def fill_row(pseudo_counts: NDArray[np.float64], found: NDArray[np.float64]) -> None:
    """Fill `found` (categories,) of a law."""
    for c in range(len(pseudo_counts)):
        found[c] = log_gamma(pseudo_counts[c])


def odds_times(share: NDArray[np.float64], multiple: float) -> NDArray[np.float64]:
    """Multiply the odds of a share."""
    return np.asarray(multiple * share / (1.0 - share + multiple * share))


def hypotheses(
    reference: Expected, effect: float, alternatives: Alternatives, dispersion: NDArray[np.float64]
) -> Hypotheses:
    """Give what is no trouble yet, and what is; `dispersion` (slots,) makes a reference count for less."""
    null = odds_times(np.clip(reference.share, SHARE_MIN, SHARE_MAX), effect)
    null = np.minimum.accumulate(null, axis=1)
    moved = [odds_times(null, multiple) for multiple in alternatives.whole]
    for rank, multiple in alternatives.tails:
        top = odds_times(null[:, rank : rank + 1], multiple)
        down = (1.0 - top) / (1.0 - null[:, rank : rank + 1])
        shares = 1.0 - (1.0 - null) * down  # below the rank
        shares[:, rank:] = null[:, rank:] * top / null[:, rank : rank + 1]
        moved.append(shares)
    weight = np.minimum(reference.values, VALUES_MAX) / dispersion
    return Hypotheses(
        np.maximum(categories(null), PSEUDO_COUNT_MIN) * weight[:, None],
        np.maximum(np.stack([categories(one) for one in moved], axis=1), PSEUDO_COUNT_MIN)
        * weight[:, None, None],
    )


def categories(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn shares above cuts into shares between them, lowest first."""
    ends = np.ones((len(shares), 1)), np.zeros((len(shares), 1))
    edges = np.concatenate([ends[0], shares, ends[1]], axis=1)
    return np.asarray(edges[:, :-1] - edges[:, 1:])


def in_categories(
    slots: int,
    cut: NDArray[np.int64],
    slot: NDArray[np.int64],
    bins: NDArray[np.int64],
    many: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Count the facts of a slice by category, (slots, ranks + 1)."""
    found = np.zeros((slots, cut.shape[1] + 1))
    add_by_category(cut, slot, bins, many, found)
    return found


@kernel
def add_by_category(
    cut: NDArray[np.int64],
    slot: NDArray[np.int64],
    bins: NDArray[np.int64],
    many: NDArray[np.int64],
    found: NDArray[np.float64],
) -> None:
    """Add facts (facts,) to their category in `found`: how many of the slot's cuts lie below the bin."""
    for k in range(len(slot)):
        category = 0
        for rank in range(cut.shape[1]):
            category += bins[k] > cut[slot[k], rank]
        found[slot[k], category] += many[k]


class Looked(NamedTuple):
    """What a slice did to the evidence."""

    evidence: Evidence
    log_e: NDArray[np.float64]  # (slots, alternatives): ln of the e-values of the slice


def weighed(
    evidence: Evidence,
    seen: NDArray[np.float64],
    laws: Hypotheses,
    level: float,
    keep: float,
    gammas: LogGammas | None = None,
) -> Looked:
    """Give the evidence after one slice with `seen` (slots, categories); slots without a reference stay.

    Above the level the question is whether it goes on: the tally fades by `keep` a slice. When no more of it
    speaks for an alternative, or the newest values are usual rather than like it, the evidence falls below.
    `gammas` are those of the laws, where they are known already.
    """
    found = Looked(Evidence(*(one.copy() for one in evidence)), np.zeros(evidence.log_m.shape))
    weigh(found, seen, laws, gammas or log_gammas(laws), level, keep)
    return found


@kernel
def weigh(
    found: Looked,
    seen: NDArray[np.float64],
    laws: Hypotheses,
    gammas: LogGammas,
    level: float,
    keep: float,
) -> None:
    """Bring the evidence up to date, in place, and fill the e-values, which are 0."""
    for i in range(len(seen)):
        if laws.usual[i, 0] > 0.0:
            weigh_slot(i, found, seen[i], laws, gammas, level, keep)


@kernel
def weigh_slot(
    i: int,
    found: Looked,
    new: NDArray[np.float64],
    laws: Hypotheses,
    gammas: LogGammas,
    level: float,
    keep: float,
) -> None:
    """Do so for one slot and its `new` values (categories,)."""
    after = found.evidence
    is_told = log_mixture_once(after.log_m[i]) >= level
    if not is_told and not np.sum(new) > 0.0:
        return
    back = 0.0
    if is_told:
        for k in range(after.tally.shape[1]):
            scale(after.tally[i, k], keep)
        like = after.tally[i, np.argmax(after.log_ratio[i])]
        back = max(after.back[i] + log_for_usual(new, like, laws.usual[i]), 0.0)
    # Most alternatives held nothing until now, so their tallies are one: what is new.
    of_new = log_usual(i, new, laws, gammas)
    highest = -np.inf
    for k in range(after.tally.shape[1]):
        tally = after.tally[i, k]
        is_held = np.sum(tally) > 0.0
        for c in range(len(new)):
            tally[c] += new[c]
        log_ratio = log_moved(i, k, tally, laws, gammas)
        log_ratio -= log_usual(i, tally, laws, gammas) if is_held else of_new
        if not is_told:
            found.log_e[i, k] = log_ratio - after.log_ratio[i, k]
            after.log_m[i, k] = restarted_once(after.log_m[i, k], found.log_e[i, k])
        after.log_ratio[i, k] = log_ratio
        highest = max(highest, log_ratio)
    is_over = is_told and (highest < GOES_ON_MIN or back > BACK_MIN)
    after.back[i] = 0.0 if is_over else back
    for k in range(after.tally.shape[1]):
        tally = after.tally[i, k]
        surplus = np.sum(tally) / np.sum(laws.usual[i]) / TALLY_MAX
        if surplus > 1.0:
            for c in range(len(new)):
                tally[c] /= surplus
            after.log_ratio[i, k] = log_moved(i, k, tally, laws, gammas) - log_usual(i, tally, laws, gammas)
        if is_over:
            after.log_m[i, k] = min(after.log_m[i, k], level - OVER)
        if is_over or (not is_told and after.log_ratio[i, k] < 0.0):
            scale(tally, 0.0)
            after.log_ratio[i, k] = 0.0


@kernel
def scale(tally: NDArray[np.float64], factor: float) -> None:
    """Multiply a tally (categories,), in place."""
    for c in range(len(tally)):
        tally[c] *= factor


@kernel
def log_for_usual(new: NDArray[np.float64], tally: NDArray[np.float64], usual: NDArray[np.float64]) -> float:
    """Give ln of how much likelier new values (categories,) are usual than like the tally."""
    usual_total, total = np.sum(usual), np.sum(tally)
    found = 0.0
    for c in range(len(new)):
        share = usual[c] / usual_total
        found += new[c] * math.log(share / ((tally[c] + share) / (total + 1.0)))
    return found


def carried_over(evidence: Evidence, before: Hypotheses, after: Hypotheses) -> Evidence:
    """Give the evidence under a reference that was read anew.

    Its cuts lie elsewhere: the tally keeps how much more or less than expected each category has.
    """
    is_known = (before.usual[:, 0] > 0) & (after.usual[:, 0] > 0)
    old, new = before.usual[is_known], after.usual[is_known]
    was = evidence.tally[is_known]
    tally = was * (new / new.sum(axis=1, keepdims=True) * old.sum(axis=1, keepdims=True) / old)[:, None, :]
    tally *= was.sum(axis=2, keepdims=True) / np.maximum(tally.sum(axis=2, keepdims=True), 1e-9)
    fresh = new_evidence(*evidence.tally.shape)
    fresh.log_m[is_known] = evidence.log_m[is_known]
    fresh.tally[is_known] = tally
    fresh.back[is_known] = evidence.back[is_known]
    fill_log_ratios(fresh, after, log_gammas(after))
    return fresh


@kernel
def fill_log_ratios(evidence: Evidence, laws: Hypotheses, gammas: LogGammas) -> None:
    """Work out the ratios of tallies, in place."""
    for i in range(len(laws.usual)):
        if laws.usual[i, 0] > 0.0:
            for k in range(laws.moved.shape[1]):
                tally = evidence.tally[i, k]
                evidence.log_ratio[i, k] = log_moved(i, k, tally, laws, gammas) - log_usual(
                    i, tally, laws, gammas
                )


def forgotten(evidence: Evidence, is_over: NDArray[np.bool_]) -> Evidence:
    """Give the evidence without that of some slots, (slots,)."""
    fresh = new_evidence(*evidence.tally.shape)
    return Evidence(
        np.where(is_over[:, None], fresh.log_m, evidence.log_m),
        np.where(is_over[:, None, None], fresh.tally, evidence.tally),
        np.where(is_over[:, None], fresh.log_ratio, evidence.log_ratio),
        np.where(is_over, fresh.back, evidence.back),
    )


@kernel
def log_moved(i: int, k: int, tally: NDArray[np.float64], laws: Hypotheses, gammas: LogGammas) -> float:
    """Give `log_dirichlet` of a tally (categories,) by an alternative of a slot."""
    return log_dirichlet(tally, laws.moved[i, k], gammas.moved[i, k], gammas.moved_total[i, k])


@kernel
def log_usual(i: int, tally: NDArray[np.float64], laws: Hypotheses, gammas: LogGammas) -> float:
    """Give the same by what is usual there."""
    return log_dirichlet(tally, laws.usual[i], gammas.usual[i], gammas.usual_total[i])


@kernel
def log_dirichlet(
    tally: NDArray[np.float64],
    pseudo_counts: NDArray[np.float64],
    of_counts: NDArray[np.float64],
    of_total: float,
) -> float:
    """Give ln of the chance of a sequence with this tally (categories,), shares drawn from the law.

    `of_counts` and `of_total` are `log_gamma` of the pseudo-counts and of their total.
    """
    found = 0.0
    for c in range(len(tally)):
        if tally[c] > 0.0:  # Else there is no difference.
            found += log_gamma(pseudo_counts[c] + tally[c]) - of_counts[c]
    return found - log_gamma(np.sum(pseudo_counts) + np.sum(tally)) + of_total


@kernel
def log_gamma(x: float) -> float:
    """Give ln of the gamma function for x > 0, to seven digits: Stirling's series at x + 4."""
    y = x + 4.0
    series = (y - 0.5) * math.log(y) - y + LOG_SQRT_2PI + 1.0 / (12.0 * y) - 1.0 / (360.0 * y**3.0)
    return float(series + 1.0 / (1260.0 * y**5.0) - math.log(x * (x + 1.0) * (x + 2.0) * (x + 3.0)))
