"""Contests as Markdown: who leads, by how much, at how many false pages, and what that saves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.contest import OURS, Contest
from bench.leadtime.measures import MAIN_BUDGET, MISSED_MIN, REACTIONS_MIN, Outcome, interval
from bench.leadtime.probability import EDGES, Stated

BASELINES = ("static", "predict_linear", "predict_linear, deseasonalised", "Holt", "Kalman")
SHIPPED = ("static, as shipped", "predict_linear, as shipped")
PROTOTYPE = "prototype, mended"
AHEAD, LEVEL, BEHIND = "ahead", "level", "BEHIND"
SEED = 7  # of the bootstrap


class Lead(NamedTuple):
    """A median lead with its 90 % interval, the tenth percentile, and the share of incidents missed."""

    median: float
    low: float
    high: float
    p10: float
    missed: float

    def __str__(self) -> str:
        """Write it as the tables do."""
        return f"{self.short} [{minutes(self.low)}, {minutes(self.high)}]"

    @property
    def short(self) -> str:
        """Write median, tenth percentile and percent missed."""
        return f"{minutes(self.median)} / {minutes(self.p10)} / {100 * self.missed:.0f}"


def minutes(value: float) -> str:
    """Write a lead; a dash stands for no page before the first decline."""
    return "-" if value == MISSED_MIN else f"{value:.1f}"


def lead_of(leads_min: NDArray[np.float64]) -> Lead:
    """Sum up the leads of one family."""
    median, low, high = interval(leads_min, "median", SEED)
    p10, missed = (interval(leads_min, statistic, SEED)[0] for statistic in ("p10", "missed"))
    return Lead(median, low, high, p10, missed)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Lay rows out as a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ours(contest: Contest, name: str) -> Outcome:
    """Give one of our outcomes."""
    return next(one for one in contest.outcomes if (one.group, one.name) == (OURS, name))


def best(contest: Contest, groups: tuple[str, ...], family: str) -> Outcome:
    """Give the outcome with the longest median lead, and of these the longest mean."""

    def rank(one: Outcome) -> tuple[float, float]:
        return float(np.median(one.lead_min[family])), float(np.mean(one.lead_min[family]))

    return max((one for one in contest.outcomes if one.group in groups), key=rank)


def comparison(mine: Lead, theirs: Lead) -> str:
    """Say who is ahead; level where the medians' intervals leave it open."""
    if mine.low > theirs.high or mine.median >= theirs.median:
        return AHEAD
    return LEVEL if mine.high >= theirs.low else BEHIND


def named(one: Outcome) -> str:
    """Name an outcome in one cell."""
    return f"{one.group} {one.name}"


def verdicts(contest: Contest) -> str:
    """Set each tier, moved to the budget as a whole, against the best of the others by family."""
    page, warn = ours(contest, "page, tuned"), ours(contest, "warning, tuned")
    rows = []
    for family, oracle_min in contest.oracle_min.items():
        rival = best(contest, BASELINES, family)
        seed = best(contest, (PROTOTYPE,), family)
        mine, other, warning = (lead_of(one.lead_min[family]) for one in (page, rival, warn))
        earlier, oracle = lead_of(seed.lead_min[family]), lead_of(oracle_min)
        share = f"{100 * max(mine.median, 0.0) / oracle.median:.0f} %" if oracle.median > 0 else "-"
        rows.append([
            family, f"{np.median(contest.onset_to_decline_min[family]):.1f}", str(mine),
            f"{other} ({named(rival)}, {rival.false_per_week:.2f})", comparison(mine, other), str(warning),
            f"{earlier} ({seed.name}, {seed.false_per_week:.2f})", comparison(warning, earlier),
            oracle.short, share,
        ])  # fmt: skip
    head = [
        "family", "onset to decline", "our page", "best baseline (which, false pages a week)", "page is",
        "our warning", "best prototype", "warning is", "oracle", "page's share of it",
    ]  # fmt: skip
    said = f"False pages a week and limit: page {rate(page)}, warning {rate(warn)}."
    return f"{table(head, rows)}\n\n{said}"


def rate(one: Outcome) -> str:
    """Write false pages a week with their interval."""
    value, low, high = interval(one.false_by_stream.astype(np.float64), "mean", SEED)
    scale = len(one.false_by_stream) / one.weeks
    return f"{scale * value:.2f} [{scale * low:.2f}, {scale * high:.2f}]"


def shown(contest: Contest) -> list[Outcome]:
    """Pick what the long tables list: ours, the prototype, what ships, and each group's best on average."""
    listed = [one for one in contest.outcomes if one.group in (OURS, PROTOTYPE, *SHIPPED)]
    for group in BASELINES:
        members = [one for one in contest.outcomes if one.group == group]
        listed.append(max(members, key=lambda one: np.mean([np.median(x) for x in one.lead_min.values()])))
    return listed


