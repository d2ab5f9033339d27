"""The text of a scenario: what it means, and for every slip the line, what is wrong, and what to write."""

from __future__ import annotations

import pytest

from engine.errors import SettingsError
from engine.scenario.callers import Group, RateChange
from engine.scenario.caps import Cap
from engine.scenario.expectations import Firing, Lead, Moment, Never, Pattern, Soon
from engine.scenario.notices import Notice, Span
from engine.scenario.scenario import Scenario, parse_scenario
from engine.scenario.statement import Change
from engine.scenario.text import Faults, Token, read_text
from engine.strict_yaml import parse_yaml

FRAME = "seed 7\nlength 1h\n"
WEB = FRAME + "calls web rate=40/min holding=3m tenant=acme trunk=sip-1\n"


def parsed(text: str) -> Scenario:
    return parse_scenario(text, "x.scenario")


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as found:
        parsed(text)
    assert found.value.where == "x.scenario"
    assert found.value.exit_code == 2
    return found.value.problems


def test_a_statement_is_a_word_and_pairs_and_goes_on_in_indented_lines() -> None:
    text = '# a comment\ncap panel value=80   # of calls\n  reason="all full # really"\n\n\tcode=503\n'

    line = read_text(text, Faults("x")).lines[0]

    assert line.number == 2
    assert line.tokens == (
        Token("", "cap"), Token("", "panel"), Token("value", "80"),
        Token("reason", "all full # really", is_quoted=True), Token("code", "503"),
    )  # fmt: skip
    assert line.text == 'cap panel value=80 reason="all full # really" code=503'


def test_blocks_of_yaml_keep_their_lines_and_end_at_the_next_statement() -> None:
    text = (
        "seed 1\nlimits:\n- {name: a}\n\n  # more\nsettings:\n  engine: {}\nguardrails:\n  - b\nlength 1h\n"
    )

    cut = read_text(text, Faults("x"))

    assert cut.register.split("\n") == [
        "", "limits:", "- {name: a}", "", "  # more", "", "", "guardrails:", "  - b", "",
    ]  # fmt: skip
    assert cut.settings.split("\n")[6] == "  engine: {}"
    assert [line.number for line in cut.lines] == [1, 10]


def test_settings_on_one_line_are_read_as_those_below_it() -> None:
    text = "seed 1\nsettings: {engine: {late: 70s}}\nlength 1h\n"

    assert yaml_value(read_text(text, Faults("x")).settings) == {"engine": {"late": "70s"}}
    assert yaml_value(parsed(FRAME + "settings:  # ours\n  engine: {}\n").settings) == {"engine": {}}


def yaml_value(text: str) -> object:
    return parse_yaml(text, "x").value


def test_guardrails_alone_are_a_register() -> None:
    assert parsed(FRAME + "guardrails:\n  - {name: a}\n").register.endswith("limits: []")


def test_values_have_units_and_become_seconds_and_ratios() -> None:
    scenario = parsed(WEB + "share v2 of=web ratio=2.5% release=v2 from=20m until=1h30m\n")

    web, share = scenario.groups
    assert web.rate_per_s == pytest.approx(40 / 60)
    assert web.holding_s == 180.0
    assert share == web._replace(
        name="v2", parent="web", share_ratio=0.025, change=Change(1200.0, 0.0, 5400.0),
        labels={"tenant": "acme", "trunk": "sip-1", "release": "v2"},
    )  # fmt: skip


def test_what_holds_for_a_group_holds_for_its_shares() -> None:
    scenario = parsed(
        WEB + "share a of=web ratio=50%\nshare b of=a ratio=50%\n" + "calls o rate=1/s holding=1s\n"
    )

    assert scenario.members("web").tolist() == [True, True, True, False]
    assert scenario.members("b").tolist() == [False, False, True, False]
    assert scenario.members("*").all()


def test_statements_are_found_by_their_kind_in_their_order() -> None:
    scenario = parsed(
        WEB + "rate web factor=2 from=5m over=1m\ncap c value=8 split_by=tenant\nrate * to=2/s\n"
    )

    assert [one.factor for one in scenario.of(RateChange)] == [2.0, 1.0]
    assert scenario.of(RateChange)[0].change == Change(300.0, 60.0)
    assert [cap.split_by for cap in scenario.of(Cap)] == ["tenant"]
    assert scenario.of(Group) == []


