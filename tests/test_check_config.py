"""The launch checklist: what makes a limit not ready, and what the report says."""

from datetime import date
from pathlib import Path

import pytest

from engine.check_config import Report, check, render
from engine.config_files import config_path
from engine.erlang import erlang_b, poisson_excess

OWNED = "owner: me, lives_in: panel, action: raise it, confirmed_on: 2026-06-01"


TODAY = date(2026, 6, 1)


def check_limits(folder: Path, *entries: str, launch: bool = True) -> Report:
    path = folder / "limits.yaml"
    path.write_text("limits:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries))
    return check(limits=path, launch=launch, environment={}, today=TODAY)


def findings(folder: Path, entry: str) -> list[str]:
    """Give the first words of each finding about one limit."""
    (row,) = check_limits(folder, entry).limits
    return [finding.split(":")[0] for finding in row.findings]


def test_the_shipped_files_are_ready_if_they_are_named() -> None:
    report = check(limits=config_path("limits.yaml"), launch=True, environment={}, today=TODAY)

    assert () == report.problems
    assert [()] * 4 == [row.findings for row in report.limits]
    assert report.exit_code == 0
    assert render(report).endswith("\nall 4 limits are ready to launch\n")


def test_a_sample_that_nobody_named_is_never_ready() -> None:
    """It would pass in an empty folder, and none of the caps that the launch meets was looked at."""
    launch, plain = (check(launch=asked, environment={}, today=TODAY) for asked in (True, False))

    assert [1, 0] == [launch.exit_code, plain.exit_code]
    assert "the sample's limits are nobody's: name your own with --limits" in render(launch)
    assert "are nobody's" not in render(plain)


def test_nothing_is_confirmed_on_a_day_to_come(tmp_path: Path) -> None:
    entry = f"name: a, kind: timeout, stage: setup, value: 15, {OWNED}"

    assert [] == findings(tmp_path, entry)
    assert ["confirmed_on 2026-06-02 has not come yet"] == findings(
        tmp_path, entry.replace("2026-06-01", "2026-06-02")
    )
    assert [] == findings(tmp_path, entry.replace("2026-06-01", "2026-06-01T23:59:59Z"))


def test_one_limit_is_one(tmp_path: Path) -> None:
    report = check_limits(tmp_path, f"name: a, kind: timeout, stage: setup, value: 15, {OWNED}")

    assert render(report).endswith("\nthe limit is ready to launch\n")


def test_a_limit_that_nobody_knows_anything_of_fails_with_everything_that_is_missing(tmp_path: Path) -> None:
    expected = [
        "value is not known",
        "not confirmed",
        "nobody owns it",
        "nobody knows where it is set",
        "no action",
    ]

    assert expected == findings(tmp_path, "name: a, kind: concurrency")


def test_the_sample_is_called_one(tmp_path: Path) -> None:
    sample, own = check(environment={}), check_limits(tmp_path, "name: a, kind: concurrency")

    assert ["the sample that is shipped" in one.checked[1] for one in (sample, own)] == [True, False]


def test_only_a_launch_fails_on_findings(tmp_path: Path) -> None:
    entry = "name: a, kind: concurrency"

    assert check_limits(tmp_path, entry, launch=True).exit_code == 1
    assert check_limits(tmp_path, entry, launch=False).exit_code == 0
    assert "1 of 1 limit not ready to launch (--launch makes" in render(
        check_limits(tmp_path, entry, launch=False)
    )


@pytest.mark.parametrize("missing", ["owner", "lives_in", "action", "confirmed_on"])
def test_each_missing_field_is_one_finding(tmp_path: Path, missing: str) -> None:
    kept = ", ".join(part for part in OWNED.split(", ") if not part.startswith(missing))

    assert len(findings(tmp_path, f"name: a, kind: timeout, stage: setup, value: 15, {kept}")) == 1


def test_headroom_that_cannot_be_checked_is_a_finding(tmp_path: Path) -> None:
    assert ["expected_peak is missing, so headroom cannot be checked"] == findings(
        tmp_path, f"name: a, kind: concurrency, value: 80, {OWNED}"
    )


def test_headroom_is_solved_and_not_a_percentage(tmp_path: Path) -> None:
    """60 of 80 calls are too many, for chance declines some every hour; 870 of 1,000 are fine."""
    small = f"name: a, kind: concurrency, value: 80, expected_peak: 60, expected_holding: 3m, {OWNED}"
    large = f"name: a, kind: concurrency, value: 1000, expected_peak: 870, expected_holding: 3m, {OWNED}"

    assert ["too little headroom"] == findings(tmp_path, small)
    assert [] == findings(tmp_path, large)


def test_the_mend_names_the_smallest_cap_that_is_enough(tmp_path: Path) -> None:
    entry = f"name: a, kind: concurrency, value: {{}}, expected_peak: 60, expected_holding: 3m, {OWNED}"
    (row,) = check_limits(tmp_path, entry.format(80)).limits
    enough = min(cap for cap in range(1, 200) if 60 / 180 * 3600 * erlang_b(cap, 60.0) <= 1.0)

    assert f"raise it to {enough}," in row.findings[0]
    assert [] == findings(tmp_path, entry.format(enough))
    assert ["too little headroom"] == findings(tmp_path, entry.format(enough - 1))


def test_an_assumed_holding_time_is_said(tmp_path: Path) -> None:
    (row,) = check_limits(
        tmp_path, f"name: a, kind: concurrency, value: 80, expected_peak: 79, {OWNED}"
    ).limits

    assert "79 calls of 3m (assumed, expected_holding is missing)" in row.findings[0]


def test_a_rate_needs_room_for_clumps(tmp_path: Path) -> None:
    """8 calls a second on average exceed 10 in many seconds of an hour."""
    entry = f"name: a, kind: rate, value: {{}}, per: 1s, expected_peak: 8, {OWNED}"
    enough = min(cap for cap in range(1, 100) if 3600 * poisson_excess(8.0, cap) <= 1.0)
    (row,) = check_limits(tmp_path, entry.format(10)).limits

    assert f"raise it to {enough}," in row.findings[0]
    assert [] == findings(tmp_path, entry.format(enough))


def test_a_quota_has_to_hold_what_the_launch_needs(tmp_path: Path) -> None:
    entry = f"name: a, kind: quota, value: 100, per: 1d, resets: rolling, expected_peak: {{}}, {OWNED}"

    assert [] == findings(tmp_path, entry.format(100))
    assert ["expected_peak 101 is more than the quota of 100"] == findings(tmp_path, entry.format(101))


def test_a_time_zone_that_does_not_exist_is_found(tmp_path: Path) -> None:
    entry = f"name: a, kind: quota, value: 100, per: 1d, resets: '00:00 {{}}', expected_peak: 1, {OWNED}"

    (problem,) = check_limits(tmp_path, entry.format("Europe/Berln")).problems
    assert "'00:00 Europe/Berln' is not a time zone" in problem
    assert [] == findings(tmp_path, entry.format("Europe/Berlin"))


def test_the_smallest_cap_of_all_instances_decides(tmp_path: Path) -> None:
    entry = (
        "name: a, kind: concurrency, value: 200, split_by: [tenant], values: {acme: 20}, "
        f"expected_peak: 60, expected_holding: 3m, {OWNED}"
    )
    (row,) = check_limits(tmp_path, entry).limits

    assert "under a cap of 20 decline" in row.findings[0]
    assert row.value == "200 calls by tenant"


def test_a_register_without_limits_is_not_ready(tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text("limits: []\n")

    assert check(limits=path, launch=True, environment={}).exit_code == 1
    assert check(limits=path, environment={}).exit_code == 0


def test_mistakes_in_all_files_are_reported_together(tmp_path: Path) -> None:
    for name in ("config", "limits", "declines"):
        (tmp_path / f"{name}.yaml").write_text(f"{name}x: 1\n")

    report = check(
        tmp_path / "config.yaml", tmp_path / "limits.yaml", tmp_path / "declines.yaml", environment={}
    )

    assert ["config.yaml", "limits.yaml", "declines.yaml"] == [
        Path(problem.split(":")[0]).name for problem in report.problems
    ]
    assert report.exit_code == 2
    assert render(report).endswith("not usable: mend the problems above\n")


def test_more_limits_than_the_engine_holds_is_a_problem(tmp_path: Path) -> None:
    config = tmp_path / "engine.yaml"
    config.write_text("engine: {limit_instances_max: 1}\n")
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{name: a, kind: concurrency}, {name: b, kind: concurrency}]\n")

    report = check(config, limits, environment={})

    assert report.exit_code == 2
    assert "2 limits are more than engine.limit_instances_max" in report.problems[0]


def test_the_environment_is_checked_as_well() -> None:
    report = check(environment={"CALLGAUGE_ENGINE__SLICE": "4s"})

    assert "environment variable CALLGAUGE_ENGINE__SLICE" in report.problems[0]


def test_each_limit_is_one_line_with_its_findings_below(tmp_path: Path) -> None:
    report = check_limits(
        tmp_path,
        f"name: trunk, kind: concurrency, value: 80, expected_peak: 40, {OWNED}",
        "name: gateway-timeout, kind: timeout, stage: transfer, value: 15",
    )
    lines = render(report).splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("limit "))

    assert lines[head].split() == ["limit", "kind", "value", "owner", "lives", "in", "confirmed", "verdict"]
    assert lines[head + 1].split() == [
        "trunk",
        "concurrency",
        "80",
        "calls",
        "me",
        "panel",
        "2026-06-01",
        "ready",
    ]
    assert lines[head + 2].split()[:5] == ["gateway-timeout", "timeout", "15", "s", "nobody"]
    assert lines[head + 2].endswith("not ready")
    assert all(line.startswith("    - ") for line in lines[head + 3 : head + 7])
    assert lines[-1] == "1 of 2 limits not ready to launch"


