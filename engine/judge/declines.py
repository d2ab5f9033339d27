"""What a decline or an end means: the limit was reached, the callee was busy, the platform failed.

Platforms say "no capacity" in many ways: SIP 503, 403 with a text, 429, an error code, a word.
`config/declines.yaml` maps (platform, outcome, code, reason, limit) to a class; the first rule that matches
wins. Patterns are globs, so that no pattern of a user can hang the engine, and they look at reasons as they
are kept: with long numbers masked.

Where no rule matches, the outcome decides. A decline that nothing explains is "unknown" and still counts
against the limits it matches: a page too many is cheaper than a silent cap. An end that went well is
"none".
"""

from __future__ import annotations

import fnmatch
import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.decode.events import OUTCOMES, Cause
from engine.decode.redaction import LONG_NUMBER, REASON_BYTES_MAX
from engine.fields import FaultError, Fields, Problems, as_count, each, one_of, printable, shown
from engine.strict_yaml import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY, QUOTA, RATE, TIMEOUT = "capacity", "quota", "rate", "timeout"
BUSY, USER, PLATFORM, UNKNOWN, NONE = "busy", "user", "platform", "unknown", "none"
CLASSES = (CAPACITY, QUOTA, RATE, TIMEOUT, BUSY, USER, PLATFORM, UNKNOWN)
LIMIT_CLASSES = frozenset((CAPACITY, QUOTA, RATE))

# The rules' own word for `call.declined`, beside the outcomes of ends.
DECLINED = "declined"
RULES_MAX = 1024
GLOB_BYTES_MAX = 128
CACHED_CAUSES_MAX = 8192  # beyond that, classes are worked out anew each time
GLOBS_MAX = 1024  # remembered, the newest

CLASS_BY_OUTCOME = {
    "completed": NONE,
    "failed": UNKNOWN,
    "timeout": TIMEOUT,
    "abandoned": USER,
    "canceled": USER,
    "busy": BUSY,
    "no_answer": USER,
    "voicemail": NONE,
    "transferred": NONE,
    "ok": NONE,
    "error": UNKNOWN,
    "throttled": RATE,
    "other": UNKNOWN,
    "": UNKNOWN,
}
FAILED_OUTCOMES = frozenset(("failed", "timeout", "error"))


class Rule(NamedTuple):
    """One line of the table; an empty field matches all. Globs are `*` and `?`, without regard to case."""

    decline_class: str
    platform: str = ""
    outcomes: tuple[str, ...] = ()  # of OUTCOMES, or DECLINED
    codes: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()  # any of these globs
    limit: str = ""


