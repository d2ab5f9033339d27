"""Whether what was expected happened: each form of a sentence, met and not met, and what is said then."""

from __future__ import annotations

import math

import pytest

from engine.judge.lifecycle import FIRING, RESOLVED, AlertChange
from engine.scenario.admission import Truth
from engine.scenario.scenario import parse_scenario
from engine.scenario.verdicts import Breach, breaches, clock, lives

S = 1_000_000_000
START_NS = 1000 * S
TRUTH = Truth({"panel": 600.0, "other": 300.0}, {"panel": 5, "other": 1})
NOBODY = Truth({}, {"panel": 0})


def change(at_s: float, state: str = FIRING, name: str = "CallX", **labels: str) -> AlertChange:
    pairs = tuple(sorted({"alertname": name, "severity": "warning", **labels}.items()))
    time_ns = START_NS + round(at_s * S)
    return AlertChange(time_ns, state, pairs, (), time_ns)


# CallX fires from 240 to 480 s, CallX of another limit from 500 s on, and the watchdog from 5 s on.
CHANGES = (
    change(5, name="CallgaugeWatchdog", severity="info"),
    change(240, limit="a"),
    change(480, RESOLVED, limit="a"),
    change(500, limit="b"),
)


def judged(line: str, truth: Truth = TRUTH, changes: tuple[AlertChange, ...] = CHANGES) -> list[Breach]:
    text = f"seed 1\nlength 1h\ncap panel value=1\ncap other value=1\n{line}\n"
    return breaches(parse_scenario(text, "x").expectations, changes, START_NS, truth)


@pytest.mark.parametrize(
    "line",
    [
        "at 240s expect firing CallX",
        'at 479s expect firing CallX{limit="a"}',
        "at 59m expect firing CallX",
        "at 239s expect no CallX",
        'at 480s expect no CallX{limit="a"}',
        "at 0s..239s expect silence",
        "at 481s..499s expect silence",
        "expect no CallY",
        'expect no CallX{limit="c"}',
        "expect CallX within 1s of 239s",
        "expect CallX within 0s of 240s",
        'expect CallX{limit="b"} within 20s of 480s',
        "expect CallX within 4m of 0s",
        'expect CallX{limit="b"} within 4m of the first decline by other',
        "expect CallX 1m before the first decline",
        "expect CallX 6m before the first decline by panel",
    ],
)
def test_what_happened_is_met(line: str) -> None:
    assert judged(line) == []


A = 'CallX{limit="a", severity="warning"} fired at 4m until 8m'
B = 'CallX{limit="b", severity="warning"} fired at 8m20s'


@pytest.mark.parametrize(
    ("line", "wanted", "got"),
    [
        ("at 239s expect firing CallX", "it is firing at 3m59s", (A, B)),
        ("at 480s expect firing CallX", "it is firing at 8m", (A, B)),
        ("at 10m expect firing CallY", "it is firing at 10m", ("it never fired", A, B)),
        ('at 10m expect firing CallX{limit="c"}', "it is firing at 10m", ("it never fired", A, B)),
        ("at 240s expect no CallX", "nothing of it fires at 4m", (A,)),
        ("at 0s..240s expect silence", "nothing of it fires from 0s to 4m", (A,)),
        ("expect no CallX", "nothing of it fires", (A, B)),
        ("expect silence", "nothing of it fires", (A, B)),
        ("expect CallX within 30s of 3m", "it fires between 3m and 3m30s", (A, B)),
        ("expect CallX within 10m of 241s", "it fires between 4m1s and 14m1s", (A, B)),
        ("expect CallY within 5s of 3m", "it fires between 3m and 3m5s", ("it never fired", A, B)),
        (
            "expect CallX 2m before the first decline",
            "it fires at 3m or sooner: 2m before 5m",
            (f"{A}: 1m before", B),
        ),
        (
            'expect CallX{limit="b"} 1m before the first decline by other',
            "it fires at 4m or sooner: 1m before 5m",
            (f"{B}: 3m20s after",),
        ),
    ],
)
def test_what_did_not_happen_is_said_beside_what_did(line: str, wanted: str, got: tuple[str, ...]) -> None:
    (breach,) = judged(line)

    assert (breach.expectation.line, breach.wanted, breach.got) == (5, wanted, got)


def test_a_decline_that_never_came_is_no_onset() -> None:
    (breach,) = judged("expect CallX within 5s of the first decline", NOBODY)

    assert (breach.wanted, breach.got) == ("a first decline", ("no call was declined",))


def test_silence_of_everything_is_said() -> None:
    (breach,) = judged("expect CallX within 5s of 3m", changes=CHANGES[:1])

    assert breach.got == ("nothing fired",)


def test_a_long_list_is_cut() -> None:
    (breach,) = judged("expect silence", changes=tuple(change(at_s, limit=str(at_s)) for at_s in range(9)))

    assert len(breach.got) == 7
    assert breach.got[-1] == "and 3 more"


def test_breaches_come_in_the_order_of_the_text() -> None:
    found = judged("expect no CallX\nexpect no CallY\nexpect silence")

    assert [breach.expectation.line for breach in found] == [5, 7]


def test_an_alert_lives_from_its_firing_to_its_resolution_and_may_live_again() -> None:
    changes = (change(1), change(2, RESOLVED), change(3))

    assert [(life.from_s, life.until_s) for life in lives(changes, START_NS)] == [(1, 2), (3, math.inf)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.5, "59.5s"), (60, "1m"), (930.888, "15m30.888s"), (90_061, "1d1h1m1s"), (-5, "-5s")],
)
def test_times_are_written_as_in_a_text(seconds: float, text: str) -> None:
    assert clock(seconds) == text
