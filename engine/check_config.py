"""What `callgauge check-config` says: are the files right, and is every cap ready for a launch.

The launch checklist: for each cap on a call's path, is its value known, confirmed and owned, is it written
down where it lives and what to do, and does what the launch needs leave headroom? Headroom is solved from
Erlang's loss formula (`engine/erlang.py`), not from a percentage: 60 calls under a cap of 80 look fine and
decline some every hour. Findings are always shown; only `launch` makes them fail. What cannot be checked is
a finding, never skipped.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.app import default_file
from engine.config_files import is_sample
from engine.decode.events import DEPENDENCY
from engine.decode.stages import STAGE_NAME
from engine.durations import format_duration
from engine.erlang import erlang_b, poisson_excess, safe_offered_load, safe_rate
from engine.errors import SettingsError
from engine.fields import shown
from engine.judge.declines import Rule, parse_rules
from engine.limits import CONCURRENCY, DAY_NS, QUOTA, RATE, TIMEOUT, Guardrail, Limit, Register
from engine.named_files import file_problems
from engine.settings import Settings
from engine.settings_file import load_register, load_settings, read_text_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


DECLINES_PER_HOUR_MAX = 1.0  # by chance alone, in the busy hour, for a launch to pass
LATEST_ZONE = timezone(timedelta(hours=14))  # where a day begins first
NS_PER_S = 1_000_000_000
HOLDING_ASSUMED_S = 180.0  # where a limit has no `expected_holding`
# Erlang's formula takes as long as there are calls. Whoever says more means, as a rule, that there is no cap.
SOLVED_CALLS_MAX = 1 << 20
RATE_PERIOD_NS_MAX = 60 * 1_000_000_000  # of longer periods the bins are not kept
QUOTAS_COUNTED = ("calls", "minutes")  # events carry no tokens and no cost
READY, NOT_READY = "ready", "not ready"
NOT_FORECAST = "declared and shown, not forecast yet: nothing pages before this limit is reached"
LONG_PERIODS = (
    "periods of {per} are counted from 1970-01-01, a Thursday; where the provider counts from another day, "
    "use and forecast are of other days than its own"
)
NOT_SOLVED = (
    "headroom cannot be checked: expected_peak {peak:g} is more than a cap of {most} carries, the largest "
    "that is solved"
)
RATE_OF_A_PART = "less than 1 per {per} counts as 1 per {per}: write 1 for a longer period"
NO_STAGE = "stage {stage} cuts calls of a dependency of that name alone: stages of calls are a-z, 0-9 and _"


class LimitRow(NamedTuple):
    """One line of the checklist.

    `findings` are sentences with their mend; none: ready. `notes` are to be known and fail nothing.
    """

    name: str
    kind: str
    value: str
    owner: str
    lives_in: str
    confirmed: str
    verdict: str
    findings: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Report(NamedTuple):
    """What was checked and found. `problems` are whole messages, one for each file that cannot be used."""

    checked: tuple[str, ...]
    problems: tuple[str, ...]
    limits: tuple[LimitRow, ...]
    guardrails: tuple[Guardrail, ...]
    is_launch: bool
    is_sample: bool = False  # nobody named it: the limits are those of the shipped sample

    @property
    def exit_code(self) -> int:
        """Give 2 for files that cannot be used, 1 for a launch that is not ready, else 0."""
        if self.problems:
            return SettingsError.exit_code
        is_ready = self.limits and not self.is_sample and not any(row.findings for row in self.limits)
        return 1 if self.is_launch and not is_ready else 0


def check(
    config: Path | None = None,
    limits: Path | None = None,
    declines: Path | None = None,
    *,
    launch: bool = False,
    environment: Mapping[str, str] | None = None,
    today: date | None = None,
) -> Report:
    """Read the files (None: default settings, limits and declines from here or as shipped) and check them.

    `today` is the latest day on which a limit can have been confirmed; None: what it is anywhere by now.
    """
    is_named = limits is not None
    limits = limits or default_file("limits.yaml")
    declines = declines or default_file("declines.yaml")
    today = today or datetime.now(LATEST_ZONE).date()
    problems: list[str] = []
    settings, register, rules = Settings(), Register(), None
    try:
        settings = load_settings(config, environment=environment)
    except SettingsError as error:
        problems.append(str(error))
    try:
        register = load_register(limits)
    except SettingsError as error:
        problems.append(str(error))
    try:
        rules = load_rules(declines)
    except SettingsError as error:
        problems.append(str(error))
    problems += file_problems(settings)
    sample = " (the sample that is shipped)" if is_sample(limits) else ""
    guardrails = _counted(len(register.guardrails), "guardrail")
    checked = (
        f"settings: {config or 'defaults'}",
        f"limits: {limits}{sample}, {_counted(len(register.limits), 'limit')}, {guardrails}",
        f"declines: {declines}, {_counted(len(rules or ()), 'rule')}",
    )
    too_many = len(register.limits) - settings.engine.limit_instances_max
    if too_many > 0:
        problems.append(
            f"{limits}: {len(register.limits)} limits are more than engine.limit_instances_max\n"
            f"  hint: raise engine.limit_instances_max, or leave out {too_many}"
        )
    rows = tuple(_row(limit, today) for limit in register.limits)
    is_nobodys = is_sample(limits) and not is_named
    return Report(checked, tuple(problems), rows, register.guardrails, launch, is_nobodys)


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Read a table of decline rules."""
    return parse_rules(read_text_file(path, "the decline rules"), str(path))


