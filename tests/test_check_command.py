"""`callgauge check`: one line a scenario, what is not met beside what happened, and exit codes 0, 2 and 3."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

import pytest

from engine.commands.check_scenario import load_scenario, run_scenario
from engine.deliver.jsonl import alert_change_line
from engine.scenario.source import ScenarioSource
from tests.cli_runs import Ran, run_here
from tests.text_scenarios import FOLDER, batches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

S = 1_000_000_000
LIMITS = "limits:\n  - {name: small, kind: concurrency, value: 3, confirmed_on: 2025-01-01}\n"
CALLS = "calls web rate=20/min holding=1m\ncap panel value=3\n"
GOOD = f"seed 7\nlength 2m\n{LIMITS}{CALLS}expect CallLimitReached within 5s of the first decline\n"
BAD = GOOD + 'expect no CallLimitReached{limit="small"}   # it does\n'


@pytest.fixture
def check(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Ran]:
    """Give the command, in a folder with texts."""
    monkeypatch.chdir(tmp_path)
    texts = {
        "good.scenario": GOOD,
        "bad.scenario": BAD,
        "slip.scenario": GOOD + "call web\n",
        "register.scenario": GOOD.replace("value: 3,", "value: -3,"),
        "alert.scenario": GOOD + "expect no CallLimitReach\n",
        "beside.scenario": GOOD.replace(LIMITS, "limits limits.yaml\n"),
        "nowhere.scenario": GOOD.replace(LIMITS, "limits nowhere.yaml\n"),
        "limits.yaml": LIMITS,
        "settings.scenario": GOOD + "settings:\n  engine: {slice: 7s}\n",
        "empty.scenario": "",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return lambda *arguments: run_here(capfd, "check", *arguments)


def test_a_scenario_that_goes_as_it_says_is_one_line_and_exit_code_0(check: Callable[..., Ran]) -> None:
    ran = check("good.scenario", "beside.scenario")

    assert ran.code == 0
    lines = ran.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("ok      good.scenario: 1 met (")
    assert lines[1].startswith("ok      beside.scenario: 1 met (")


def test_a_breach_says_where_what_was_wanted_and_what_happened_and_is_exit_code_3(
    check: Callable[..., Ran],
) -> None:
    ran = check("bad.scenario", "good.scenario")

    assert ran.code == 3
    lines = ran.out.splitlines()
    assert lines[0].startswith("BREACH  bad.scenario: 1 of 2 not met (")
    assert lines[1] == '    bad.scenario:8: expect no CallLimitReached{limit="small"}'
    assert lines[2] == "      - nothing of it fires"
    assert lines[3].startswith('      + CallLimitReached{limit="small", severity="critical"} fired at ')
    assert lines[4].startswith("ok      good.scenario")
    assert ran.err == "callgauge: 1 of 2 scenarios did not go as expected\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("slip.scenario",), "line 8: `call` is not a statement; did you mean calls?"),
        (("register.scenario",), "limits[0].value"),
        (("alert.scenario",), "line 8: there is no alert `CallLimitReach`; did you mean CallLimitReached?"),
        (("settings.scenario",), "line 9"),
        (("nowhere.scenario",), "nowhere.yaml: the limits register: there is no such file"),
        (("empty.scenario",), "the scenario: the file is empty"),
        (("absent.scenario",), "the scenario: there is no such file"),
        ((), "Missing argument"),
        (("good.scenario", "--config", "absent.yaml"), "absent.yaml"),
        (("good.scenario", "--declines", "absent.yaml"), "absent.yaml"),
    ],
)
def test_what_cannot_be_read_is_exit_code_2_and_nothing_runs(
    check: Callable[..., Ran], arguments: tuple[str, ...], said: str
) -> None:
    ran = check(*arguments)

    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""


def test_all_texts_are_read_before_the_first_one_runs(check: Callable[..., Ran]) -> None:
    ran = check("good.scenario", "slip.scenario", "alert.scenario")

    assert (ran.code, ran.out) == (2, "")
    assert "`call` is not a statement" in ran.err
    assert "there is no alert" in ran.err


def test_alerts_are_shown_with_their_times_on_request(check: Callable[..., Ran]) -> None:
    ran = check("good.scenario", "--alerts")

    assert '    CallLimitReached{limit="small", severity="critical"} fired at ' in ran.out


def test_no_call_id_reaches_what_is_printed(check: Callable[..., Ran]) -> None:
    ran = check("bad.scenario", "--alerts")

    assert "s7-" not in ran.out + ran.err


def test_the_settings_of_a_scenario_are_laid_over_those_of_the_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section by section: what the scenario does not say is as without it."""
    monkeypatch.setenv("CALLGAUGE_ENGINE__LATE", "50s")
    monkeypatch.setenv("CALLGAUGE_ENGINE__SLICE", "2s")
    config, path = tmp_path / "engine.yaml", tmp_path / "one.scenario"
    config.write_text("log_level: error\nengine: {slice: 1s, idle: 11s}\ndetection: {pages_per_week: 3}\n")
    path.write_text(GOOD + "settings:\n  engine: {slice: 3s}\n  headroom: {time_zone: Europe/Berlin}\n")

    settings = load_scenario(path, str(config)).configuration.settings

    engine = settings.engine
    assert (3 * S, 11 * S, 50 * S) == (engine.slice_ns, engine.idle_ns, engine.late_ns)
    assert ("error", 3) == (settings.log_level, settings.detection.pages_per_week)
    assert settings.headroom.time_zone == "Europe/Berlin"


