"""What a reload changes, and what waits for the next start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.app import REPLAY_HASH_KEY, Configuration, OwnedLine
from engine.commands.reload import say_what_waits
from engine.learned import Learned
from engine.limits import Limit, Register
from engine.settings import KafkaSettings, Settings
from engine.state.line_state import digests_of

if TYPE_CHECKING:
    import pytest

TRUNK = Limit(name="trunk", kind="concurrency", value=80.0)
BEFORE = Configuration(
    Settings(), Register(limits=(TRUNK,)), (), Path("limits.yaml"), Learned(day=1), label_key=b"1" * 16
)


def test_a_line_is_known_by_what_it_was_made_with() -> None:
    """Checkpoints under the new learned file's name would hold what the old one taught."""
    line = OwnedLine(BEFORE, REPLAY_HASH_KEY)
    fresh = BEFORE._replace(register=Register(), learned=Learned(day=2), label_key=b"2" * 16)
    line.reload(fresh)
    now = line.configuration
    assert (now.register, now.learned, now.label_key) == (fresh.register, BEFORE.learned, BEFORE.label_key)
    assert line.line.pipeline.judge.roller.index.register == fresh.register
    before, after = (digests_of(one.settings, one.learned, REPLAY_HASH_KEY) for one in (BEFORE, now))
    assert before == after


def test_what_waits_for_the_next_start_is_said(caplog: pytest.LogCaptureFixture) -> None:
    say_what_waits(BEFORE, BEFORE._replace(register=Register(), rules=()))
    assert caplog.text == ""
    longer = Limit(name="trunk", kind="concurrency", value=80.0, max_duration_ns=1)
    for fresh, named in (
        (BEFORE._replace(settings=Settings(kafka=KafkaSettings(topic="other"))), "settings have changed"),
        (BEFORE._replace(learned=None), "headroom.learned_file has changed"),
        (BEFORE._replace(label_key=b""), "engine.label_key_file has changed"),
        (BEFORE._replace(register=Register(limits=(longer,))), "max_duration has changed"),
    ):
        caplog.clear()
        say_what_waits(BEFORE, fresh)
        assert [named in record.getMessage() for record in caplog.records] == [True]
