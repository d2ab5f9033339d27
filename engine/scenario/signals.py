"""Words for what calls tell while they last.

`turns`, `transfers`, `heartbeats`, `agents`, `lists`, `scores`, `drift`, `dependency`, `breaks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.scenario.statement import Change, Statement
from engine.scenario.values import (
    longer_than_nothing,
    number,
    one_of,
    per_second,
    positive,
    ratio,
    unit_number,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

DEPENDENCY_TIMEOUT_S = 5.0


class Turns(NamedTuple):
    """A turn every so often while a call lasts, with a latency of each stage."""

    group: str
    every_s: float
    sigma: float
    stage_s: Mapping[str, float]  # means

    @staticmethod
    def read(s: Statement) -> Turns:
        """Read `turns`."""
        group = s.target()
        every_s = s.need("every", longer_than_nothing, 8.0, "every=8s")
        sigma = s.get("sigma", number, 0.4)
        stage_s = s.rest(longer_than_nothing, 1.0)
        if not stage_s:
            s.wrong("`turns` needs stages and their means", "such as stt=150ms llm=450ms tts=180ms")
        s.close()
        return Turns(group, every_s, sigma, stage_s)


class Transfers(NamedTuple):
    """Some calls are handed on, which takes a while to dial."""

    group: str
    ratio: float
    dialling_s: float
    sigma: float
    failing_ratio: float
    change: Change

    @staticmethod
    def read(s: Statement) -> Transfers:
        """Read `transfers`."""
        read = Transfers(
            group=s.target(),
            ratio=s.need("ratio", ratio, 0.0, "ratio=20%"),
            dialling_s=s.need("dialling", longer_than_nothing, 8.0, "dialling=8s"),
            sigma=s.get("sigma", number, 0.8),
            failing_ratio=s.get("failing", ratio, 0.0),
            change=s.change(),
        )
        s.close()
        return read


class Repeated(NamedTuple):
    """Something that comes every so often: heartbeats of each call, or lists of live calls."""

    word: str
    group: str
    every_s: float
    change: Change

    @staticmethod
    def read(s: Statement) -> Repeated:
        """Read `heartbeats` or `lists`."""
        group, every_s = s.target(), s.need("every", longer_than_nothing, 30.0, "every=30s")
        read = Repeated(s.word, group, every_s, s.change())
        s.close()
        return read


class Agents(NamedTuple):
    """An agent joins after the answer."""

    group: str
    after_s: float
    ratio: float

    @staticmethod
    def read(s: Statement) -> Agents:
        """Read `agents`."""
        read = Agents(s.target(), s.get("after", longer_than_nothing, 2.0), s.get("ratio", ratio, 1.0))
        s.close()
        return read


class Scores(NamedTuple):
    """How good the answers were, told after the call's end."""

    group: str
    metric: str
    mean: float
    sd: float
    ratio: float

    @staticmethod
    def read(s: Statement) -> Scores:
        """Read `scores`."""
        read = Scores(
            group=s.target(),
            metric=s.need("metric", words, "", "metric=helpfulness"),
            mean=s.need("mean", unit_number, 0.5, "mean=0.82"),
            sd=s.get("sd", positive, 0.1),
            ratio=s.get("ratio", ratio, 1.0),
        )
        if not _is_possible(read.mean, read.sd):
            s.wrong(f"no scores from 0 to 1 have mean={read.mean} and sd={read.sd}", "write a smaller sd=")
        s.close()
        return read


class Drift(NamedTuple):
    """Answers get better or worse."""

    group: str
    metric: str
    mean: float
    sd: float  # 0: as it was
    change: Change

    @staticmethod
    def read(s: Statement) -> Drift:
        """Read `drift`."""
        read = Drift(
            group=s.target(),
            metric=s.need("metric", words, "", "metric=helpfulness"),
            mean=s.need("mean", unit_number, 0.5, "mean=0.74"),
            sd=s.get("sd", positive, 0.0),
            change=s.change(),
        )
        if not _is_possible(read.mean, read.sd or 0.01):
            s.wrong(f"no scores from 0 to 1 have a mean of {read.mean} and this sd", "write a smaller sd=")
        s.close()
        return read


def _is_possible(mean: float, sd: float) -> bool:
    return 0 < mean < 1 and sd * sd < mean * (1 - mean)


class Dependency(NamedTuple):
    """Something that is called: once a call after its answer, or apart from calls."""

    name: str
    group: str  # "": apart from calls
    ratio: float
    rate_per_s: float
    duration_s: float
    sigma: float
    labels: Mapping[str, str]

    @staticmethod
    def read(s: Statement) -> Dependency:
        """Read `dependency`."""
        name = s.name("the name of what is called")
        if name in s.known.dependencies:
            s.wrong(f"there is a dependency `{name}` already", "name it otherwise")
        if s.has("on") == s.has("rate"):
            s.wrong("`dependency` needs one of `on=web` (once a call) and `rate=30/min` (apart from calls)")
        group = s.get("on", one_of((*s.known.groups, "*")), "")
        read = Dependency(
            name=name,
            group=group,
            ratio=s.get("ratio", ratio, 1.0),
            rate_per_s=s.get("rate", per_second, 0.0),
            duration_s=s.get("duration", longer_than_nothing, 0.1),
            sigma=s.get("sigma", number, 0.4),
            labels={} if group else s.labels(),
        )
        s.close()
        return read


class Breakage(NamedTuple):
    """A dependency fails, and what that does to the callers."""

    dependency: str
    errors_ratio: float
    timeouts_ratio: float
    throttled_ratio: float
    after_s: float  # timeouts take so long
    fallback: str
    callers_fail_ratio: float
    callers_hang_up_ratio: float
    change: Change

    @staticmethod
    def read(s: Statement) -> Breakage:
        """Read `breaks`."""
        read = Breakage(
            dependency=s.one_of(s.known.dependencies, "the name of a `dependency` above it"),
            errors_ratio=s.get("errors", ratio, 0.0),
            timeouts_ratio=s.get("timeouts", ratio, 0.0),
            throttled_ratio=s.get("throttled", ratio, 0.0),
            after_s=s.get("after", longer_than_nothing, DEPENDENCY_TIMEOUT_S),
            fallback=s.get("fallback", one_of(("none", "open", "closed")), "none"),
            callers_fail_ratio=s.get("callers_fail", ratio, 0.0),
            callers_hang_up_ratio=s.get("callers_hang_up", ratio, 0.0),
            change=s.change(),
        )
        if not any(map(s.has, ("errors", "timeouts", "throttled"))):
            s.wrong("`breaks` needs how many fail", "such as errors=40%, timeouts=5% or throttled=10%")
        s.close()
        return read