def test_an_event_is_written_as_it_is_with_numbers_texts_and_one_time() -> None:
    text = 'at 4m..8m every 2s event load.planned expected=120 until=40m limit="7"\n'

    (notice,) = parsed(FRAME + text).of(Notice)

    assert notice == Notice(
        Span(240.0, 480.0), 2.0, "load.planned", (("expected", 120), ("limit", "7")), 2400.0
    )


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("at 300s expect firing CallX", Firing(Pattern("CallX", ()), 300.0)),
        ("at 1m expect no CallX", Never(Pattern("CallX", ()), Span(60.0, 60.0))),
        ("at 0s..12m expect silence", Never(Pattern("", ()), Span(0.0, 720.0))),
        ("expect no CallX", Never(Pattern("CallX", ()), None)),
        ("expect silence", Never(Pattern("", ()), None)),
        ("expect CallX within 75s of 4m", Soon(Pattern("CallX", ()), 75.0, Moment(240.0))),
        ("expect CallX within 5s of the first decline", Soon(Pattern("CallX", ()), 5.0, Moment(-1.0))),
        (
            "expect CallX 5m before the first decline by c",
            Lead(Pattern("CallX", ()), 300.0, Moment(-1.0, "c")),
        ),
    ],
)
def test_expectations_read_as_sentences(line: str, wanted: object) -> None:
    (expectation,) = parsed(FRAME + f"cap c value=1\n{line}   # why\n").expectations

    assert (expectation.line, expectation.text, expectation.wanted) == (4, line, wanted)


def test_an_alert_is_meant_by_its_labels() -> None:
    text = 'expect no CallX{severity="critical", stage=~"transfer|setup", limit!="a, b"}\n'
    (expectation,) = parsed(FRAME + text).expectations
    pattern = expectation.wanted.pattern
    alert = (("alertname", "CallX"), ("severity", "critical"), ("stage", "setup"))

    assert pattern.matches(alert)
    assert not pattern.matches((*alert, ("limit", "a, b")))
    assert not pattern.matches((*alert[:2], ("stage", "setup2")))
    assert not pattern.matches((("alertname", "CallY"), *alert[1:]))
    assert pattern.exact("severity") == "critical"
    assert pattern.exact("stage") == ""


def test_silence_is_broken_by_anything_but_info() -> None:
    silence = Pattern("", ())

    assert silence.matches((("alertname", "CallX"), ("severity", "warning")))
    assert not silence.matches((("alertname", "CallX"), ("severity", "info")))