def _row(limit: Limit, today: date) -> LimitRow:
    findings = (*_ownership(limit, today), *_headroom(limit))
    verdict = NOT_READY if findings else READY
    confirmed = limit.confirmed_on or "no"
    return LimitRow(
        limit.name,
        limit.kind,
        _value_text(limit),
        limit.owner or "nobody",
        limit.lives_in or "unknown",
        confirmed,
        verdict,
        findings,
        _notes(limit),
    )


def _notes(limit: Limit) -> tuple[str, ...]:
    """Give what is no fault of the entry and yet should be known."""
    notes: tuple[str, ...] = () if _is_forecast(limit) else (NOT_FORECAST,)
    if limit.kind == QUOTA and limit.resets != "rolling" and (limit.per_ns or 0) > DAY_NS:
        notes += (LONG_PERIODS.format(per=format_duration(limit.per_ns or 0)),)
    if limit.kind == RATE and any(value < 1 for value in _values(limit)):
        notes += (RATE_OF_A_PART.format(per=format_duration(limit.per_ns or 0)),)
    stage = limit.stage or ""
    if limit.kind == TIMEOUT and not (stage.startswith(DEPENDENCY) or STAGE_NAME.fullmatch(stage)):
        notes += (NO_STAGE.format(stage=shown(stage)),)
    return notes


def _is_forecast(limit: Limit) -> bool:
    """Say whether something pages before the limit is reached."""
    if limit.kind == RATE:
        return limit.per_ns is not None and limit.per_ns <= RATE_PERIOD_NS_MAX
    if limit.kind == QUOTA:
        return limit.counts in QUOTAS_COUNTED
    return limit.kind in (CONCURRENCY, TIMEOUT)


def _ownership(limit: Limit, today: date) -> list[str]:
    findings = []
    if not _values(limit):
        findings.append("value is not known: look it up, or measure it in a test, before callers do")
    if limit.confirmed_on is None:
        findings.append("not confirmed: look at the real setting, then write confirmed_on with the day")
    elif limit.confirmed_ns is not None and limit.confirmed_ns >= _end_ns(today):
        findings.append(f"confirmed_on {limit.confirmed_on} has not come yet: write the day of the last look")
    if not limit.owner:
        findings.append("nobody owns it: write owner, who is paged for it")
    if not limit.lives_in:
        findings.append("nobody knows where it is set: write lives_in")
    if not limit.action:
        findings.append("no action: write what the person who is paged should do")
    return findings


def _end_ns(day: date) -> int:
    """Give when a day ends, as days in a register are counted: in UTC."""
    return (day - date(1970, 1, 1) + timedelta(days=1)) // timedelta(seconds=1) * NS_PER_S


def _headroom(limit: Limit) -> list[str]:
    """Compare what the launch needs with what the cap carries, for each instance's value."""
    values = _values(limit)
    if limit.kind == TIMEOUT or not values:
        return []
    if limit.expected_peak is None:
        return ["expected_peak is missing, so headroom cannot be checked: write what the launch needs"]
    # Every instance has to carry the expected peak, so the smallest cap decides.
    value = min(values)
    if limit.kind == QUOTA:
        return (
            []
            if limit.expected_peak <= value
            else [
                f"expected_peak {limit.expected_peak:g} is more than the quota of {value:g}: raise the quota"
            ]
        )
    if limit.kind == RATE:
        return _rate_headroom(limit, value)
    return _concurrency_headroom(limit, value)


def _concurrency_headroom(limit: Limit, value: float) -> list[str]:
    peak = limit.expected_peak or 0.0
    holding_s = HOLDING_ASSUMED_S if limit.expected_holding_ns is None else limit.expected_holding_s
    attempts_per_hour = peak / holding_s * 3600.0

    def declines_per_hour(cap: int) -> float:
        return attempts_per_hour * erlang_b(cap, peak)

    # A larger cap declines less: one of which the largest that is solved is enough needs no solving.
    if declines_per_hour(min(int(value), SOLVED_CALLS_MAX)) <= DECLINES_PER_HOUR_MAX:
        return []
    if value > SOLVED_CALLS_MAX:
        return [NOT_SOLVED.format(peak=peak, most=SOLVED_CALLS_MAX)]
    safe = safe_offered_load(value, holding_s, DECLINES_PER_HOUR_MAX)
    assumed = " (assumed, expected_holding is missing)" if limit.expected_holding_ns is None else ""
    calls = f"{peak:g} calls of {format_duration(round(holding_s * 1e9))}{assumed}"
    finding = (
        f"too little headroom: {calls} under a cap of {value:g} decline {declines_per_hour(int(value)):.3g} "
        f"an hour by chance; it carries {safe:.0f} with at most {DECLINES_PER_HOUR_MAX:g}: "
        f"{_raise_to(declines_per_hour)}"
    )
    return [finding]


