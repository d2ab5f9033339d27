"""The figure: median lead against false pages a week, a panel per family, as plain SVG text."""

from __future__ import annotations

import math

from bench.leadtime.contest import OURS, Contest
from bench.leadtime.measures import BUDGETS, Outcome

PANEL_W, PANEL_H, LEFT, TOP, COLUMNS = 250.0, 170.0, 44.0, 26.0, 4
FALSE_MIN, FALSE_MAX = 0.03, 8.0  # the logarithmic axis; fewer pages are drawn at its left end
TICKS = (0.1, 0.25, 1.0, 4.0)
LINES = (
    ("our page", (OURS,), "page, tuned", "#c0392b"),
    ("our warning", (OURS,), "warning, tuned", "#e08e3c"),
    ("predict_linear, best by family", ("predict_linear", "predict_linear, deseasonalised"), "", "#2c6fbb"),
    ("Holt or Kalman, best by family", ("Holt", "Kalman"), "", "#5b8c5a"),
    ("static", ("static",), "", "#777777"),
)


def curve(contest: Contest, groups: tuple[str, ...], name: str, family: str) -> list[tuple[float, float]]:
    """Give (false pages a week, median lead) by budget; of several rules the best at each."""
    members = [
        one for one in contest.outcomes if one.group in groups and one.curve and name in ("", one.name)
    ]
    return [point(members, at, family) for at in range(len(BUDGETS))]


def point(members: list[Outcome], at: int, family: str) -> tuple[float, float]:
    """Give the best of some rules at one budget."""
    best = max(members, key=lambda one: one.curve[at][1][family])
    return best.curve[at][0], best.curve[at][1][family]


def panel(contest: Contest, family: str, left: float, top: float) -> list[str]:
    """Draw one family."""
    curves = [(colour, curve(contest, groups, name, family)) for _, groups, name, colour in LINES]
    highest = max(*(lead for _, line in curves for _, lead in line), 1.0) * 1.08
    width, height = PANEL_W - LEFT - 14, PANEL_H - TOP - 34

    def x(false: float) -> float:
        share = math.log(min(max(false, FALSE_MIN), FALSE_MAX) / FALSE_MIN) / math.log(FALSE_MAX / FALSE_MIN)
        return left + LEFT + width * share

    def y(lead: float) -> float:
        return top + TOP + height * (1.0 - max(lead, 0.0) / highest)

    drawn = [
        f'<text x="{left + LEFT:.0f}" y="{top + 16:.0f}" font-weight="bold">{family}</text>',
        (
            f'<rect x="{left + LEFT:.1f}" y="{top + TOP:.1f}" width="{width:.1f}" height="{height:.1f}" '
            'fill="none" stroke="#bbbbbb"/>'
        ),
    ]
    drawn += [
        f'<text x="{x(tick):.1f}" y="{top + PANEL_H - 20:.0f}" class="t">{tick:g}</text>' for tick in TICKS
    ]
    drawn += [
        f'<text x="{left + LEFT - 4:.1f}" y="{y(lead) + 4:.1f}" class="l">{lead:.0f}</text>'
        for lead in (0.0, 0.5 * highest, highest)
    ]
    for colour, line in curves:
        points = " ".join(f"{x(false):.1f},{y(lead):.1f}" for false, lead in line)
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        drawn += [
            f'<circle cx="{x(false):.1f}" cy="{y(lead):.1f}" r="2.2" fill="{colour}"/>'
            for false, lead in line
        ]
    return drawn


def figure(contest: Contest) -> str:
    """Draw all families of one cap."""
    families = list(contest.oracle_min)
    rows = math.ceil(len(families) / COLUMNS)
    width, height = COLUMNS * PANEL_W, rows * PANEL_H + 60
    drawn = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            'font-family="sans-serif" font-size="11">'
        ),
        "<style>.t{text-anchor:middle;fill:#555}.l{text-anchor:end;fill:#555}</style>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
        (
            f'<text x="{LEFT:.0f}" y="18">Cap {contest.cap:.0f}: median lead in minutes (up) against false '
            "pages a week and limit (right, logarithmic), thresholds set on other weeks</text>"
        ),
    ]
    for at, (label, _, _, colour) in enumerate(LINES):
        left = LEFT + at * (width - LEFT) / len(LINES)
        drawn.append(f'<rect x="{left:.0f}" y="30" width="14" height="4" fill="{colour}"/>')
        drawn.append(f'<text x="{left + 18:.0f}" y="36">{label}</text>')
    for at, family in enumerate(families):
        drawn += panel(contest, family, (at % COLUMNS) * PANEL_W, 44 + (at // COLUMNS) * PANEL_H)
    return "\n".join([*drawn, "</svg>"]) + "\n"
