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

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import grown
from detectors.sequential import log_mixture_from, restarted
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
    """Give what `weighed` needs of laws at every slice; slots without a reference have none."""
    is_known = laws.usual[:, 0] > 0
    usual, moved = laws.usual[is_known], laws.moved[is_known]
    found = LogGammas(
        np.zeros_like(laws.usual), np.zeros(len(laws.usual)), np.zeros_like(laws.moved),
        np.zeros(laws.moved.shape[:2]),
    )  # fmt: skip
    found.usual[is_known], found.usual_total[is_known] = log_gamma(usual), log_gamma(usual.sum(axis=-1))
    found.moved[is_known], found.moved_total[is_known] = log_gamma(moved), log_gamma(moved.sum(axis=-1))
    return found


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
    log_e = np.zeros(evidence.log_m.shape)
    is_told = log_mixture_from(evidence.log_m, level) >= level
    at = np.flatnonzero((laws.usual[:, 0] > 0) & (is_told | (seen.sum(axis=1) > 0)))
    if not len(at):
        return Looked(evidence, log_e)
    told, new = is_told[at, None], seen[at]
    usual, moved = laws.usual[at, None, :], laws.moved[at]
    tally = evidence.tally[at] * np.where(told, keep, 1.0)[:, :, None]
    best = tally[np.arange(len(at)), evidence.log_ratio[at].argmax(axis=1)]
    back = np.maximum(evidence.back[at] + _for_usual(new, best, usual[:, 0]), 0.0)
    is_held = tally.any(axis=2)
    tally += new[:, None, :]
    gammas = gammas or log_gammas(laws)
    of_usual = gammas.usual[at, None, :], gammas.usual_total[at, None]
    of_moved = gammas.moved[at], gammas.moved_total[at]
    # Most alternatives held nothing until now, so their tallies are one: what is new.
    by_usual = np.repeat(log_dirichlet(new[:, None, :], usual, of_usual), tally.shape[1], axis=1)
    held = np.nonzero(is_held)[0]
    of_held = of_usual[0][held, 0], of_usual[1][held, 0]
    by_usual[is_held] = log_dirichlet(tally[is_held], usual[held, 0], of_held)
    log_ratio = log_dirichlet(tally, moved, of_moved) - by_usual
    log_e[at] = np.where(told, 0.0, log_ratio - evidence.log_ratio[at])
    log_m = np.where(told, evidence.log_m[at], restarted(evidence.log_m[at], log_e[at]))
    is_over = told & ((log_ratio.max(axis=1) < GOES_ON_MIN) | (back > BACK_MIN))[:, None]
    log_m = np.where(is_over, np.minimum(log_m, level - OVER), log_m)
    surplus = tally.sum(axis=2, keepdims=True) / usual.sum(axis=2, keepdims=True) / TALLY_MAX
    if (surplus > 1.0).any():
        tally /= np.maximum(surplus, 1.0)
        log_ratio = log_dirichlet(tally, moved, of_moved) - log_dirichlet(tally, usual, of_usual)
    is_fresh = is_over | (~told & (log_ratio < 0))
    after = Evidence(*(one.copy() for one in evidence))
    after.log_m[at] = log_m
    after.tally[at] = np.where(is_fresh[:, :, None], 0.0, tally)
    after.log_ratio[at] = np.where(is_fresh, 0.0, log_ratio)
    after.back[at] = np.where(told[:, 0] & ~is_over[:, 0], back, 0.0)
    return Looked(after, log_e)


def _for_usual(
    new: NDArray[np.float64], tally: NDArray[np.float64], usual: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give ln of how much likelier new values (slots, categories) are usual than like the tally."""
    shares = usual / usual.sum(axis=1, keepdims=True)
    like = (tally + shares) / (tally.sum(axis=1, keepdims=True) + 1.0)
    return np.asarray((new * np.log(shares / like)).sum(axis=1))


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
    fresh.log_ratio[is_known] = log_dirichlet(tally, after.moved[is_known]) - log_dirichlet(
        tally, new[:, None, :]
    )
    return fresh


def forgotten(evidence: Evidence, is_over: NDArray[np.bool_]) -> Evidence:
    """Give the evidence without that of some slots, (slots,)."""
    fresh = new_evidence(*evidence.tally.shape)
    return Evidence(
        np.where(is_over[:, None], fresh.log_m, evidence.log_m),
        np.where(is_over[:, None, None], fresh.tally, evidence.tally),
        np.where(is_over[:, None], fresh.log_ratio, evidence.log_ratio),
        np.where(is_over, fresh.back, evidence.back),
    )


def log_dirichlet(
    tally: NDArray[np.float64],
    pseudo_counts: NDArray[np.float64],
    gammas: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> NDArray[np.float64]:
    """Give ln of the chance of a sequence with this tally (..., categories), shares drawn from the law.

    `gammas` are `log_gamma` of the pseudo-counts and of their total, where they are known already.
    """
    total = pseudo_counts.sum(axis=-1)
    of_counts, of_total = gammas or (log_gamma(pseudo_counts), log_gamma(total))
    by_category = log_gamma(pseudo_counts + tally) - of_counts
    return np.asarray(by_category.sum(axis=-1) - log_gamma(total + tally.sum(axis=-1)) + of_total)


def log_gamma(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give ln of the gamma function for x > 0, to seven digits: Stirling's series at x + 4."""
    y = x + 4.0
    series = (y - 0.5) * np.log(y) - y + LOG_SQRT_2PI + 1.0 / (12.0 * y) - 1.0 / (360.0 * y**3)
    return np.asarray(series + 1.0 / (1260.0 * y**5) - np.log(x * (x + 1.0) * (x + 2.0) * (x + 3.0)))
