"""From which score on a speaker may speak: by size of cap, class of load, and whether the usual is known.

Three speak of one limit: the forecast with growth, the forecast at the level of now, and a straight line; the
budget of false pages is split between them. Their scores have scales of their own, so each is compared with
its own threshold and put on the scale of the first. What was learned offline from a deployment's own logs
replaces the built-in table, which stands for ordinary weeks of a careful owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.learned import SPEAKERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.learned import Learned

NEVER = 1e6  # a score that nothing reaches
LOAD_UNKNOWN = 1.0  # without a baseline: as if the limit were well used
CAPS = (10.0, 20.0, 50.0, 100.0, 300.0, 1000.0, 5000.0)
# By (tier, speaker, has_baseline), for each of CAPS, so that ordinary weeks bring at most a page in four
# weeks; `python -m bench.leadtime.calibrate` prints what they cost.
BUILT_IN: dict[tuple[str, str, bool], tuple[float, ...]] = {
    ("page", "growth", False): (0.25, 0.0, -0.25, -0.6, -0.75, -1.0, -1.0),
    ("page", "level", False): (NEVER, -0.75, -1.0, -1.3, -2.0, -2.3, -2.3),
    ("page", "line", False): (NEVER, NEVER, 2.0, 2.0, 1.5, 2.0, 2.0),
    ("warn", "growth", False): (0.5, 0.0, 0.0, -0.4, -1.25, -1.0, -1.0),
    ("warn", "level", False): (NEVER, -1.25, -1.5, -2.0, -2.0, -2.1, -2.1),
    ("warn", "line", False): (NEVER, NEVER, 1.25, 1.0, 1.0, 1.5, 1.5),
    ("page", "growth", True): (0.25, 0.0, -0.5, -1.2, -1.2, -1.5, -1.5),
    ("page", "level", True): (NEVER, -0.75, -1.3, -2.0, -2.2, -2.5, -2.5),
    ("page", "line", True): (NEVER, NEVER, 2.0, 2.0, 2.0, 2.5, 2.5),
    ("warn", "growth", True): (0.5, 0.0, -0.25, -1.0, -0.9, -0.4, -0.4),
    ("warn", "level", True): (NEVER, -1.25, -1.5, -2.1, -2.0, -1.6, -1.6),
    ("warn", "line", True): (NEVER, NEVER, 1.25, 1.0, 1.0, 1.5, 1.5),
}


class Surface(NamedTuple):
    """Thresholds of one speaker: `scores[k]` at `loads[k]` for the cap `caps[k]`."""

    caps: NDArray[np.float64]
    loads: tuple[NDArray[np.float64], ...]
    scores: tuple[NDArray[np.float64], ...]


Surfaces = dict[tuple[str, str, bool], Surface]


def surfaces_of(learned: Learned | None) -> Surfaces:
    """Give the built-in table, or in place of it what was learned."""
    built_in = {
        key: surface_of([(cap, 0.0, score) for cap, score in zip(CAPS, scores, strict=True)])
        for key, scores in BUILT_IN.items()
    }
    given: dict[tuple[str, str, bool], list[tuple[float, float, float]]] = {}
    for one in learned.thresholds if learned is not None else ():
        key = (one.tier, one.speaker, one.has_baseline)
        given.setdefault(key, []).append((one.cap, one.load, one.score))
    return built_in | {key: surface_of(points) for key, points in given.items()}


def surface_of(points: list[tuple[float, float, float]]) -> Surface:
    """Give the surface through (cap, load, score) points."""
    caps = sorted({cap for cap, _, _ in points})
    by_cap = [sorted((load, score) for at, load, score in points if at == cap) for cap in caps]
    return Surface(
        np.array(caps),
        tuple(np.array([load for load, _ in pairs]) for pairs in by_cap),
        tuple(np.array([score for _, score in pairs]) for pairs in by_cap),
    )


def on_surface(surface: Surface, cap: NDArray[np.float64], load: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate: by the logarithm of the cap, linearly in the load, flat outside; NaN stays NaN.

    Beside a point at which a speaker never speaks, the nearer of the two points counts.
    """
    by_cap = np.stack(
        [between(at, score, load) for at, score in zip(surface.loads, surface.scores, strict=True)], axis=1
    )
    places = np.arange(len(surface.caps), dtype=np.float64)
    place = np.interp(np.log(np.maximum(cap, 1e-9)), np.log(surface.caps), places)
    low = np.where(np.isnan(place), 0.0, place).astype(np.int64)
    high = np.minimum(low + 1, len(surface.caps) - 1)
    rows = np.arange(len(cap))
    share = place - low
    is_mute = np.maximum(by_cap[rows, low], by_cap[rows, high]) >= NEVER
    share = np.where(is_mute, np.round(share), share)
    return np.asarray((1.0 - share) * by_cap[rows, low] + share * by_cap[rows, high])


def between(
    at: NDArray[np.float64], score: NDArray[np.float64], load: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate over the load; with a point among them at which nobody speaks, the nearest point."""
    if len(at) == 1:
        return np.full(len(load), score[0])
    if (score >= NEVER).any():
        return np.asarray(score[np.abs(load[:, None] - at).argmin(axis=1)])
    return np.asarray(np.interp(load, at, score))


def thresholds_of(
    surfaces: Surfaces,
    tier: str,
    cap: NDArray[np.float64],
    load: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Give the threshold of each speaker, (instances, SPEAKERS); `weight` is that of the baseline."""
    return Thresholds(surfaces).of(tier, cap, load, weight)


class Thresholds:
    """The surfaces, and what they said of the same caps before: caps stay, and are asked for every 15 s."""

    def __init__(self, surfaces: Surfaces) -> None:
        self.surfaces = surfaces
        self._cap = b""
        self._by_cap: dict[str, NDArray[np.float64]] = {}  # by tier, without a baseline

    def of(
        self, tier: str, cap: NDArray[np.float64], load: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Give the threshold of each speaker, (instances, SPEAKERS); `weight` is that of the baseline."""
        if (key := cap.tobytes()) != self._cap:
            self._cap, self._by_cap = key, {}
        found = self._without_baseline(tier, cap)
        if not weight.any():
            return found
        usual = np.stack([on_surface(self.surfaces[tier, one, True], cap, load) for one in SPEAKERS], axis=1)
        return (1.0 - weight)[:, None] * found + weight[:, None] * usual

    def _without_baseline(self, tier: str, cap: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the thresholds where no load is usual, which are the same for as long as the caps are."""
        if tier not in self._by_cap:
            load = np.full_like(cap, LOAD_UNKNOWN)
            columns = [on_surface(self.surfaces[tier, one, False], cap, load) for one in SPEAKERS]
            self._by_cap[tier] = np.stack(columns, axis=1)
        return self._by_cap[tier]


def best(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the best score over the speakers, on the scale of the first."""
    on_first = scores + (thresholds[:, :1] - thresholds)
    return np.asarray(np.where(np.isnan(on_first), -np.inf, on_first).max(axis=1))