class Classifier:
    """Rules, compiled, with the class of each cause remembered."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self._compiled = tuple((rule, _compile(rule)) for rule in rules)
        self._classes: dict[Cause, tuple[str, bool]] = {}

    def classify(self, cause: Cause) -> str:
        """Give one of CLASSES, or "none" for an end that went well."""
        return self._look_up(cause)[0]

    def is_error(self, cause: Cause) -> bool:
        """Say whether the attempt counts in the numerator of the error ratio.

        `failed` and `timeout` do, unless a rule says that a limit, a busy line or a person was the reason.
        An outcome that sounds well does when a rule says that the platform failed or a timeout cut it. A
        declined attempt does only when a rule says so.
        """
        decline_class, is_ruled = self._look_up(cause)
        if is_ruled and decline_class in (PLATFORM, TIMEOUT):
            return True
        if is_ruled and decline_class != UNKNOWN:
            return False
        return not cause.declined and cause.outcome in FAILED_OUTCOMES

    def is_limit_decline(self, cause: Cause) -> bool:
        """Say whether a limit declined the attempt, or nothing explains its decline.

        That includes ends whose code or reason says so: some platforms end a call that they never admitted.
        """
        decline_class = self.classify(cause)
        return decline_class in LIMIT_CLASSES or (cause.declined and decline_class == UNKNOWN)

    def _look_up(self, cause: Cause) -> tuple[str, bool]:
        known = self._classes.get(cause)
        if known is not None:
            return known
        found = self._work_out(cause)
        if len(self._classes) < CACHED_CAUSES_MAX:
            self._classes[cause] = found
        return found

    def _work_out(self, cause: Cause) -> tuple[str, bool]:
        """Give the class, and whether a rule gave it."""
        for rule, matches in self._compiled:
            if matches(cause):
                return rule.decline_class, True
        return CLASS_BY_OUTCOME.get("" if cause.declined else cause.outcome, UNKNOWN), False


def _compile(rule: Rule) -> Callable[[Cause], bool]:
    platform = _glob((rule.platform,) if rule.platform else ())
    reason = _glob(rule.reasons)
    limit = _glob((rule.limit,) if rule.limit else ())
    outcomes, codes = frozenset(rule.outcomes), frozenset(rule.codes)

    def matches(cause: Cause) -> bool:
        outcome = DECLINED if cause.declined else cause.outcome
        return (
            (not outcomes or outcome in outcomes)
            and (not codes or cause.code in codes)
            and platform(cause.platform)
            and reason(cause.reason)
            and limit(cause.limit)
        )

    return matches


@functools.lru_cache(GLOBS_MAX)
def _glob(globs: tuple[str, ...]) -> Callable[[str], bool]:
    """Give a test for any of some globs; without globs it is always true.

    Remembered: a line is built at each assignment, from the same rules, while partitions wait.
    """
    if not globs:
        return lambda _: True
    # fnmatch makes expressions that do not backtrack. Its character classes are off: reasons hold [ ].
    expressions = [re.compile(fnmatch.translate(glob.lower().replace("[", "[[]"))) for glob in globs]
    return lambda text: any(expression.match(text.lower()) for expression in expressions)


def parse_rules(text: str, where: str) -> tuple[Rule, ...]:
    """Parse a table of rules; raises `SettingsError` with every problem found."""
    document = parse_yaml(text, where)
    problems = Problems(document)
    if document.value is None:
        problems.add((), "is empty", "write `declines:` and below it one `- class: ...` entry for every rule")
        problems.raise_any()
    top = Fields(document.value, (), problems)
    nothing: list[object] = []
    items = top.need("declines", _as_entries, nothing, "write `declines: []` if there are no rules")
    rules = tuple(_rule(Fields(item, ("declines", index), problems)) for index, item in enumerate(items))
    top.close()
    problems.raise_any()
    return rules


def _rule(fields: Fields) -> Rule:
    rule = Rule(
        decline_class=fields.need("class", one_of(CLASSES), "", f"write one of {', '.join(CLASSES)}"),
        platform=fields.get("platform", printable(GLOB_BYTES_MAX), ""),
        outcomes=fields.get("outcome", _one_or_more(one_of((DECLINED, *OUTCOMES))), ()),
        codes=fields.get("code", _one_or_more(as_count), ()),
        reasons=fields.get("reason", _one_or_more(_as_reason_glob), ()),
        limit=fields.get("limit", printable(GLOB_BYTES_MAX), ""),
    )
    fields.close()
    asks = ("platform", "outcome", "code", "reason", "limit")
    if fields.is_mapping and not any(fields.has(key) for key in asks):
        fields.wrong(
            "class",
            "would apply to every call, so that no later rule is ever reached",
            f"say when: {', '.join(asks)}",
        )
    return rule


def _as_entries(value: object) -> list[object]:
    if not isinstance(value, list):
        raise FaultError(f"{shown(value)} is not a list", "write one `- class: ...` entry for each rule")
    if len(value) > RULES_MAX:
        raise FaultError(
            f"{len(value)} rules are more than {RULES_MAX}", "merge some: code and reason may be lists"
        )
    return value


def _one_or_more(convert: Callable[[Any], Any]) -> Callable[[object], tuple[Any, ...]]:
    """Take one value or a list of them."""

    def convert_any(value: object) -> tuple[Any, ...]:
        values = each(convert)(value) if isinstance(value, list) else (convert(value),)
        if not values:
            raise FaultError("the list is empty, so nothing would ever match", "leave the key out")
        return values

    return convert_any


def _as_reason_glob(value: object) -> str:
    """Take a glob over reasons as they are kept; what could never match is a mistake."""
    glob = printable(GLOB_BYTES_MAX)(value)
    if LONG_NUMBER.search(glob):
        raise FaultError(
            f"{shown(glob)} holds a number of three or more digits, which reasons are kept without",
            "write # in its place, and give the number as `code`",
        )
    if len(glob.replace("*", "").encode()) > REASON_BYTES_MAX:
        raise FaultError(
            f"{shown(glob)} is longer than reasons are kept ({REASON_BYTES_MAX} bytes)", "end it with *"
        )
    return glob
