"""A voice platform in small: who calls, for how long, and whom a cap turns away.

Arrivals are Poisson with a rate that is constant within each second; holding times are lognormal; each
trunk is an exact loss system (M_t/G/c/c): attempts are admitted in order of time, and declined while as
many calls are up as the cap allows. Everything random is drawn from one seeded generator, so a scenario
and a seed give the same traffic, with the truth about it: who was declined, when first, how high the
level went.

Calls that leak hold their place for ever; calls whose end is lost give it back, but nobody is told.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NS_PER_S = 1_000_000_000
START_NS = 1_767_600_000 * NS_PER_S  # a Monday, 08:00 UTC
NEVER_S = math.inf


class Ramp(msgspec.Struct, frozen=True, kw_only=True):
    """The rate grows between two moments and then stays: doubling, or by so many calls/s each minute."""

    from_s: float
    until_s: float = NEVER_S
    doubling_s: float = 0.0  # 0: it does not double
    per_s_per_minute: float = 0.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The rate is multiplied between two moments."""

    at_s: float
    factor: float
    until_s: float = NEVER_S


class Inflation(msgspec.Struct, frozen=True, kw_only=True):
    """Holding times of calls that start then grow in a line to `factor` at `until_s`, and stay."""

    from_s: float
    until_s: float
    factor: float


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A lognormal latency of a turn, from some moment multiplied."""

    name: str
    mean_ms: float
    sigma: float = 0.4
    slow_from_s: float = NEVER_S
    slow_factor: float = 1.0


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """Callers of one kind."""

    name: str
    rate_per_s: float
    trunk: str = "sip-1"
    agent: str = ""
    provider: str = ""
    release: str = ""
    region: str = ""
    holding_mean_s: float = 180.0
    holding_sigma: float = 0.8
    ramps: tuple[Ramp, ...] = ()
    steps: tuple[Step, ...] = ()


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What happens on the platform. Ratios are 0 to 1; 0 s or an empty tuple turns a thing off."""

    duration_s: float
    tenants: tuple[Tenant, ...]
    start_ns: int = START_NS
    platform: str = "synthetic"
    caps: dict[str, int] = {}  # by trunk; a trunk without one declines nobody
    inflation: tuple[Inflation, ...] = ()
    setup_mean_s: float = 0.8
    setup_sigma: float = 0.4
    decline_code: int = 503
    decline_reason: str = "Service Unavailable"
    decline_after_s: float = 0.02
    failed_ratio: float = 0.0  # admitted, and never answered
    retry_ratio: float = 0.0  # of declined callers who try again
    retry_after_s: float = 10.0  # mean
    retries_max: int = 3
    lost_ends_ratio: float = 0.0
    leak_ratio: float = 0.0
    leak_from_s: float = 0.0
    turn_every_s: float = 0.0
    stages: tuple[Stage, ...] = (
        Stage(name="stt", mean_ms=150.0),
        Stage(name="llm", mean_ms=450.0),
        Stage(name="tts", mean_ms=180.0),
    )
    heartbeat_s: float = 0.0
    disorder_s: float = 0.0  # events arrive up to this much later than they happened
    duplicates_ratio: float = 0.0


class Calls(NamedTuple):
    """Every attempt, in order of its start; arrays have shape (attempts,), times are from the start."""

    tenant: NDArray[np.int64]  # row of Scenario.tenants
    start_s: NDArray[np.float64]
    setup_s: NDArray[np.float64]
    end_s: NDArray[
        np.float64
    ]  # of what it takes from the cap; inf: leaked; that of a declined one is its decline
    talk_s: NDArray[np.float64]
    is_declined: NDArray[np.bool_]
    is_failed: NDArray[np.bool_]
    is_end_lost: NDArray[np.bool_]


class Truth(NamedTuple):
    """What nobody on the platform is told, by trunk."""

    first_decline_s: dict[str, float]  # trunks that declined somebody
    peak: dict[str, int]
    declined: dict[str, int]


class _Callers(NamedTuple):
    """Those who want to call, in order of their first attempt; arrays have shape (callers,)."""

    tenant: NDArray[np.int64]
    start_s: NDArray[np.float64]
    setup_s: NDArray[np.float64]
    talk_s: NDArray[np.float64]
    is_leaked: NDArray[np.bool_]
    is_failed: NDArray[np.bool_]
    is_end_lost: NDArray[np.bool_]
    is_patient: NDArray[np.bool_]  # shape (callers, retries_max)
    waits_s: NDArray[np.float64]  # shape (callers, retries_max)


def rate_per_s(tenant: Tenant, seconds: int) -> NDArray[np.float64]:
    """Give the arrival rate in each second, shape (seconds,)."""
    at = np.arange(seconds, dtype=np.float64)
    rate = np.full(seconds, tenant.rate_per_s, np.float64)
    for ramp in tenant.ramps:
        since = np.clip(at - ramp.from_s, 0.0, ramp.until_s - ramp.from_s)
        if ramp.doubling_s > 0:
            rate *= 2.0 ** (since / ramp.doubling_s)
        rate += ramp.per_s_per_minute * since / 60.0
    for step in tenant.steps:
        rate[(at >= step.at_s) & (at < step.until_s)] *= step.factor
    return np.asarray(np.maximum(rate, 0.0), np.float64)


