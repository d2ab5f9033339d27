"""What a page about an inferred limit says: at which level, on what evidence, and what the register says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from detectors import ceiling as at
from detectors.headroom_page import duration_text, plain
from engine.judge.detection import CRITICAL, Finding

if TYPE_CHECKING:
    from detectors.ceiling import Ceilings
    from detectors.hidden_cap_rows import Word

ALERT = "HiddenCallLimit"
SUMMARY = "Calls stop at a limit that nobody wrote down."
DECLINING = (
    "{limit} declines calls whenever {ceiling} are up at once: {declines_text} in the last {span}, and none "
    "was taken above that level. {register_text} Find where the limit lives, and write it into "
    "limits.yaml with an owner. Until then it is watched as a limit of {ceiling}."
)
SILENT = (
    "{limit} never has more than {ceiling} calls at once. In the last {span} it came up to that level "
    "{touches} times, and stayed there for {at_ceiling_seconds} s of late: about {missing} more calls were "
    "to be expected at that level, and none came. No decline was sent. {register_text} Find "
    "where the limit lives, and write it into limits.yaml with an owner. Until then it is watched as a limit "
    "of {ceiling}."
)


class Inferred(NamedTuple):
    """One inferred limit."""

    row: int
    value: float
    before: float  # what was inferred before it; NaN: nothing
    is_silent: bool
    word: Word
    bin_s: float


def finding_of(ceilings: Ceilings, inferred: Inferred) -> Finding:
    """Say it."""
    whole, real = ceilings.whole[inferred.row], ceilings.real[inferred.row]
    value, declines = int(inferred.value), int(whole[at.DECLINES])
    evidence: tuple[tuple[str, float | int | str], ...] = (
        ("ceiling", value),
        ("limit_value", value),
        ("state", "inferred"),
        ("declines", declines),
        ("declines_text", "1 call" if declines == 1 else f"{declines} calls"),
        ("touches", int(whole[at.TOUCHES])),
        ("missing", round(float(real[at.MISSING]))),
        ("at_ceiling_seconds", round(float(real[at.AT_CEILING_S]))),
        ("span", duration_text(float(whole[at.BINS]) * inferred.bin_s)),
        ("register_text", _register_text(inferred.word) + _before_text(inferred)),
    )
    description = SILENT if inferred.is_silent else DECLINING
    return Finding(ALERT, CRITICAL, ("limit", inferred.row), SUMMARY, description, evidence=evidence)


def _register_text(word: Word) -> str:
    if math.isnan(word.value):
        return "No limit in the register covers these calls."
    return f"The register says {plain(word.value)} ({word.name}): that is not what is in force."


def _before_text(inferred: Inferred) -> str:
    """Say that a limit which was inferred has moved."""
    return "" if math.isnan(inferred.before) else f" It was {plain(inferred.before)} before."
