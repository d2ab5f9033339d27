"""What the promises take for granted is said at a start, and what does not hold with what to do."""

import logging
from pathlib import Path
from typing import cast

import msgspec
import pytest

from engine.app import load_configuration
from engine.commands.checkpoints import Checkpoints
from engine.commands.preconditions import (
    ASKED,
    HOUR_MS,
    Precondition,
    look_at_preconditions,
    of_settings,
    of_topic,
    say_what_is_watched,
    tell,
)
from engine.config_files import config_path
from engine.settings import AlertmanagerSettings, KafkaSettings, Settings, StateSettings, TimelineSettings

NS_PER_MS = 1_000_000
NOWHERE = "127.0.0.1:1"


def held(found: list[Precondition]) -> list[bool | None]:
    return [one.holds for one in found]


def test_settings_that_keep_every_promise_hold() -> None:
    """A folder, two Alertmanagers, a broker on this machine."""
    settings = Settings(
        alertmanager=AlertmanagerSettings(urls=("https://one:9093", "http://127.0.0.1:9093")),
        state=StateSettings(folder="/var/lib/callgauge"),
    )
    assert held(of_settings(settings, are_checkpoints_kept=True)) == [True, True, True, True]


def test_settings_that_do_not_are_told_apart() -> None:
    """Nothing but defaults, and a broker and an Alertmanager elsewhere in plain text."""
    settings = Settings(
        kafka=KafkaSettings(bootstrap_servers=("kafka.example:9092",), allow_insecure=True),
        alertmanager=AlertmanagerSettings(urls=("http://one:9093",), username="me", allow_insecure=True),
    )
    assert held(of_settings(settings, are_checkpoints_kept=False)) == [False, False, False, False]


@pytest.mark.parametrize("is_file", [False, True])
def test_checkpoints_are_kept_only_in_a_folder_that_can_be_written_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_file: bool
) -> None:
    """A folder in the settings is none on the disk."""
    caplog.set_level(logging.INFO)
    folder = tmp_path / "state"
    if is_file:
        folder.write_text("")
    configuration = load_configuration(None, None, None)
    settings = msgspec.structs.replace(configuration.settings, state=StateSettings(folder=str(folder)))
    configuration = configuration._replace(settings=settings)
    checkpoints = Checkpoints(configuration)

    checkpoints.open(configuration)

    assert checkpoints.are_kept != is_file
    assert (f"checkpoints are kept in {folder}" in caplog.text) != is_file
    assert ("cannot be written to" in caplog.text) == is_file


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        (None, [None, None]),
        ({}, [True, True]),
        ({"retention.ms": "-1", "cleanup.policy": "delete"}, [True, True]),
        ({"retention.ms": str(5 * HOUR_MS)}, [True, True]),
        ({"retention.ms": str(5 * HOUR_MS - 1)}, [False, True]),
        ({"cleanup.policy": "compact,delete"}, [True, False]),
        # How long so many bytes last, nobody knows beforehand.
        ({"retention.ms": "-1", "retention.bytes": "1048576"}, [None, True]),
        ({"retention.ms": "0", "retention.bytes": "1048576"}, [False, True]),
        ({"retention.ms": "-1", "retention.bytes": "-1"}, [True, True]),
    ],
)
def test_a_topic_must_keep_its_rows_for_the_rewind_and_an_hour(
    configs: dict[str, str] | None, expected: list[bool | None]
) -> None:
    """And all of them: a compacted one keeps the newest of each call."""
    settings = Settings(kafka=KafkaSettings(rewind_ns=4 * HOUR_MS * NS_PER_MS))
    assert held(of_topic(configs, settings)) == expected


class Looked:
    """A topic's configuration that remembers what was looked at."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def get(self, name: str, default: str = "") -> str:
        """Remember the name."""
        self.names.add(name)
        return default


def test_a_broker_is_asked_for_all_that_is_looked_at() -> None:
    """What it is not asked for it does not tell, and the default would hold."""
    told = Looked()

    of_topic(cast("dict[str, str]", told), Settings())

    assert told.names == set(ASKED)


@pytest.mark.parametrize(("register", "level"), [(None, "WARNING"), ("demo/limits.yaml", "INFO")])
def test_a_register_that_is_nobodys_is_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    register: str | None, level: str,
) -> None:  # fmt: skip
    """Its owners are made up: nobody would notice that no limit of theirs is watched."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    own = register and str(config_path(register))

    say_what_is_watched(load_configuration(None, own, None))

    said, nobody = caplog.records
    assert said.levelname == level
    assert ("name your own with --limits" in said.getMessage()) == (register is None)
    assert (nobody.levelname, "nobody is paged" in nobody.getMessage()) == ("WARNING", True)


def test_with_an_alertmanager_somebody_is_paged(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(alertmanager=AlertmanagerSettings(urls=("http://one:9093",)))

    say_what_is_watched(load_configuration(None, None, None)._replace(settings=settings))

    assert "nobody is paged" not in caplog.text


def test_a_file_that_cannot_be_written_is_said_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(timeline=TimelineSettings(path=str(tmp_path / "none" / "timeline.jsonl")))

    say_what_is_watched(load_configuration(None, None, None)._replace(settings=settings))

    assert f"this file cannot be written: there is no {tmp_path / 'none'}; make the folder" in caplog.text


def test_they_are_said_by_what_they_are(caplog: pytest.LogCaptureFixture) -> None:
    """What holds is information; all else is a warning, with what to do."""
    with caplog.at_level(logging.INFO):
        tell([Precondition("P1", "this", True), Precondition("P2", "that", False, "mend it"),
              Precondition("P5", "other", None, "ask")])  # fmt: skip
    assert [(one.levelno, one.getMessage()) for one in caplog.records] == [
        (logging.INFO, "precondition of P1 holds: this"),
        (logging.WARNING, "precondition of P2 does not hold: that; mend it"),
        (logging.WARNING, "precondition of P5 not known: other; ask"),
    ]


async def test_a_broker_that_is_not_there_leaves_them_unknown(caplog: pytest.LogCaptureFixture) -> None:
    """And holds up nothing."""
    settings = msgspec.structs.replace(Settings(), kafka=KafkaSettings(bootstrap_servers=(NOWHERE,)))
    with caplog.at_level(logging.INFO):
        await look_at_preconditions(settings, are_checkpoints_kept=True)
    why = "no broker can be reached, or callgauge lacks the right DESCRIBE_CONFIGS on the topic"
    assert f"precondition of P1 not known: the topic is not compacted; {why}" in caplog.text
