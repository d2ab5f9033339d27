"""A timeout is told by failures of one duration, and by latency on its way to a wall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.detection.labelled_slices import Failures, LabelledSlices, Latencies
from detectors.atom_evidence import log_weights
from detectors.creeping_latency import CreepParams
from detectors.timeout_cliff import Params, TimeoutCliff, snapped_s
from engine.judge.detection import CRITICAL, WARNING, Finding
from engine.limits import Limit, LimitInstance
from engine.observe.latency import bucket_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary

ACME, GLOBEX, SIP = (("tenant", "acme"),), (("tenant", "globex"),), (("trunk", "sip-1"),)
MINUTE = 12  # slices


def timeout(index: int, value: float, stage: str = "transfer", **more: object) -> LimitInstance:
    """Write a timeout into the register."""
    name = f"timeout-{'abcdef'[index]}"
    given: dict[str, Any] = {"name": name, "kind": "timeout", "value": value, "stage": stage, **more}
    return LimitInstance(index, Limit(**given))


def lasting(*durations_s: float, row: int = 0) -> Failures:
    """Give failures of one timing row."""
    return Failures(np.full(len(durations_s), row), np.array(durations_s))


def found(
    slices: Iterable[WindowSummary],
    limits: Sequence[LimitInstance] = (),
    detector: TimeoutCliff | None = None,
) -> list[tuple[Finding, ...]]:
    """Show slices one after the other; give what is said of each."""
    detector = detector or TimeoutCliff()
    state, said = detector.new_state(), []
    for one in slices:
        detection = detector.detect(state, one, tuple(limits))
        state = detection.state
        said.append(detection.findings)
    return said


def first_of(said: list[tuple[Finding, ...]], severity: str = CRITICAL) -> tuple[int, Finding]:
    """Give the first finding and its slice."""
    return next((number, one) for number, some in enumerate(said) for one in some if one.severity == severity)


def jittered(rng: np.random.Generator, at_s: float, many: int) -> NDArray[np.float64]:
    return at_s + rng.exponential(0.02, many)


@pytest.mark.parametrize("at_s", [3.0, 15.0, 30.0, 13.7, 90.0, 61.5])
def test_failures_at_one_duration_are_told_after_a_few(at_s: float) -> None:
    rng = np.random.default_rng(3)
    writer = LabelledSlices([()], timings=[(0, "transfer")])

    said = found(writer.write(failures=lasting(one)) for one in jittered(rng, at_s, 20))

    number, finding = first_of(said)
    assert number + 1 <= 9
    assert (finding.subject, finding.labels) == (("window", 0), (("stage", "transfer"),))
    evidence = dict(finding.evidence)
    assert float(str(evidence["timeout"]).removesuffix(" s")) == pytest.approx(at_s, abs=0.03)
    assert evidence["hits"] == evidence["failures"] == number + 1
    assert "failed {operations} of one hour or day ended at {timeout}" in finding.description
    assert "Nobody wrote" in finding.description


@pytest.mark.parametrize(
    ("begins_s", "declared", "told_s"),
    [(15.02, [], 15.0), (14.98, [], 15.0), (15.2, [], 15.2), (13.71, [], 13.71), (13.71, [13.7], 13.7),
     (15.02, [15.01], 15.01)],
)  # fmt: skip
def test_the_timeout_is_the_declared_or_usual_one_where_failures_begin(
    begins_s: float, declared: list[float], told_s: float
) -> None:
    assert snapped_s(begins_s, declared) == told_s


def test_the_entry_of_the_register_that_matches_is_named() -> None:
    limits = (timeout(0, 30.0), timeout(1, 15.0), timeout(2, 15.0, "setup"))
    writer = LabelledSlices([()], timings=[(0, "transfer")], limits=limits)

    _, finding = first_of(found([writer.write(failures=lasting(*[15.01] * 60))], limits))

    assert finding.subject == ("limit", 1)
    assert "It is {limit} of the register" in finding.description


def test_where_several_entries_match_none_is_blamed_and_all_are_named() -> None:
    limits = (timeout(0, 15.0), timeout(1, 15.0, applies_to={"trunk": ("sip-1",)}))
    writer = LabelledSlices([()], timings=[(0, "transfer")], limits=limits)

    _, finding = first_of(found([writer.write(failures=lasting(*[15.01] * 60))], limits))

    assert finding.subject == ("window", 0)
    assert dict(finding.evidence)["names"] == "timeout-a, timeout-b"


def test_an_entry_for_other_calls_is_not_named() -> None:
    limits = (timeout(0, 15.0, applies_to={"tenant": ("globex",)}),)
    writer = LabelledSlices([(), ACME], timings=[(1, "transfer")], limits=limits)

    _, finding = first_of(found([writer.write(failures=lasting(*[15.01] * 60))], limits))

    assert finding.subject == ("window", 1)


def test_one_cause_is_told_once_by_the_narrowest_row_that_carries_it() -> None:
    """The total, the tenant and its trunk have the same failures; the tenant has the fewest calls."""
    rows = [(), ACME, GLOBEX, SIP]
    writer = LabelledSlices(rows, timings=[(row, "setup") for row in range(4)])
    ended = np.array([100, 10, 90, 60])
    failures = Failures(np.repeat([0, 1, 3], 9), np.tile(np.linspace(15.0, 15.06, 9), 3))

    said = found(writer.write(ended, ended // 2, failures) for _ in range(3))

    assert [[one.subject for one in some] for some in said] == [[("window", 1)]] * 3


def test_an_atom_of_all_calls_is_told_by_the_total() -> None:
    writer = LabelledSlices([(), ACME, GLOBEX], timings=[(row, "setup") for row in range(3)])
    ended = np.array([20, 10, 10])
    failures = Failures(np.repeat([0, 1, 2], [18, 9, 9]), np.tile(np.linspace(15.0, 15.06, 9), 4))

    said = found([writer.write(ended, ended, failures)])

    assert [one.subject for one in said[0]] == [("window", 0)]


@pytest.mark.parametrize("step_s", [0.1, 0.5, 1.0, 5.0, 6.0, 60.0])
@pytest.mark.parametrize("sigma", [0.3, 0.8])
def test_rounding_alone_is_no_timeout(step_s: float, sigma: float) -> None:
    rng = np.random.default_rng(4)
    writer = LabelledSlices([()], timings=[(0, "call")])
    lasted = step_s * np.ceil(8.0 * np.exp(sigma * rng.standard_normal((300, 10))) / step_s)

    assert not any(found(writer.write(failures=lasting(*some)) for some in lasted))


@pytest.mark.parametrize("step_s", [0.1, 1.0])
def test_a_timeout_is_found_in_rounded_durations_too(step_s: float) -> None:
    """Whole seconds need more of them."""
    rng = np.random.default_rng(5)
    writer = LabelledSlices([()], timings=[(0, "call")])
    lasted = np.where(rng.random(400) < 0.7, 15.0, 8.0 * np.exp(0.8 * rng.standard_normal(400)))

    said = found(writer.write(failures=lasting(one)) for one in step_s * np.round(lasted / step_s))

    assert first_of(said)[0] < (20 if step_s < 1.0 else 150)


@pytest.mark.parametrize("others_s", [(), (30.0,) * 40, (3.27, 8.91, 1.44, 22.6)])
def test_exact_durations_are_told_whatever_else_fails(others_s: tuple[float, ...]) -> None:
    """A second timeout is no rounding; other durations say that nothing is rounded."""
    writer = LabelledSlices([()], timings=[(0, "transfer")])
    slices = [*others_s, *[15.0] * 15]

    said = found(writer.write(failures=lasting(one)) for one in slices)

    evidence = dict(said[-1][0].evidence)
    told = evidence["timeout"] if len(others_s) < 15 else evidence["also"]
    assert str(told).endswith("15.00 s")


@pytest.mark.parametrize(("centre_s", "spread_s"), [(5.1, 0.25), (2.0, 0.4), (20.0, 1.0)])
def test_a_peak_is_no_atom(centre_s: float, spread_s: float) -> None:
    rng = np.random.default_rng(6)
    writer = LabelledSlices([()], timings=[(0, "call")])
    lasted = np.abs(centre_s + spread_s * rng.standard_normal((200, 20)))

    assert not any(found(writer.write(failures=lasting(*some)) for some in lasted))


def test_what_fails_at_once_or_lasts_longer_than_is_kept_is_no_atom() -> None:
    writer = LabelledSlices([()], timings=[(0, "setup")])

    assert not any(found(writer.write(failures=lasting(0.08, 0.09, 400.0, 500.0)) for _ in range(200)))


def test_an_atom_ends_when_it_is_no_longer_hit_and_comes_back() -> None:
    rng = np.random.default_rng(7)
    writer = LabelledSlices([()], timings=[(0, "setup")])
    atom = [writer.write(failures=lasting(*jittered(rng, 30.0, 2))) for _ in range(2 * MINUTE)]
    peace = [writer.write() for _ in range(11 * MINUTE)]
    again = [writer.write(failures=lasting(*jittered(rng, 30.0, 2))) for _ in range(2 * MINUTE)]

    said = found([*atom, *peace, *again])

    assert said[len(atom) - 1]
    assert not said[len(atom) + len(peace) - 1]
    assert said[-1]


def test_gaps_first_slices_and_rows_that_appear_later_are_borne() -> None:
    writer = LabelledSlices([()], timings=[(0, "setup")], stages=[(0, "setup")])
    detector, state = TimeoutCliff(), TimeoutCliff().new_state()
    state = detector.detect(state, writer.write(), ()).state
    writer.skip(3 * 86_400)
    latencies = Latencies(np.zeros(5, np.int64), np.arange(0, 800, 160))
    state = detector.detect(state, writer.write(failures=lasting(1.0), latencies=latencies), ()).state

    more = LabelledSlices(
        [(), ACME], timings=[(0, "setup"), (1, "call")], stages=[(0, "setup"), (1, "weird stage")]
    )
    more.next_ns = writer.next_ns
    for _ in range(2 * MINUTE):
        state = detector.detect(state, more.write(failures=lasting(15.0, row=1)), ()).state

    assert [list(one) for one in (state.atoms.slot, state.creep.slot, state.phase.slot)] == [[0, 1]] * 3


def test_memory_is_bounded_and_the_total_keeps_its_place() -> None:
    labels = [*((("tenant", f"t{number}"),) for number in range(400)), ()]
    writer = LabelledSlices(labels, timings=[(row, "setup") for row in range(401)])
    everyone = Failures(np.arange(401), np.full(401, 7.77))
    detector = TimeoutCliff()

    state = detector.detect(detector.new_state(), writer.write(failures=everyone), ()).state

    assert state.atoms.blocks.cells.shape[1] <= detector.params.atoms.rows_max
    assert state.atoms.slot[400] >= 0
    assert len(state.phase.errors) <= detector.params.phase.rows_max


def test_weights_are_a_prior_and_the_register_takes_its_share() -> None:
    for known in ((), (13.7,), (0.2, 15.0, 500.0)):
        assert np.exp(log_weights(known)).sum() == pytest.approx(1.0)
    assert log_weights((13.7,))[137] > log_weights(())[137] + 3.0


def setups(
    median_at: Callable[[float], float],
    minutes: int,
    limits: Sequence[LimitInstance] = (),
    *,
    sigma: float = 0.12,
    cut_s: float = 1e9,
    stage: str = "setup",
) -> list[WindowSummary]:
    """Give set-ups, one a second; those that would take longer than `cut_s` send no event at all."""
    rng = np.random.default_rng(8)
    writer = LabelledSlices([()], stages=[(0, stage)], limits=limits)
    slices = []
    for number in range(minutes * MINUTE):
        taken = median_at(number / MINUTE) * np.exp(sigma * rng.standard_normal(5))
        buckets = np.array([bucket_number(one) for one in taken[taken < cut_s].tolist()], np.int64)
        slices.append(
            writer.write(
                np.array([len(buckets)]), latencies=Latencies(np.zeros(len(buckets), np.int64), buckets)
            )
        )
    return slices


def creeping(minute: float) -> float:
    """Go from 4 to 12 s between minute 60 and 100."""
    return float(4.0 * 3.0 ** np.clip((minute - 60.0) / 40.0, 0.0, 1.0))


def test_latency_that_creeps_toward_a_timeout_of_the_register_is_told_before_it_is_there() -> None:
    limits = (timeout(0, 15.0, "setup"),)

    said = found(setups(creeping, 110, limits), limits)

    number, finding = first_of(said, WARNING)
    assert 62 * MINUTE < number < 90 * MINUTE, "the median is 9 s at minute 90"
    assert finding.subject == ("limit", 0)
    assert dict(finding.evidence)["timeout"] == "15.00 s"
    assert not any(one.severity == CRITICAL for some in said for one in some)


def test_without_an_entry_a_usual_default_is_suspected() -> None:
    _, finding = first_of(found(setups(creeping, 110)), WARNING)

    assert finding.subject == ("window", 0)
    assert "usual default" in finding.description


@pytest.mark.parametrize(
    ("median_at", "sigma", "stage"),
    [
        (lambda _: 4.0, 0.12, "setup"),
        (lambda minute: 4.0 if minute < 60 else 6.0, 0.12, "setup"),
        (lambda _: 6.0, 0.7, "setup"),  # calls pass every usual default all the time
        (lambda minute: 6.0 + 3.0 * np.sin(minute / 38.0), 0.7, "setup"),
        (creeping, 0.12, "llm"),  # a stage for which no wall is known
    ],
)
def test_there_is_no_warning_where_no_wall_is_met(
    median_at: Callable[[float], float], sigma: float, stage: str
) -> None:
    assert not any(found(setups(median_at, 240, sigma=sigma, stage=stage)))


def test_one_slow_call_is_no_creep() -> None:
    limits = (timeout(0, 15.0, "setup"),)
    slices = setups(lambda _: 2.0, 90, limits)
    slow = LabelledSlices([()], stages=[(0, "setup")], limits=limits)
    slow.next_ns = slices[70 * MINUTE].start_ns
    slices[70 * MINUTE] = slow.write(
        np.array([1]), latencies=Latencies(np.zeros(1, np.int64), np.array([bucket_number(14.0)]))
    )

    assert not any(found(slices, limits))


def test_successes_that_end_at_a_wall_in_silence_are_told() -> None:
    """One in seven took longer than 15 s; from minute 120 on none does, and no failure is sent."""
    before = setups(lambda _: 10.0, 120, sigma=0.4)
    after = setups(lambda _: 10.0, 180, sigma=0.4, cut_s=15.0)[120 * MINUTE :]

    said = found([*before, *after])

    number, finding = first_of(said, WARNING)
    assert 120 * MINUTE < number < 140 * MINUTE
    assert finding.summary.startswith("No {operation} takes longer")
    assert dict(finding.evidence)["timeout"] == "15.00 s"


def test_calls_that_are_quicker_for_good_are_usual_after_a_while() -> None:
    """A slow carrier is taken out of use: nothing takes longer than 15 s, and nothing is cut."""
    before = setups(lambda _: 10.0, 120, sigma=0.4)
    after = setups(lambda _: 10.0, 360, sigma=0.4, cut_s=14.8)[120 * MINUTE :]
    detector = TimeoutCliff(params=Params(creep=CreepParams(doubt_min=90)))

    said = found([*before, *after], detector=detector)

    number, _ = first_of(said, WARNING)
    assert 120 * MINUTE < number < 140 * MINUTE
    assert any(said[200 * MINUTE])
    assert not any(said[230 * MINUTE :])
