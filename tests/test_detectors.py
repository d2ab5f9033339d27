"""The conformance suite: what every registered detector must be and do; a new one is in it by itself.

It needs a scenario, tests/scenarios/<its name>.scenario, in which it speaks; all detectors look at all
scenarios.
"""

from __future__ import annotations

import copy
import inspect
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from detectors import make_detectors
from engine.judge.bounds import places_of
from engine.judge.detection import CRITICAL, INFO, WARNING, Detection, Detector, Finding
from engine.settings import Settings
from tests import scenarios
from tests.line_runs import Run, run_all
from tests.line_traffic import REGISTER, Traffic, batches_of, make_story
from tests.test_line import recorded_events
from tests.text_scenarios import conformance_scenario

if TYPE_CHECKING:
    from engine.judge.windows import WindowSummary
    from tests.scenarios import Scenario

S = 1_000_000_000
NAMES = tuple(detector.name for detector in make_detectors(Settings()))
SCENARIOS = Path(scenarios.__file__).parent
SCENARIO_FILES = {path.stem for path in SCENARIOS.glob("*.scenario")}
GIVEN_NAMES = {"stage", "metric", "release"}
SLICES_MAX = 1000  # of a scenario of days, only so many are looked at closely
# These speak whatever the traffic: one says that the engine lives, one what the register says.
SPEAK_ALWAYS = {"watchdog", "limit_unconfirmed"}
# What pages may carry.
ALERTS = {
    CRITICAL: {
        "CallLimitApproaching", "CallLimitReached", "CallRateLimitApproaching", "CallQuotaExhaustion",
        "HiddenCallLimit", "CallTimeoutCliff", "CallErrorBudgetBurn", "CallArrivalsStopped",
        "CallDependencyFailing", "ReleaseRegression",
    },
    WARNING: {
        "CallLimitApproaching", "CallTimeoutCliff", "CallErrorBudgetBurn", "CallLatencyRegression",
        "CallQualityDrift", "FailOpenEngaged", "CallStreamIncomplete", "CallsInFlightDrift",
        "CallLimitMismatch",
    },
    INFO: {"CallLimitUnconfirmed", "CallgaugeWatchdog"},
}  # fmt: skip


def detector_named(name: str) -> Detector:
    """Make a detector anew."""
    return next(one for one in make_detectors(Settings()) if one.name == name)


def scenario_of(name: str) -> Scenario:
    """Load the scenario of a detector."""
    return conformance_scenario(SCENARIOS / f"{name}.scenario")


@cache
def run_of(name: str) -> Run:
    """Run the scenario of a detector through the whole line."""
    scenario = scenario_of(name)
    return run_all(scenario.batches, scenario.register, scenario.settings)


def slices_of(name: str) -> list[WindowSummary]:
    """Give what detectors see in a scenario."""
    return run_of(name).recorder.summaries


@cache
def steady(name: str) -> Run:
    """Run steady traffic: made up at half the cap, or recorded from a real server at two thirds of it."""
    if name == "recorded":
        limits = REGISTER.limits[0]
        register = type(REGISTER)(limits=(type(limits)(name="trunk", kind="concurrency", value=80.0),))
        return run_all(batches_of(recorded_events("sip-steady")), register)
    traffic = Traffic(seed=21, duration_s=900, rate_first=1.0, rate_last=1.0, lost_ratio=0.0)
    return run_all(batches_of(make_story(traffic).events), REGISTER)


def walk(detector: Detector, run: Run, state: Any = None, first: int = 0) -> tuple[list[Detection], Any]:
    """Show a run to one detector, slice by slice; give all it said, and its last state."""
    state = detector.new_state() if state is None else state
    said = []
    for summary in run.recorder.summaries[first:]:
        limits = run.recorder.instances[: len(summary.limits.level)]
        said.append(detector.detect(state, summary, limits))
        state = said[-1].state
    return said, state