def leads(contest: Contest) -> str:
    """List leads by detector and family; below each group's average best, the best of it by family."""
    families = list(contest.oracle_min)
    rows = [
        [named(one), rate(one), *(lead_of(one.lead_min[family]).short for family in families)]
        for one in shown(contest)
    ]
    for group in BASELINES[1:]:
        picked = [best(contest, (group,), family) for family in families]
        cells = [
            f"{lead_of(one.lead_min[family]).short} ({one.name})"
            for one, family in zip(picked, families, strict=True)
        ]
        worst = max(one.false_per_week for one in picked)
        rows.append([f"{group}, best by family", f"up to {worst:.2f}", *cells])
    return table(["detector", "false pages a week", *families], rows)


def benign_table(contest: Contest) -> str:
    """List what share of harmless streams page, and pages a week where calls come in batches."""
    some = contest.outcomes[0]
    head = ["detector", *some.benign, *(f"pages a week, {name}" for name in some.bursty)]
    rows = [
        [
            named(one),
            *(f"{100 * share:.0f} %" for share in one.benign.values()),
            *(f"{pages:.2f}" for pages in one.bursty.values()),
        ]
        for one in shown(contest)
    ]
    return table(head, rows)


def losses_table(contest: Contest) -> str:
    """List median calls lost when somebody reacts so many minutes after the page."""
    rows = []
    for family in contest.oracle_min:
        listed = (
            ours(contest, "page, tuned"), ours(contest, "page, as shipped"), best(contest, BASELINES, family),
            next(one for one in contest.outcomes if one.group == SHIPPED[0]),
        )  # fmt: skip
        lost = [np.median(one.calls_lost[family], axis=0) for one in listed]
        rows.append([family, *(" / ".join(f"{each:.0f}" for each in by_reaction) for by_reaction in lost)])
    at = " / ".join(f"{reaction:.0f}" for reaction in REACTIONS_MIN)
    head = [f"family (reaction after {at} min)", "our page, tuned", "our page, as shipped", "best baseline"]
    return table([*head, "static 80 %"], rows)


def reliability(stated: dict[str, Stated]) -> str:
    """List what share of the moments at which p was stated saw a decline within the horizon."""
    rows = []
    for k in range(len(EDGES) - 1):
        line = [f"{EDGES[k]:g} to {EDGES[k + 1]:g}"]
        for one in stated.values():
            seen = one.moments[k]
            line.append(f"{one.mean[k]:.3f} / {one.came[k] / seen:.3f} of {seen}" if seen else "-")
        rows.append(line)
    rows.append(["Brier score", *(f"{one.brier:.4f}" for one in stated.values())])
    rows.append(["of a constant guess", *(f"{one.brier_of_rate:.4f}" for one in stated.values())])
    return table(["stated (mean / came true of moments)", *stated], rows)


def section(contest: Contest) -> str:
    """Write all about one cap."""
    effort = contest.effort
    drawn = (
        f"{effort.weeks} weeks of {effort.days:g} days to calibrate on, as many to validate on, "
        f"{effort.incidents} incidents and {effort.benign} harmless streams per family; weeks in slices of "
        f"{effort.weeks_slice_s} s, the rest in slices of {effort.slice_s} s."
    )
    parts = [
        f"## Cap {contest.cap:.0f}", drawn, "### Who leads", verdicts(contest),
        "### Every detector", leads(contest), "### Harmless streams that page", benign_table(contest),
        "### Calls lost", losses_table(contest), "### Stated probability of a decline within 10 min",
        reliability(contest.stated),
    ]  # fmt: skip
    return "\n\n".join(parts)


def summary(contests: list[Contest]) -> str:
    """Say in a few lines where ours leads and where not."""
    lines = []
    for contest in contests:
        page, warn = ours(contest, "page, tuned"), ours(contest, "warning, tuned")
        found: dict[str, list[str]] = {AHEAD: [], LEVEL: [], BEHIND: []}
        against: dict[str, list[str]] = {AHEAD: [], LEVEL: [], BEHIND: []}
        for family in contest.oracle_min:
            rival, seed = best(contest, BASELINES, family), best(contest, (PROTOTYPE,), family)
            pairs = ((found, page, rival), (against, warn, seed))
            for into, mine, theirs in pairs:
                said = comparison(lead_of(mine.lead_min[family]), lead_of(theirs.lead_min[family]))
                into[said].append(family)
        low = 100 * page.benign["plateau at 40 to 55 %"]
        lines.append(
            f"- cap {contest.cap:.0f}: the page is {told(found)} of the best baseline; the warning is "
            f"{told(against)} of the best prototype; plateaus at 40 to 55 % paged: {low:.0f} % tuned, "
            f"{100 * ours(contest, 'page, as shipped').benign['plateau at 40 to 55 %']:.0f} % as shipped."
        )
    return f"At {MAIN_BUDGET} false pages a week and limit:\n" + "\n".join(lines)


def told(found: dict[str, list[str]]) -> str:
    """Write how many families, and which are not ahead."""
    return ", ".join(
        f"{said.lower()} in {len(families)}" + ("" if said == AHEAD else f" ({', '.join(families)})")
        for said, families in found.items()
        if families
    )
