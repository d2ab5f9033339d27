"""Text scenarios for tests: as the conformance suite wants them, and as `callgauge check` runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.commands.check_scenario import Loaded, load_scenario
from engine.config_files import config_path
from engine.scenario.expectations import Lead, Soon
from engine.scenario.source import ScenarioSource
from engine.scenario.stream import make_stream
from engine.scenario.verdicts import onset_s
from tests import scenarios
from tests.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.source.contract import RawBatch

NS_PER_S = 1_000_000_000
FOLDER = Path(scenarios.__file__).parent
INCIDENTS = FOLDER / "incidents"


def loaded(path: Path) -> Loaded:
    """Read a scenario with the decline rules that are shipped."""
    return load_scenario(path, declines=str(config_path("declines.yaml")))


def conformance_scenario(path: Path) -> Scenario:
    """Give a text as the conformance suite looks at it: its first line that says how soon an alert fires."""
    read = loaded(path)
    source = ScenarioSource(read.scenario)
    source.stream = make_stream(read.scenario)
    truth, start_ns = source.stream.truth, read.scenario.frame.start_ns
    wanted = next(one.wanted for one in read.scenario.expectations if isinstance(one.wanted, Soon | Lead))
    if isinstance(wanted, Soon):
        from_s = onset_s(wanted.onset, truth)
        delay_s = wanted.within_s
    else:
        from_s = 0.0
        delay_s = onset_s(wanted.before, truth) - wanted.lead_s
    return Scenario(
        register=read.configuration.register,
        batches=tuple(batches(source)),
        alertname=wanted.pattern.alertname,
        severity=wanted.pattern.exact("severity"),
        labels=tuple(
            (one.label, one.value)
            for one in wanted.pattern.matchers
            if one.operator == "=" and one.label != "severity"
        ),
        onset_ns=start_ns + round(from_s * NS_PER_S),
        delay_s=delay_s,
        settings=read.configuration.settings,
    )


def batches(source: ScenarioSource) -> Iterator[RawBatch]:
    """Give everything that a started source has."""
    while (raw := source.next_batch()) is not None:
        yield raw
