"""The curves of bench/growth.py as plain SVG text: a column for each axis, speed above, memory below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

PANEL_W, PANEL_H, LEFT, TOP, GAP = 250.0, 190.0, 56.0, 30.0, 40.0
COLOURS = ("#2c6fbb", "#c0392b", "#5b8c5a")


class Line(NamedTuple):
    """One curve: points (x, y), both above 0, or x 0 for "none"."""

    name: str
    points: tuple[tuple[float, float], ...]


class Panel(NamedTuple):
    """Curves over the same axes, both logarithmic."""

    title: str
    unit: str
    lines: tuple[Line, ...]


def figure(columns: Sequence[Sequence[Panel]]) -> str:
    """Draw columns of panels."""
    width = len(columns) * PANEL_W
    height = max(map(len, columns)) * PANEL_H + GAP
    drawn = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            'font-family="sans-serif" font-size="11">'
        ),
        "<style>.t{text-anchor:middle;fill:#555}.l{text-anchor:end;fill:#555}</style>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
    ]
    for column, panels in enumerate(columns):
        for place, one in enumerate(panels):
            drawn += _panel(one, column * PANEL_W, place * PANEL_H)
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _panel(panel: Panel, left: float, top: float) -> list[str]:
    """Draw one panel with its ticks and names."""
    xs = sorted({max(x, 1.0) for line in panel.lines for x, _ in line.points})
    ys = [y for line in panel.lines for _, y in line.points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) + 1e-9)
    width, height = PANEL_W - LEFT - 14, PANEL_H - TOP - 34
    x_span = max(math.log10(xs[-1] / xs[0]), 1e-9)

    def at_x(x: float) -> float:
        return left + LEFT + width * math.log10(max(x, 1.0) / xs[0]) / x_span

    def at_y(y: float) -> float:
        return top + TOP + height * (1.0 - (math.log10(y) - low) / (high - low))

    drawn = [
        f'<text x="{left + LEFT:.0f}" y="{top + 18:.0f}" font-weight="bold">{panel.title}</text>',
        (
            f'<rect x="{left + LEFT:.1f}" y="{top + TOP:.1f}" width="{width:.1f}" height="{height:.1f}" '
            'fill="none" stroke="#bbbbbb"/>'
        ),
    ]
    drawn += [
        f'<text x="{at_x(x):.1f}" y="{top + PANEL_H - 20:.0f}" class="t">{_short(x)}</text>' for x in xs
    ]
    for power in range(low, high + 1):
        y = at_y(10.0**power)
        label = _short(10.0**power)
        drawn.append(f'<text x="{left + LEFT - 4:.1f}" y="{y + 4:.1f}" class="l">{label}</text>')
    for number, line in enumerate(panel.lines):
        colour = COLOURS[number]
        points = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line.points)
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        drawn += [
            f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="2.2" fill="{colour}"/>' for x, y in line.points
        ]
        place = left + LEFT + 6 + number * 92
        drawn.append(f'<text x="{place:.0f}" y="{top + TOP + 12:.0f}" fill="{colour}">{line.name}</text>')
    drawn.append(
        f'<text x="{left + LEFT + width / 2:.0f}" y="{top + PANEL_H - 6:.0f}" class="t">{panel.unit}</text>'
    )
    return drawn


def _short(number: float) -> str:
    """Write 1, 10, 1k, 1M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{unit}"
    return f"{number:g}"
