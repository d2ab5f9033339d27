"""What a person reads after a replay, and what `--expect` holds it to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import detectors
from engine.commands.expectations import Expectations, breaches
from engine.commands.report import Outcome, counted, duration_text, headline, page, table
from engine.decode.events import ALERT_LABELS
from engine.errors import SettingsError
from engine.judge.judge import FirstDeclined
from engine.judge.lifecycle import FIRING, RESOLVED, AlertChange
from engine.judge.snapshot import LimitStatus
from engine.settings import Settings
from tests.snapshots import a_limit, a_snapshot

S = 1_000_000_000
FIRST_NS = 1_800_000_000 * S
TRUNK = a_limit(limit="trunk", split=(("tenant", "acme"),), declined_total=2)
UNTOUCHED = TRUNK._replace(declined_total=0)


def change(
    after_s: float, alertname: str = "CallLimitApproaching", severity: str = "critical", state: str = FIRING,
    tenant: str = "acme", **annotations: str,
) -> AlertChange:  # fmt: skip
    """Give a change about the trunk of a tenant, so long after the first event."""
    labels = {
        "alertname": alertname, "limit": "trunk", "owner": "voice", "severity": severity, "tenant": tenant,
    }  # fmt: skip
    time_ns = FIRST_NS + round(after_s * S)
    return AlertChange(time_ns, state, tuple(labels.items()), tuple(sorted(annotations.items())), time_ns)


def outcome(*declined_s: float, limits: tuple[LimitStatus, ...] = (TRUNK,), seconds: float = 2.0) -> Outcome:
    """Give the outcome of a replay in which the trunk of acme declined its first call then."""
    declines = tuple(
        FirstDeclined("trunk", (("tenant", "acme"),), FIRST_NS + round(after_s * S)) for after_s in declined_s
    )
    return Outcome(FIRST_NS, declines, limits, a_snapshot(rows_read=12_000), seconds)


def lead_line(changes: list[AlertChange], outcome: Outcome) -> str:
    """Give the line of the headline about the trunk."""
    return headline(outcome, changes).splitlines()[1]


@pytest.mark.parametrize(
    ("pages_s", "declines_s", "says"),
    [
        ([203.0], [539.4], "first page after 3 min 23 s, first decline after 8 min 59 s, lead 5 min 36 s; 2"),
        ([600.0], [539.0], "first page after 10 min 0 s, first decline after 8 min 59 s, too late by 1 min"),
        ([203.0], [], "first page after 3 min 23 s, no call declined"),
        ([], [30.0], "no page, first decline after 30.0 s; 2 calls declined"),
        ([], [], "no page, no call declined"),
    ],
)  # fmt: skip
def test_the_headline_says_how_early_the_page_came(
    pages_s: list[float], declines_s: list[float], says: str
) -> None:
    """From the first page to the first decline; a page that comes after it is said to be late."""
    limits = (TRUNK if declines_s else UNTOUCHED,)
    line = lead_line([change(after_s) for after_s in pages_s], outcome(*declines_s, limits=limits))
    assert line.startswith(f"trunk tenant=acme: {says}")


def test_only_critical_pages_of_that_instance_count_as_its_lead() -> None:
    """A warning is no page, and a page of another tenant is another tenant's."""
    others = [
        change(10, severity="warning"), change(20, tenant="globex"), change(30, alertname="CallLimitReached"),
        change(40, state=RESOLVED),
    ]  # fmt: skip
    assert "no page" in lead_line(others, outcome())
    assert "first page after 50.0 s" in lead_line([*others, change(50), change(60)], outcome())


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("rate", "no page, no call declined"),
        ("timeout", "no page"),
        ("quota", "no page, no call declined"),
    ],
)
def test_a_limit_that_was_never_paged_is_said_to_be_so(kind: str, says: str) -> None:
    """Silence about a limit would look like an answer."""
    limit = a_limit(limit="x", split=(), kind=kind, declined_total=0)
    assert lead_line([], outcome(limits=(limit,))) == f"x: {says}"


