"""Series, causes and stages: dense ids within bounds, totals of limits exact, nothing of a caller kept."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decode.causes import CAUSES_MIN, CauseTable
from engine.decode.events import DEPENDENCY, OUTCOMES, Cause
from engine.decode.mask import PLAIN_MASK
from engine.decode.redaction import (
    CHANGE_BYTES_MAX,
    REASON_BYTES_MAX,
    clean_label,
    redact_change,
    redact_reason,
)
from engine.decode.series import Admission, SeriesTable
from engine.decode.stages import StageTable
from engine.limits import NUMBER_MASK, OTHER, LimitLabel


def table(series_max: int, **limit_labels: set[str] | None) -> SeriesTable:
    """Make a table over tenant and trunk."""
    needed = {label: LimitLabel(frozenset(each or ()), each is None) for label, each in limit_labels.items()}
    return SeriesTable(("tenant", "trunk"), needed, series_max)


def admitted(series: SeriesTable, *values: str) -> tuple[tuple[str, ...], Admission]:
    """Admit a combination and give what it became."""
    series_id, admission = series.admit(values)
    return series.values[series_id], admission


def test_effective_labels_are_the_configured_ones_and_those_of_limits() -> None:
    """Labels only limits need come last, in the order of the contract whatever order limits name them in."""
    split = LimitLabel(is_split=True)
    limit_labels = {"direction": split, "trunk": LimitLabel(frozenset({"sip-1"})), "region": split}
    assert ("tenant", "trunk", "region", "direction") == SeriesTable(
        ("tenant", "trunk"), limit_labels, 9
    ).labels


def test_the_same_values_give_the_same_id_and_ids_are_dense() -> None:
    """Ids count up from 1; 0 is the series of all `__other__`."""
    series = table(9)
    assert [1, 2, 1, 3] == [
        series.admit(values)[0] for values in (("a", "x"), ("b", "x"), ("a", "x"), ("", ""))
    ]
    assert [(OTHER, OTHER), ("a", "x"), ("b", "x"), ("", "")] == series.values


def test_without_limits_the_overflow_goes_to_all_other() -> None:
    """There is nothing to keep a part of the table for."""
    series = table(3)
    assert [1, 2, 0, 1] == [series.admit((tenant, "x"))[0] for tenant in "abca"]
    assert 3 == len(series)


def test_when_the_free_part_is_full_labels_no_limit_needs_collapse() -> None:
    """The trunk of a limit keeps its total; the tenant, which no limit asks for, is lost."""
    series = table(8, trunk={"sip-1"})
    for tenant in "abcdefgh":
        series.admit((tenant, "sip-1"))
    assert ((OTHER, "sip-1"), Admission.LIMIT_LABELS) == admitted(series, "new", "sip-1")
    assert (("a", "sip-1"), Admission.WHOLE) == admitted(series, "a", "sip-1")


def test_when_the_reserve_is_full_too_values_no_limit_names_collapse() -> None:
    """Instances of split_by go to `__other__`, and the named trunk stays exact."""
    series = table(16, tenant=None, trunk={"sip-1"})
    seen = [admitted(series, f"tenant-{i}", "sip-1") for i in range(40)]
    assert ((OTHER, "sip-1"), Admission.EXACT_VALUES) == seen[-1]
    assert ((OTHER, OTHER), Admission.EXACT_VALUES) == admitted(series, "tenant-99", "sip-2")
    assert len(series) <= 16


def test_a_value_that_a_limit_names_stays_exact_where_another_limit_splits_by_its_label() -> None:
    """The limit of one tenant would lose its calls to the `__other__` of the limit of each."""
    needed = {"tenant": LimitLabel(frozenset({"acme"}), is_split=True)}
    series = SeriesTable(("tenant", "trunk"), needed, 16)
    for number in range(40):
        series.admit((f"tenant-{number}", "sip-1"))
    assert (("acme", OTHER), Admission.LIMIT_LABELS) == admitted(series, "acme", "sip-1")
    assert ((OTHER, OTHER), Admission.EXACT_VALUES) == admitted(series, "tenant-99", "sip-1")


def test_more_named_combinations_than_half_the_table_are_counted_as_lost() -> None:
    """Then no promise can be kept, and the rows say so."""
    series = table(4, tenant={"a", "b", "c", "d"}, trunk={"x", "y", "z"})
    found = [admitted(series, tenant, trunk)[1] for tenant in "abcd" for trunk in "xyz"]
    assert Admission.NOTHING in found
    assert 4 == len(series)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("uvwxyz")), max_size=80),
    st.sets(st.sampled_from("uvw"), max_size=2),
    st.booleans(),
    st.integers(8, 24),
)
def test_the_total_of_a_named_value_is_exact_whatever_overflows(
    rows: list[tuple[str, str]], named: set[str], is_split: bool, series_max: int
) -> None:
    """For every value that a limit names: rows in series of that value = rows sent with it."""
    series = table(series_max, trunk=named, **({"tenant": None} if is_split else {}))
    totals: Counter[str] = Counter()
    for row in rows:
        totals[series.values[series.admit(row)[0]][1]] += 1
    for value in named:
        assert sum(trunk == value for _, trunk in rows) == totals[value]
    assert len(series) <= series_max
    assert len(set(series.values)) == len(series.values)


def cause(outcome: str = "failed", reason: str = "", code: int = 0, *, declined: bool = False) -> Cause:
    """Make a cause."""
    return Cause(declined, "" if declined else outcome, "", code, reason, "")


def test_a_full_cause_table_drops_reasons_then_all_but_the_outcome() -> None:
    """Declines and outcomes are counted exactly, whatever a platform sends as reason or code."""
    causes = CauseTable(CAUSES_MIN + 10)
    whole = causes.causes[causes.id_of(cause(reason="busy", code=486))]
    assert cause(reason="busy", code=486) == whole
    for i in range(100):
        causes.id_of(cause(reason=f"reason {i}", code=500))
    assert cause(code=500) == causes.causes[causes.id_of(cause(reason="new", code=500))]
    for code in range(100):
        causes.id_of(cause(code=code))
    assert cause() == causes.causes[causes.id_of(cause(reason="new", code=7777))]
    declined = causes.causes[causes.id_of(cause(reason="new", code=7777, declined=True))]
    assert cause(declined=True) == declined
    assert CAUSES_MIN + 10 == len(causes)
    assert whole == causes.causes[causes.id_of(whole)]


@pytest.mark.parametrize("causes_max", [64, 1024])
def test_a_full_cause_table_keeps_the_limit_and_the_code(causes_max: int) -> None:
    """Whatever else fills it; a dependency whose name is gone stays one, and every such row is counted."""
    causes = CauseTable(causes_max)
    tools = [Cause(False, "error", "p", 500, "", "", f"{DEPENDENCY}tool {i}") for i in range(2 * causes_max)]
    tools += [Cause(False, "error", f"p{i}", 429, "", "", "", "open") for i in range(2 * causes_max)]
    kept = [causes.causes[causes.id_of(one)] for one in tools]
    folded = sum(one != left for one, left in zip(tools, kept, strict=True))
    assert kept[2 * causes_max - 1] == tools[0]._replace(operation=DEPENDENCY + OTHER)
    assert kept[-1] == Cause(False, "error", "", 429, "", "")
    for limit, code in (("other", 503), ("", 486)):
        declined = Cause(True, "", "p", code, "too many", limit)
        assert causes.causes[causes.id_of(declined)] == Cause(True, "", "", code, "", limit)
    assert causes.rows_collapsed == folded + 2


def test_collapsed_causes_are_counted_by_row() -> None:
    """Every row that lost something counts, the ones that lost nothing do not."""
    causes = CauseTable(CAUSES_MIN)
    for outcome in OUTCOMES:
        causes.id_of(cause(outcome))
    assert 0 == causes.rows_collapsed
    causes.id_of(cause(code=500))
    causes.id_of(cause(code=500))
    assert 2 == causes.rows_collapsed


def test_a_full_stage_table_sends_new_names_to_other() -> None:
    """The bound includes `__other__`, which is id 0."""
    stages = StageTable(3)
    assert [1, 2, 0, 1] == [stages.id_of(name) for name in ("setup", "llm", "tts", "setup")]
    assert [OTHER, "setup", "llm"] == stages.names
    assert 1 == stages.measures_collapsed


@pytest.mark.parametrize("name", ["", "LLM", "a b", "a" * 33, "é", "call-1", "4155551234", "x\n", "a\x00"])
def test_a_name_that_is_no_stage_goes_to_other(name: str) -> None:
    """Stage names are metric labels: lower case, digits and underscores, and no telephone number."""
    stages = StageTable(16)
    assert 0 == stages.id_of(name)
    assert [OTHER] == stages.names


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""), ("acme", "acme"), ("", ""), ("é" * 64, "é" * 64), ("a" * 128, "a" * 128),
        ("é" * 65, None), ("a" * 129, None), (7, None), (True, None), (["a"], None), ({"a": 1}, None),
        ("a\nb", None), ("a\x7f", None), ("\x85", None), ("a\u202eb", None),
    ],
)  # fmt: skip
def test_a_label_is_a_printable_string_of_at_most_128_bytes(value: object, expected: str | None) -> None:
    """Anything else is ignored, never cut: a cut would make one tenant of two."""
    assert expected == clean_label(value)


@pytest.mark.parametrize(
    ("value", "is_masked"),
    [
        ("+1 (415) 555-1234", True), ("4155551234", True), ("sip:+14155551234@gw.example.com", True),
        ("tel:+4930123456", True), ("x4155551234", True), ("٤١٥٥٥٥١٢٣٤", True),
        ("acme", False), ("sip-1", False), ("123456", False), ("us-east-1", False),
        ("550e8400-e29b-41d4-a716-446655440000", False), ("sip:gw.example.com", False),
        ("did:+4915112345678", True), ("acme +49 151 23456789", True), ("caller_4915112345678", True),
        ("lookup/+4915112345678", True), ("acme (555) 123-4567", True), ("agent 0151 2345678", True),
        ("gw@pool/+4915112345678", True), ("caller-201512345678", True),
        ("gpt-4o-2024-08-06", False), ("claude-3-5-sonnet-20241022", False), ("bot-20261128093000", False),
        ("bot-v2.10.3+20261128", False), ("worker-0000000012", False), ("gw-10.120.130.140:5060", False),
        ("job 2026-11-28T05:21:48.123456Z", False), ("9b74c9897bac770ffc029102a200c5de", False),
        ("app@sha256:1234567890ab4567890123cd", False), ("bot-6512345678", True),
    ],
)  # fmt: skip
def test_a_label_like_a_telephone_number_is_masked(value: str, is_masked: bool) -> None:
    """Seven digits and at most one letter, dialled, or ten in a run; releases are builds, and stay."""
    assert (NUMBER_MASK if is_masked else value) == PLAIN_MASK.shown("trunk", value)
    if "@" not in value:
        assert value == PLAIN_MASK.shown("release", value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Service Unavailable", "Service Unavailable"),
        ("call 12 of 4155551234", "call 12 of #"),
        ("limit of 80 reached (max 100)", "limit of 80 reached (max #)"),
        ("41 55 55 12 34 busy", "# busy"),
        ("to 06_12_34_56_78", "to #"),
        ("12 - 34 - 56 - 78 busy", "# busy"),
        ("12 \u2013 34 \u2013 56 \u2013 78", "#"),
        ("refused <sip:alice@example.com>;tag=x now", "refused @ now"),
        ("ask bob@example.com", "ask @"),
        ("TEL:12 gone", "@ gone"),
        ("a\x00b\u202ec\n\td", "abc d"),
        ("word " * 20, ("word " * 20)[:64]),
        ("é" * 40, "é" * 32),
        ("x" * 2000, ""),
        ("", ""),
    ],
)
def test_a_reason_keeps_words_and_loses_numbers_and_addresses(text: str, expected: str) -> None:
    """Runs of three digits and more, grouped numbers, addresses, control characters; cut at a character."""
    assert expected == redact_reason(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", "80"), ("2026.11.22-1", "2026.11.22-1"), ("reg/app@sha256:0a1b2c", "reg/app@sha256:0a1b2c"),
        ("alice@example.com", "@"), ("via sip:alice@pbx", "via @"), ("tel:12 out", "@ out"),
        ("route to +49 30 1234567", "route to #"),
        ("a" * 200, "a" * 128), ("a\x00b", "ab"),
    ],
)  # fmt: skip
def test_a_change_keeps_its_versions(text: str, expected: str) -> None:
    """What was changed is the point of the note; who is reached where is not."""
    assert expected == redact_change(text)


@pytest.mark.parametrize(
    "number",
    [
        "+4915123456789", "+49_151_23456789", "+49 (0) 151 - 234 - 56789", "+1(415)555-1234",
        "0049 151 23456789", "00491512345678", "0049-151/23456789", "0151 2345678", "06.12.34.56.78",
        "06_12_34_56_78", "(555) 123-4567", "1 (555) 123-4567", "(0151) 23456789", "(0)151 23456789",
        "415-555-1234", "1-415-555-1234", "415.555.1234", "415 555 1234",
    ],
)  # fmt: skip
def test_a_dialled_number_is_blotted_out_of_a_change(number: str) -> None:
    """However it is grouped and whatever stands beside it; in a label it is masked."""
    for text in ("caller id {}", "{} to {}", "did:{}", "id={};", "pool/{}", "caller_{},"):
        assert text.replace("{}", "#") == redact_change(text.replace("{}", number))
    assert NUMBER_MASK == PLAIN_MASK.shown("agent", f"agent {number}")


@pytest.mark.parametrize(
    "text",
    [
        "v2.10.3", "2.10.3-rc.1", "1.2.3+20261128", "1.0.0-alpha+20261128093000", "0.10.20261128",
        "2026.11.28", "2026-11-28", "28.11.2026 09:30", "01.02.2026 09:30", "build-20261128.4",
        "2026-11-28T05:21:00.123456789Z", "2026-11-28 05:21:48+01:00", "05:21:00.012345678",
        "1764300000", "build 1764300000123", "4915112345678", "id 0000001234", "0042_add_index",
        "gpt-4o-2024-08-06", "claude-3-5-sonnet-20241022", "10.120.130.140:5060", "0.0.0.0/0",
        "9b74c9897bac770ffc029102a200c5de", "01234567", "c0012345678901", "0x0012345678",
        "550e8400-e29b-41d4-0716-446655440000", "e29b0000-0716-0123-0716-046655440000",
        "reg/app@sha256:0123456789012345ab", "raised from 80 (max 120) to 160", "cap (120) 2026-11-28",
        "release-2026-11-28-3", "r0012345678", "2001:db8::0123:4567", "80 100 1200", "+20 calls, +5 %",
    ],
)  # fmt: skip
def test_what_is_no_dialled_number_stays_in_a_change(text: str) -> None:
    """Versions, dates, times, builds, hashes, addresses of machines, models and caps."""
    assert text == redact_change(text)
    assert text == PLAIN_MASK.shown("release", text)


@settings(max_examples=100, deadline=None)
@given(st.text(), st.sampled_from(["4155551234", "bob@example.com", "sip:bob"]), st.text(max_size=3))
def test_no_secret_survives_redaction(before: str, secret: str, after: str) -> None:
    """Whatever stands around it; and the bounds hold."""
    reason = redact_reason(f"{before} {secret} {after}")
    assert secret not in reason
    assert len(reason.encode()) <= REASON_BYTES_MAX
    assert len(redact_change(before + secret).encode()) <= CHANGE_BYTES_MAX
