"""Slow, obvious twins of engine/erlang.py: the definitions, in exact or long arithmetic."""

from collections.abc import Callable
from decimal import Decimal, getcontext
from fractions import Fraction

PRECISION = 60


def erlang_b(servers: int, offered_load: Fraction) -> Fraction:
    """Give Erlang's loss formula by its definition, (A^c / c!) over the sum of A^k / k!, exactly."""
    term, total = Fraction(1), Fraction(1)
    for busy in range(1, servers + 1):
        term = term * offered_load / busy
        total += term
    return term / total


def poisson_excess(mean: float, cap: int) -> float:
    """Give E[max(N - cap, 0)] as mean - E[min(N, cap)], in sixty digits so that nothing cancels."""
    getcontext().prec = PRECISION
    exact_mean = Decimal(mean)
    probability = (-exact_mean).exp()
    below, at_most = Decimal(0), Decimal(0)
    for count in range(cap + 1):
        below += probability * min(count, cap)
        at_most += probability
        probability = probability * exact_mean / (count + 1)
    return float(exact_mean - below - (1 - at_most) * cap)


def largest_load(losses_per_hour: Callable[[float], float], allowed: float, high: float) -> float:
    """Search the load at which the losses reach what is allowed, by ever finer steps upwards."""
    load, step = 0.0, high
    while step > high * 1e-9:
        while losses_per_hour(load + step) <= allowed:
            load += step
        step /= 10.0
    return load


def safe_offered_load(cap: float, holding_s: float, declines_per_hour: float) -> float:
    """Solve attempts per hour x Erlang B = declines per hour."""

    def losses(load: float) -> float:
        return load / holding_s * 3600.0 * float(erlang_b(int(cap), Fraction(load)))

    return largest_load(losses, declines_per_hour, cap)


def safe_rate(cap: float, per_s: float, refused_per_hour: float) -> float:
    """Solve periods per hour x excess = refused per hour."""

    def losses(mean: float) -> float:
        return 3600.0 / per_s * poisson_excess(mean, int(cap))

    return largest_load(losses, refused_per_hour, cap)