def test_calls_that_were_declined_are_never_said_not_to_be() -> None:
    assert lead_line([], outcome()) == "trunk tenant=acme: no page, 2 calls declined"


def test_the_speed_is_shown_unless_the_pace_was_set_on_purpose() -> None:
    """The demo is slow because people have to follow it."""
    assert "12,000 events in 2.00 s: 6,000 events/s" in headline(outcome(), [])
    assert "events/s" not in headline(outcome(), [], is_timed=False)
    assert "events/s" not in headline(outcome(seconds=0.0), [])


def test_a_page_says_what_is_happening_who_drives_it_and_what_to_do() -> None:
    """Once each, wrapped; what is not known takes no line."""
    said = {
        "description": "word " * 30,
        "lives_in": "a panel",
        "action": "raise it",
        "contributors": "acme 70%",
    }
    lines = page(change(1, **said), columns=60).splitlines()
    assert all(len(line) <= 60 and line.startswith("    ") for line in lines)
    assert [
        "    driven by: acme 70%",
        "    lives in: a panel",
        "    to do: raise it",
        "    owner: voice",
    ] == lines[-4:]
    assert "changes" not in page(change(1, **said))


def test_the_table_leaves_the_watchdog_out_and_shows_resolutions_in_one_line() -> None:
    """It fires always, and says nothing about the calls."""
    watchdog = change(0, alertname="CallgaugeWatchdog", severity="info")
    assert "no alert fired\n" == table([watchdog])
    lines = table([watchdog, change(5, description="It fills."), change(900, state=RESOLVED)]).splitlines()
    assert (
        "2027-01-15T08:00:05Z  firing    critical  CallLimitApproaching limit=trunk tenant=acme" == lines[0]
    )
    assert "    It fills." == lines[1]
    assert (
        "2027-01-15T08:15:00Z  resolved  critical  CallLimitApproaching limit=trunk tenant=acme" == lines[-1]
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (119.7, "2 min 0 s"), (-61.0, "-1 min 1 s")],
)
def test_a_duration_never_has_sixty_seconds(seconds: float, text: str) -> None:
    """Rounding carries into the minutes."""
    assert text == duration_text(seconds)


def test_a_count_agrees_with_its_noun() -> None:
    """One call, two calls."""
    assert ["0 calls", "1 call", "1,200 calls"] == [counted(n, "call") for n in (0, 1, 1200)]


def expectations(tmp_path: Path, text: str) -> Expectations:
    """Load expectations from a file with this text."""
    path = tmp_path / "expect.yaml"
    path.write_text(text, "utf-8")
    return Expectations.load(path, Settings())


FIRED = [
    change(5, alertname="CallgaugeWatchdog", severity="info"),
    change(200), change(560, alertname="CallLimitReached"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "breach"),
    [
        ("firing: CallLimitApproaching", None),
        ("firing: CallLimitApproaching, severity: critical, labels: {tenant: acme}", None),
        ("firing: CallLimitApproaching, severity: warning", "did not fire"),
        ("firing: CallLimitApproaching, labels: {tenant: globex}", "did not fire"),
        ("firing: CallLimitApproaching, within: 200s", None),
        ("firing: CallLimitApproaching, within: 199s", "fired after 3 min 20 s"),
        ("firing: CallLimitApproaching, before_first_decline: 5m", None),
        (
            "firing: CallLimitApproaching, before_first_decline: 6m",
            "only 5 min 39 s before the first decline",
        ),
        ("never: CallArrivalsStopped", None),
        ("never: CallLimitReached", "fired after 9 min 20 s"),
        ("never: any, severity: warning", None),
        ("never: any, severity: critical", "fired after 3 min 20 s"),
        ("never: any, severity: info", None),
        ("firing: any, severity: info", "did not fire"),
        ("firing: CallgaugeWatchdog", None),
        ("never: CallgaugeWatchdog", "fired after 5.0 s"),
    ],
)
def test_an_expectation_is_met_or_its_breach_is_worded(
    tmp_path: Path, entry: str, breach: str | None
) -> None:
    """The alert, its labels, how soon, and how far ahead of the first decline."""
    found = breaches(expectations(tmp_path, f"expect: [{{{entry}}}]"), FIRED, outcome(539.0))
    assert [] == found if breach is None else found[0].endswith(breach)


