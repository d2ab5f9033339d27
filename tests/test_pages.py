"""The words of an alert: identity without numbers, plain decimals, and never a name that breaks a page."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import make_detectors
from engine.decode.events import EventType, Note
from engine.judge.declines import Classifier, Rule
from engine.judge.detection import CRITICAL, AlertPolicy, Finding
from engine.judge.lifecycle import Worded
from engine.judge.pages import PageWriter, causes_text, plain, rfc3339
from engine.judge.roll import Rolled, Roller, StreamCounters
from engine.limits import Limit, Register
from engine.observe.summary import Count, SliceSummary
from engine.settings import EngineSettings, Settings
from tests.line_runs import Run, run_all
from tests.line_traffic import REGISTER, Traffic, batches_of, make_story
from tests.summaries import ACME, GLOBEX, SLICE_NS, S, calls_started, declined, ended, note, summary

T0 = 1_795_358_400 * S
POLICY = AlertPolicy("CallLimitApproaching", CRITICAL)
TRUNK = Limit(
    name="trunk",
    kind="concurrency",
    value=80.0,
    owner="voice",
    lives_in="portal",
    action="raise it",
    runbook_url="https://runbooks.example/trunk",
    confirmed_on="2026-06-01",
)
TENANT = Limit(name="tenant", kind="concurrency", split_by=("tenant",))
# No label may hold a number that is measured; these may hold names that people chose.
LABEL_NAMES = {
    "alertname", "severity", "owner", "limit", "tenant", "region", "platform", "provider", "trunk", "agent",
    "release", "direction", "stage", "metric", "dependency", "action", "problem",
}  # fmt: skip
DECIMAL = re.compile(r"-?\d+(\.\d+)?")
NUMBERS = (
    "used", "limit_value", "time_to_limit_seconds", "time_to_limit_seconds_low", "time_to_limit_seconds_high",
    "probability", "declined_so_far", "expected_used", "offered_load", "holding_seconds", "unseen_use",
    "arrivals_per_minute", "doubling_seconds",
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"), (-0.0, "0"), (80.0, "80"), (1234567.0, "1234567"), (66.25, "66.25"), (0.7, "0.7"),
        (0.123456, "0.1235"), (0.99999, "1"), (1234.56, "1235"), (0.00001234, "0.00001234"), (-1.5, "-1.5"),
        (1e15, "1000000000000000"), (math.nan, "unknown"), (math.inf, "none"), ("no baseline", "no baseline"),
        (7, "7"),
    ],
)  # fmt: skip
def test_numbers_are_plain_decimals(value: float | str, expected: str) -> None:
    assert expected == plain(value)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_a_plain_number_is_close_to_what_it_says(value: float) -> None:
    text = plain(value)

    assert DECIMAL.fullmatch(text)
    assert float(text) == pytest.approx(value, rel=5e-4)


def test_times_are_rfc_3339_in_utc() -> None:
    assert rfc3339(T0 + 7_000_000) == "2026-11-22T14:40:00.007Z"


def judged(*limits: Limit, summaries: tuple[SliceSummary, ...] = ()) -> tuple[PageWriter, Rolled]:
    """Judge some slices of a platform; give the writer and the last slice."""
    settings = EngineSettings(hidden_cap_instances_max=0)
    roller = Roller(settings, Register(limits=limits), Classifier((Rule("capacity", codes=(503,)),)))
    given = list(summaries) or [calls_started(T0, 3)]
    roller.take(given)
    rolled = list(roller.close_until(max(one.end_ns for one in given), StreamCounters()))
    return PageWriter(roller), rolled[-1]


def word(summary_text: str = "", finding: Finding | None = None, **more: object) -> Worded:
    """Word a finding about the trunk."""
    pages, rolled = judged(TRUNK)
    asked = finding or Finding("CallLimitApproaching", CRITICAL, ("limit", 0), summary_text, "")
    return pages.word(asked._replace(**more), POLICY, rolled)  # type: ignore[arg-type]


def test_labels_say_what_it_is_about_and_who_is_paged() -> None:
    assert word().labels == (
        ("alertname", "CallLimitApproaching"),
        ("limit", "trunk"),
        ("owner", "voice"),
        ("severity", "critical"),
    )


def test_a_split_limit_names_its_instance_and_a_missing_owner_is_left_out() -> None:
    pages, rolled = judged(TENANT)

    labels = pages.word(Finding("A", CRITICAL, ("limit", 0), "", ""), POLICY, rolled).labels

    assert labels == (("alertname", "A"), ("limit", "tenant"), ("severity", "critical"), ("tenant", "acme"))


def test_a_finding_about_a_window_has_its_labels() -> None:
    pages, rolled = judged(TRUNK)
    row = rolled.summary.windows.labels.index((("trunk", "sip-1"),))

    labels = dict(pages.word(Finding("A", CRITICAL, ("window", row), "", ""), POLICY, rolled).labels)

    assert labels == {"alertname": "A", "severity": "critical", "trunk": "sip-1"}


def test_a_page_about_a_stage_names_its_p99_of_five_minutes() -> None:
    """One value of a hundred in the newest minute, and those of two minutes before are of the same window."""
    slices = (
        summary(T0, latency=[(0, "llm", 0.5, 300)]),
        summary(T0 + 24 * SLICE_NS, latency=[(0, "llm", 2.0, 100), (0, "tts", 9.0, 1)]),
    )
    pages, rolled = judged(summaries=slices)
    finding = Finding("A", CRITICAL, ("window", 0), "", "p99 is {p99_ms} ms", (("stage", "llm"),))

    def told(finding: Finding) -> dict[str, str]:
        return dict(pages.word(finding, POLICY, rolled).annotations)

    assert 1960 < int(told(finding)["description"].split()[2]) < 2040
    assert "p99_ms" not in told(finding)
    assert told(finding._replace(labels=(("stage", "stt"),)))["description"] == "p99 is unknown ms"
    assert told(finding._replace(labels=()))["description"] == "p99 is unknown ms"


def test_a_page_says_where_the_limit_lives_who_drives_it_and_what_to_do() -> None:
    assert dict(word("{limit}: {used} of {limit_value}").annotations) == {
        "summary": "trunk: 3 of 80",
        "used": "3",
        "limit_value": "80",
        "declined_so_far": "0",
        "contributors": "tenant=acme 100%",
        "lives_in": "portal",
        "action": "raise it",
        "confirmed_on": "2026-06-01",
        "runbook_url": "https://runbooks.example/trunk",
        "when_reached": "decline",
    }


def test_a_name_that_nobody_knows_is_unknown_and_never_raises() -> None:
    worded = word("{nonsense} and {unseen_use}, {doubling_seconds} s")

    assert dict(worded.annotations)["summary"] == "unknown and unknown, unknown s"


def test_evidence_that_is_empty_on_purpose_leaves_no_trace() -> None:
    """A sentence that a detector left out is not "unknown"."""
    worded = word("Full.{before}Look {nobody}", evidence=(("before", ""),))

    assert dict(worded.annotations)["summary"] == "Full.Look unknown"


def test_the_value_in_force_is_said_of_limits_of_the_register_alone() -> None:
    """An inferred one moves with what is learned, and is the same limit."""
    assert word("x").in_force == (("limit_value", "80"),)
    assert word(evidence=(("limit_value", 40),)).in_force == (("limit_value", "80"),)
    assert word(finding=Finding("CallStopped", CRITICAL, ("window", 0), "x", "")).in_force == ()


def test_what_the_register_leaves_empty_reads_as_unknown() -> None:
    pages, rolled = judged(TENANT)
    finding = Finding("A", CRITICAL, ("limit", 0), "Look in {lives_in}, cap {limit_value}.", "")

    assert dict(pages.word(finding, POLICY, rolled).annotations)["summary"] == "Look in unknown, cap unknown."


def test_braces_in_a_value_are_only_braces() -> None:
    worded = word("{limit} {kind}", evidence=(("kind", "{used} {0.__class__}"),))

    assert dict(worded.annotations)["summary"] == "trunk {used} {0.__class__}"


def test_evidence_with_a_known_name_becomes_an_annotation_and_the_rest_only_words() -> None:
    worded = word("{rows} rows", evidence=(("rows", 7), ("probability", 0.25)))

    annotations = dict(worded.annotations)
    assert annotations["summary"] == "7 rows"
    assert annotations["probability"] == "0.25"
    assert "rows" not in annotations


def test_evidence_wins_over_what_the_slice_says() -> None:
    assert dict(word(evidence=(("used", 55),)).annotations)["used"] == "55"


def reported(used: float) -> Worded:
    """Word a finding about the trunk with three calls of ours, of which the platform says `used`."""
    told = note(EventType.LIMIT_REPORTED, T0, limit="trunk", used=used)
    pages, rolled = judged(TRUNK, summaries=(calls_started(T0, 3)._replace(notes=(told,)),))
    finding = Finding(
        "A", CRITICAL, ("limit", 0), "", "In use: {in_use}.", evidence=(("unseen_use", used - 3),)
    )
    return pages.word(finding, POLICY, rolled)


def test_use_that_only_the_platform_sees_is_counted_and_said() -> None:
    annotations = dict(reported(43.0).annotations)

    assert (annotations["used"], annotations["unseen_use"]) == ("43", "40")
    assert annotations["description"] == "In use: 43 of 80 (40 of them seen by the platform alone)."


def test_a_limit_that_nothing_measures_has_no_use_on_its_page() -> None:
    quota = Limit(name="daily", kind="quota", value=100.0, per_ns=86_400 * S)
    pages, rolled = judged(quota)

    annotations = dict(
        pages.word(Finding("A", CRITICAL, ("limit", 0), "", "{in_use}"), POLICY, rolled).annotations
    )

    assert "used" not in annotations
    assert annotations["description"] == "unknown of 100"


def contributors(*parts: tuple[tuple[str, ...], int]) -> str:
    """Word the contributors of some calls in flight."""
    series = tuple(one for one, _ in parts)
    bins = [(row, 0, count, count, 0, 0) for row, (_, count) in enumerate(parts)]
    pages, _ = judged(TRUNK, summaries=(summary(T0, series, bins=bins),))
    return pages.contributors(0)


def test_contributors_are_the_top_three_with_their_shares() -> None:
    tenants = [((f"t{number}", "sip-1", "", ""), count) for number, count in enumerate((10, 40, 20, 30))]

    assert contributors(*tenants) == "tenant=t1 40%, tenant=t3 30%, tenant=t2 20%"


def test_contributors_are_told_by_the_first_label_that_tells_them_apart() -> None:
    one, other = ("acme", "sip-1", "", ""), ("acme", "sip-2", "", "")

    assert contributors((one, 1), (other, 3)) == "trunk=sip-2 75%, trunk=sip-1 25%"


def test_calls_without_the_label_count_in_the_shares() -> None:
    assert contributors((("", "sip-1", "", ""), 9), (ACME, 1)) == "tenant=(none) 90%, tenant=acme 10%"


def test_without_calls_or_labels_there_are_no_contributors() -> None:
    assert contributors((ACME, 0)) == ""
    assert contributors((("", "", "", ""), 5)) == ""


def test_contributors_of_a_limit_on_answered_calls_are_those_that_were_answered() -> None:
    """Acme rings nine times and is answered once; what holds the capacity is globex."""
    answered = Limit(name="answered", kind="concurrency", value=9.0, counts_from="answered")
    bins = [(0, 0, 9, 9, 1, 1), (1, 0, 3, 3, 3, 3)]

    pages, _ = judged(answered, summaries=(summary(T0, (ACME, GLOBEX), bins=bins),))

    assert pages.contributors(0) == "tenant=globex 75%, tenant=acme 25%"


def test_causes_are_the_most_frequent_shapes_with_counts() -> None:
    causes = [
        (declined(503, "full"), 2), (declined(0, ""), 1), (declined(503, "full", "trunk"), 3),
        (declined(429, ""), 4), (declined(402, ""), 3),
    ]  # fmt: skip

    assert causes_text([*causes], "trunk") == "503 full (5), 429 (4), 402 (3)"


def test_a_limit_that_an_event_names_is_said_unless_it_is_the_one_that_is_blamed() -> None:
    assert causes_text([(declined(429, "busy", "stt-sessions"), 1)], "trunk") == "429 busy limit=stt-sessions"
    assert causes_text([(declined(429, "busy", "trunk"), 1)], "trunk") == "429 busy"


def test_nothing_of_a_caller_is_said_where_an_event_names_a_limit() -> None:
    """A label may have digits among letters; a page shows such a name as it shows free text."""
    for name in ("lines of +49 30 1234567", "from anna@example.org", "caller-493012345678"):
        text = causes_text([(declined(429, "", name), 1)])
        assert "anna" not in text
        assert not any(digits in text for digits in ("1234567", "3012"))


def test_a_page_of_a_limit_that_is_in_no_register_says_how_calls_were_declined_and_what_was_named() -> None:
    some = [(0, declined(503, "", "stt-sessions"), 2), (0, declined(503, "", "trunk"), 1)]
    pages, rolled = judged(TRUNK, summaries=(summary(T0, counts=[{Count.DECLINED: 3}], causes=some),))
    unregistered = Finding("A", CRITICAL, ("deployment", 0), "", "({causes})", (("limit", "unregistered"),))
    other = Finding("A", CRITICAL, ("deployment", 0), "", "")

    assert dict(pages.word(unregistered, POLICY, rolled).annotations) == {
        "causes": "503 limit=stt-sessions", "description": "(503 limit=stt-sessions)",
    }  # fmt: skip
    assert dict(pages.word(other, POLICY, rolled).annotations) == {}


def test_a_page_names_the_causes_of_this_slice_and_all_declines_so_far() -> None:
    causes = [(0, declined(503, "full"), 2), (0, declined(503), 1), (0, ended("completed"), 9)]
    full = summary(T0, counts=[{Count.DECLINED: 3}], causes=causes)
    pages, rolled = judged(TRUNK, summaries=(full, full._replace(start_ns=T0 + SLICE_NS)))

    annotations = dict(pages.word(Finding("A", CRITICAL, ("limit", 0), "", ""), POLICY, rolled).annotations)

    assert annotations["causes"] == "503 full (2), 503 (1)"
    assert annotations["declined_so_far"] == "6"


def change(second: int, what: str = "deploy", **fields: object) -> Note:
    """Make a change."""
    return note(EventType.CHANGE_MADE, T0 + second * S, [("tenant", "acme")], what=what, **fields)


def changes_of(*notes: Note) -> str | None:
    """Word the changes on a page after these notes came, one by one."""
    pages, rolled = judged(TRUNK)
    for one in notes:
        pages.take((one,))
    finding = Finding("A", CRITICAL, ("limit", 0), "", "")
    return dict(pages.word(finding, POLICY, rolled).annotations).get("changes")


def test_a_page_names_the_last_three_changes_in_order_of_time() -> None:
    found = changes_of(change(3), change(1), change(4), change(2))

    assert found is not None
    assert [one.split()[0] for one in found.split("; ")] == [rfc3339(T0 + second * S) for second in (2, 3, 4)]


def test_a_change_says_what_moved_from_where_to_where_and_by_whom() -> None:
    assert changes_of(change(0, "cap", from_="80", to="60", by="ops")) == (
        "2026-11-22T14:40:00.000Z cap from 80 to 60 by ops tenant=acme"
    )


def test_a_change_that_is_told_twice_is_one_change_and_other_notes_are_none() -> None:
    reported = note(EventType.LIMIT_REPORTED, T0, limit="trunk")

    assert changes_of(change(1), change(1), reported) == "2026-11-22T14:40:01.000Z deploy tenant=acme"
    assert changes_of(reported) is None


def test_a_page_of_a_platform_that_was_busy_before_says_that_it_is_partial() -> None:
    opened = summary(T0, counts=[{Count.OPENED_UNKNOWN: 1}], bins=[(0, 0, 0, 1, 0, 0)])
    pages, rolled = judged(TRUNK, summaries=(opened,))

    worded = pages.word(Finding("A", CRITICAL, ("limit", 0), "", ""), POLICY, rolled)

    assert dict(worded.annotations)["state"] == "partial"


def the_run() -> Run:
    """Run traffic that pages."""
    return run_all(batches_of(make_story(Traffic(3)).events), REGISTER)


def test_every_page_of_a_whole_run_keeps_the_rules() -> None:
    """Labels are names of the register or of the calls; numbers are decimals; nothing is left to fill in."""
    run = the_run()
    texts = {limit.name for limit in REGISTER.limits} | {limit.owner for limit in REGISTER.limits}
    texts |= {"acme", "globex", "sip-1", "sip-2", "critical", "warning", "info"}
    names = {policy.alertname for one in make_detectors(Settings()) for policy in one.policies}

    assert len(run.changes) > 5
    for one in run.changes:
        labels, annotations = dict(one.labels), dict(one.annotations)
        assert set(labels) <= LABEL_NAMES
        assert set(labels.values()) <= texts | names
        assert one.labels == tuple(sorted(one.labels))
        assert one.annotations == tuple(sorted(one.annotations))
        assert {"summary", "description"} <= set(annotations)
        for name in set(annotations) & set(NUMBERS):
            assert DECIMAL.fullmatch(annotations[name]) or annotations[name] in ("unknown", "none")
        for text in annotations.values():
            assert "{" not in text
            assert "nan" not in text.lower().split()
        assert "call-" not in str(one)  # No call id.


def test_a_limit_that_nobody_reaches_has_contributors_of_its_own_calls_alone() -> None:
    pages, _ = judged(
        TENANT, summaries=(summary(T0, (ACME, GLOBEX), bins=[(0, 0, 1, 1, 0, 0), (1, 0, 1, 1, 0, 0)]),)
    )

    assert [pages.contributors(row) for row in (0, 1)] == ["tenant=acme 100%", "tenant=globex 100%"]
