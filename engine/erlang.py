"""The static guard rail: how much load a cap carries before it declines calls by chance alone.

"Alert at 80 %" is wrong at every size: Erlang's loss formula says that a cap of 20 calls carries 37 % of
itself, and one of 1,000 carries 87 %, for one declined call in a hundred hours (holding time 180 s). So the
safe load is solved:

    lambda * B(cap, A) = declines per hour,   A = lambda * holding time   ("offered load", in calls)

with B by the recursion B(0) = 1, B(k) = A B(k-1) / (k + A B(k-1)), which only ever multiplies and adds
positive numbers below one and is exact to a few units in the last place for thousands of servers. For a
rate the same is asked of Poisson counts per period. Rejected: the closed form of B, whose factorials
overflow at 171 servers.
"""

from __future__ import annotations

import math

from engine.kernel import kernel

HALVINGS = 200  # far more than a float64 has bits; the loop ends when the interval does


@kernel
def erlang_b(servers: int, offered_load: float) -> float:
    """Give the share of calls that find all `servers` busy under `offered_load` calls; NaN below 0."""
    if servers < 0 or not offered_load >= 0.0:
        return math.nan
    blocked = 1.0
    for busy in range(1, servers + 1):
        weight = offered_load * blocked
        blocked = weight / (busy + weight)
    return blocked


@kernel
def safe_offered_load(cap: float, holding_s: float, declines_per_hour: float) -> float:
    """Give the most offered load, in calls, that a cap carries with so many declines an hour by chance.

    `cap` is in calls (a part of a call carries nothing), `holding_s` the mean holding time. NaN when an
    argument is NaN or not above zero.
    """
    if not (cap >= 1.0 and holding_s > 0.0 and declines_per_hour > 0.0) or math.isinf(cap + holding_s):
        return math.nan
    servers = int(cap)
    # Carried load never exceeds the servers, so at this load at least so many are declined.
    low, high = 0.0, servers + declines_per_hour * holding_s / 3600.0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if middle <= low or middle >= high:
            break
        if middle / holding_s * 3600.0 * erlang_b(servers, middle) > declines_per_hour:
            high = middle
        else:
            low = middle
    return low


@kernel
def poisson_excess(mean: float, cap: int) -> float:
    """Give E[max(N - cap, 0)] for N ~ Poisson(mean): calls a period above a rate limit; NaN below 0."""
    if cap < 0 or not mean >= 0.0:
        return math.nan
    if mean == 0.0:
        return 0.0
    if mean > cap:
        # E[max(N - c, 0)] = mean - c + E[max(c - N, 0)], and the last is a short sum of what lies below.
        below = 0.0
        for count in range(cap):
            below += (cap - count) * math.exp(count * math.log(mean) - mean - math.lgamma(count + 1.0))
        return mean - cap + below
    term = math.exp((cap + 1) * math.log(mean) - mean - math.lgamma(cap + 2.0))
    excess = term
    count = cap + 1
    # Terms fall from here on, for the mean lies below; what is left out is under one part in 1e17 of the sum.
    while term * (count - cap) > excess * 1e-17 and term > 0.0:
        count += 1
        term *= mean / count
        excess += term * (count - cap)
    return excess


@kernel
def safe_rate(cap: float, per_s: float, refused_per_hour: float) -> float:
    """Give the most calls per period that a rate limit carries with so many refused an hour by chance.

    Arrivals are Poisson and periods are counted from fixed edges; rolling periods refuse a little more. NaN
    when an argument is NaN or not above zero.
    """
    if not (cap >= 1.0 and per_s > 0.0 and refused_per_hour > 0.0) or math.isinf(cap + per_s):
        return math.nan
    periods_per_hour = 3600.0 / per_s
    low, high = 0.0, int(cap) + refused_per_hour / periods_per_hour
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if middle <= low or middle >= high:
            break
        if periods_per_hour * poisson_excess(middle, int(cap)) > refused_per_hour:
            high = middle
        else:
            low = middle
    return low
