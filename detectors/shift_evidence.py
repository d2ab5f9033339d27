"""Evidence that values have moved up against a reference, by where they fall between its quantiles.

The quantiles of the reference cut the line into categories; what is seen in a slice is compared with what the
reference expects, each share taken with a minimum effect (its odds times `effect`), so that nobody is woken
for what does not matter. Alternatives move everything up, or the highest part alone. All their likelihood
ratios grow with the category, so they are e-values for every distribution that lies below the null, whatever
its form. Reference: Shin, Ramdas and Rinaldo, E-detectors (NEJSDS 2024), for the restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.sequential import log_mixture, restarted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detectors.reference_hours import Expected

SHARE_MAX = 0.98
SHARE_MIN = 1e-6
NO_SHARE = 1e-9


class Alternatives(NamedTuple):
    """(rank from which on the odds are multiplied, by how much); rank 0 and `True` moves everything."""

    whole: tuple[float, ...]
    tails: tuple[tuple[int, float], ...]  # (rank, multiple)

    @property
    def many(self) -> int:
        """How many there are."""
        return len(self.whole) + len(self.tails)


def odds_times(share: NDArray[np.float64], multiple: float) -> NDArray[np.float64]:
    """Multiply the odds of a share."""
    return np.asarray(multiple * share / (1.0 - share + multiple * share))


def null_of(reference: Expected, effect: float) -> NDArray[np.float64]:
    """Give the shares above each cut that are no trouble yet, (slots, ranks), falling with the rank."""
    share = odds_times(np.clip(reference.share, SHARE_MIN, SHARE_MAX), effect)
    return np.minimum.accumulate(share, axis=1)


def log_ratios(null: NDArray[np.float64], alternatives: Alternatives) -> NDArray[np.float64]:
    """Give ln of the likelihood ratio by category, (slots, alternatives, ranks + 1)."""
    moved = [odds_times(null, multiple) for multiple in alternatives.whole]
    for rank, multiple in alternatives.tails:
        top = odds_times(null[:, rank : rank + 1], multiple)
        up = top / null[:, rank : rank + 1]
        down = (1.0 - top) / (1.0 - null[:, rank : rank + 1])
        shares = 1.0 - (1.0 - null) * down  # below the rank
        shares[:, rank:] = null[:, rank:] * up
        moved.append(shares)
    before = categories(null)
    ratios = [np.log(np.maximum(categories(one), 1e-12) / np.maximum(before, 1e-12)) for one in moved]
    # A category that the reference does not have is never hit.
    return np.where(before[:, None, :] > NO_SHARE, np.stack(ratios, axis=1), 0.0)


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
    category = (bins[:, None] > cut[slot]).sum(axis=1)
    np.add.at(found, (slot, category), many)
    return found


def weighed(
    log_m: NDArray[np.float64],
    seen: NDArray[np.float64],
    ratios: NDArray[np.float64],
    is_known: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Give the evidence (slots, alternatives) after one slice; slots without values or reference stay."""
    log_e = np.einsum("sc,sac->sa", seen, ratios)
    looks = is_known & (seen.sum(axis=1) > 0)
    return np.asarray(np.where(looks[:, None], restarted(log_m, log_e), log_m))


def log_evidence(log_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give ln of the average over the alternatives, (slots,)."""
    return log_mixture(np.maximum(log_m, -1e9))
