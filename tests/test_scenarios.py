"""Every text scenario goes as it says, through the line that `replay` builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.app import alert_names
from engine.commands.check_scenario import run_scenario
from engine.errors import SettingsError
from engine.scenario.scenario import parse_scenario
from engine.settings import Settings
from tests.text_scenarios import FOLDER, loaded

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = sorted(FOLDER.rglob("*.scenario"))
# Days of calls, for a detector whose other scenario is short.
LONG = {"answers_worse_than_yesterday"}


def awaited(path: Path) -> set[str]:
    """Give the alerts that a text asks for and no detector has yet."""
    expectations = parse_scenario(path.read_text(), str(path)).expectations
    named = {expectation.wanted.pattern.alertname for expectation in expectations}
    return named - alert_names(Settings()) - {""}


def each(path: Path) -> object:
    """Give a scenario to a test, a long one to `make test-full` alone."""
    return pytest.param(path, id=path.stem, marks=[pytest.mark.full] if path.stem in LONG else [])


@pytest.mark.parametrize("path", [each(path) for path in TEXTS])
async def test_a_scenario_goes_as_it_says(path: Path) -> None:
    if awaited(path):
        with pytest.raises(SettingsError, match="there is no alert"):
            loaded(path)
        return

    checked = await run_scenario(loaded(path))

    assert [(breach.expectation.text, breach.wanted, breach.got) for breach in checked.breaches] == []
