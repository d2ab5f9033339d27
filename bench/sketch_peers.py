"""Sketches that others would use, behind the few calls that bench/sketch.py needs.

Values are seconds. Each is fed one value at a time, as a loop over events does; those that take whole arrays
have a second row. None is needed to run the tests: what is not installed is named in the report.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.observe.latency import RELATIVE_ERROR_MAX, add_values, new_sketch, quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

MICROSECONDS = 1e6
HDR_LARGEST_US = 2**32
HDR_DIGITS = 2
DDSKETCH_ERROR = 0.01
KLL_K = 200
PACKAGES = {"ddsketch": "ddsketch", "KLL": "datasketches", "HdrHistogram": "hdrh", "t-digest": "fastdigest"}
OURS = "ours"


class Sketch(NamedTuple):
    """How to make, feed, ask and merge one. `error_max`: what it promises of a value; NaN: nothing."""

    make: Callable[[], Any]
    add: Callable[[Any, Any], None]  # an array; one at a time inside, where there is no other way
    quantile: Callable[[Any, float], float]
    merge: Callable[[Any, Any], None]
    error_max: float
    is_python_loop: bool


def sketches(without: Collection[str] = ()) -> dict[str, Sketch]:
    """Give ours, and every other one that is installed."""
    absent = missing(without)
    found = {OURS: Sketch(new_sketch, add_values, quantile, _add_counts, RELATIVE_ERROR_MAX, False)}
    makers = {"ddsketch": _ddsketch, "KLL": _kll, "HdrHistogram": _hdr, "t-digest": _tdigest}
    for name, maker in makers.items():
        if PACKAGES[name] not in absent:
            found |= maker()
    return found


def missing(without: Collection[str] = ()) -> list[str]:
    """Name the packages that are not installed; those of `without` shall pass for that."""
    return [one for one in PACKAGES.values() if one in without or importlib.util.find_spec(one) is None]


def _add_counts(into: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    into += other


def _ddsketch() -> dict[str, Sketch]:
    from ddsketch import DDSketch

    def add(sketch: Any, values: NDArray[np.float64]) -> None:
        put = sketch.add
        for value in values.tolist():
            put(value)

    def merge(into: Any, other: Any) -> None:
        into.merge(other)

    def ask(sketch: Any, q: float) -> float:
        return float(sketch.get_quantile_value(q))

    return {
        "ddsketch": Sketch(lambda: DDSketch(DDSKETCH_ERROR), add, ask, merge, DDSKETCH_ERROR, True),
    }


def _kll() -> dict[str, Sketch]:
    from datasketches import kll_doubles_sketch

    def add(sketch: Any, values: NDArray[np.float64]) -> None:
        put = sketch.update
        for value in values.tolist():
            put(value)

    def add_array(sketch: Any, values: NDArray[np.float64]) -> None:
        sketch.update(values)

    def merge(into: Any, other: Any) -> None:
        into.merge(other)

    def ask(sketch: Any, q: float) -> float:
        return float(sketch.get_quantile(q))

    def make() -> Any:
        return kll_doubles_sketch(KLL_K)

    return {
        "KLL": Sketch(make, add, ask, merge, np.nan, True),
        "KLL, arrays": Sketch(make, add_array, ask, merge, np.nan, False),
    }


def _hdr() -> dict[str, Sketch]:
    from hdrh.histogram import HdrHistogram

    def add(sketch: Any, values: NDArray[np.float64]) -> None:
        put = sketch.record_value
        for value in values.tolist():
            put(int(value * MICROSECONDS))

    def merge(into: Any, other: Any) -> None:
        into.add(other)

    def ask(sketch: Any, q: float) -> float:
        return float(sketch.get_value_at_percentile(100 * q)) / MICROSECONDS

    def make() -> Any:
        return HdrHistogram(1, HDR_LARGEST_US, HDR_DIGITS)

    return {"HdrHistogram": Sketch(make, add, ask, merge, 10.0**-HDR_DIGITS, True)}


def _tdigest() -> dict[str, Sketch]:
    from fastdigest import TDigest

    def add(sketch: Any, values: NDArray[np.float64]) -> None:
        put = sketch.update
        for value in values.tolist():
            put(value)

    def add_array(sketch: Any, values: NDArray[np.float64]) -> None:
        sketch.batch_update(values)

    def merge(into: Any, other: Any) -> None:
        into.merge_inplace(other)

    def ask(sketch: Any, q: float) -> float:
        return float(sketch.quantile(q))

    return {
        "t-digest": Sketch(TDigest, add, ask, merge, np.nan, True),
        "t-digest, arrays": Sketch(TDigest, add_array, ask, merge, np.nan, False),
    }
