"""What a detector is: one pure function from a closed slice to findings, and what it may say.

A detector never sees a clock, a label's text or I/O: it speaks of rows ("limit instance 3"), and the engine
puts names, owners, contributors and changes into the page afterwards. So a detector is one file, one line in
the registry (`detectors/__init__.py`) and one scenario.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

NS = 1_000_000_000
MINUTE_NS = 60 * NS

CRITICAL, WARNING, INFO = "critical", "warning", "info"
ROUTINE = ("CallgaugeWatchdog",)  # alerts that say nothing about the calls


class AlertPolicy(NamedTuple):
    """How findings of one (alertname, severity) become an alert with a life."""

    alertname: str
    severity: str
    evaluations: int = 1  # in a row, before it fires
    keep_ns: int = 10 * MINUTE_NS  # fires on for this long after the last finding
    repeat_ns: int = 0  # no second page of one identity within this time of the last one


class Finding(NamedTuple):
    """One detector's statement about one subject in one slice: the condition holds, and here is the evidence.

    `subject` is ("limit", row), ("window", row), ("dependency", row) or ("deployment", 0). `labels` are
    further identity labels, such as ("stage", "llm"); they must be static names: names that people gave may
    hold digits, and are put in by the engine for the subject's row. `evidence` holds numbers and short texts
    by name; `summary` and `description` are `str.format` templates over the evidence, the subject's labels
    and the register's fields of a limit (`limit`, `limit_value`, `used`, `owner`, `lives_in`, ...) or of a
    guardrail (`owner`, `because`). Evidence that is named as an annotation of pages (`engine/judge/pages.py`)
    becomes that annotation.
    """

    alertname: str
    severity: str
    subject: tuple[str, int]
    summary: str
    description: str
    labels: tuple[tuple[str, str], ...] = ()
    evidence: tuple[tuple[str, float | int | str], ...] = ()


class LimitForecast(NamedTuple):
    """What the forecast says of every limit instance, alert or not; arrays of shape (instances,)."""

    score: NDArray[np.float64]  # max over horizons of (mean - cap) / sd; -inf: not forecast
    probability: NDArray[np.float64]  # that the cap is reached within the page horizon; NaN: not forecast
    mean: NDArray[np.float64]  # expected level at the page horizon; NaN: not forecast
    offered_load: NDArray[np.float64]  # arrival rate x mean holding time, in calls; NaN: not known
    holding_s: NDArray[np.float64]  # mean holding time; NaN: not known
    time_to_limit_s: NDArray[
        np.float64
    ]  # expected time until the mean crosses the cap; inf: not within the horizon
    time_to_limit_s_low: NDArray[np.float64]
    time_to_limit_s_high: NDArray[np.float64]


ROLLBACK, CONTINUE, PROMOTE = "rollback", "continue", "promote"


class ReleaseVerdict(NamedTuple):
    """What is to be done with one release, for people and for whatever rolls it out."""

    release: str
    verdict: str  # rollback | continue | promote; `continue` also where nothing is known
    reason: str
    baseline: tuple[str, ...] = ()  # the releases that it is compared with
    since_ns: int = -1  # of the comparison; -1: there is none
    share_ratio: float = float("nan")  # of the calls of both
    calls: int = 0  # ended and compared, of the release and of its baseline
    baseline_calls: int = 0
    failed: int = 0  # of `calls`
    failed_usual: float = 0.0  # as many would have, had it failed like its baseline in the same strata
    evidence: tuple[
        tuple[str, float, float], ...
    ] = ()  # (what, e-value that it is worse, as much rolls back)


class LearnedLimit(NamedTuple):
    """What a detector has inferred of one instance; it is in force from the next slice on.

    A value of the register and a fresh report win over it.
    """

    row: int
    value: float  # NaN: what was inferred before does not hold any more
    time_ns: int  # end of the slice in which it was inferred


class Detection(NamedTuple):
    """What `detect` returns. `evaluated` False.

    Nothing was looked at, alerts of this detector stay as they are.
    """

    state: Any
    findings: tuple[Finding, ...]
    evaluated: bool = True
    forecast: LimitForecast | None = None
    verdicts: tuple[ReleaseVerdict, ...] | None = (
        None  # of every release that takes calls; None: says nothing
    )
    learned: tuple[LearnedLimit, ...] = ()  # what is new


class Detector(Protocol):
    """A plug-in of step 6. Pure: same state and summary, same detection; neither is changed.

    State is a NamedTuple of numpy arrays, numbers, strings and (nested) tuples of these, so that a checkpoint
    can hold it. Instances and windows are only ever appended; a state grows with them.
    """

    @property
    def name(self) -> str:
        """Name the detector; its file has the same name."""

    @property
    def policies(self) -> tuple[AlertPolicy, ...]:
        """Say how findings of each alert and severity live."""

    def new_state(self) -> Any:
        """Give the state before the first slice."""

    def detect(self, state: Any, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