def _rate_headroom(limit: Limit, value: float) -> list[str]:
    peak = limit.expected_peak or 0.0
    per_s = (limit.per_ns or 0) / 1e9

    def refused_per_hour(cap: int) -> float:
        return 3600.0 / per_s * poisson_excess(peak, cap)

    value = max(value, 1.0)  # As the detector takes it.
    if refused_per_hour(min(int(value), SOLVED_CALLS_MAX)) <= DECLINES_PER_HOUR_MAX:
        return []
    if value > SOLVED_CALLS_MAX:
        return [NOT_SOLVED.format(peak=peak, most=SOLVED_CALLS_MAX)]
    safe = safe_rate(value, per_s, DECLINES_PER_HOUR_MAX)
    calls = f"{peak:g} calls per {format_duration(limit.per_ns or 0)}"
    finding = (
        f"too little headroom: {calls} come in clumps, and a limit of {value:g} refuses "
        f"{refused_per_hour(int(value)):.3g} an hour; it carries {safe:.2g} with at most "
        f"{DECLINES_PER_HOUR_MAX:g}: {_raise_to(refused_per_hour)}, or spread the starts"
    )
    return [finding]


def _raise_to(losses_per_hour: Callable[[int], float]) -> str:
    """Name the smallest cap that is large enough."""
    high = 1
    while losses_per_hour(high) > DECLINES_PER_HOUR_MAX:
        high *= 2
        if high > SOLVED_CALLS_MAX:
            return "plan for less"
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if losses_per_hour(middle) > DECLINES_PER_HOUR_MAX:
            low = middle
        else:
            high = middle
    return f"raise it to {high}, or plan for less"


def _values(limit: Limit) -> list[float]:
    """List the caps of a limit: its own and those of its instances."""
    return [value for value in (limit.value, *limit.values.values()) if value is not None]


def _value_text(limit: Limit) -> str:
    """Write the value with its unit."""
    value = "unknown" if limit.value is None else f"{limit.value:g}"
    if limit.kind == CONCURRENCY:
        text = f"{value} calls"
    elif limit.kind == TIMEOUT:
        text = value if limit.value is None else f"{value} s"
    else:
        text = f"{value} {limit.counts} per {format_duration(limit.per_ns or 0)}"
    return f"{text} by {', '.join(limit.split_by)}" if limit.split_by else text


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def render(report: Report) -> str:
    """Write plain lines: files, one line per limit with its findings below, guardrails, the verdict."""
    lines = list(report.checked)
    for problem in report.problems:
        lines += ["", problem]
    if report.limits:
        head = LimitRow("limit", "kind", "value", "owner", "lives in", "confirmed", "verdict", (), ())
        lines += ["", *_aligned((head, *report.limits))]
    if report.guardrails:
        lines += ["", "guardrails"]
        for one in report.guardrails:
            owner = one.owner or "nobody"
            lines.append(f"  {one.name}: fails {one.on_check_error}, because {one.because} (owner: {owner})")
    return "\n".join([*lines, "", _verdict(report), ""])


def _aligned(rows: tuple[LimitRow, ...]) -> list[str]:
    cells = [row[:-2] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row, row_cells in zip(rows, cells, strict=True):
        padded = (cell.ljust(width) for cell, width in zip(row_cells, widths, strict=True))
        lines.append("  ".join(padded).rstrip())
        lines += [f"    - {finding}" for finding in row.findings]
        lines += [f"    ({note})" for note in row.notes]
    return lines


def _verdict(report: Report) -> str:
    if report.problems:
        return "not usable: mend the problems above"
    if not report.limits:
        return "the register names no limit" + (": nothing is ready to launch" if report.is_launch else "")
    if report.is_launch and report.is_sample:
        return "the sample's limits are nobody's: name your own with --limits to see whether they are ready"
    not_ready = sum(bool(row.findings) for row in report.limits)
    if not not_ready:
        limits = "the limit is" if len(report.limits) == 1 else f"all {len(report.limits)} limits are"
        return f"{limits} ready to launch"
    verdict = f"{not_ready} of {_counted(len(report.limits), 'limit')} not ready to launch"
    return verdict if report.is_launch else f"{verdict} (--launch makes that a failure)"
