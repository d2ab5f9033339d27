"""What a reload changes, and what waits for the next start."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from engine.app import REPLAY_HASH_KEY, Configuration, OwnedLine, configuration_loader
from engine.commands.duty import Duty
from engine.commands.reload import say_what_waits
from engine.commands.run import Service
from engine.config_files import config_path
from engine.decode.mask import LabelMask
from engine.errors import SettingsError
from engine.learned import Learned
from engine.limits import Limit, Register
from engine.settings import KafkaSettings, Settings
from engine.source.file import FileSource
from engine.state.line_state import digests_of

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


def test_a_process_shows_values_as_its_line_does() -> None:
    """Who asks for the headroom of a number gives it as it is; and a limit may name one."""
    duty = Duty(BEFORE)
    assert duty.shown("trunk", "4930111222333") == "4930111222333"
    named = Limit(name="trunk", kind="concurrency", value=80.0, applies_to={"trunk": ("4930111222333",)})
    duty.begin(BEFORE._replace(register=Register(limits=(named,))), REPLAY_HASH_KEY)
    assert duty.shown("trunk", "4930111222333") == "4930111222333"
    assert duty.shown("trunk", "4930111222334") == LabelMask(BEFORE.label_key).shown("trunk", "4930111222334")
    assert duty.shown("trunk", "4930111222334").startswith("number:")


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


def test_files_that_were_found_here_and_are_away_later_fail_the_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An editor or a deployment takes them away for a moment: the shipped ones must not take their place."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    here = Path("limits.yaml"), Path("declines.yaml")
    for path in here:
        path.write_bytes(config_path(path.name).read_bytes())
    load = configuration_loader(None, None, None)
    before = load()
    service = Service(before, FileSource([]), None, load)
    for path in here:
        away = path.rename("away")
        with pytest.raises(SettingsError, match="no such file"):
            asyncio.run(service.reload())
        away.rename(path)
        assert service.configuration is before
    assert "limits are read from" not in caplog.text

    asyncio.run(service.reload())
    assert service.configuration == before
    assert "limits are read from limits.yaml" in caplog.text


def test_the_settings_of_the_start_are_a_success_before_kernels_are_loaded() -> None:
    """Or `CallgaugeReloadFailed` would fire while they are."""
    service = Service(BEFORE, FileSource([]), None, lambda: BEFORE)
    body, _ = service.metrics.render("text/plain")
    assert service.line is None
    assert "callgauge_config_last_reload_successful 1.0" in body.decode().splitlines()
