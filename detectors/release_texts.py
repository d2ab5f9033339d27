"""What is said of a release: its verdict with the reason, and the page that asks for a rollback."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from detectors.release_comparison import (
    BASELINE,
    CANARY,
    FAILURES,
    LATENCY,
    LEVELS,
    Comparison,
    Signals,
    log_evidence,
)
from engine.judge.detection import (
    CONTINUE,
    CRITICAL,
    MINUTE_NS,
    PROMOTE,
    ROLLBACK,
    Finding,
    ReleaseVerdict,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from detectors.release_rows import Releases

PROMOTE_LOG_E = math.log(20.0)  # the confidence sequence at 95 %
PROMOTE_CALLS = 100  # of the release, ended and compared
PROMOTE_NS = 10 * MINUTE_NS
PROMOTE_VALUES = 30  # of a stage or metric; with fewer it has no say
E_SHOWN_MAX = 1e9
SUMMARY = "Release {release} does worse than those that run beside it: roll it back."
DESCRIPTION = (
    "Release {release} has taken {share_percent} % of the calls for {minutes} min, beside {beside}. {worse} "
    "Both were seen in the same minutes and with the same other labels, so neither the hour nor the mix of "
    "callers explains it: were it no worse, evidence like this would come up at most once in {evidence_text} "
    "such rollouts. Take it back to the release before, then look for the cause."
)


def shown(log_e: float) -> float:
    """Give an e-value with as many digits as mean something."""
    return min(float(f"{math.exp(min(log_e, 100.0)):.4g}"), E_SHOWN_MAX)


def verdict_of(
    one: Comparison,
    releases: Releases,
    older: NDArray[np.bool_],
    signals: Signals,
    asked: tuple[Mapping[str, float], int],
) -> ReleaseVerdict:
    """Say what is to be done with a release; `asked` = (ln of the e-value by kind, now)."""
    log_levels, end_ns = asked
    beside = tuple(releases.names[number] for number in np.flatnonzero(older))
    begun = one.flow[-1, 0]
    log_e = {kind: log_evidence(one, signals, kind) for kind in log_levels}
    compared = ReleaseVerdict(
        release=releases.names[one.canary],
        verdict=CONTINUE,
        reason="",
        baseline=beside,
        since_ns=one.since_ns,
        share_ratio=float(begun[CANARY] / max(begun.sum(), 1.0)),
        calls=int(one.seen[0, CANARY]),
        baseline_calls=int(one.seen[0, BASELINE]),
        failed=int(one.seen_bad[0, 0, CANARY]),
        failed_usual=float(one.usual[0, 0]),
        evidence=tuple(
            (kind, shown(log_e[kind]), shown(level))
            for kind, level in log_levels.items()
            if log_e[kind] > -math.inf
        ),
    )
    if one.rollback_ns >= 0:
        return compared._replace(verdict=ROLLBACK, reason=failures_text(one, compared, signals))
    missing = _missing(one, signals, end_ns)
    if missing:
        return compared._replace(reason=missing)
    return compared._replace(
        verdict=PROMOTE, reason=f"It is not worse by more than the margin. {_counts_text(compared)}"
    )


def _missing(one: Comparison, signals: Signals, end_ns: int) -> str:
    """Say why a release cannot be promoted yet; "": it can."""
    if one.seen[0, BASELINE] == 0:
        return "No call of an older release with the same other labels has ended beside its own yet."
    if one.seen[0, CANARY] < PROMOTE_CALLS or end_ns - one.since_ns < PROMOTE_NS:
        return (
            f"Too little was seen yet: {one.seen[0, CANARY]:.0f} of its calls have ended and were compared."
        )
    undecided = [
        stage or kind
        for number, (kind, stage) in enumerate(signals.names)
        if (kind == FAILURES or one.seen[number, CANARY] >= PROMOTE_VALUES)
        and one.log_not_worse[number, : 1 if kind == FAILURES else 2].min() < PROMOTE_LOG_E
    ]
    return f"The evidence does not decide yet on {', '.join(undecided)}." if undecided else ""


def _counts_text(verdict: ReleaseVerdict) -> str:
    return (
        f"{verdict.failed} of {verdict.calls} calls failed; had it failed like the older releases, "
        f"{verdict.failed_usual:.1f} would have."
    )


def failures_text(one: Comparison, verdict: ReleaseVerdict, signals: Signals) -> str:
    """Say what is worse: the signal with most evidence, in counts."""
    best = one.log_m.max(axis=2)
    best[0, 1:] = -np.inf
    number, level = np.unravel_index(int(np.argmax(best)), best.shape)
    kind, name = signals.names[number]
    if kind == FAILURES:
        return _counts_text(verdict)
    values, bad = one.seen[number, CANARY], one.seen_bad[number, level, CANARY]
    quantile = LEVELS[kind][level]
    usual = one.usual[number, level]
    bound = f"{'slower' if kind == LATENCY else 'lower'} than the older releases' q{100 * quantile:.0f}"
    bound += " by about a tenth or more" if kind == LATENCY else ""
    what = f"{name} latencies" if kind == LATENCY else f"{name} scores"
    return f"{bad:.0f} of its {values:.0f} {what} were {bound}, where {usual:.0f} would be usual."


def finding_of(alertname: str, row: int, verdict: ReleaseVerdict, worse: str, end_ns: int) -> Finding:
    """Ask for a rollback."""
    largest = max((e_value for _, e_value, _ in verdict.evidence), default=0.0)
    return Finding(
        alertname,
        CRITICAL,
        ("window", row),
        SUMMARY,
        DESCRIPTION,
        labels=(("action", ROLLBACK),),
        evidence=(
            ("worse", worse),
            ("beside", ", ".join(verdict.baseline)),
            ("share_percent", round(100 * verdict.share_ratio, 1)),
            ("minutes", max(round((end_ns - verdict.since_ns) / MINUTE_NS), 1)),
            ("calls", verdict.calls),
            ("failed", verdict.failed),
            ("failed_usual", round(verdict.failed_usual, 1)),
            ("e_value", largest),
            ("evidence_text", f"{largest:,.0f}"),
        ),
    )
