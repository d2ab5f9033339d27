"""`python -m bench.leadtime`: how early the alerts come, at a stated rate of false pages.

Prints Markdown; `--out FILE` keeps it, with a figure per cap beside it. The seeds of the reported runs are
printed; while the detector was tuned, other families and seeds (900 and up) were used.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench.harness import machine
from bench.leadtime import real
from bench.leadtime.contest import Contest
from bench.leadtime.figure import figure
from bench.leadtime.parts import run_parts
from bench.leadtime.rate_limit import LIMITS
from bench.leadtime.report import section, summary
from bench.leadtime.sizes import SIZES

INTRODUCTION = (
    "Cells: median lead in minutes / 10th percentile / % of the incidents with less than a minute, "
    "[90 % bootstrap interval of the median]; a dash is no page before the first declined call. Lead counts "
    "from when the alert is posted: two evaluations of 15 s in a row, and 5 s until the slice closes; a "
    "page before the onset is none, several pages of one incident are one. The truth is the first "
    "declined attempt. Thresholds come from calibration weeks, false pages from other weeks, what is usual "
    "from six weeks that are neither. Every baseline stands in every window and horizon at its best "
    "threshold, and the best of them is picked by family on the incidents reported, which favours them. "
    'Ours is one configuration: "learned" has the thresholds that `callgauge learn` makes of the calibration '
    'weeks at that budget, "tuned" moves these by one number until the calibration weeks have as many pages '
    "as the others were allowed."
)
RATE = (
    f"Limits of {' and '.join(map(str, LIMITS))} calls a second. Ordinary weeks keep the mean at a fiftieth "
    "of the limit, in clumps of up to 30 % of it; in an incident the mean doubles."
)
ELSEWHERE = (
    "Hidden caps, timeout cliffs, latency, quality and canaries have benchmarks of their own: "
    "`bench/detection/`, with results beside this one. predict_linear here is held against Prometheus's own "
    "by `tests/integration/test_leadtime_prometheus.py`: at every evaluation of a ramp's gauge the forecasts "
    "are the same (to a millionth of the cap), and the rule holds at the same evaluations."
)


def contests_of(found: dict[str, Any]) -> list[Contest]:
    """Give the contests by size of cap."""
    return sorted((one for one in found.values() if isinstance(one, Contest)), key=lambda one: one.cap)


def page(found: dict[str, Any], size_name: str, seed: int, figures: dict[float, str]) -> str:
    """Write the page."""
    contests = contests_of(found)
    parts = [
        "# Lead time before the first declined call",
        f"Size {size_name}, seed {seed}.",
        INTRODUCTION,
        summary(contests),
    ]
    for contest in contests:
        parts.append(section(contest))
        if contest.cap in figures:
            parts.append(f"![Lead against false pages, cap {contest.cap:.0f}]({figures[contest.cap]})")
    parts += [
        "## Many limits under one budget",
        found["many"],
        "## Calls per second, from a dialler that clumps",
    ]
    parts += [RATE, found["rate"], "## Real arrivals"]
    if "real" in found:
        parts += [found["real"], "The same with the three draws of the research:"]
        parts.append(found["real, as in the research"])
    else:
        parts.append("Left out at this size.")
    if "cold" in found:
        parts += ["## Starts from nothing, as shipped", found["cold"]]
    parts += ["## Elsewhere", ELSEWHERE]
    digest = hashlib.sha256("\n\n".join(parts).encode()).hexdigest()[:16]
    return "\n\n".join([*parts, f"Result {digest}"]) + "\n"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.leadtime", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--real", type=Path, default=real.FILE, help="a recording of real arrivals, as CSV")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()
    on = machine()  # Now: the sources may change while it runs.
    found = run_parts(arguments.size, arguments.seed, arguments.workers, arguments.real)
    figures = {}
    if arguments.out:
        for contest in contests_of(found):
            drawn = arguments.out.with_name(f"{arguments.out.stem}_{contest.cap:.0f}.svg")
            drawn.write_text(figure(contest), "utf-8")
            figures[contest.cap] = drawn.name
    text = page(found, arguments.size, arguments.seed, figures)
    text += f"\n{on}; took {time.monotonic() - began:.0f} s.\n"
    sys.stdout.write(text)
    if arguments.out:
        arguments.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
