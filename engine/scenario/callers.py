"""Words for who calls: `calls`, `share`, `rate`, `burst`, `profile`, `holding`, `retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from engine.fields import FaultError
from engine.scenario.statement import ALL, Change, Statement
from engine.scenario.values import (
    counted_from_one,
    duration,
    longer_than_nothing,
    number,
    per_second,
    positive,
    ratio,
    time_of_day,
)
from engine.scenario.zones import zone

if TYPE_CHECKING:
    from collections.abc import Mapping


DOUBLINGS_MAX = 10  # a thousand times as many calls; with far more no memory holds them


class Group(NamedTuple):
    """Callers of one kind; `share_ratio` of the calls of `parent` if that is not "", else at a rate."""

    name: str
    labels: Mapping[str, str]
    parent: str
    share_ratio: float
    change: Change  # a share: while it is one; else: while they call
    rate_per_s: float
    bunch: int  # they come so many at a time, within a second
    holding_s: float  # mean, from the answer
    sigma: float  # of the logarithm
    setup_s: float  # mean, until the answer
    setup_sigma: float
    answered_ratio: float

    @staticmethod
    def read(s: Statement) -> Group:
        """Read `calls`."""
        group = Group(
            name=_new_name(s),
            labels=s.labels(),
            parent="",
            share_ratio=0.0,
            change=Change(s.moment("from", 0.0), 0.0, s.get("until", duration, Change().until_s)),
            rate_per_s=s.need("rate", per_second, 0.0, "rate=40/min"),
            bunch=s.get("bunch", counted_from_one, 1),
            holding_s=s.need("holding", longer_than_nothing, 60.0, "holding=3m"),
            sigma=s.get("sigma", number, 0.8),
            setup_s=s.get("setup", longer_than_nothing, 0.8),
            setup_sigma=s.get("setup_sigma", number, 0.4),
            answered_ratio=s.get("answered", ratio, 1.0),
        )
        s.close()
        return group

    @staticmethod
    def read_share(s: Statement, groups: Mapping[str, Group]) -> Group | None:
        """Read `share`; None if it is a share of nothing."""
        name = _new_name(s)
        of = s.need("of", str, "", "of=web")
        parent = groups.get(of)
        share = s.need("ratio", ratio, 0.0, "ratio=10%")
        change, labels = s.change(), s.labels()
        s.close()
        if parent is None:
            if of:
                s.wrong(f"`of={of}` is not the name of a `calls` or `share` above it")
            return None
        return parent._replace(
            name=name,
            labels={**parent.labels, **labels},
            parent=parent.name,
            share_ratio=share,
            change=change,
        )


def _new_name(s: Statement) -> str:
    name = s.name("a name of its own")
    if name in s.known.groups or name == ALL:
        s.wrong(f"there is a `{name}` already", "name it otherwise")
    return name


class RateChange(NamedTuple):
    """More or fewer calls: by a factor, to a rate, or doubling every so often."""

    group: str
    factor: float
    to_per_s: float  # negative: by `factor`
    doubling_s: float  # 0: it does not double
    change: Change

    @staticmethod
    def read(s: Statement) -> RateChange:
        """Read `rate`."""
        group = s.callers()
        if sum(map(s.has, ("factor", "to", "doubling"))) != 1:
            s.wrong("`rate` needs one of `factor=3`, `to=80/min` and `doubling=15m`")
        read = RateChange(
            group=group,
            factor=s.get("factor", number, 1.0),
            to_per_s=s.get("to", per_second, -1.0),
            doubling_s=s.get("doubling", longer_than_nothing, 0.0),
            change=s.change(),
        )
        doublings = read.grows_s(s.known.length_s) / read.doubling_s if read.doubling_s else 0.0
        if doublings > DOUBLINGS_MAX:
            s.wrong(
                f"it doubles {doublings:.0f} times", f"write `over=`, so that it is {DOUBLINGS_MAX} at most"
            )
        s.close()
        return read

    def grows_s(self, length_s: float) -> float:
        """Say for how long a rate that doubles does so, in a scenario of this length."""
        until_s = min(self.change.until_s, length_s)
        return min(self.change.over_s or until_s, until_s - self.change.from_s)


class Burst(NamedTuple):
    """A dialer: so many calls within a moment, once or again and again."""

    group: str
    calls: int
    within_s: float
    at_s: float
    every_s: float  # 0: once
    until_s: float

    @staticmethod
    def read(s: Statement) -> Burst:
        """Read `burst`."""
        read = Burst(
            group=s.callers(),
            calls=s.need("calls", counted_from_one, 1, "calls=60"),
            within_s=s.get("within", longer_than_nothing, 1.0),
            at_s=s.moment("at", 0.0),
            every_s=s.get("every", longer_than_nothing, 0.0),
            until_s=s.get("until", duration, Change().until_s),
        )
        s.close()
        return read


class Profile(NamedTuple):
    """Factors by local time of day, with lines between them, round the clock."""

    group: str
    at_s: tuple[float, ...]  # since midnight, ascending
    factor: tuple[float, ...]
    zone: ZoneInfo
    weekend_factor: float

    @staticmethod
    def read(s: Statement) -> Profile:
        """Read `profile`."""
        group = s.callers()
        where = s.get("zone", zone, ZoneInfo("UTC"))
        weekend = s.get("weekend", number, 1.0)
        points: dict[float, float] = {}
        for key, factor in s.rest(number, 1.0).items():
            try:
                points[time_of_day(key)] = factor
            except FaultError as wrong:
                s.wrong(f"`profile` knows no `{key}=`", f"{wrong}: write 08:00=1 12:00=1.4")
        if not points:
            s.wrong("`profile` needs factors by time of day", "such as 00:00=0.2 08:00=1 20:00=0.4")
            points = {0.0: 1.0}
        s.close()
        ordered = sorted(points.items())
        return Profile(
            group, tuple(at for at, _ in ordered), tuple(one for _, one in ordered), where, weekend
        )


class HoldingChange(NamedTuple):
    """Calls that start then last longer or shorter."""

    group: str
    factor: float
    change: Change

    @staticmethod
    def read(s: Statement) -> HoldingChange:
        """Read `holding`."""
        read = HoldingChange(s.target(), s.need("factor", positive, 1.0, "factor=2"), s.change())
        s.close()
        return read


class Retry(NamedTuple):
    """Who is turned away calls again."""

    group: str
    ratio: float
    after_s: float  # mean
    tries: int

    @staticmethod
    def read(s: Statement) -> Retry:
        """Read `retry`."""
        read = Retry(
            group=s.target(),
            ratio=s.need("ratio", ratio, 0.0, "ratio=60%"),
            after_s=s.get("after", longer_than_nothing, 10.0),
            tries=s.get("tries", counted_from_one, 3),
        )
        s.close()
        return read