def simulate(scenario: Scenario, rng: np.random.Generator) -> tuple[Calls, Truth]:
    """Let everybody call."""
    return _admit(scenario, _draw_callers(scenario, rng))


def lognormal(
    rng: np.random.Generator, mean: NDArray[np.float64] | float, sigma: float, count: int
) -> NDArray[np.float64]:
    """Draw with a given mean; `sigma` is that of the logarithm."""
    return np.asarray(mean * np.exp(rng.standard_normal(count) * sigma - 0.5 * sigma * sigma))


def _draw_callers(scenario: Scenario, rng: np.random.Generator) -> _Callers:
    """Draw who wants to call, when, and for how long."""
    seconds = math.ceil(scenario.duration_s)
    starts, tenants, talks = [], [], []
    for row, tenant in enumerate(scenario.tenants):
        counts = rng.poisson(rate_per_s(tenant, seconds))
        start = np.sort(np.repeat(np.arange(seconds), counts) + rng.random(int(counts.sum())))
        mean_s = np.full(len(start), tenant.holding_mean_s, np.float64)
        for inflation in scenario.inflation:
            share = (start - inflation.from_s) / max(inflation.until_s - inflation.from_s, 1e-9)
            mean_s *= 1.0 + (inflation.factor - 1.0) * np.clip(share, 0.0, 1.0)
        starts.append(start)
        talks.append(lognormal(rng, mean_s, tenant.holding_sigma, len(start)))
        tenants.append(np.full(len(start), row, np.int64))
    start_s = np.concatenate(starts) if starts else np.empty(0)
    order = np.argsort(start_s, kind="stable")
    order = order[start_s[order] < scenario.duration_s]
    start_s = start_s[order]
    count = len(start_s)
    tries = (count, scenario.retries_max)
    return _Callers(
        tenant=np.concatenate(tenants)[order] if tenants else np.empty(0, np.int64),
        start_s=start_s,
        setup_s=lognormal(rng, scenario.setup_mean_s, scenario.setup_sigma, count),
        talk_s=np.concatenate(talks)[order] if talks else np.empty(0),
        is_leaked=(rng.random(count) < scenario.leak_ratio) & (start_s >= scenario.leak_from_s),
        is_failed=rng.random(count) < scenario.failed_ratio,
        is_end_lost=rng.random(count) < scenario.lost_ends_ratio,
        is_patient=rng.random(tries) < scenario.retry_ratio,
        waits_s=rng.exponential(scenario.retry_after_s, tries),
    )


def _admit(scenario: Scenario, callers: _Callers) -> tuple[Calls, Truth]:
    """Let callers in, in order of time, while their trunk has room; some of the declined try again."""
    trunk_of = [tenant.trunk for tenant in scenario.tenants]
    up: dict[str, list[float]] = {trunk: [] for trunk in trunk_of}  # ends of the calls that are up, a heap
    truth = Truth({}, dict.fromkeys(up, 0), dict.fromkeys(up, 0))
    talk_s = np.where(callers.is_failed, 0.0, callers.talk_s)
    holds_s = np.where(callers.is_leaked, NEVER_S, callers.setup_s + talk_s).tolist()
    tenants = callers.tenant.tolist()
    attempts: list[tuple[float, int, float, bool]] = []  # (start, caller, end, declined)
    # All attempts still to come, first tries and retries: (start, caller, how many tries before).
    coming = [(start, caller, 0) for caller, start in enumerate(callers.start_s.tolist())]
    while coming:
        start, caller, tried = heapq.heappop(coming)
        trunk = trunk_of[tenants[caller]]
        ends = up[trunk]
        while ends and ends[0] <= start:
            heapq.heappop(ends)
        if len(ends) >= scenario.caps.get(trunk, NEVER_S):
            attempts.append((start, caller, start + scenario.decline_after_s, True))
            truth.first_decline_s.setdefault(trunk, start)
            truth.declined[trunk] += 1
            if tried < scenario.retries_max and callers.is_patient[caller, tried]:
                again_s = start + scenario.decline_after_s + float(callers.waits_s[caller, tried])
                if again_s < scenario.duration_s:
                    heapq.heappush(coming, (again_s, caller, tried + 1))
        else:
            heapq.heappush(ends, start + holds_s[caller])
            attempts.append((start, caller, start + holds_s[caller], False))
            truth.peak[trunk] = max(truth.peak[trunk], len(ends))
    who = np.array([caller for _, caller, _, _ in attempts], np.int64)
    return Calls(
        tenant=callers.tenant[who],
        start_s=np.array([start for start, _, _, _ in attempts], np.float64),
        setup_s=callers.setup_s[who],
        end_s=np.array([end for _, _, end, _ in attempts], np.float64),
        talk_s=talk_s[who],
        is_declined=np.array([declined for _, _, _, declined in attempts], np.bool_),
        is_failed=callers.is_failed[who],
        is_end_lost=callers.is_end_lost[who],
    ), truth