def test_a_log_without_an_event_meets_nothing(tmp_path: Path) -> None:
    """Nor a `never`: a path that is wrong, or a span, would pass for a quiet night."""
    nothing = outcome()._replace(first_ns=-1)
    assert ["no event was read, so there is nothing to judge"] == breaches(
        expectations(tmp_path, "expect: [{never: any}, {firing: CallLimitReached}]"), [], nothing
    )


def test_every_label_that_a_detector_sets_may_be_expected() -> None:
    """Whoever names a label that no alert has is refused, so none may be missing here."""
    sources = Path(detectors.__file__).parent.glob("*.py")
    found = {
        name for one in sources for name in re.findall(r'labels\s*=\s*\(\("(\w+)"', one.read_text("utf-8"))
    }
    assert {"limit", "stage", "problem", "cycle", "metric", "action"} <= found <= set(ALERT_LABELS)


def test_a_lead_over_no_decline_is_a_breach(tmp_path: Path) -> None:
    """There was nothing to be ahead of, so the log does not show what the expectation is about."""
    wanted = "expect: [{firing: CallLimitApproaching, before_first_decline: 1m}]"
    (found,) = breaches(expectations(tmp_path, wanted), FIRED, outcome())
    assert "no call was declined" in found


TWO_TENANTS = [
    change(100, tenant="globex", severity="warning"), change(200), change(300, tenant="globex"), change(400),
]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "declined_s", "breach"),
    [
        # Globex declines at once, and is not asked about.
        ("labels: {tenant: acme}, before_first_decline: 4m", {"globex": 10, "acme": 539}, None),
        (
            "labels: {tenant: globex}, before_first_decline: 1s",
            {"globex": 10, "acme": 539},
            "only -1 min 30 s before the first decline",
        ),
        ("labels: {tenant: globex}, before_first_decline: 1s", {"acme": 539}, "nothing to be ahead of"),
        # One alert is enough, whichever it is; but it meets every bound by itself.
        ("severity: critical, before_first_decline: 1m", {"globex": 539}, None),
        ("severity: critical, within: 300s, before_first_decline: 1m", {"globex": 539}, None),
        ("severity: critical, within: 299s, before_first_decline: 1m", {"globex": 539}, "to be ahead of"),
        ("severity: critical, before_first_decline: 5m", {"globex": 539}, "nothing to be ahead of"),
    ],
)  # fmt: skip
def test_any_alert_that_meets_all_of_an_entry_will_do_and_is_held_to_its_own_decline(
    tmp_path: Path, entry: str, declined_s: dict[str, int], breach: str | None
) -> None:
    """A limit that is split by tenant is one cap for each; another tenant's decline says nothing of it."""
    declines = tuple(
        FirstDeclined("trunk", (("tenant", tenant),), FIRST_NS + after_s * S)
        for tenant, after_s in declined_s.items()
    )
    wanted = expectations(tmp_path, f"expect: [{{firing: CallLimitApproaching, {entry}}}]")

    found = breaches(wanted, TWO_TENANTS, outcome()._replace(first_declines=declines))

    assert [] == found if breach is None else found[0].endswith(breach)


def test_an_alert_that_is_about_no_limit_has_no_decline_to_be_ahead_of(tmp_path: Path) -> None:
    """The breach says why, for calls were declined."""
    silence = AlertChange(
        FIRST_NS + S, FIRING, (("alertname", "CallArrivalsStopped"), ("severity", "critical")), (), FIRST_NS
    )
    wanted = "expect: [{firing: CallArrivalsStopped, before_first_decline: 1m}]"
    (found,) = breaches(expectations(tmp_path, wanted), [silence], outcome(539.0))
    assert "is about no limit" in found


