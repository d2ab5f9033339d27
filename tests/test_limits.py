"""The limits register: which value is in force when, which calls count, which labels matter."""

import math
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config_files import config_path
from engine.errors import SettingsError
from engine.limits import Limit, LimitInstance, LimitLabel, Register
from engine.register import parse_register
from engine.settings_file import load_register

NS_PER_S = 1_000_000_000
DAY_NS = 86_400 * NS_PER_S


def day(text: str) -> int:
    """Give the midnight in UTC of a day, in ns."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def limit_of(yaml: str) -> Limit:
    """Read a register of one limit, given as the fields after name and kind."""
    (limit,) = parse_register(f"limits: [{{name: cap, kind: concurrency, {yaml}}}]", "test").limits
    return limit


def test_a_limit_without_history_always_held() -> None:
    assert limit_of("value: 80, confirmed_on: 2026-06-01").value_at(day("2020-01-01")) == 80


def test_a_value_holds_from_the_day_it_was_confirmed_and_the_history_before() -> None:
    limit = limit_of(
        "value: 80, confirmed_on: 2026-06-01, "
        "history: [{from: 2026-01-01, value: 40}, {from: 2026-03-01, value: 60}]"
    )

    held = {
        "2025-12-01": 40.0,  # before all entries: the oldest is the best guess
        "2026-01-01": 40.0,
        "2026-02-28": 40.0,
        "2026-03-01": 60.0,
        "2026-05-31": 60.0,
        "2026-06-01": 80.0,
        "2027-01-01": 80.0,
    }

    assert held == {text: limit.value_at(day(text)) for text in held}


def test_an_entry_begins_with_its_first_nanosecond() -> None:
    limit = limit_of("value: 80, confirmed_on: 2026-06-01, history: [{from: 2026-03-01, value: 60}]")

    assert (60.0, 80.0) == (limit.value_at(day("2026-06-01") - 1), limit.value_at(day("2026-06-01")))


def test_a_value_that_ends_the_history_holds_since_that_entry() -> None:
    """When someone looked again later does not matter: nothing changed then."""
    limit = limit_of(
        "value: 60, confirmed_on: 2026-06-01, "
        "history: [{from: 2026-01-01, value: 40}, {from: 2026-03-01, value: 60}]"
    )

    assert (40.0, 60.0) == (limit.value_at(day("2026-02-01")), limit.value_at(day("2026-04-01")))


def test_a_value_that_became_unknown_is_unknown_since_then_only() -> None:
    limit = limit_of("value: null, confirmed_on: 2026-06-01, history: [{from: 2026-03-01, value: 60}]")

    assert (60.0, None) == (limit.value_at(day("2026-05-01")), limit.value_at(day("2026-07-01")))


def test_an_instance_with_a_value_of_its_own_uses_it() -> None:
    limit = limit_of('value: 80, split_by: [tenant, trunk], values: {"acme,sip-1": 20, ",": 5}')

    assert limit.value_at(0, ("acme", "sip-1")) == 20
    assert limit.value_at(0, ("acme", "sip-2")) == 80
    assert limit.value_at(0, ("", "")) == 5


def test_calls_of_many_values_under_one_name_have_no_value_in_common() -> None:
    """The cap is of one trunk, and `__other__`, or `__number__` without a key, is as many as there are."""
    limit = Limit(name="trunk", kind="concurrency", value=20.0, split_by=("trunk",))

    assert LimitInstance(0, limit, (("trunk", "sip-1"),)).value_at(0) == 20.0
    assert LimitInstance(0, limit, (("trunk", "number:abcdefgh"),)).value_at(0) == 20.0
    for word in ("__other__", "__number__", "__address__"):
        assert LimitInstance(1, limit, (("trunk", word),)).value_at(0) is None


@pytest.mark.parametrize(
    "change", [{"per_ns": 60 * NS_PER_S}, {"counts": "minutes"}, {"resets": "rolling"}, {"name": "other"}]
)
def test_what_a_limit_counts_changes_with_its_period_and_its_unit(change: dict[str, object]) -> None:
    """What was counted by the second says nothing of a minute, nor calls of minutes."""
    limit = Limit(name="cps", kind="rate", value=2.0, per_ns=NS_PER_S)
    assert limit.counted == msgspec.structs.replace(limit, value=3.0, owner="voice").counted
    assert limit.counted != msgspec.structs.replace(limit, **change).counted


def test_a_label_value_with_a_comma_is_found_under_its_own_name_only() -> None:
    limit = limit_of('value: 80, split_by: [tenant], values: {"a,b": 20}')

    assert (20.0, 80.0) == (limit.value_at(0, ("a,b",)), limit.value_at(0, ("a",)))


@given(
    entries=st.dictionaries(st.integers(0, 1_000), st.integers(1, 50), max_size=5),
    value=st.integers(1, 50),
    confirmed_days=st.integers(0, 1_000),
    time_days=st.integers(0, 1_100),
)
def test_the_value_in_force_is_that_of_the_last_entry_begun(
    entries: dict[int, int], value: int, confirmed_days: int, time_days: int
) -> None:
    """Compare with an obvious twin: write the history out day by day and read it off."""
    history = tuple((days * DAY_NS, float(known)) for days, known in sorted(entries.items()))
    confirmed = max([confirmed_days, *entries])
    limit = Limit(
        name="cap", kind="concurrency", value=value, history=history, confirmed_ns=confirmed * DAY_NS
    )

    by_day: list[float] = []
    held = float(entries[min(entries)]) if entries else float(value)
    for today in range(1_101):
        held = float(entries.get(today, held))
        # Confirming a value that the history already ends with changes nothing.
        if today == confirmed:
            held = float(value)
        by_day.append(held)

    assert by_day[time_days] == limit.value_at(time_days * DAY_NS)


def test_every_label_must_match_and_a_list_is_any_of_its_values() -> None:
    limit = limit_of("applies_to: {trunk: [sip-1, sip-2], tenant: acme}")

    assert limit.matches({"trunk": "sip-2", "tenant": "acme", "region": "eu"})
    assert not limit.matches({"trunk": "sip-3", "tenant": "acme"})
    assert not limit.matches({"trunk": "sip-1", "tenant": "globex"})
    assert not limit.matches({"trunk": "sip-1"})


def test_a_missing_label_is_the_empty_value() -> None:
    assert limit_of('applies_to: {tenant: ""}').matches({})
    assert not limit_of('applies_to: {tenant: ""}').matches({"tenant": "acme"})


def test_a_limit_that_names_no_label_applies_to_every_call() -> None:
    assert limit_of("applies_to: {}").matches({"tenant": "acme"})
    assert limit_of("value: 1").matches({})


def test_limit_labels_are_the_values_that_matter_or_all_of_them() -> None:
    """One that any limit splits by matters with every value; those that another names matter most."""
    register = parse_register(
        "limits:\n"
        "  - {name: a, kind: concurrency, applies_to: {trunk: sip-1, tenant: acme}}\n"
        "  - {name: b, kind: concurrency, applies_to: {trunk: [sip-1, sip-2]}, split_by: [tenant]}\n"
        "  - {name: c, kind: concurrency, applies_to: {tenant: globex}}\n",
        "test",
    )

    assert register.limit_labels() == {
        "tenant": LimitLabel(frozenset({"acme", "globex"}), is_split=True),
        "trunk": LimitLabel(frozenset({"sip-1", "sip-2"})),
    }
    assert {} == Register().limit_labels()


def test_an_instance_is_known_by_its_limit_and_its_split_values() -> None:
    instance = LimitInstance(
        3, limit_of("value: 80, split_by: [tenant], values: {acme: 20}"), (("tenant", "acme"),)
    )

    assert (("limit", "cap"), ("tenant", "acme")) == instance.labels
    assert instance.value_at(0) == 20


def test_the_values_of_a_limit_are_named_by_each_of_its_labels() -> None:
    """Where a limit splits by one label alone, a comma is part of the value."""
    register = parse_register(
        """limits:
          - {name: one, kind: concurrency, value: 9, split_by: [tenant], values: {"acme, inc": 3}}
          - {name: two, kind: concurrency, value: 9, split_by: [tenant, trunk], values: {"acme,sip-1": 3}}
        """,
        "test",
    )

    labels = register.limit_labels()
    assert frozenset({"acme, inc", "acme"}) == labels["tenant"].named
    assert frozenset({"sip-1"}) == labels["trunk"].named


def test_a_register_finds_a_limit_by_name() -> None:
    register = parse_register("limits: [{name: a, kind: concurrency, value: 1}]", "test")

    assert register.limits[0] is register.named("a")
    assert register.named("b") is None


def test_durations_and_dates_become_numbers() -> None:
    limit = limit_of("max_duration: 4h, expected_holding: 1m30s, confirmed_on: 2026-06-01T02:00:00+02:00")

    assert limit.max_duration_ns == 4 * 3600 * 10**9
    assert limit.expected_holding_s == 90.0
    assert day("2026-06-01") == limit.confirmed_ns
    assert math.isnan(limit_of("value: 1").expected_holding_s)


def test_the_sample_register_shows_every_field_of_a_limit() -> None:
    """The sample is the documentation of the register: a new field has to appear in it."""
    text = config_path("limits.yaml").read_text()
    keys = {
        field.name.removesuffix("_ns")
        for field in msgspec.structs.fields(Limit)
        if field.name not in ("confirmed_ns", "resets_at_ns", "utc_offsets")  # These follow from others.
    }

    assert set() == {key for key in keys if f"{key}:" not in text}
    assert {"concurrency", "rate", "quota", "timeout"} == {limit.kind for limit in load_sample().limits}
    assert len(load_sample().guardrails) == 1


def load_sample() -> Register:
    return load_register(config_path("limits.yaml"))


def test_the_demo_register_is_the_cap_of_the_recordings() -> None:
    """No prior for the holding time: the demo starts as cold as a real go-live."""
    (limit,) = load_register(config_path("demo/limits.yaml")).limits

    assert ("sip-trunk-concurrency", "concurrency", 80.0, "voice-platform") == (
        limit.name, limit.kind, limit.value, limit.owner,
    )  # fmt: skip
    assert limit.matches({"trunk": "sip-1", "tenant": "acme"})
    assert limit.expected_holding_ns is None
    assert limit.confirmed_on
    assert limit.lives_in


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no-such\.yaml: the limits register: there is no such file"):
        load_register(tmp_path / "no-such.yaml")