def is_same(one: Any, other: Any) -> bool:
    """Compare nested tuples of arrays, numbers and texts, types included; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        equal_nan = one.dtype.kind == "f"
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=equal_nan)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124 - NaN is not itself.


def pack(state: Any) -> Any:
    """Turn a state into what msgpack knows; anything but arrays, numbers, texts and tuples fails."""
    if isinstance(state, np.ndarray):
        assert state.dtype.kind in "biuf", f"an array of {state.dtype} cannot be kept"
        return {"dtype": state.dtype.str, "shape": list(state.shape), "data": state.tobytes()}
    if isinstance(state, tuple):
        return [pack(one) for one in state]
    assert type(state) in (int, float, str, bool), f"{type(state)} cannot be kept"
    return state


def unpack(packed: Any, like: Any) -> Any:
    """Undo `pack`, given a state with the same NamedTuples in the same places."""
    if isinstance(packed, dict):
        return np.frombuffer(packed["data"], packed["dtype"]).reshape(packed["shape"])
    if isinstance(packed, list):
        parts = [unpack(one, part) for one, part in zip(packed, like, strict=True)]
        return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
    return packed


def size_of(state: Any) -> int:
    """Count the bytes of arrays, and the leaves of tuples."""
    if isinstance(state, np.ndarray):
        return int(state.nbytes)
    return sum(map(size_of, state)) if isinstance(state, tuple) else 1


def freeze(value: Any) -> Any:
    """Copy nested tuples with arrays that cannot be written."""
    if isinstance(value, np.ndarray):
        frozen = value.copy()
        frozen.setflags(write=False)
        return frozen
    if isinstance(value, tuple):
        parts = [freeze(one) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def test_every_detector_has_a_scenario_and_every_scenario_a_detector() -> None:
    assert set(NAMES) == SCENARIO_FILES
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_slices_twice_are_the_same_detections(name: str) -> None:
    run = run_of(name)

    one, other = walk(detector_named(name), run), walk(detector_named(name), run)

    assert is_same(tuple(one[0]), tuple(other[0]))


@pytest.mark.parametrize("name", NAMES)
def test_neither_the_slice_nor_the_state_before_it_is_changed(name: str) -> None:
    detector, run = detector_named(name), run_of(name)
    state = detector.new_state()
    every = -(-len(run.recorder.summaries) // SLICES_MAX)
    for number, summary in enumerate(run.recorder.summaries):
        before = copy.deepcopy((state, summary)) if number % every == 0 else None
        limits = run.recorder.instances[: len(summary.limits.level)]
        detection = detector.detect(state, summary, limits)
        assert before is None or is_same(before, (state, summary))
        state = detection.state


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_works_on_what_it_cannot_write(name: str) -> None:
    """Arrays of the slice and of the state are read-only, as a snapshot or a checkpoint may hand them out."""
    detector, run = detector_named(name), run_of(name)
    state, writeable = freeze(detector.new_state()), detector.new_state()
    for summary in run.recorder.summaries[:30]:
        limits = run.recorder.instances[: len(summary.limits.level)]
        detection = detector.detect(state, freeze(summary), limits)
        usual = detector.detect(writeable, summary, limits)
        assert is_same(usual, detection)
        state, writeable = freeze(detection.state), usual.state


@pytest.mark.parametrize("name", NAMES)
def test_a_state_survives_a_checkpoint_and_goes_on_as_if_nothing_had_been(name: str) -> None:
    detector, run = detector_named(name), run_of(name)
    said, _ = walk(detector, run)
    half = len(said) // 2
    state = said[half - 1].state

    restored = unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(pack(state))), state)

    assert is_same(state, restored)
    assert hasattr(state, "_fields"), "a state is a NamedTuple"
    rest, _ = walk(detector_named(name), run, restored, half)
    assert is_same(tuple(said[half:]), tuple(rest))


@pytest.mark.parametrize("name", NAMES)
def test_a_new_state_survives_a_checkpoint(name: str) -> None:
    state = detector_named(name).new_state()

    assert is_same(state, unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(pack(state))), state))


@pytest.mark.parametrize(
    "part", [{}, [1], object(), None, np.array([object()]), np.array(["a"]), np.int64(3)]
)
def test_a_state_of_anything_else_cannot_be_kept(part: object) -> None:
    with pytest.raises(AssertionError, match="cannot be kept"):
        pack((1, "a", (2.0, part)))


@pytest.mark.parametrize("traffic", ["made_up", "recorded"])
@pytest.mark.parametrize("name", sorted(set(NAMES) - SPEAK_ALWAYS))
def test_a_detector_is_silent_on_steady_traffic(name: str, traffic: str) -> None:
    said, _ = walk(detector_named(name), steady(traffic))

    assert len(said) > 150
    assert [finding for detection in said for finding in detection.findings] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_fires_on_its_scenario_within_its_delay(name: str) -> None:
    scenario = scenario_of(name)
    wanted = {("alertname", scenario.alertname), ("severity", scenario.severity), *scenario.labels}

    fired = [one for one in run_of(name).changes if one.state == "firing" and wanted <= set(one.labels)]

    assert fired, [dict(one.labels) for one in run_of(name).changes]
    delay_s = (fired[0].time_ns - scenario.onset_ns) / S
    assert 0 < delay_s <= scenario.delay_s
    assert (scenario.alertname, scenario.severity) in {
        (policy.alertname, policy.severity) for policy in detector_named(name).policies
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_state_does_not_grow_with_time(name: str) -> None:
    """An hour of the same slice again and again, at the times that follow."""
    detector, run = detector_named(name), run_of(name)
    _, state = walk(detector, run)
    last, sizes = run.recorder.summaries[-1], []
    slice_ns = last.end_ns - last.start_ns
    for number in range(1, 721):
        moved = last._replace(
            start_ns=last.start_ns + number * slice_ns, end_ns=last.end_ns + number * slice_ns
        )
        state = detector.detect(state, moved, run.recorder.instances).state
        sizes.append(size_of(state))

    assert sizes[-1] == sizes[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_state_counts_what_has_no_room_where_a_new_one_does(name: str) -> None:
    _, state = walk(detector_named(name), run_of(name))

    assert places_of(detector_named(name).new_state()) == places_of(state)


@pytest.mark.parametrize("scenario", NAMES)
def test_findings_say_only_what_they_may(scenario: str) -> None:
    """Of every detector: rows exist, severities and names have a policy, templates find what they ask for."""
    run = run_of(scenario)
    for detector in run.detectors:
        policies = {(policy.alertname, policy.severity) for policy in detector.policies}
        for summary, findings in zip(run.recorder.summaries, detector.said, strict=True):
            for finding in findings:
                check_finding(finding, summary, policies)
    for one in run.changes:
        texts = dict(one.annotations)
        assert not re.search(r"[{}]|[a-z]unknown|unknown[A-Z]", texts["summary"] + texts["description"])


def check_finding(finding: Finding, summary: WindowSummary, policies: set[tuple[str, str]]) -> None:
    """Check one finding against the contract of detection.py."""
    assert (finding.alertname, finding.severity) in policies
    kind, row = finding.subject
    rows = {
        "limit": len(summary.limits.level),
        "window": len(summary.windows.labels),
        "dependency": len(summary.facts.dependencies.name),
        "deployment": 1,
    }
    assert 0 <= row < rows[kind]
    assert finding.summary
    assert finding.description
    assert len(dict(finding.evidence)) == len(finding.evidence)
    for _, value in finding.evidence:
        assert isinstance(value, int | float | str | np.integer | np.floating)
    for label, value in finding.labels:
        # Names that people gave may hold digits, such as the stage `e2e`; others are a detector's own.
        assert label in GIVEN_NAMES or not re.search(r"\d", label + value), "labels never hold numbers"


@pytest.mark.parametrize("name", NAMES)
def test_alerts_have_the_names_of_the_design(name: str) -> None:
    for policy in detector_named(name).policies:
        assert policy.alertname in ALERTS[policy.severity]


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_says_what_is_caught_how_and_where_it_errs(name: str) -> None:
    module = inspect.getmodule(type(detector_named(name)))
    assert module is not None
    assert module.__name__ == f"detectors.{name}"
    text = " ".join((module.__doc__ or "").lower().split())

    parts = ("catches", "formula", "false positives", "false negatives")

    assert [part for part in parts if part not in text] == []
