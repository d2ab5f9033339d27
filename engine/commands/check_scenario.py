"""`callgauge check SCENARIO...`: made-up traffic through the very same line, and was it told in time.

Verdicts go to stdout: one line for each scenario, and under it what was wanted beside what happened instead.
Every text is read before the first one is run, so that a slip of the pen does not cost minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.app import REPLAY_HASH_KEY, Configuration, OwnedLine, alert_names, default_file, load_learned
from engine.commands.replay import load_kernels, read_all
from engine.commands.report import counted
from engine.commands.stdout import stdout_may_fail
from engine.errors import ExpectationError, SettingsError, UsageError
from engine.fields import did_you_mean
from engine.judge.declines import parse_rules
from engine.limits import Register
from engine.register import parse_register
from engine.scenario.scenario import Scenario, parse_scenario
from engine.scenario.source import ScenarioSource
from engine.scenario.text import TEXT_BYTES_MAX, Faults
from engine.scenario.verdicts import Breach, breaches, lives
from engine.settings_file import load_register, load_settings, read_text_file

if TYPE_CHECKING:
    from engine.judge.lifecycle import AlertChange
    from engine.scenario.admission import Truth
    from engine.settings import Settings


class CheckOptions(NamedTuple):
    """What was asked for."""

    scenarios: tuple[str, ...]
    config: str | None
    declines: str | None
    shows_alerts: bool


class Loaded(NamedTuple):
    """A scenario, and the configuration that it asks for."""

    path: str
    scenario: Scenario
    configuration: Configuration


class Checked(NamedTuple):
    """A scenario that has run."""

    events: int
    changes: tuple[AlertChange, ...]
    truth: Truth
    breaches: tuple[Breach, ...]


async def check_scenarios(options: CheckOptions) -> None:
    """Run every scenario and print its verdict; raises what the exit code is made of."""
    loaded = _load_all(options)
    load_kernels(loaded[0].configuration)
    broken = 0
    for one in loaded:
        checked = await run_scenario(one)
        broken += bool(checked.breaches)
        with stdout_may_fail():
            sys.stdout.write(verdict(one, checked, shows_alerts=options.shows_alerts))
            sys.stdout.flush()
    if broken:
        raise ExpectationError(f"{broken} of {counted(len(loaded), 'scenario')} did not go as expected")


def _load_all(options: CheckOptions) -> list[Loaded]:
    loaded, wrong = [], []
    for path in options.scenarios:
        try:
            loaded.append(load_scenario(Path(path), options.config, options.declines))
        except SettingsError as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise UsageError("\n".join(map(str, wrong)))
    return loaded


def load_scenario(path: Path, config: str | None = None, declines: str | None = None) -> Loaded:
    """Read a scenario and what it says of limits and settings; raises `SettingsError` with every problem."""
    where = str(path)
    scenario = parse_scenario(read_text_file(path, "the scenario", TEXT_BYTES_MAX), where)
    over = (scenario.settings, where) if scenario.settings else None
    settings = load_settings(Path(config) if config else None, over=over)
    limits_file = path.parent / scenario.limits_file if scenario.limits_file else path
    register = Register()
    if scenario.limits_file:
        register = load_register(limits_file)
    elif scenario.register:
        register = parse_register(scenario.register, where)
    rules_file = Path(declines) if declines else default_file("declines.yaml")
    rules = parse_rules(read_text_file(rules_file, "the decline rules"), str(rules_file))
    _refuse_unknown_alerts(scenario, settings, where)
    return Loaded(
        where, scenario, Configuration(settings, register, rules, limits_file, load_learned(settings))
    )


def _refuse_unknown_alerts(scenario: Scenario, settings: Settings, where: str) -> None:
    """Report a name that no alert has: `expect no` of it would hold for ever."""
    names, faults = alert_names(settings), Faults(where)
    for expectation in scenario.expectations:
        name = expectation.wanted.pattern.alertname
        if name and name not in names:
            faults.add(expectation.line, f"there is no alert `{name}`", did_you_mean(name, sorted(names)))
    faults.raise_any()


async def run_scenario(loaded: Loaded) -> Checked:
    """Take a scenario through the line, and compare."""
    source = ScenarioSource(loaded.scenario)
    line = OwnedLine(loaded.configuration, REPLAY_HASH_KEY)
    changes: list[AlertChange] = []
    await source.start()
    assert source.stream is not None, "a started source has a stream"
    truth, events = source.stream.truth, source.stream.events
    try:
        await read_all(source, line, changes)
    finally:
        await source.close()
    start_ns = loaded.scenario.frame.start_ns
    found = breaches(loaded.scenario.expectations, changes, start_ns, truth)
    return Checked(events, tuple(changes), truth, tuple(found))


def verdict(loaded: Loaded, checked: Checked, *, shows_alerts: bool = False) -> str:
    """Write how a scenario went."""
    expectations = len(loaded.scenario.expectations)
    broken = len(checked.breaches)
    how = f"{broken} of {expectations} not met" if broken else f"{expectations} met"
    events = counted(checked.events, "event")
    lines = [f"{'BREACH' if broken else 'ok':6}  {loaded.path}: {how} ({events})"]
    for breach in checked.breaches:
        lines.append(f"    {loaded.path}:{breach.expectation.line}: {breach.expectation.text}")
        lines.append(f"      - {breach.wanted}")
        lines += [f"      + {got}" for got in breach.got]
    if shows_alerts:
        fired = lives(checked.changes, loaded.scenario.frame.start_ns)
        lines += [f"    {one}" for one in fired] or ["    nothing fired"]
    return "".join(f"{line}\n" for line in lines)
