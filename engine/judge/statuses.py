"""What is known of each limit at the last judged slice, in one row: use, forecast, guard rail, state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from engine.erlang import safe_offered_load
from engine.judge.lifecycle import FIRING
from engine.judge.snapshot import LimitStatus
from engine.judge.usage import used_now, used_peak

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.judge.detection import LimitForecast
    from engine.judge.judge import Judge
    from engine.judge.lifecycle import Alert
    from engine.judge.occupancy import LimitUse
    from engine.limits import LimitInstance

# The static guard rail: the load at which chance alone declines so many calls.
SAFE_DECLINES_PER_HOUR = 0.01
# Beyond, solving it would hold up the line: it takes as long as there are calls, some fifty times. Whoever
# says so much means that there is no cap.
SAFE_LOAD_CALLS_MAX = 50_000
HOLDING_STEP = 1.02  # the guard rail is solved anew only when the holding time has moved by more than this

# From harmless to worst, then the two that say why nothing is known.
LIMIT_STATES = ("ok", "warning", "critical", "reached", "unknown", "no_baseline")
STATE_BY_ALERT = {
    ("CallLimitReached", "critical"): "reached",
    ("CallLimitApproaching", "critical"): "critical",
    ("CallLimitApproaching", "warning"): "warning",
    ("CallRateLimitApproaching", "critical"): "critical",
    ("CallQuotaExhaustion", "critical"): "critical",
}


class Use(NamedTuple):
    """What one slice says of every instance."""

    limits: LimitUse
    now: NDArray[np.float64]
    peak: NDArray[np.float64]


class Statuses:
    """Makes the rows; remembers guard rails, which are costly to solve and change slowly."""

    def __init__(self, judge: Judge) -> None:
        """Read from `judge`."""
        self.judge = judge
        self._safe: dict[tuple[float, int], float] = {}

    def rows(self, alerts: tuple[Alert, ...]) -> tuple[LimitStatus, ...]:
        """Give one row per instance of a limit in the register; empty before the first slice."""
        rolled = self.judge.last
        if rolled is None:
            return ()
        worst = _worst_state(alerts)
        limits, forecast = rolled.summary.limits, self.judge.bank.forecast
        known = self.judge.roller.index.instances[: len(limits.value)]
        use = Use(limits, used_now(limits, known), used_peak(limits, known))
        # A limit that has left the register keeps its row in the arrays, and nowhere else.
        counting = self.judge.roller.index.counting()
        shown = [one for one in known if one.index in counting or _is_inferred(one, limits)]
        return tuple(self._row(one, use, forecast, worst) for one in shown)

    def _row(
        self,
        instance: LimitInstance,
        use: Use,
        forecast: LimitForecast | None,
        worst: dict[tuple[tuple[str, str], ...], str],
    ) -> LimitStatus:
        row, limit = instance.index, instance.limit
        foretold = forecast if forecast is not None and row < len(forecast.score) else None
        value, unseen = float(use.limits.value[row]), float(use.limits.unseen_use[row])
        holding_s = float(foretold.holding_s[row]) if foretold else math.nan
        is_known = limit.is_measured and not math.isnan(value)
        state = worst.get(tuple(sorted(instance.labels)), "ok" if is_known else "unknown")
        if (
            state == "ok"
            and limit.kind == "concurrency"
            and (not foretold or math.isinf(float(foretold.score[row])))
        ):
            state = "no_baseline"
        return LimitStatus(
            limit=instance.name,
            split=instance.split,
            kind=limit.kind,
            owner=limit.owner,
            applies_to=tuple(sorted(limit.applies_to.items())),
            value=value,
            used=_whole(float(use.peak[row] if limit.kind == "rate" else use.now[row])),
            unseen_use=_whole(unseen),
            peak=_whole(float(use.peak[row])),
            declined_total=int(self.judge.roller.declined_total[row]),
            expected_used=float(foretold.mean[row]) + unseen if foretold else math.nan,
            probability=float(foretold.probability[row]) if foretold else math.nan,
            offered_load=float(foretold.offered_load[row]) if foretold else math.nan,
            holding_s=holding_s,
            time_to_limit_s=float(foretold.time_to_limit_s[row]) if foretold else math.inf,
            time_to_limit_s_low=float(foretold.time_to_limit_s_low[row]) if foretold else math.inf,
            time_to_limit_s_high=float(foretold.time_to_limit_s_high[row]) if foretold else math.inf,
            safe_load=self.safe_load(value, holding_s) if limit.kind == "concurrency" else math.nan,
            state=state,
        )

    def safe_load(self, value: float, holding_s: float) -> float:
        """Give the offered load that the limit carries with few declines.

        NaN while the holding time is not known, and for a cap beyond SAFE_LOAD_CALLS_MAX.
        """
        if not (1 <= value <= SAFE_LOAD_CALLS_MAX and holding_s > 0):
            return math.nan
        step = round(math.log(holding_s) / math.log(HOLDING_STEP))
        if (value, step) not in self._safe:
            if len(self._safe) >= 4 * self.judge.roller.index.instances_max:
                self._safe.clear()
            self._safe[value, step] = safe_offered_load(value, HOLDING_STEP**step, SAFE_DECLINES_PER_HOUR)
        return self._safe[value, step]


def _is_inferred(instance: LimitInstance, use: LimitUse) -> bool:
    """Say whether an instance that is in no register has a value: until then it is nobody's business."""
    return instance.limit.is_implicit and not math.isnan(float(use.value[instance.index]))


def _whole(number: float) -> float:
    """Give a whole number without its point; only what a platform reports may have a fraction."""
    return int(number) if number.is_integer() else number


def _worst_state(alerts: tuple[Alert, ...]) -> dict[tuple[tuple[str, str], ...], str]:
    """Give the state of each instance that has an alert firing, by limit and split values."""
    worst: dict[tuple[tuple[str, str], ...], str] = {}
    for alert in alerts:
        labels = dict(alert.labels)
        state = STATE_BY_ALERT.get((labels.pop("alertname", ""), labels.pop("severity", "")))
        if alert.state != FIRING or state is None:
            continue
        labels.pop("owner", None)
        identity = tuple(sorted(labels.items()))
        if identity not in worst or LIMIT_STATES.index(state) > LIMIT_STATES.index(worst[identity]):
            worst[identity] = state
    return worst
