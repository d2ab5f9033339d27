"""Who calls, who is let in, and how it is sent: every word of a scenario shows in its rows."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from engine.decode.decoder import JsonDecoder
from engine.scenario.scenario import DEFAULT_START_NS, parse_scenario
from engine.scenario.source import ScenarioSource
from engine.settings import Settings
from tests.scenario_rows import FRAME, WEB, Row, S, of, rows, starts, stream
from tests.source_contract import read_all
from tests.text_scenarios import batches


def test_the_same_text_is_the_same_rows_and_another_seed_is_not() -> None:
    one, again = stream(WEB), stream(WEB)
    other = stream(WEB.replace("seed 7", "seed 8"))

    assert one.rows(0, one.events) == again.rows(0, again.events)
    assert one.rows(0, 5) != other.rows(0, 5)


def test_a_statement_more_changes_nothing_that_was_there_before() -> None:
    text = WEB + "turns web every=10s llm=400ms\nat 5m event change.made what=deploy\nlists web every=5m\n"

    before, after = rows(WEB), rows(text)

    for one in (*before, *after):
        one.pop("id", None)
    added = {"turn.completed", "change.made", "calls.listed"}
    assert before == [one for one in after if one["type"] not in added]


def test_every_row_decodes_without_a_loss_or_an_ignored_field() -> None:
    text = WEB + (
        "cap panel value=55 trunk=sip-1\nturns web every=10s llm=400ms\ntransfers web ratio=20% dialling=5s\n"
        "dependency crm on=web\nbreaks crm errors=50% fallback=open\nscores web metric=csat mean=0.8\n"
        "agents web\nheartbeats web every=30s\nlists web every=10m\nreports panel max=60 every=1m\n"
        "at 5m event change.made what=deploy from=v1 to=v2\nat 5m event load.planned expected=9 until=9m\n"
    )
    source = ScenarioSource(parse_scenario(text, "x"))
    source.stream = stream(text)
    decoder = JsonDecoder(Settings().engine, bytes(16), {})

    decoded = sum(decoder.decode(raw).rows for raw in batches(source))

    assert decoded == stream(text).events
    assert int(decoder.losses.sum()) == 0
    assert {name: count for name, count in decoder.fields_ignored.items() if count} == {}


def test_calls_come_at_their_rate_last_as_long_and_carry_their_labels() -> None:
    events = rows(WEB)

    begun = {one["call_id"]: one["at"] for one in of(events, "call.started")}
    held = [one["at"] - begun[one["call_id"]] for one in of(events, "call.ended") if one["at"] < 1800]

    assert len(begun) == pytest.approx(3600, rel=0.06)
    assert np.mean(held) == pytest.approx(60.8, rel=0.1)
    assert {(one["tenant"], one["trunk"]) for one in events} == {("acme", "sip-1")}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("rate web factor=3 from=10m", (1, 3, 3)),
        ("rate web factor=3 from=10m until=20m", (1, 3, 1)),
        ("rate web factor=3 from=10m over=20m", (1, 1.5, 2.5)),
        ("rate web to=30/min from=10m", (1, 0.5, 0.5)),
        ("rate web factor=0 from=20m", (1, 1, 0)),
        ("rate web doubling=10m from=10m over=10m", (1, 1 / np.log(2), 2)),
        ("profile web 08:00=1 08:10=2 08:20=2 09:00=2", (1.5, 2, 2)),
        ("profile web 09:00=1 09:10=2 09:20=2 10:00=2 zone=Europe/Berlin", (1.5, 2, 2)),
        ("profile web 00:00=1 weekend=0.5", (1, 1, 1)),
        ("burst web calls=600 within=2s at=15m", (1, 2, 1)),
        ("burst web calls=120 within=2s at=15m every=1m until=20m", (1, 2, 1)),
    ],
)  # fmt: skip
def test_the_rate_changes_as_it_is_written(change: str, expected: tuple[float, ...]) -> None:
    """Ten minutes from the start, the next ten, and the ten after."""
    counts = [starts(f"{WEB}{change}\n", 600.0 * part, 600.0 * part + 600.0) for part in range(3)]

    assert counts == pytest.approx([600 * factor for factor in expected], rel=0.12, abs=5)


def test_a_weekend_has_a_factor_of_its_own() -> None:
    text = (FRAME + "start 2026-01-10T00:00:00Z\n").replace("length 1h", "length 3d")
    text += "calls web rate=2/min holding=1s\nprofile web 00:00=1 weekend=0.25\n"

    days = Counter(int(one["at"] // 86_400) for one in of(rows(text), "call.started"))

    assert [days[0] / days[2], days[1] / days[2]] == pytest.approx([0.25, 0.25], rel=0.15)


def test_bunches_come_within_a_second_and_make_counts_uneven() -> None:
    text = WEB.replace("trunk=sip-1", "trunk=sip-1 bunch=4")
    at_s = [one["at"] for one in of(rows(text), "call.started")]

    per_slice = np.bincount(np.array(at_s, np.int64) // 15, minlength=240)

    assert len(at_s) == pytest.approx(3600, rel=0.1)
    assert per_slice.var() / per_slice.mean() == pytest.approx(4.0, rel=0.4)


def test_a_share_is_so_many_of_the_calls_and_they_keep_all_else() -> None:
    text = WEB + "share v2 of=web ratio=10% release=v2 from=20m until=40m\nfail web ratio=50% from=50m\n"
    begun = of(rows(text), "call.started")

    shares = [one["at"] for one in begun if one.get("release") == "v2"]

    assert len(begun) == len(of(rows(WEB), "call.started"))
    assert len(shares) == pytest.approx(120, rel=0.3)
    assert 1200 <= min(shares)
    assert max(shares) < 2400


def test_two_shares_of_one_group_do_not_overlap() -> None:
    text = WEB + "share a of=web ratio=50% release=a\nshare b of=web ratio=50% release=b\n"

    counts = Counter(one.get("release") for one in of(rows(text), "call.started"))

    assert set(counts) == {"a", "b"}
    assert counts["a"] == pytest.approx(counts["b"], rel=0.1)


def test_a_holding_change_is_for_calls_that_start_then() -> None:
    text = WEB + "holding web factor=0.25 from=30m\n"
    events = rows(text)
    begun = {one["call_id"]: one["at"] for one in of(events, "call.started")}
    ended = {one["call_id"]: one["at"] for one in of(events, "call.ended")}

    held = {call: ended[call] - at for call, at in begun.items() if call in ended}

    late = [lasted for call, lasted in held.items() if begun[call] >= 1800]
    assert np.mean(late) == pytest.approx(15.8, rel=0.15)


def levels_of(events: list[Row], ended: str = "call.ended") -> int:
    """Give the most calls that were up at once, without those that were turned away."""
    turned = {one["call_id"] for one in of(events, "call.declined")}
    moves = [(one["at"], 1) for one in of(events, "call.started") if one["call_id"] not in turned]
    moves += [(one["at"], -1) for one in of(events, ended) if one["call_id"] not in turned]
    return int(np.cumsum([step for _, step in sorted(moves)]).max())


def test_a_cap_declines_and_nobody_is_up_beyond_it() -> None:
    events = rows(WEB + "cap panel value=55 trunk=sip-1\n")

    declined = of(events, "call.declined")
    assert len(declined) > 50
    assert {(one["code"], one["reason"]) for one in declined} == {(503, "Service Unavailable")}
    assert levels_of(events) == 55


def test_a_cap_of_other_labels_declines_nobody() -> None:
    assert of(rows(WEB + "cap panel value=5 trunk=sip-2\n"), "call.declined") == []


def test_a_cap_can_be_one_for_each_tenant() -> None:
    text = (
        WEB + "calls two rate=60/min holding=1m tenant=globex trunk=sip-1\ncap c value=55 split_by=tenant\n"
    )
    events = rows(text)

    for tenant in ("acme", "globex"):
        assert levels_of([one for one in events if one["tenant"] == tenant]) == 55


def test_a_cap_that_moves_is_another_from_then_on() -> None:
    made = stream(WEB + "cap panel value=1000\nmove panel value=10 from=30m\n")

    assert 1800 <= made.truth.first_decline_s["panel"] < 1830


def test_the_truth_is_the_first_decline_of_each_cap() -> None:
    text = WEB + "cap panel value=55\ncap other value=9999\n"
    declined = of(rows(text), "call.declined")

    truth = stream(text).truth

    assert truth.first_decline_s == {"panel": pytest.approx(declined[0]["at"], abs=1e-6)}
    assert truth.declined == {"panel": len(declined), "other": 0}


def test_a_decline_can_show_as_a_failure_or_not_at_all() -> None:
    failed = rows(WEB + 'cap panel value=55 as=failed code=500 reason="server error"\n')
    silent = rows(WEB + "cap panel value=55 as=silent\n")

    ended = of(failed, "call.ended", outcome="failed")
    assert len(ended) == len(of(rows(WEB + "cap panel value=55\n"), "call.declined"))
    assert {(one["code"], one["reason"]) for one in ended} == {(500, "server error")}
    assert of(silent, "call.declined") == of(silent, "call.ended", outcome="failed") == []
    assert len(of(silent, "call.started")) == len(of(rows(WEB), "call.started")) - len(ended)


def test_a_queue_makes_callers_wait_and_the_impatient_leave() -> None:
    events = rows(WEB + "rate web factor=3 from=30m\ncap panel value=80 as=queued patience=20s\n")
    waited_ms = [one["latency_ms"]["setup"] for one in of(events, "call.answered") if one["at"] > 2400]

    assert np.mean(waited_ms) > 5000
    assert max(waited_ms) < 25_000
    assert len(of(events, "call.ended", outcome="abandoned")) > 100
    assert levels_of([one for one in events if one.get("outcome") != "abandoned"]) == 80
    assert of(events, "call.declined") == []


def test_a_rate_cap_looks_at_any_second() -> None:
    text = WEB + "burst web calls=30 within=1s at=10m every=5m\nrate_cap cps value=10 trunk=sip-1\n"
    events = rows(text)
    turned = {one["call_id"] for one in of(events, "call.declined", code=429)}
    let_in = np.array([one["at"] for one in of(events, "call.started") if one["call_id"] not in turned])

    assert len(turned) > 100
    assert min(let_in[10:] - let_in[:-10]) > 1.0


def test_a_quota_lets_so_many_in_until_its_reset() -> None:
    text = WEB.replace("length 1h", "length 2d").replace("rate=60/min", "rate=30/h")
    text += 'quota daily value=500 resets="00:00 Europe/Berlin"\n'
    made = stream(text)
    events = rows(text)
    declined = [one["at"] for one in of(events, "call.declined", code=403)]

    first_reset_s = 15 * 3600  # 08:00 UTC is 09:00 in Berlin
    assert made.truth.first_decline_s["daily"] > first_reset_s
    assert declined
    assert not [at for at in declined if at < first_reset_s or at > first_reset_s + 86_400]


def test_who_is_turned_away_may_try_again() -> None:
    cap = "rate web factor=2 from=30m\ncap panel value=60\n"
    without = stream(WEB + cap).truth.declined["panel"]

    events = rows(WEB + cap + "retry web ratio=100% after=10s tries=2\n")

    assert len(of(events, "call.declined")) > 1.5 * without
    assert len({one["call_id"] for one in of(events, "call.started")}) == len(of(events, "call.started"))


@pytest.mark.parametrize("event", ["call.ended", "call.started", "turn.completed", "agent.joined"])
def test_events_that_are_lost_are_those_and_so_many(event: str) -> None:
    text = WEB + "agents web\nturns web every=20s llm=1s\n"

    before, after = rows(text), rows(f"{text}lose web event={event} ratio=50% from=30m\n")

    kept = {json.dumps(one) for one in after}
    lost = [one for one in before if json.dumps(one) not in kept]
    sent = [one for one in of(before, event) if one["at"] > 1800]
    assert {one["type"] for one in lost} == {event}
    assert min(one["at"] for one in lost) >= 1800
    assert len(lost) == pytest.approx(0.5 * len(sent), rel=0.15)


def test_a_clock_runs_ahead_of_the_arrival() -> None:
    made = stream(WEB + "clock web ahead=30s from=30m\n")

    ahead_s = (made.time_ns - made.arrival_ns) / S
    late = made.arrival_ns >= DEFAULT_START_NS + 1800 * S

    assert np.allclose(ahead_s[~late], 0)
    assert np.allclose(ahead_s[late], 30)


def test_disorder_delays_within_its_bound_and_duplicates_are_the_same_row() -> None:
    made = stream(WEB + "disorder 2s\nduplicates 5%\n")
    late_s = (made.arrival_ns - made.time_ns) / S
    told = Counter(made.rows(0, made.events))

    assert 0 <= late_s.min()
    assert late_s[: made.events // 2].max() < 4
    assert (np.diff(made.arrival_ns) >= 0).all()
    assert (np.diff(made.time_ns) < 0).any()
    assert sum(count - 1 for count in told.values()) == pytest.approx(0.05 * made.events, rel=0.2)


def test_the_platform_reports_and_lists_the_calls_that_are_up() -> None:
    text = WEB + "reports panel max=60 unseen=10 every=1m trunk=sip-1\nlists web every=10m\n"
    events = rows(text)

    report = next(one for one in of(events, "limit.reported") if one["at"] == 1800)
    listed = next(one for one in of(events, "calls.listed") if one["at"] == 1800)

    begun = {one["call_id"] for one in of(events, "call.started") if one["at"] <= 1800}
    over = {one["call_id"] for one in of(events, "call.ended") if one["at"] <= 1800}
    assert set(listed["calls"]) == begun - over
    assert (report["used"], report["max"], report["limit"]) == (len(begun - over) + 10, 60, "panel")


def test_a_plan_says_until_when_as_a_time() -> None:
    (plan,) = rows(FRAME + "at 5m event load.planned expected=120 until=40m limit=panel\n")

    assert plan["until"] == DEFAULT_START_NS + 2400 * S
    assert (plan["expected"], plan["limit"], plan["at"]) == (120, "panel", 300)


@pytest.mark.parametrize("key", ["call_id", "none"])
def test_events_lie_in_partitions_by_their_call_or_anywhere(key: str) -> None:
    made = stream(f"{WEB}partitions 4 key={key}\n")

    per_call: dict[int, set[int]] = {}
    for attempt, partition in zip(made.attempt.tolist(), made.partition.tolist(), strict=True):
        per_call.setdefault(attempt, set()).add(partition)

    assert set(made.partition.tolist()) == {0, 1, 2, 3}
    assert all(len(seen) == 1 for seen in per_call.values()) == (key == "call_id")


async def test_the_source_gives_every_row_in_its_time_and_ticks_in_silence_up_to_the_end() -> None:
    text = WEB + "partitions 2\nrate web factor=0 from=10m\n"
    source = ScenarioSource(parse_scenario(text, "x"))
    await source.start()

    given = await read_all(source)

    assert sum(raw.rows for raw in given) == stream(text).events
    received = [raw.received_ns for raw in given]
    assert received == sorted(received)
    assert received[-1] == DEFAULT_START_NS + 3600 * S
    assert max(np.diff(received)) <= 6 * S
    for partition in (0, 1):
        offsets = np.concatenate([raw.offset for raw in given if raw.partition == partition])
        assert (offsets == np.arange(len(offsets))).all()
    await source.close()
    assert await source.read() is None


def test_an_empty_scenario_is_silence() -> None:
    source = ScenarioSource(parse_scenario("seed 1\nlength 1m\n", "x"))
    source.stream = stream("seed 1\nlength 1m\n")

    assert [raw.rows for raw in batches(source)] == [0] * 12


def test_two_hours_of_a_hundred_calls_a_minute_with_turns_are_no_great_size() -> None:
    text = WEB.replace("1h", "2h").replace("60/min", "100/min").replace("1m ", "3m ")

    made = stream(text + "turns web every=10s stt=150ms llm=450ms tts=180ms\ncap panel value=330\n")

    assert made.events > 200_000
