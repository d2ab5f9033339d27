"""What goes wrong and what calls tell of it: every word of a scenario shows in its rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.scenario_rows import FRAME, WEB, of, rows, stream


def test_failures_have_their_share_cause_duration_and_moment() -> None:
    text = WEB + 'fail web ratio=20% outcome=timeout code=408 reason="no answer" after=15s from=30m\n'

    failed = of(rows(text), "call.ended", outcome="timeout")

    assert len(failed) == pytest.approx(0.2 * 1800, rel=0.2)
    assert {(one["code"], one["reason"]) for one in failed} == {(408, "no answer")}
    assert {int(one["duration_ms"]) // 20 for one in failed} == {750}
    assert min(one["at"] for one in failed) >= 1815


def test_failures_after_the_answer_are_answered() -> None:
    events = rows(WEB + "fail web ratio=20% answered=yes code=500\n")

    answered = {one["call_id"] for one in of(events, "call.answered")}

    failed = of(events, "call.ended", outcome="failed")
    assert failed
    assert {one["call_id"] for one in failed} <= answered


def test_failures_on_phase_come_in_the_first_seconds_of_a_minute() -> None:
    events = rows(WEB + "fail web ratio=100% every=1m for=2s phase=10s\n")
    begun = {one["call_id"]: one["at"] for one in of(events, "call.started")}

    at_s = [begun[one["call_id"]] % 60 for one in of(events, "call.ended", outcome="failed")]

    assert len(at_s) == pytest.approx(120, rel=0.3)
    assert 10 <= min(at_s)
    assert max(at_s) < 12


def test_set_up_creeps_and_is_cut_at_the_timeout() -> None:
    text = WEB + "slow web stage=setup to=13s from=10m over=30m\ntimeout web after=15s code=408\n"
    events = rows(text)
    setup_ms = [one["latency_ms"]["setup"] for one in of(events, "call.answered") if one["at"] > 2500]

    cut = of(events, "call.ended", outcome="timeout")

    assert np.median(setup_ms) > 9000
    assert max(setup_ms) <= 15_000
    assert len(cut) > 100
    assert all(15_000 <= one["duration_ms"] <= 15_020 for one in cut)


def test_transfers_are_dialled_and_cut_and_their_call_lasts_as_long() -> None:
    text = WEB + (
        "transfers web ratio=50% dialling=8s failing=10%\nslow web stage=transfer factor=2 from=30m\n"
        "timeout web stage=transfer after=15s outcome=failed code=504\n"
    )
    events = rows(text)
    ended = {one["call_id"]: one["at"] for one in of(events, "call.ended")}
    transfers = of(events, "transfer.ended")

    cut = [one for one in transfers if one.get("code") == 504]

    assert len(of(events, "transfer.started")) == pytest.approx(0.5 * 3600, rel=0.1)
    assert {int(one["duration_ms"]) // 20 for one in cut} == {750}
    assert max(one["duration_ms"] for one in transfers) <= 15_020
    assert len([one for one in cut if one["at"] > 1900]) > 2 * len([one for one in cut if one["at"] < 1700])
    assert all(ended.get(one["call_id"], 3600) > one["at"] for one in transfers)
    assert len(of(events, "call.ended", outcome="transferred")) > 500


def test_turns_have_stages_that_grow_slow_altogether_in_the_tail_or_with_the_load() -> None:
    turns = "turns web every=10s stt=150ms llm=450ms sigma=0.3\n"

    def means(slow: str, quantile: float = 0.5) -> list[float]:
        told = of(rows(WEB + turns + slow), "turn.completed")
        ms = [
            [one["latency_ms"]["llm"] for one in told if (one["at"] >= 1800) == late]
            for late in (False, True)
        ]
        return [float(np.quantile(part, quantile)) for part in ms]

    whole = means("slow web stage=llm factor=1.5 from=30m\n")
    tail, tail_high = (means("slow web stage=llm factor=4 tail=5% from=30m\n", q) for q in (0.5, 0.99))
    load = means("slow web stage=llm factor=2 in_flight=60 from=30m\n")

    assert whole[1] / whole[0] == pytest.approx(1.5, rel=0.05)
    assert tail[1] / tail[0] == pytest.approx(1.0, abs=0.06)
    assert tail_high[1] / tail_high[0] > 1.5
    assert load[1] / load[0] == pytest.approx(2.0, rel=0.15)
    told = of(rows(WEB + turns), "turn.completed")[0]["latency_ms"]
    assert told["e2e"] == pytest.approx(told["stt"] + told["llm"], abs=0.02)


def test_a_dependency_that_breaks_may_take_its_callers_along() -> None:
    text = WEB + (
        "dependency crm on=web ratio=50% duration=100ms\n"
        "breaks crm errors=30% timeouts=20% throttled=10% after=3s from=30m fallback=closed "
        "callers_fail=50% callers_hang_up=25%\n"
    )
    events = rows(text)
    calls = of(events, "dependency.called")
    late = Counter(one["outcome"] for one in calls if one["at"] >= 1900)
    total = sum(late.values())
    broken = {one["call_id"] for one in calls if one["outcome"] != "ok"}

    ends = Counter(one["outcome"] for one in of(events, "call.ended") if one["call_id"] in broken)

    assert {one["outcome"] for one in calls if one["at"] < 1800} == {"ok"}
    shares = [late[name] / total for name in ("error", "timeout", "throttled")]
    assert shares == pytest.approx([0.3, 0.2, 0.1], abs=0.05)
    assert all(3000 <= one["duration_ms"] <= 3020 for one in calls if one["outcome"] == "timeout")
    assert {one.get("fallback") for one in calls if one["outcome"] == "ok"} == {None}
    assert {one["fallback"] for one in calls if one["outcome"] != "ok"} == {"closed"}
    assert ends["failed"] / ends.total() == pytest.approx(0.5, abs=0.1)
    assert ends["abandoned"] / ends.total() == pytest.approx(0.25, abs=0.1)


def test_a_dependency_can_be_called_apart_from_calls() -> None:
    calls = rows(FRAME + "dependency crm rate=30/min tenant=acme\nbreaks crm errors=100% until=30m\n")

    assert len(calls) == pytest.approx(1800, rel=0.1)
    assert {(one["type"], one["tenant"], "call_id" in one) for one in calls} == {
        ("dependency.called", "acme", False)
    }
    assert {one["outcome"] for one in calls if one["at"] < 1799} == {"error"}


def test_scores_have_their_mean_and_drift() -> None:
    text = (
        WEB + "scores web metric=csat mean=0.82 sd=0.1 ratio=80%\ndrift web metric=csat mean=0.6 from=30m\n"
    )
    scored = of(rows(text), "quality.scored", metric="csat")

    early, late = ([one["score"] for one in scored if (one["at"] > 1810) == side] for side in (False, True))

    assert len(scored) == pytest.approx(0.8 * 3550, rel=0.1)
    assert [np.mean(early), np.mean(late)] == pytest.approx([0.82, 0.6], abs=0.02)
    assert np.std(early) == pytest.approx(0.1, abs=0.02)


def test_leaks_hold_their_place_and_are_never_told_to_end() -> None:
    text = WEB + "leak web ratio=10%\nheartbeats web every=1m\ncap panel value=200\n"
    events = rows(text)
    ended = {one["call_id"] for one in of(events, "call.ended")}
    up = [one for one in of(events, "call.started") if one["call_id"] not in ended and one["at"] < 1200]

    assert len(up) == pytest.approx(120, rel=0.3)
    beating = {one["call_id"] for one in of(events, "call.heartbeat") if one["at"] > 3530}
    assert {one["call_id"] for one in up} <= beating
    assert stream(text).truth.declined["panel"] > 0
