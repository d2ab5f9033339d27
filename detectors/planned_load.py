"""Load that was announced (`load.planned`), checked against the headroom before it starts.

What is announced comes on top of what is there anyway: what is usual at that time, if that is known, else
what is there now. A plan begins at `from`, or at its announcement; it is checked until then and for a moment
after: from then on the forecast sees it in the arrivals. It is kept until it ends, as plans that come while
it runs stand on top of it. A later plan for the same calls and beginning takes the place of the earlier one;
`expected` 0 takes it back. A jump cannot be forecast: nothing else warns of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.usual_load import busiest_within
from engine.decode.events import EventType

if TYPE_CHECKING:
    from detectors.headroom_state import HeadroomState
    from engine.decode.events import Note
    from engine.judge.occupancy import LimitUse
    from engine.limits import LimitInstance
    from engine.settings import HeadroomSettings, UtcOffsets

NS = 1_000_000_000
PLANS_MAX = 64
LASTS_NS = 3_600 * NS  # a plan that does not say until when
CHECKED_AFTER_MIN_NS = 45 * NS  # its beginning, or as long as a page may need
EVALUATIONS = 2  # in a row, before headroom fires


class Plan(NamedTuple):
    """One announcement."""

    limit: str  # "": by labels
    labels: tuple[tuple[str, str], ...]
    from_ns: int
    until_ns: int
    expected: float  # calls at a time
    announced_ns: int  # end of the slice that brought it


class Overload(NamedTuple):
    """A plan that does not fit: evidence for a page."""

    row: int
    plan: Plan
    ordinary: float  # calls at a time that are there anyway
    is_usual: bool  # that is known from past weeks


def planned(state: HeadroomState, notes: tuple[Note, ...], end_ns: int) -> HeadroomState:
    """Give the state with the plans among the notes of a slice."""
    plans, refused = with_plans(state.plans, notes, end_ns)
    return state._replace(plans=plans, plans_refused=state.plans_refused + refused)


def with_plans(plans: tuple[Plan, ...], notes: tuple[Note, ...], end_ns: int) -> tuple[tuple[Plan, ...], int]:
    """Give the plans with those of the notes taken in, past ones left out, and how many had no room."""
    fresh = [plan_of(note, end_ns) for note in notes if note.type_id == EventType.LOAD_PLANNED]
    if not fresh and all(not is_over(plan, end_ns) for plan in plans):
        return plans, 0
    refused = 0
    kept = {(plan.limit, plan.labels, plan.from_ns): plan for plan in plans if not is_over(plan, end_ns)}
    for plan in fresh:
        if plan is None or is_over(plan, end_ns):
            continue
        key = (plan.limit, plan.labels, plan.from_ns)
        if plan.expected <= 0.0:
            kept.pop(key, None)
        elif key in kept or len(kept) < PLANS_MAX:
            kept[key] = plan
        else:
            refused += 1
    return tuple(sorted(kept.values(), key=lambda plan: (plan.from_ns, plan.limit, plan.labels))), refused


def plan_of(note: Note, end_ns: int) -> Plan | None:
    """Give the plan of a note; None: it does not say how much."""
    fields = dict(note.fields)
    expected, until, begin = (fields.get(name) for name in ("expected", "until_ns", "from_ns"))
    if not isinstance(expected, int | float):
        return None
    from_ns = begin if isinstance(begin, int) else note.time_ns
    until_ns = until if isinstance(until, int) else from_ns + LASTS_NS
    return Plan(str(fields.get("limit", "")), note.labels, from_ns, until_ns, float(expected), end_ns)


def is_over(plan: Plan, end_ns: int) -> bool:
    """Say whether the time of a plan has passed."""
    return plan.until_ns <= end_ns


def is_checked(plan: Plan, end_ns: int, evaluate_ns: int) -> bool:
    """Say whether a plan is still to begin, or has only just; `evaluate_ns` is how often that is asked."""
    after_ns = max(CHECKED_AFTER_MIN_NS, EVALUATIONS * evaluate_ns)
    return end_ns <= max(plan.from_ns, plan.announced_ns) + after_ns


def is_meant(plan: Plan, instance: LimitInstance) -> bool:
    """Say whether a plan is about calls of a limit instance: by its name, or by all labels it looks at."""
    limit, given = instance.limit, dict(plan.labels)
    if plan.limit and plan.limit != limit.name:
        return False
    if not plan.limit and not limit.matches(given):
        return False
    return all(given.get(label, "") == value for label, value in instance.split)


def overloads(
    state: HeadroomState, use: LimitUse, limits: tuple[LimitInstance, ...], settings: HeadroomSettings
) -> list[Overload]:
    """List the plans that would take more of a limit than there is; several for one limit come together."""
    found = []
    checked = {plan for plan in state.plans if is_checked(plan, state.end_ns, settings.evaluate_ns)}
    for plan in state.plans:
        if plan not in checked:
            continue
        for row in range(min(len(limits), len(use.value))):
            if not use.is_concurrency[row] or not is_meant(plan, limits[row]):
                continue
            ordinary, is_usual = ordinary_calls(state, use, row, plan, settings.utc_offsets)
            # Calls of a plan that runs already are among those of now, and not among the usual ones.
            others = [
                other for other in state.plans
                if is_meant(other, limits[row]) and (is_usual or other in checked)
            ]  # fmt: skip
            together = most_together(plan, others)
            if ordinary + together + use.unseen_use[row] > use.value[row]:
                found.append(Overload(row, plan._replace(expected=together), ordinary, is_usual))
    return found


def most_together(plan: Plan, plans: list[Plan]) -> float:
    """Give the most calls that plans, `plan` among them, expect at one moment while it lasts."""
    begins = {plan.from_ns} | {one.from_ns for one in plans if plan.from_ns <= one.from_ns < plan.until_ns}
    return max(sum(one.expected for one in plans if one.from_ns <= at < one.until_ns) for at in begins)


def ordinary_calls(
    state: HeadroomState, use: LimitUse, row: int, plan: Plan, offsets: UtcOffsets
) -> tuple[float, bool]:
    """Give how many calls at a time will be there anyway, and whether past weeks say so."""
    now = float(use.level[row])
    holding_s = float(state.outlook.holding_s[row])
    if state.season.weight[row] < 1.0 or not np.isfinite(holding_s):
        return now, False
    rate_per_s = busiest_within(state.season.baseline, row, (plan.from_ns, plan.until_ns), offsets)
    return rate_per_s * holding_s, True
