"""Which window rows speak of which release, which releases take calls, and which of them are the older ones.

A row whose only label is the release holds all of its calls; a row with further labels is one series, and its
other labels are its stratum. Stratum 0 takes what no series row holds. A release is as old as its first call;
those that were there when the stream began are ordered by traffic, the largest being the oldest. A release
that has been away for an hour is new when it comes back. Hours in which nobody calls, such as a night, do not
count: the first caller of the morning would be the oldest release, whichever it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import grown
from engine.judge.detection import MINUTE_NS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary

LABEL = "release"
NOT_RELEASES = ("", "__other__")
STRATA_MAX = 512  # further ones are not compared: their calls are left out
ATTACH_NS = MINUTE_NS  # releases seen by then were there before the stream began
PRESENT_NS = 30 * MINUTE_NS  # without a call for longer, a release takes none
AWAY_NS = 60 * MINUTE_NS  # in which others take calls, after which it is forgotten
QUIET_NS = 5 * MINUTE_NS  # a longer time in which no release takes calls counts as this
RATE_KEPT_NS = 2 * MINUTE_NS  # e-folding time of the rate that orders the first releases

LabelSet = tuple[tuple[str, str], ...]


class Releases(NamedTuple):
    """Grows with the window rows alone."""

    row_release: NDArray[np.int32]  # (window rows,) -1: of no release
    row_stratum: NDArray[np.int32]  # (window rows,) 0: all calls of the release; -1: not compared
    strata: tuple[LabelSet, ...]  # by number; the first is "no other labels"
    marginal_row: NDArray[np.int32]  # (releases,) the row that holds all of its calls; -1: not seen yet
    names: tuple[str, ...]
    born_ns: NDArray[np.int64]  # (releases,) order of age; -1: never seen, or forgotten
    last_ns: NDArray[np.int64]  # (releases,) end of the last slice with a call; -1: none
    away_ns: NDArray[np.int64]  # (releases,) time since its last call in which others took calls
    rate: NDArray[np.float64]  # (releases,) calls in a slice, lately
    strata_refused: int = 0  # rows whose other labels had no room


def new_releases() -> Releases:
    """Know of no row."""
    none = np.zeros(0, np.int32)
    wide = np.zeros(0, np.int64)
    return Releases(none, none, ((),), none, (), wide, wide, wide, np.zeros(0))


def follow(known: Releases, summary: WindowSummary) -> Releases:
    """Take up new rows, and see which releases took calls in this slice."""
    known = _with_rows(known, summary.windows.labels)
    if not known.names:
        return known
    arrived = np.where(
        known.marginal_row >= 0, summary.windows.arrivals_in_slice[known.marginal_row], 0
    ).astype(np.float64)
    kept = np.exp(-(summary.end_ns - summary.start_ns) / RATE_KEPT_NS)
    rate = known.rate * kept + arrived * (1.0 - kept)
    is_here, end_ns = arrived > 0, summary.end_ns
    since_any_ns = min(end_ns - int(known.last_ns.max()), QUIET_NS) if is_here.any() else 0
    away_ns = np.where(known.last_ns >= 0, known.away_ns + since_any_ns, 0)
    forgotten = away_ns > AWAY_NS
    born_ns = np.where(forgotten, -1, known.born_ns)
    born_ns = np.where(is_here & (born_ns < 0), end_ns, born_ns)
    if end_ns - summary.first_ns <= ATTACH_NS:
        order = np.argsort(np.argsort(-rate, kind="stable"), kind="stable")
        born_ns = np.where(born_ns >= 0, summary.first_ns + order, -1)
    last_ns = np.where(is_here, end_ns, np.where(forgotten, -1, known.last_ns))
    away_ns = np.where(is_here | forgotten, 0, away_ns)
    return known._replace(born_ns=born_ns, last_ns=last_ns, away_ns=away_ns, rate=rate)


def present(known: Releases, end_ns: int) -> NDArray[np.bool_]:
    """Say which releases take calls."""
    return np.asarray((known.last_ns >= 0) & (end_ns - known.last_ns <= PRESENT_NS))


def _with_rows(known: Releases, labels: tuple[LabelSet, ...]) -> Releases:
    first = len(known.row_release)
    if len(labels) == first:
        return known
    release_ids = {name: number for number, name in enumerate(known.names)}
    stratum_ids = {key: number for number, key in enumerate(known.strata)}
    row_release = np.full(len(labels) - first, -1, np.int32)
    row_stratum = np.full(len(labels) - first, -1, np.int32)
    refused = 0
    marginal = list(known.marginal_row.tolist())
    for place, one in enumerate(labels[first:]):
        name = dict(one).get(LABEL, "")
        if name in NOT_RELEASES:
            continue
        row_release[place] = release = release_ids.setdefault(name, len(release_ids))
        if release == len(marginal):
            marginal.append(-1)
        key = tuple(pair for pair in one if pair[0] != LABEL)
        if key not in stratum_ids and len(stratum_ids) < STRATA_MAX:
            stratum_ids[key] = len(stratum_ids)
        row_stratum[place] = stratum_ids.get(key, -1)
        refused += key not in stratum_ids
        if not key:
            marginal[release] = first + place
    releases = len(release_ids)
    return known._replace(
        row_release=np.concatenate([known.row_release, row_release]),
        row_stratum=np.concatenate([known.row_stratum, row_stratum]),
        strata=tuple(stratum_ids),
        marginal_row=np.array(marginal, np.int32),
        names=tuple(release_ids),
        born_ns=grown(known.born_ns, releases, -1),
        last_ns=grown(known.last_ns, releases, -1),
        away_ns=grown(known.away_ns, releases, 0),
        rate=grown(known.rate, releases, 0.0),
        strata_refused=known.strata_refused + refused,
    )