# A line below WEB, and what is said of it.
SLIPS = """
call web rate=1/s => `call` is not a statement; did you mean calls?
seed 8 => `seed` is given twice; keep one of the two
calls web rate=1/s holding=1s => there is a `web` already; name it otherwise
calls b holding=1s => `calls` needs `rate=`; such as rate=40/min
calls b rate=40 holding=1s => `rate=`: `40` is not a rate; write it as 40/min, 2/s or 300/h
calls b rate=1/s holding=3 => `holding=`: `3` is not a duration; write it as 90s, 12m, 1h30m or 250ms
calls b rate=1/s holding=1s tennant=a => `calls` knows no `tennant=`; did you mean tenant?
calls b rate=1/s rate=2/s holding=1s => `rate=` is given twice; keep one of the two
share v of=wob ratio=1% => `of=wob` is not the name of a `calls` or `share` above it
rate wep factor=2 => `wep` is not the name of a `calls` or `share` above it; did you mean web?
rate web factor=2 to=1/s => `rate` needs one of `factor=3`, `to=80/min` and `doubling=15m`
rate web doubling=1m from=10s => it doubles 60 times; write `over=`, so that it is 10 at most
rate web doubling=1m over=11m => it doubles 11 times; write `over=`
at 4m event change.made waht=x => `at` knows no `waht=`; did you mean what?
rate web factor=2 from=2h => `from=2h` lies behind the end; mend it, or `length`
rate web factor=2 from=9m until=8m => `until=` does not lie after `from=`
fail web ratio=0.05 => `ratio=`: `0.05` is not a ratio; write it as 5% or 0.5%, at most 100%
fail web ratio=120% => `ratio=`: `120%` is not a ratio; write it as 5% or 0.5%, at most 100%
fail web ratio=5% outcome=bad => `outcome=`: `bad` is none of completed, failed, timeout
fail web ratio=5% for=2s => `for=` says how long of every so long; add every=1m
fail ratio=5% => `fail` needs the name of a `calls` or `share` above it as its next word
fail web 5% => `5%` is no `key=value`
move panel value=1 => `panel` is not the name of a cap above it; there is none
cap c value=80 per=1d => `per=` is for `quota`; for one cap a tenant write split_by=tenant
cap c value=80.5 => `value=`: `80.5` is not a whole number; write it as 80
quota q value=8 resets=noon => `resets=`: `noon` is not a time of day; write it as 08:30
quota q value=8 resets="00:00 Mars" => `resets=`: `Mars` is not a time zone; write it as Europe/Berlin
profile web zone=UTC => `profile` needs factors by time of day; such as 00:00=0.2
profile web 25:00=1 => `profile` knows no `25:00=`; `25:00` is not a time of day
turns web every=8s => `turns` needs stages and their means; such as stt=150ms
slow web stage=llm factor=2 => `stage=llm` is no stage of `turns`, nor a dependency; known: setup
slow web stage=setup factor=2 in_flight=9 => `in_flight=` is for stages of `turns`
timeout web stage=transfer after=15s => there is nothing to cut; write `transfers` above it
drift web metric=m mean=0.5 => `metric=m` has no `scores`; write `scores` above it
scores web metric=m mean=0.9 sd=0.4 => no scores from 0 to 1 have mean=0.9 and sd=0.4
dependency crm on=web rate=1/s => `dependency` needs one of `on=web`
breaks crm errors=1% => `crm` is not the name of a `dependency` above it; there is none
lose web event=call.end => `event=`: `call.end` is none of call.queued
at 2h expect silence => `2h` lies behind the end; mend it, or `length`
at 5m..4m expect silence => `5m..4m` ends before it begins
at noon expect silence => `noon` is not a duration
at 4m do it => a time is followed by `event TYPE ...` or `expect ...`
at 4m event call.end => `call.end` is none of call.queued
at 4m..5m event change.made => a span needs how often; write at 4m..8m every 2s event ...
at 4m expect fire CallX => `expect fire` is not known here; write `firing ALERT`, `no ALERT`
at 4m..5m expect firing CallX => `expect firing` needs one moment; write at 300s expect firing
expect callX within 5s of 4m => `callX` is not an alert; write it as CallTimeoutCliff{severity=
expect CallX{a=b} within 5s of 4m => `{a=b}` cannot be read; write {label="value"
expect no CallX{limt="a"} => no alert has a label `limt`; did you mean limit?
expect no CallX{limit=~"("} => `(` is not a regular expression
expect CallX within 5s after 4m => `after` stands where `of` should
expect CallX within 5s of the first decline => nothing declines a call here; add a `cap`
fail web ratio=5% reason="half => `reason="half` has a quote or a brace that is not closed
disorder 2m => it is longer than 60s
partitions 0 => `partitions`: it must be at least 1
start noon => `start`: `noon` is not a date; write it as 2026-01-05T08:00:00Z
limits => `limits` needs a value as its next word
"""


@pytest.mark.parametrize("slip", SLIPS.strip().splitlines())
def test_a_slip_is_named_with_its_line_and_its_mend(slip: str) -> None:
    line, _, said = slip.partition(" => ")

    assert [one for one in problems(f"{WEB}{line}\n") if one.startswith(f"line 4: {said}")]


def test_a_share_has_no_rate_of_its_own() -> None:
    text = WEB + "share v2 of=web ratio=5%\nburst v2 calls=9\n"

    assert problems(text) == (
        "line 5: `v2` is a share, which has no rate of its own; name the `calls` that it is a share of",
    )


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_lines() -> None:
    text = "  indented\nlength 2h\nseed x\nexpect nothing\nlimits a.yaml\nlimits: []\n"

    said = problems(text)

    assert [one.partition(":")[0] for one in said] == ["line 1", "line 1", "line 3", "line 4", "line 4"]


def test_a_scenario_needs_a_seed_and_a_length() -> None:
    assert problems("# nothing\n") == (
        "line 1: there is no `seed`; write `seed 7`",
        "line 1: there is no `length`; write `length 2h`",
    )
