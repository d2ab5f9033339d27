"""What a reload may change, and what waits for the next start."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.app import Configuration
    from engine.decode.decoder import Decoder
    from engine.limits import Register

log = logging.getLogger(__name__)


def refuse_new_labels(fresh: Configuration, decoder: Decoder) -> None:
    """Refuse limits on labels that the line was not made with: nothing is there to match. UsageError."""
    missing = sorted(set(fresh.register.limit_labels()) - set(decoder.series.labels))
    if missing:
        raise UsageError(
            f"limits use labels that are not kept apart: {', '.join(missing)}",
            where=str(fresh.limits_file),
            hint="restart callgauge, or add them to engine.series_labels beforehand",
        )
    named = fresh.register.named_values()
    hidden = [label for label, value in named if decoder.mask.shown(label, value) != value]
    if hidden:
        raise UsageError(
            f"limits name numbers or addresses that are hidden so far, as values of {hidden[0]}",
            where=str(fresh.limits_file),
            hint="restart callgauge",
        )


def say_what_waits(before: Configuration, fresh: Configuration) -> None:
    """Warn of what was found changed and is not in force before the next start."""
    if fresh.settings != before.settings:
        log.warning("settings have changed; they take effect at the next start, limits and rules at once")
    if fresh.learned != before.learned:
        log.warning("headroom.learned_file has changed; it takes effect at the next start")
    if fresh.label_key != before.label_key:
        log.warning("engine.label_key_file has changed; it takes effect at the next start")
    if _longest(fresh.register) != _longest(before.register):
        log.warning("a limit's max_duration has changed; it takes effect at the next start")


def _longest(register: Register) -> dict[str, int | None]:
    return {limit.name: limit.max_duration_ns for limit in register.limits if limit.max_duration_ns}
