"""Every text scenario goes as it says, through the line that `replay` builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.commands.check_scenario import run_scenario
from tests.text_scenarios import FOLDER, loaded

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = sorted(FOLDER.rglob("*.scenario"))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
async def test_a_scenario_goes_as_it_says(path: Path) -> None:
    checked = await run_scenario(loaded(path))

    assert [(breach.expectation.text, breach.wanted, breach.got) for breach in checked.breaches] == []
