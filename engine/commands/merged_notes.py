"""What a replay could not tell apart, or left out, because a table was full or a name cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.commands.hidden_values import hidden_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.judge.snapshot import Snapshot


def merged_notes(snapshot: Snapshot) -> Iterator[str]:
    """Give a note for each limit by a hidden name, for each table that was full, and one for other bounds."""
    yield from hidden_limits(snapshot).values()
    if count := snapshot.series_collapsed:
        yield (
            "rows with labels that count as __other__, which limits and alerts do not tell apart: "
            f"{count:,}; raise engine.series_max, or name fewer labels in engine.series_labels"
        )
    if count := snapshot.causes_collapsed:
        yield (
            f"ends and declines whose reason, or more of their cause, was not kept: {count:,}; "
            "raise engine.causes_max"
        )
    if count := snapshot.measures_collapsed:
        yield (
            f"latencies and scores that count as the stage __other__: {count:,}; a name of a stage or metric "
            "is 1 to 32 of a-z, 0-9 and _, and no number, and engine.stages_max of them are kept apart"
        )
    met = [(bound, count) for bound, count in snapshot.bounds_met if count]
    if met:
        counts = ", ".join(f"{bound} {count:,}" for bound, count in met)
        yield (
            f"bounds that were met, and how often: {counts}; what is beyond counts as __other__ or is left "
            "out, as section 6 of ARCHITECTURE.md says"
        )