def test_guardrails_are_listed_with_how_they_fail_and_why(tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text(
        "limits: []\nguardrails: [{name: cost, on_check_error: closed, because: money, owner: finance}]\n"
    )

    assert "  cost: fails closed, because money (owner: finance)" in render(
        check(limits=path, environment={})
    )


@pytest.mark.parametrize(
    ("kind", "is_forecast"),
    [
        ("kind: concurrency, value: 80, expected_peak: 1", True),
        ("kind: rate, value: 80, per: 1s, expected_peak: 1", True),
        ("kind: rate, value: 80, per: 1h, expected_peak: 1", False),
        ("kind: quota, value: 80, per: 1d, resets: rolling, expected_peak: 1", True),
        ("kind: quota, value: 80, per: 1d, resets: rolling, counts: minutes, expected_peak: 1", True),
        ("kind: quota, value: 80, per: 1d, resets: rolling, counts: tokens, expected_peak: 1", False),
        ("kind: timeout, value: 15, stage: setup", True),
    ],
)
def test_a_limit_that_is_not_forecast_is_noted_and_can_be_ready(
    tmp_path: Path, kind: str, is_forecast: bool
) -> None:
    """Nobody should learn at night that "ready" did not mean "watched"; but it is no fault of the entry."""
    report = check_limits(tmp_path, f"name: a, {kind}, {OWNED}")

    assert (0, "ready") == (report.exit_code, report.limits[0].verdict)
    assert is_forecast == ("(declared and shown, not forecast yet" not in render(report))


@pytest.mark.parametrize("kind", ["concurrency", "rate, per: 1s"])
def test_a_cap_that_means_none_is_checked_without_counting_to_it(tmp_path: Path, kind: str) -> None:
    """Ten billion calls were counted through one by one."""
    entry = f"name: a, kind: {kind}, value: 9999999999, expected_peak: {{}}, {OWNED}"

    assert [] == findings(tmp_path, entry.format(100))
    assert [] == findings(tmp_path, entry.format(1_000_000))
    assert ["headroom cannot be checked"] == findings(tmp_path, entry.format(20_000_000_000))


@pytest.mark.parametrize(("value", "is_noted"), [(0.5, True), (1, False)])
def test_less_than_one_call_a_period_is_checked_as_it_is_watched(
    tmp_path: Path, value: float, is_noted: bool
) -> None:
    entry = f"name: a, kind: rate, value: {value}, per: 1s, expected_peak: 0.1, {OWNED}"

    (row,) = check_limits(tmp_path, entry).limits

    assert "a limit of 1 refuses 17.4 an hour; it carries 0.024 with" in row.findings[0]
    assert is_noted == ("less than 1 per 1s counts as 1 per 1s" in "".join(row.notes))


@pytest.mark.parametrize(
    ("per", "resets", "is_noted"),
    [
        ("1d", '"00:00 Europe/Berlin"', False),
        ("7d", '"00:00 Europe/Berlin"', True),
        ("30d", "rolling", False),
    ],
)
def test_the_day_that_a_long_period_is_counted_from_is_noted(
    tmp_path: Path, per: str, resets: str, is_noted: bool
) -> None:
    quota = f"kind: quota, value: 100, per: {per}, resets: {resets}, expected_peak: 1"
    report = check_limits(tmp_path, f"name: a, {quota}, {OWNED}")

    assert report.limits[0].verdict == "ready"
    assert is_noted == (f"periods of {per} are counted from 1970-01-01" in render(report))


@pytest.mark.parametrize(
    ("stage", "is_noted"),
    [("transfer", False), ("llm_2", False), ("dependency:CRM Lookup", False), ("Transfer", True),
     ("LLM e2e", True)],
)  # fmt: skip
def test_a_stage_that_no_call_has_is_noted(tmp_path: Path, stage: str, is_noted: bool) -> None:
    """A dependency may be called so, and then the entry is right."""
    report = check_limits(tmp_path, f'name: a, kind: timeout, stage: "{stage}", value: 15, {OWNED}')

    assert report.limits[0].verdict == "ready"
    assert is_noted == (f"(stage '{stage}' cuts calls of a dependency of that name alone" in render(report))