def test_what_is_wrong_with_settings_of_a_scenario_or_of_the_file_is_told_with_its_place(
    check: Callable[..., Ran], tmp_path: Path
) -> None:
    (tmp_path / "engine.yaml").write_text("engine:\n  idle: soon\n")

    ran = check("settings.scenario", "--config", "engine.yaml")

    assert ran.code == 2
    assert "(line 2)" in ran.err
    assert "absent.yaml: settings" in check("settings.scenario", "--config", "absent.yaml").err
    (tmp_path / "engine.yaml").write_text("engine: {idle: 11s}\n")
    assert "(line 9 of settings.scenario)" in check("settings.scenario", "--config", "engine.yaml").err
    (tmp_path / "list.scenario").write_text(GOOD + "settings:\n  - engine\n")
    assert "list.scenario" in check("list.scenario", "--config", "engine.yaml").err


async def test_a_recorded_scenario_replays_to_the_same_alerts(tmp_path: Path) -> None:
    """The rows of a scenario, written down as a plain log, mean what the scenario meant."""
    from engine.app import EVERYTHING
    from engine.commands.replay import ReplayOptions, run_log

    loaded = load_scenario(FOLDER / "limit_reached.scenario")
    checked = await run_scenario(loaded)
    source = ScenarioSource(loaded.scenario)
    await source.start()
    log = tmp_path / "log.jsonl"
    log.write_bytes(
        b"\n".join(
            raw.data[start:end]
            for raw in batches(source)
            for start, end in zip(raw.row_start.tolist(), raw.row_end.tolist(), strict=True)
        )
    )

    replayed = await run_log(loaded.configuration, ReplayOptions((str(log),), "json", EVERYTHING, None))

    assert [json.loads(alert_change_line(one)) for one in replayed.changes] == [
        json.loads(alert_change_line(one)) for one in checked.changes
    ]


async def test_the_scenario_of_the_help_goes_as_it_says(tmp_path: Path) -> None:
    from engine.cli import CHECK_HELP

    path = tmp_path / "help.scenario"
    path.write_text(textwrap.dedent(CHECK_HELP.split("\b\n")[1].split("\n\n")[0]))

    checked = await run_scenario(load_scenario(path))

    assert [breach.got for breach in checked.breaches] == []


def test_the_words_of_the_readme_are_those_that_there_are() -> None:
    from engine.scenario.scenario import ALL_WORDS
    from tests.test_docs import section

    readme = section("Scenarios")

    assert [word for word in ALL_WORDS if f"`{word}" not in readme] == []


async def test_the_scenario_of_the_readme_goes_as_it_says(tmp_path: Path) -> None:
    from tests.test_docs import section

    path = tmp_path / "readme.scenario"
    path.write_text(section("Scenarios").split("```\n")[1])

    checked = await run_scenario(load_scenario(path))

    assert [breach.got for breach in checked.breaches] == []
