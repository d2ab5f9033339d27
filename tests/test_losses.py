"""What the log says of rows that are not counted: each once, also when another line takes over."""

from __future__ import annotations

import logging

import pytest

from engine.commands.hidden_values import HiddenLog
from engine.commands.losses import TELL_EVERY_S, LossLog
from engine.commands.merged_notes import merged_notes
from tests.snapshots import a_limit, a_snapshot

Counts = tuple[tuple[str, int], ...]


class Told:
    """A loss log whose steps are a minute apart, and what it said."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._log, self._caplog, self._now_s = LossLog(), caplog, 0.0
        caplog.set_level(logging.WARNING)

    def after(self, lost: Counts, before: Counts = (), *, after_s: float = TELL_EVERY_S) -> list[str]:
        self._now_s += after_s
        self._caplog.clear()
        self._log.tell(a_snapshot(rows_lost=lost, rows_lost_before=before), (), self._now_s)
        return [record.getMessage().split(": ")[1].split(";")[0] for record in self._caplog.records]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def test_what_was_lost_since_the_last_time_is_told(told: Told) -> None:
    assert told.after((("late", 3),)) == ["3 late"]
    assert told.after((("late", 3),)) == []
    assert told.after((("late", 4),)) == ["1 late"]


def test_within_a_minute_it_is_gathered(told: Told) -> None:
    told.after((("late", 3),))

    assert told.after((("late", 4),), after_s=1.0) == []
    assert told.after((("late", 4), ("duplicate", 2))) == ["1 late, 2 duplicate"]


def test_what_a_restored_line_had_lost_before_is_not_told_anew(told: Told) -> None:
    """A tick of the line without partitions comes first, then the one of the checkpoint."""
    assert told.after((("late", 0),)) == []
    assert told.after((("late", 900),), before=(("late", 900),)) == []
    assert told.after((("late", 901),), before=(("late", 900),)) == ["1 late"]


def test_a_line_that_begins_at_zero_is_told_from_its_first_loss_on(told: Told) -> None:
    told.after((("late", 900), ("duplicate", 5)))

    assert told.after((("late", 0), ("duplicate", 0)), after_s=1.0) == []
    assert told.after((("late", 2), ("duplicate", 6))) == ["2 late, 6 duplicate"]


def test_a_checkpoint_that_counts_less_than_was_told_begins_there(told: Told) -> None:
    told.after((("late", 900),))

    assert told.after((("late", 400),), before=(("late", 400),)) == []
    assert told.after((("late", 401),), before=(("late", 400),)) == ["1 late"]


def test_a_limit_by_a_label_whose_values_are_hidden_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log, limits = HiddenLog(), (a_limit(), a_limit(limit="line", split=(("trunk", "__number__"),)))
    for _ in range(2):
        log.tell(a_snapshot(limits=limits))

    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("limit line: values of trunk are numbers or addresses")
    assert "engine.label_key_file" in told


def test_a_replay_notes_what_it_did_not_tell_apart() -> None:
    """Each once, with the setting that mends it; nothing of a table that had room."""
    line = a_limit(limit="line", split=(("trunk", "__number__"), ("tenant", "__address__")))
    full = a_snapshot(
        limits=(a_limit(), line, line._replace(split=line.split[:1])),
        series_collapsed=1_200, causes_collapsed=3, measures_collapsed=4,
        bounds_met=(("reports_max", 0), ("limit_instances_max", 9)),
    )  # fmt: skip
    hidden, series, causes, measures, bounds = merged_notes(full)

    assert hidden.startswith("limit line: values of trunk and tenant are numbers")
    assert ": 1,200; raise engine.series_max" in series
    assert ": 3; raise engine.causes_max" in causes
    assert ": 4; " in measures
    assert "engine.stages_max" in measures
    assert ": limit_instances_max 9; " in bounds
    roomy = a_snapshot(
        limits=(a_limit(),), series_collapsed=0, causes_collapsed=0, measures_collapsed=0, bounds_met=()
    )
    assert [] == list(merged_notes(roomy))
