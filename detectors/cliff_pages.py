"""What pages about timeouts say: at which duration, how many, since when, and whose timeout it is.

Numbers in sentences are written here, because a template can only insert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from detectors.latency_walls import REGISTERED, SEEN, stage_of
from engine.judge.detection import CRITICAL, MINUTE_NS, WARNING, Finding

if TYPE_CHECKING:
    from detectors.creeping_latency import Outlook
    from engine.limits import LimitInstance

ALERT = "CallTimeoutCliff"
Matches = list[tuple["LimitInstance", float]]

ATOM_SUMMARY = "{what} fail at exactly {timeout}."
ATOM = (
    "{hits} of {failures} failed {operations} of one hour or day ended at {timeout} ({share_percent} %), "
    "under suspicion for {since}. Faults at random do not end at one duration: a timeout cuts them. "
)
IN_REGISTER = (
    "It is {limit} of the register ({limit_value} s), in {lives_in}: raise it, or mend what became slow."
)
ALSO = " Others end at one duration as well: {also}."
CREEP_SUMMARY = "{what} take longer and longer, and will meet a timeout of {timeout}."
CREEP = (
    "Half of the {operations} take {middle}, one in a hundred more than {slow}; {trend}. "
    "Beyond {timeout} they are cut: {expected} within the hour, {first}. "
)
CUT_SUMMARY = "No {operation} takes longer than {timeout} any more."
CUT = (
    "No successful {operation} has taken longer than {timeout} any more, where {missed} were expected to. "
    "What would take longer seems to be cut there, with or without an event. "
)
PHASE_SUMMARY = "Failures come every {cycle}, at the same moment."
PHASE = (
    "In {hits} of the {cycles} cycles of one {cycle} in which failures stood out, they did so at {moment}. "
    "Look for what runs or expires then: a scheduled job, a token, a cache, a rotation of logs or addresses."
)
UNKNOWN = "Nobody wrote a timeout of {timeout} into the register. Usual suspects: {suspects}."
SEVERAL = "The register has several timeouts of about {timeout} here: {names}."
SEEN_BEFORE = "Calls were cut there before. "
IS_USUAL = "It is a usual default, and no call has passed it: find out whether one stands in this path. "
SUSPECTS = {
    3.0: "the default of a serverless function",
    15.0: "the default route timeout of Envoy and gateways built on it, or of a provider's webhooks",
    29.0: "a managed API gateway",
    30.0: "the default of a load balancer, a router or an HTTP client",
    32.0: "SIP's transaction timer (64 times T1)",
    60.0: "the read timeout of a reverse proxy, or the idle timeout of a load balancer",
    100.0: "a content delivery network in front of the origin",
}
ANY_SUSPECT = "a client, proxy or gateway in the path with a default of its own"
CYCLES = (("minute", "minute"), ("five-minute span", "five_minutes"), ("hour", "hour"))
WHAT = {
    "setup": ("Call set-ups", "set-up"),
    "call": ("Answered calls", "call"),
    "transfer": ("Transfers", "transfer"),
    "dependency": ("Calls of a dependency", "call of a dependency"),
}
PLURALS = {"call of a dependency": "calls of a dependency"}


class Cliff(NamedTuple):
    """An atom and who speaks for it."""

    operation: str
    row: int  # window row
    matches: Matches
    timeout_s: float
    hits: int
    failures: int
    lasted_ns: int  # the suspicion; hits and failures are of the hour or day that speaks


def seconds(value: float) -> str:
    """Write a duration to 10 ms."""
    return f"{value:.2f} s"


def names_of(stage: str) -> tuple[str, str, str]:
    """Give how a sentence begins with it, one of it, several of it."""
    what, one = WHAT.get(stage_of(stage), (f"Runs of {stage}", f"run of {stage}"))
    many = PLURALS.get(one, one.replace("run of", "runs of") if one.startswith("run of") else one + "s")
    return what, one, many


def atom_findings(cliffs: list[Cliff]) -> list[Finding]:
    """Word failures at one duration; where labels cannot tell several apart, one finding has them all."""
    findings: dict[tuple[object, ...], Finding] = {}
    others: dict[tuple[object, ...], list[str]] = {}
    for cliff in sorted(cliffs, key=lambda one: (-one.hits, one.timeout_s)):
        finding = _atom_finding(cliff)
        identity = (finding.subject, finding.labels)
        findings.setdefault(identity, finding)
        others.setdefault(identity, []).append(f"{cliff.hits} at {seconds(cliff.timeout_s)}")
    return [
        finding._replace(
            description=finding.description + ALSO,
            evidence=(*finding.evidence, ("also", ", ".join(others[identity][1:]))),
        )
        if len(others[identity]) > 1
        else finding
        for identity, finding in findings.items()
    ]


def _atom_finding(cliff: Cliff) -> Finding:
    what, one, many = names_of(cliff.operation)
    minutes = max(round(cliff.lasted_ns / MINUTE_NS), 1)
    evidence = (
        ("what", what), ("operation", one), ("operations", many), ("timeout", seconds(cliff.timeout_s)),
        ("hits", cliff.hits), ("failures", cliff.failures),
        ("share_percent", round(100 * cliff.hits / max(cliff.failures, 1))), ("since", f"{minutes} min"),
    )  # fmt: skip
    return _finding(CRITICAL, (cliff.row, cliff.operation), cliff.matches, (ATOM_SUMMARY, ATOM), evidence)


def creep_finding(where: tuple[int, str], matches: Matches, outlook: Outlook, slot: int) -> Finding:
    """Word a latency that creeps toward a wall; `where` is (window row, stage)."""
    what, one, many = names_of(where[1])
    slope = 100 * 10 * float(outlook.slope_per_min[slot])
    first_min = float(outlook.first_min[slot])
    trend = f"that grows by {slope:.0f} % in ten minutes" if slope >= 1 else "that is much more than it was"
    first = f"the first in about {first_min:.0f} min" if first_min >= 1 else "the first any minute"
    evidence = (
        ("what", what), ("operation", one), ("operations", many),
        ("timeout", seconds(float(outlook.wall_s[slot]))), ("middle", seconds(float(outlook.q50_s[slot]))),
        ("slow", seconds(float(outlook.q99_s[slot]))), ("trend", trend), ("first", first),
        ("expected", round(float(outlook.expected[slot]))),
    )  # fmt: skip
    kind = int(outlook.wall_kind[slot])
    text = CREEP + ("" if kind == REGISTERED else SEEN_BEFORE if kind == SEEN else IS_USUAL)
    return _finding(WARNING, where, matches, (CREEP_SUMMARY, text), evidence)


def cut_finding(where: tuple[int, str], matches: Matches, outlook: Outlook, slot: int) -> Finding:
    """Word successes that have stopped at a wall."""
    what, one, many = names_of(where[1])
    evidence = (
        ("what", what), ("operation", one), ("operations", many),
        ("timeout", seconds(float(outlook.cut_s[slot]))), ("missed", round(float(outlook.missed[slot]))),
    )  # fmt: skip
    return _finding(WARNING, where, matches, (CUT_SUMMARY, CUT), evidence)


def phase_finding(row: int, cycle: int, moment: str, counts: tuple[int, int]) -> Finding:
    """Word failures on phase; `counts` are the cycles in which they stood out there, and all."""
    name, label = CYCLES[cycle]
    evidence = (("cycle", name), ("moment", moment), ("hits", counts[0]), ("cycles", counts[1]))
    return Finding(
        ALERT, CRITICAL, ("window", row), PHASE_SUMMARY, PHASE, labels=(("cycle", label),), evidence=evidence
    )


def _finding(
    severity: str,
    where: tuple[int, str],
    matches: Matches,
    texts: tuple[str, str],
    evidence: tuple[tuple[str, float | int | str], ...],
) -> Finding:
    """Put the finding on the limit of the register if exactly one matches, else on the window row."""
    row, stage = where
    summary, text = texts
    labels = (("stage", stage_of(stage)),)
    if len(matches) == 1:
        subject = ("limit", matches[0][0].index)
        return Finding(ALERT, severity, subject, summary, text + IN_REGISTER, labels, evidence)
    timeout_s = float(str(dict(evidence)["timeout"]).removesuffix(" s"))
    suspects = SUSPECTS.get(timeout_s, ANY_SUSPECT)
    names = ", ".join(one.limit.name for one, _ in matches)
    known = SEVERAL if matches else UNKNOWN
    more = (("suspects", suspects), ("names", names))
    return Finding(ALERT, severity, ("window", row), summary, text + known, labels, (*evidence, *more))