def test_calls_without_the_label_that_splits_a_limit_have_their_page_and_their_decline(
    tmp_path: Path,
) -> None:
    """They count under "", and their alert does without the label."""
    labels = tuple(pair for pair in change(200).labels if pair[0] != "tenant")
    paged = change(200)._replace(labels=labels)
    bare = outcome(limits=(TRUNK._replace(split=(("tenant", ""),)),))._replace(
        first_declines=(FirstDeclined("trunk", (("tenant", ""),), FIRST_NS + 539 * S),)
    )
    wanted = "expect: [{firing: CallLimitApproaching, before_first_decline: 5m}]"

    assert "lead 5 min 39 s" in lead_line([paged], bare)
    assert [] == breaches(expectations(tmp_path, wanted), [paged], bare)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("expect: []", "no list `expect:`"),
        ("[]", "no list `expect:`"),
        ("expect: [{firing: A, never: B}]", "expect[0]: needs exactly one of `firing` and `never`"),
        ("expect: [{firing: A}, 7]", "expect[1]: a single value is not a mapping"),
        (
            "expect: [{firing: A, withn: 5s}]",
            "expect[0].withn: is not a known key (line 1)",
        ),
        ("expect: [{firing: A, within: 5}]", "expect[0].within: "),
        ("expect: [{firing: A, labels: [x]}]", "expect[0].labels: a list is not a mapping"),
        (
            "expect: [{firing: A, within: soon}, {nver: B}]",
            "expect[1].nver: is not a known key (line 1)",
        ),
        (
            "expect: [{never: any}, {never: CallLimitReachd}]",
            "expect[1]: there is no alert `CallLimitReachd` (line 1); did you mean CallLimitReached?",
        ),
        (
            "expect: [{never: any, severity: critcal}]",
            "expect[0]: there is no severity `critcal` (line 1); did you mean critical?",
        ),
        (
            "expect: [{never: any, severity: warning, labels: {severity: critical}}]",
            "expect[0]: `severity` and `labels.severity` are not the same (line 1); keep one of them",
        ),
        ("expect: [{never: any, labels: {severity: page}}]", "known: critical, warning, info"),
        ("expect: [{never: any, within: 5m}]", "expect[0].within: is for `firing`"),
        (
            "expect: [{never: any, before_first_decline: 5m}]",
            "expect[0].before_first_decline: is for `firing`",
        ),
        ("expect: [{firing: [CallLimitReached]}]", "expect[0]: needs the name of one alert, or `any`"),
        ("expect: [{never: {CallLimitReached: x}}]", "expect[0]: needs the name of one alert, or `any`"),
        ("expect: [{never: }]", "expect[0]: needs the name of one alert, or `any`"),
        (
            "expect: [{never: any, labels: {limt: x}}]",
            "expect[0].labels: no alert has a label `limt` (line 1); did you mean limit?",
        ),
        ("expect: [{never: any, labels: {limit: [a, b]}}]", "expect[0].labels.limit: must be one value"),
        ("expect: [{firing: CallLimitReached, within: }]", "expect[0].within: is empty"),
        # A forgotten dash, and what stands beside the list: neither is left out.
        (
            "expect:\n  - never: CallLimitReached\n    never: CallQuotaExhaustion",
            "expect[0].never: is given twice (line 3); keep one of the two",
        ),
        ("expect: [{never: any, labels: {limit: a, limit: b}}]", "expect[0].labels.limit: is given twice"),
        ("expect: [{never: any}]\nexpect: [{firing: any}]", "expect: is given twice"),
        ("expect: [{never: any}]\nexpcet: [{never: any}]", "expcet: is not a known key (line 2)"),
    ],
)
def test_wrong_expectations_are_all_named(tmp_path: Path, text: str, says: str) -> None:
    """With the entry and the field."""
    with pytest.raises(SettingsError) as raised:
        expectations(tmp_path, text)
    assert says in str(raised.value)
