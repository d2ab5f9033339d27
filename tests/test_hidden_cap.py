"""A cap that nobody wrote down is inferred, from declines at one level or silence there, and followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from bench.detection.binned_slices import (
    NS,
    ORIGIN_S,
    Calls,
    Feed,
    admitted,
    instances,
    poisson,
    slices,
    unseen,
)
from detectors import ceiling as at
from detectors.hidden_cap import HiddenCap, log_chance, log_odds_open
from engine.limits import Limit, LimitInstance
from engine.state.encoding import decode, encode
from engine.state.kept import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.judge.detection import Finding
    from engine.judge.windows import WindowSummary

HOUR_S = 3600.0


class Said(NamedTuple):
    """What came of a feed: (second, value) of everything learned, and the findings with their second."""

    learned: list[list[tuple[float, float]]]
    findings: list[tuple[float, Finding]]

    def texts(self, row: int = 0) -> list[str]:
        """Give the pages about a row, worded."""
        return [
            one.description.format_map(dict(one.evidence) | {"limit": "it"})
            for _, one in self.findings
            if one.subject == ("limit", row)
        ]


def busy(
    seed: int, cap: Callable[[float], float], load: float, hours: float, holding_s: float = 60.0
) -> Calls:
    """Let Poisson calls ask for `load` places from the second half hour on, and for half of them before."""
    rng = np.random.default_rng(seed)

    def rate(times: np.ndarray) -> np.ndarray:
        return np.where(times < 1800.0, 0.5, 1.0) * load / holding_s

    starts = poisson(rng, rate, load / holding_s, hours * HOUR_S)
    return admitted(starts, rng.exponential(holding_s, len(starts)), cap)


def show(
    streams: Sequence[Calls],
    hours: float,
    limits: tuple[LimitInstance, ...] = (),
    known: float = np.nan,
    edit: tuple[float, float] = (np.inf, np.nan),
) -> Said:
    """Show streams to the detector, and keep what it learns in force as the engine does.

    `edit`: from this second on the register says this value of the first row.
    """
    limits = limits or instances(len(streams))
    declared = np.array([np.nan if one.limit.value is None else one.limit.value for one in limits])
    in_force = np.full(len(streams), known)
    learned: list[list[tuple[float, float]]] = [[] for _ in streams]
    findings: list[tuple[float, Finding]] = []
    detector = HiddenCap(1.0)
    state = detector.new_state()
    for summary in slices(Feed(streams, declared, hours * HOUR_S), lambda: in_force):
        detection = detector.detect(state, summary, limits)
        state = detection.state
        second = summary.end_ns / NS - ORIGIN_S
        for one in detection.learned:
            in_force[one.row] = one.value
            learned[one.row].append((second, one.value))
        findings += [(second, finding) for finding in detection.findings]
        if second >= edit[0]:
            declared[0] = edit[1]
    return Said(learned, findings)


@pytest.mark.parametrize("cap", [3, 10, 40])
def test_declines_at_one_level_tell_the_cap_after_a_few_of_them(cap: int) -> None:
    calls = busy(cap, lambda _: cap, 1.1 * cap, 1.5)

    said = show([calls], 1.5)

    (second, value), *more = said.learned[0]
    assert (value, more) == (cap, [])
    assert 4 <= np.count_nonzero(calls.start_s[calls.is_declined] <= second) <= 20
    assert f"declines calls whenever {cap} are up at once" in said.texts()[0]
    assert "No limit in the register covers these calls." in said.texts()[0]


@pytest.mark.parametrize("cap", [10, 40])
def test_silence_at_a_level_tells_the_cap_without_any_decline(cap: int) -> None:
    calls = busy(cap, lambda _: cap, 1.1 * cap, 2.5)

    said = show([unseen(calls)], 2.5)

    (second, value), *more = said.learned[0]
    assert (value, more) == (cap, [])
    assert np.count_nonzero(calls.start_s[calls.is_declined] <= second) <= 40
    assert f"never has more than {cap} calls at once" in said.texts()[0]
    assert "No decline was sent." in said.texts()[0]


def test_calls_that_nothing_stops_are_no_ceiling() -> None:
    said = show([busy(seed, lambda _: np.inf, load, 6.0) for seed, load in ((1, 0.5), (2, 4), (3, 60))], 6.0)

    assert said.findings == []
    assert said.learned == [[], [], []]


def test_declines_at_many_levels_are_no_ceiling() -> None:
    """Busy callees, blocklists: one attempt in three, whatever the level."""
    rng = np.random.default_rng(5)
    free = busy(6, lambda _: np.inf, 12.0, 4.0)

    said = show([free._replace(is_declined=rng.random(len(free.start_s)) < 0.33)], 4.0)

    assert said.findings == []


def test_an_outage_is_no_ceiling() -> None:
    """All attempts are declined for a minute, at the level at which it begins, and none comes back to it."""
    free = busy(7, lambda _: np.inf, 30.0, 3.0)
    in_outage = (free.start_s % 1800.0 > 900.0) & (free.start_s % 1800.0 < 960.0)

    assert show([free._replace(is_declined=in_outage)], 3.0).findings == []


def test_few_sources_that_hold_the_line_are_no_ceiling() -> None:
    """Twelve people who call again half a minute after each call: nobody else is turned away."""
    rng, starts, ends = np.random.default_rng(8), [], []
    for _ in range(12):
        held = rng.exponential(120.0, 400)
        begin = np.cumsum(rng.exponential(30.0, 400) + np.r_[0.0, held[:-1]])
        starts.append(begin)
        ends.append(begin + held)
    start_s, end_s = np.concatenate(starts), np.concatenate(ends)
    order = np.argsort(start_s)

    said = show([Calls(start_s[order], end_s[order], np.zeros(len(order), np.bool_))], 8.0)

    assert said.findings == []


def test_a_cap_that_is_raised_is_withdrawn_and_found_again() -> None:
    calls = busy(9, lambda at: 20 if at < 2 * HOUR_S else 30, 34.0, 4.0)

    values = [value for _, value in show([calls], 4.0).learned[0]]

    assert values[0] == 20.0
    assert np.isnan(values[1])
    assert values[2:] == [30.0]


def test_a_cap_that_is_lowered_is_followed() -> None:
    calls = busy(10, lambda at: 30 if at < 2 * HOUR_S else 20, 34.0, 4.0)

    said = show([calls], 4.0)

    assert [value for _, value in said.learned[0]] == [30.0, 20.0]
    assert said.learned[0][1][0] < 3.2 * HOUR_S
    assert "It was 30 before. Find where" in said.texts()[-1]


def named(row: int, name: str, value: float | None = None) -> LimitInstance:
    """Make a limit of the register."""
    return LimitInstance(row, Limit(name=name, kind="concurrency", value=value, owner="voice"))


def total(row: int) -> LimitInstance:
    """Make the implicit limit of all calls."""
    return LimitInstance(row, Limit(name="inferred:total", kind="concurrency"))


def trunk(row: int) -> LimitInstance:
    """Make the implicit limit of one trunk."""
    return LimitInstance(
        row, Limit(name="inferred:trunk", kind="concurrency", split_by=("trunk",)), (("trunk", "sip-1"),)
    )


def test_what_the_register_knows_is_not_said_again() -> None:
    calls = busy(11, lambda _: 20, 23.0, 1.5)

    said = show([calls, calls, calls], 1.5, (named(0, "panel", 20.0), total(1), trunk(2)))

    assert said.findings == []
    assert said.learned == [[], [], []]


def test_a_lower_cap_than_the_register_says_is_told_once_with_both_numbers() -> None:
    """The incident of the seed: 80 in the register, 20 in a panel."""
    calls = busy(11, lambda _: 20, 23.0, 1.5)

    said = show([calls, calls, calls], 1.5, (named(0, "panel", 80.0), total(1), trunk(2)))

    assert {finding.subject for _, finding in said.findings} == {("limit", 2)}
    assert "The register says 80 (panel): that is not what is in force." in said.texts(2)[0]
    assert [value for _, value in said.learned[2]] == [20.0]


def test_a_limit_of_unknown_value_in_the_register_speaks_for_its_calls() -> None:
    calls = busy(11, lambda _: 20, 23.0, 1.5)

    said = show([calls, calls, calls], 1.5, (named(0, "panel"), total(1), trunk(2)))

    assert {finding.subject for _, finding in said.findings} == {("limit", 0)}
    assert [value for _, value in said.learned[0]] == [20.0]


def test_without_a_twin_the_limit_of_the_register_itself_is_contradicted_and_keeps_its_value() -> None:
    calls = busy(11, lambda _: 20, 23.0, 1.5)

    said = show([calls], 1.5, (named(0, "panel", 80.0),))

    assert "The register says 80 (panel)" in said.texts(0)[0]
    assert said.learned == [[]]


def test_what_was_learned_before_the_start_is_taken_over() -> None:
    """It speaks at the first decline at it, and is withdrawn where the level passes it."""
    known = show([busy(12, lambda _: 20, 23.0, 1.5)], 1.5, known=20.0)
    passed = show([busy(12, lambda _: 30, 33.0, 1.5)], 1.5, known=20.0)

    assert known.learned == [[]]
    assert known.findings
    assert np.isnan(passed.learned[0][0][1])
    assert passed.learned[0][1][1] == 30.0


def test_a_limit_that_is_written_down_takes_the_place_of_what_was_inferred() -> None:
    calls = busy(13, lambda _: 20, 23.0, 1.0)
    before = show([calls, calls], 1.0, (trunk(0), total(1)), known=20.0)
    after = show([calls, calls], 1.0, (trunk(0), named(1, "panel", 20.0)), known=20.0)

    assert before.learned[0] == []
    assert np.isnan(after.learned[0][0][1])
    assert after.findings == []


@pytest.mark.parametrize(("before", "after"), [(20, 30), (20, 10)])
def test_what_a_limit_declined_before_it_was_changed_says_nothing_of_the_value_of_now(
    before: int, after: int
) -> None:
    calls = busy(11, lambda at: before if at < HOUR_S else after, 23.0, 1.5)

    said = show([calls] * 3, 1.5, (named(0, "panel", before), total(1), trunk(2)), edit=(HOUR_S, after))

    assert np.count_nonzero(calls.is_declined & (calls.start_s < HOUR_S)) > 100
    assert said.findings == []
    assert said.learned == [[], [], []]


@pytest.mark.parametrize("is_silent", [False, True])
def test_nor_of_rows_that_hold_other_calls_too(is_silent: bool) -> None:
    """All calls seem capped while the trunk that most of them take is full."""
    every, first, second = two_trunks(14, lambda at: 20 if at < 2 * HOUR_S else np.inf, lambda _: np.inf)
    streams = [unseen(one) if is_silent else one for one in (first, every, first, second)]
    limits = named(0, "panel", 20.0), total(1), trunk(2), trunk(3)

    assert show(streams, 3.0, limits, edit=(2 * HOUR_S, 60.0)).findings == []


def test_a_cap_that_stays_where_it_was_when_the_register_is_raised_is_told_minutes_later() -> None:
    calls = busy(11, lambda _: 20, 23.0, 1.5)

    said = show([calls] * 3, 1.5, (named(0, "panel", 20.0), total(1), trunk(2)), edit=(HOUR_S, 30.0))

    assert HOUR_S + 30.0 < said.findings[0][0] < HOUR_S + 600.0
    assert "The register says 30 (panel): that is not what is in force." in said.texts(2)[0]


def test_a_cap_that_the_register_never_explained_stays_known_when_it_is_changed() -> None:
    calls = busy(11, lambda _: 20, 23.0, 1.5)

    said = show([calls] * 3, 1.5, (named(0, "panel", 80.0), total(1), trunk(2)), edit=(HOUR_S, 60.0))

    assert [value for _, value in said.learned[2]] == [20.0]
    around = [second for second, _ in said.findings if abs(second - HOUR_S) < 300.0]
    assert max(np.diff(around)) < 120.0


def test_a_restored_state_is_not_a_change_of_the_register() -> None:
    limits, detector = (named(0, "panel", 20.0),), HiddenCap(1.0)
    state = detector.new_state()
    calls = busy(11, lambda _: 20, 23.0, 0.75)
    *before, last = slices(Feed([calls], np.array([20.0]), 0.75 * HOUR_S))
    for summary in before:
        state = detector.detect(state, summary, limits).state

    restored = HiddenCap(1.0).detect(decode(b"".join(encode(state, KEPT))), last, limits).state

    goes_on = detector.detect(state, last, limits).state
    assert restored.ceilings.whole.tolist() == goes_on.ceilings.whole.tolist()
    assert restored.ceilings.whole[0, at.DECLINES] > 0
    assert restored.known.tolist() == [20.0]


def shown_slice() -> WindowSummary:
    """Give one slice of two calls."""
    calls = Calls(np.array([1.0, 2.0]), np.array([30.0, 40.0]), np.zeros(2, np.bool_))
    return next(slices(Feed([calls], np.array([np.nan]), 5.0)))


def test_slices_without_bins_are_not_looked_at() -> None:
    detector, summary = HiddenCap(1.0), shown_slice()
    nothing = np.zeros((1, 0), np.int32)
    use = summary.limits._replace(level_per_bin=nothing, arrivals_per_bin=nothing, declines_per_bin=nothing)

    detection = detector.detect(detector.new_state(), summary._replace(limits=use), instances(1))

    assert not detection.evaluated


def test_after_a_gap_ceilings_begin_anew() -> None:
    detector, summary = HiddenCap(1.0), shown_slice()
    state = detector.detect(detector.new_state(), summary, instances(1)).state
    later = summary._replace(start_ns=summary.start_ns + 86_400 * NS, end_ns=summary.end_ns + 86_400 * NS)

    fresh = detector.detect(state, later, instances(1)).state

    alone = detector.detect(detector.new_state(), later, instances(1)).state
    assert fresh.ceilings.whole.tolist() == alone.ceilings.whole.tolist()


def test_the_chance_of_declines_all_at_the_top_is_that_of_fishers_test() -> None:
    """Four of four declines fall on the four attempts at the top, of sixty in all."""
    assert log_chance(4.0, 0.0, 56.0) == pytest.approx(np.log(487_635))
    assert log_chance(0.0, 3.0, 10.0) == 0.0


def test_a_rate_that_falls_towards_the_ceiling_is_told_from_one_that_does_not() -> None:
    seconds = np.full(32, 10.0)
    even, falling = np.full(32, 5.0), np.arange(1.0, 33.0)

    assert log_odds_open(np.array([even, seconds])) > 10.0
    assert log_odds_open(np.array([falling, seconds])) < -10.0
    assert log_odds_open(np.zeros((2, 32))) == 0.0


def two_trunks(seed: int, cap: Callable[[float], float], total_cap: Callable[[float], float]) -> list[Calls]:
    """Give all calls and those of two trunks, of which the first has three calls in four, and a cap."""
    rng = np.random.default_rng(seed)
    starts = poisson(rng, lambda times: np.where(times < 1800.0, 0.3, 0.6), 0.6, 3 * HOUR_S)
    held = rng.exponential(60.0, len(starts))
    is_first = rng.random(len(starts)) < 0.75
    is_declined = admitted(starts, held, total_cap).is_declined
    is_declined[is_first] |= admitted(starts[is_first], held[is_first], cap).is_declined
    every = Calls(starts, starts + held, is_declined)
    parts = [Calls(starts[of], (starts + held)[of], is_declined[of]) for of in (is_first, ~is_first)]
    return [every, *parts]


TWO_TRUNKS = (
    total(0), trunk(1),
    LimitInstance(2, trunk(1).limit, (("trunk", "sip-2"),)),
)  # fmt: skip


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_full_trunk_that_has_most_of_the_calls_is_told_and_the_platform_is_not(is_silent: bool) -> None:
    streams = two_trunks(14, lambda _: 20, lambda _: np.inf)

    said = show([unseen(one) if is_silent else one for one in streams], 3.0, TWO_TRUNKS)

    assert [value for _, value in said.learned[1]] == [20.0]
    assert said.learned[0] == said.learned[2] == []


def test_a_full_platform_is_told_and_its_trunks_are_not() -> None:
    said = show(two_trunks(15, lambda _: np.inf, lambda _: 30), 3.0, TWO_TRUNKS)

    assert [value for _, value in said.learned[0]] == [30.0]
    assert said.learned[2] == []
