"""`python -m bench.leadtime.calibrate`: what the shipped thresholds cost in pages, by size of cap.

Ordinary weeks at three holding times, and weeks that stand day and night at the load that Erlang-B calls safe
(one decline in a hundred hours): the harshest honest use of a limit. Seeds differ from those of the reported
bench.
"""

from __future__ import annotations

import argparse
import itertools
import sys

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls
from bench.leadtime.paging import count_pages
from bench.leadtime.product import Scores, product_scores
from bench.leadtime.traffic import WEEK_S, WEEK_STEPS, Plan, draw_calls, ordinary_week
from engine.erlang import safe_offered_load

CAPS = (10.0, 20.0, 50.0, 100.0, 300.0, 1000.0)
HOLDINGS_S = (60.0, 180.0, 600.0)
SAFE_DECLINES_PER_HOUR = 0.01
SEED = 910
TRIED = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5)


def safe_week(cap: float, holding_s: float, rng: np.random.Generator) -> Calls:
    """Draw a week at the safe load without a pause."""
    rate = safe_offered_load(cap, holding_s, SAFE_DECLINES_PER_HOUR) / holding_s
    full = np.full(WEEK_STEPS, 1.0)
    return draw_calls(Plan(rate * full, holding_s * full, 0.0 * full), rng)


def pages_per_week(
    score: NDArray[np.float64], threshold: float | NDArray[np.float64], rows: list[int]
) -> float:
    """Give the pages a week and limit; `threshold` is one number, or one per evaluation."""
    fires = np.where(
        score[rows] >= (threshold if isinstance(threshold, float) else threshold[rows]), 1.0, 0.0
    )
    return count_pages(fires, 1.0) / len(rows)


def lines_of(kind: str, labels: list[tuple[str, float]], scores: Scores) -> list[str]:
    """Give the table of one kind of week."""
    lines = [
        f"## {kind}: pages a week and limit",
        "| cap | tier | as shipped | " + " | ".join(f"at {tried}" for tried in TRIED) + " |",
        "|" + "---|" * (3 + len(TRIED)),
    ]
    for cap in CAPS:
        rows = [row for row, label in enumerate(labels) if label == (kind, cap)]
        for tier, score, shipped in (
            ("page", scores.page, scores.page_threshold),
            ("warning", scores.warn, scores.warn_threshold),
        ):
            cells = [pages_per_week(score, threshold, rows) for threshold in (shipped, *TRIED)]
            lines.append(f"| {cap:.0f} | {tier} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return lines


def main() -> None:
    """Draw, run, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.leadtime.calibrate", description=__doc__)
    parser.add_argument("--weeks", type=int, default=4, help="ordinary weeks per cap and holding time")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    labels: list[tuple[str, float]] = []
    streams: list[Calls] = []
    for cap, holding_s in itertools.product(CAPS, HOLDINGS_S):
        for week in range(arguments.weeks):
            rng = np.random.default_rng([arguments.seed, int(cap), int(holding_s), week])
            streams.append(ordinary_week(cap, rng, holding_s))
            labels.append(("ordinary", cap))
        rng = np.random.default_rng([arguments.seed + 1, int(cap), int(holding_s)])
        streams.append(safe_week(cap, holding_s, rng))
        labels.append(("safe load day and night", cap))
    scores = product_scores(tuple(streams), np.array([cap for _, cap in labels]), WEEK_S, slice_s=15)
    lines = [f"Seed {arguments.seed}, {arguments.weeks} weeks per cap and holding time."]
    for kind in ("ordinary", "safe load day and night"):
        lines += lines_of(kind, labels, scores)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
