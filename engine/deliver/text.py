"""Families and latency histograms in Prometheus' text format, version 0.0.4.

Writing a label set (escaping, quoting, joining) costs far more than writing a number, and label sets hardly
ever change: each is written once and kept in `LabelTexts`, and a scrape only joins these with numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.deliver.fingerprint import Labels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.deliver.families import Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABEL_SETS_MAX = 200_000  # kept at most; when full, all are forgotten and written anew as they come

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class LabelTexts:
    """Label sets as they are written between braces, each made once. Not safe for two threads at a time."""

    def __init__(self, label_sets_max: int = LABEL_SETS_MAX) -> None:
        self._label_sets_max = label_sets_max
        self._texts: dict[Labels, str] = {}

    def pairs(self, labels: Labels) -> str:
        """Write `a="1",b="2"`, values escaped; empty for no labels."""
        text = self._texts.get(labels)
        if text is None:
            if len(self._texts) >= self._label_sets_max:
                self._texts.clear()
            text = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels)
            self._texts[labels] = text
        return text


def head(name: str, kind: str, text: str) -> str:
    """Write the two comment lines that begin a family."""
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {escaped}\n# TYPE {name} {kind}\n"


def number(value: float) -> str:
    """Write a number as Go reads it."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def families_text(families: Iterable[Family], texts: LabelTexts) -> str:
    """Write whole families, one line a sample."""
    parts: list[str] = []
    for family in families:
        parts.append(head(family.name, family.kind, family.help))
        name = family.name
        for labels, value in zip(family.labels, family.values, strict=True):
            if labels:
                parts.append(f"{name}{{{texts.pairs(labels)}}} {number(value)}\n")
            else:
                parts.append(f"{name} {number(value)}\n")
    return "".join(parts)
