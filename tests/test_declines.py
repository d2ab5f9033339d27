"""The decline classifier: what the shipped rules say of real platforms' words, and what an error is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config_files import config_path
from engine.decode.events import OUTCOMES, Cause
from engine.decode.redaction import redact_reason
from engine.judge.declines import CACHED_CAUSES_MAX, CLASSES, Classifier, Rule, parse_rules

SHIPPED = parse_rules(config_path("declines.yaml").read_text(), "declines.yaml")


def declined(code: int = 0, reason: str = "", platform: str = "", limit: str = "") -> Cause:
    """Make a declined attempt as the decoder keeps it."""
    kept = redact_reason(reason)
    return Cause(declined=True, outcome="", platform=platform, code=code, reason=kept, limit=limit)


def ended(outcome: str, code: int = 0, reason: str = "", platform: str = "") -> Cause:
    """Make an ended call as the decoder keeps it."""
    kept = redact_reason(reason)
    return Cause(declined=False, outcome=outcome, platform=platform, code=code, reason=kept, limit="")


# Longer than a reason is kept.
ELEVEN_LABS_BLOCKED = "pipeline-error-eleven-labs-blocked-concurrent-requests-and-requested-upgrade"

# What platforms send when a limit of theirs is reached; reasons are redacted as in the decoder.
AT_A_LIMIT = [
    ("capacity", declined(503, "Service Unavailable")),
    ("capacity", declined(503, "Maximum Calls In Progress", "freeswitch")),
    ("capacity", declined(503, "System Busy", "freeswitch")),
    ("capacity", declined(0, "SWITCH_CONGESTION", "asterisk")),
    ("capacity", declined(34, "Circuit/channel congestion")),
    ("capacity", declined(500, "Server Internal Error", "kamailio")),
    ("capacity", declined(403, "User channel limit exceeded D1", "telnyx")),
    ("capacity", declined(0, "concurrency_limit_reached", "retell")),
    ("capacity", ended("failed", 0, "concurrency_limit_reached", "retell")),
    ("capacity", declined(0, "no_concurrency_fallback", "retell")),
    ("capacity", declined(0, "call.start.error-subscription-concurrency-limit-reached", "vapi")),
    ("capacity", declined(0, ELEVEN_LABS_BLOCKED, "vapi")),
    ("capacity", declined(0, "call.in-progress.error-vapifault-worker-not-available", "vapi")),
    ("capacity", declined(10004, "Call concurrency limit exceeded", "twilio")),
    ("capacity", declined(64109, "", "twilio")),
    ("capacity", declined(86008, "", "twilio")),
    ("capacity", declined(429, "Account concurrent call limit exceeded", "bandwidth")),
    ("capacity", declined(0, "account-limit", "bandwidth")),
    ("capacity", declined(0, "node-capacity-exceeded", "bandwidth")),
    ("capacity", declined(500, "concurrent call limit exceeded", "livekit")),
    ("capacity", declined(0, "no worker available to handle job", "livekit")),
    ("capacity", declined(503, "node has exceeded its configured limit", "livekit")),
    ("capacity", declined(429, "too_many_concurrent_requests", "elevenlabs")),
    ("capacity", declined(503, "", "vonage")),
    ("rate", declined(429, "", "vonage")),
    ("rate", declined(429, "Account call creation rate limit exceeded", "bandwidth")),
    ("rate", declined(503, "Limiting", "kamailio")),
    ("rate", declined(500, "cps limit exceeded", "livekit")),
    ("rate", declined(32001, "", "twilio")),
    ("rate", declined(22005, "Call Queue Full", "twilio")),
    ("rate", declined(0, "pipeline-error-openai-429-rate-limit-reached", "vapi")),
    ("quota", declined(401, "quota_exceeded", "elevenlabs")),
    ("quota", declined(0, "call.start.error-vapi-number-outbound-daily-limit", "vapi")),
    ("quota", declined(0, "call.start.error-subscription-insufficient-credits", "vapi")),
    ("quota", declined(0, "pipeline-error-openai-429-exceeded-quota", "vapi")),
    ("quota", declined(0, "no_valid_payment", "retell")),
    ("quota", declined(503, "Service temporarily unavailable", "livekit")),
]  # fmt: skip

NOT_A_LIMIT = [
    ("busy", declined(486, "Busy Here")),
    ("busy", declined(600, "Busy Everywhere")),
    ("busy", ended("failed", 17, "USER_BUSY", "freeswitch")),
    ("busy", ended("busy")),
    ("busy", ended("failed", 0, "customer-busy", "vapi")),
    ("user", declined(480, "Temporarily Unavailable")),
    ("user", declined(603, "Decline")),
    ("user", declined(404, "Not Found")),
    ("user", ended("canceled", 487)),
    ("user", ended("no_answer")),
    ("user", ended("abandoned")),
    ("user", ended("failed", 0, "customer-did-not-answer", "vapi")),
    ("user", ended("completed", 0, "user_hangup", "retell")),
    ("timeout", ended("timeout")),
    ("timeout", ended("failed", 408)),
    ("timeout", ended("failed", 504)),
    ("timeout", ended("completed", 0, "max_duration_reached", "retell")),
    ("timeout", declined(11205, "", "twilio")),
    ("platform", ended("failed", 500)),
    ("platform", ended("failed", 503)),
    ("platform", declined(401, "Unauthorized")),
    ("platform", declined(503, "System Paused", "freeswitch")),
    ("platform", declined(503, "Try again later", "livekit")),
    ("platform", ended("completed", 0, "error_llm_websocket_open", "retell")),
    ("platform", ended("failed", 0, "pipeline-error-openai-503-server-overloaded-error", "vapi")),
    ("unknown", declined()),
    ("unknown", declined(500)),
    ("unknown", declined(999, "never seen before")),
    ("unknown", ended("failed")),
    ("none", ended("completed")),
    ("none", ended("transferred", 200)),
]


@pytest.mark.parametrize(("expected", "cause"), AT_A_LIMIT)
def test_a_platform_that_declines_at_a_limit_is_understood_and_is_no_error(
    expected: str, cause: Cause
) -> None:
    classifier = Classifier(SHIPPED)

    assert expected == classifier.classify(cause)
    assert classifier.is_limit_decline(cause)
    assert not classifier.is_error(cause)


@pytest.mark.parametrize(("expected", "cause"), NOT_A_LIMIT)
def test_other_ends_are_told_from_limits(expected: str, cause: Cause) -> None:
    assert expected == Classifier(SHIPPED).classify(cause)


@pytest.mark.parametrize(("expected", "cause"), NOT_A_LIMIT)
def test_errors_are_what_failed_or_was_cut_and_never_busy_or_user(expected: str, cause: Cause) -> None:
    is_error = expected in ("platform", "timeout") or (expected == "unknown" and not cause.declined)

    assert is_error == Classifier(SHIPPED).is_error(cause)


def test_a_decline_that_nothing_explains_counts_against_limits_and_not_as_an_error() -> None:
    """A page too many is cheaper than a silent cap."""
    classifier = Classifier(SHIPPED)

    assert classifier.is_limit_decline(declined(999))
    assert not classifier.is_error(declined(999))
    assert not classifier.is_limit_decline(ended("failed"))
    assert classifier.is_error(ended("failed"))


def test_the_first_rule_that_matches_wins() -> None:
    rules = (Rule("busy", codes=(503,)), Rule("capacity", codes=(503, 504)))

    assert ["busy", "capacity"] == [Classifier(rules).classify(declined(code)) for code in (503, 504)]


def test_every_field_of_a_rule_must_match() -> None:
    rule = Rule("capacity", "kam*", ("declined",), (503,), ("*full*", "no ?oom"), "sip-*")
    cause = declined(503, "really FULL now", "Kamailio", "sip-1")
    classifier = Classifier((rule,))

    assert classifier.classify(cause) == "capacity"
    for other in (
        cause._replace(platform="freeswitch"),
        cause._replace(declined=False, outcome="busy"),
        cause._replace(code=504),
        cause._replace(reason="empty"),
        cause._replace(limit="other"),
    ):
        assert classifier.classify(other) != "capacity"
    assert classifier.classify(cause._replace(reason="No room")) == "capacity"


def test_globs_are_only_stars_and_question_marks() -> None:
    """Brackets, braces, dots and backslashes of reasons stand for themselves."""
    classifier = Classifier((Rule("capacity", reasons=("[a-z]+ .{1} \\d (x)*",)),))

    assert classifier.classify(declined(reason="[a-z]+ .{1} \\d (x) and more")) == "capacity"
    assert classifier.classify(declined(reason="abc x 5 (x)")) == "unknown"


def test_a_glob_matches_the_whole_text_over_line_ends() -> None:
    classifier = Classifier((Rule("capacity", platform="a*b"),))

    assert classifier.classify(declined(platform="a\nb")) == "capacity"
    assert classifier.classify(declined(platform="xab")) == "unknown"


def test_a_glob_of_many_stars_does_not_hang() -> None:
    """With backtracking this would take longer than the world is old; so it need not be timed."""
    classifier = Classifier((Rule("capacity", reasons=("*a" * 30 + "b",)),))

    assert classifier.classify(Cause(True, "", "", 0, "a" * 64, "")) == "unknown"


def test_every_outcome_has_a_class_without_rules() -> None:
    classifier = Classifier(())

    assert {"completed", "voicemail", "transferred", "ok"} == {
        outcome for outcome in OUTCOMES if classifier.classify(ended(outcome)) == "none"
    }
    assert {"failed", "timeout", "error"} == {
        outcome for outcome in OUTCOMES if classifier.is_error(ended(outcome))
    }


@given(
    is_declined=st.booleans(),
    outcome=st.sampled_from(OUTCOMES),
    code=st.one_of(st.sampled_from([0, 34, 429, 480, 486, 500, 503, 10004]), st.integers(0, 1 << 31)),
    reason=st.one_of(st.sampled_from(["Service Unavailable", "quota_exceeded", ""]), st.text(max_size=64)),
    platform=st.sampled_from(["", "vapi", "retell", "twilio", "kamailio", "livekit"]),
)
def test_any_cause_has_one_class_and_limits_are_never_errors(
    is_declined: bool, outcome: str, code: int, reason: str, platform: str
) -> None:
    cause = Cause(is_declined, "" if is_declined else outcome, platform, code, reason, "")
    classifier = Classifier(SHIPPED)

    first = (classifier.classify(cause), classifier.is_error(cause), classifier.is_limit_decline(cause))

    assert first[0] in (*CLASSES, "none")
    if first[0] in ("capacity", "rate", "quota", "busy", "user", "none"):
        assert not first[1]
    if first[0] in ("busy", "user", "platform", "timeout", "none"):
        assert not first[2]
    assert first == (
        classifier.classify(cause),
        classifier.is_error(cause),
        classifier.is_limit_decline(cause),
    )


def test_classes_are_remembered_up_to_a_bound_and_right_beyond_it() -> None:
    classifier = Classifier(SHIPPED)

    for code in range(CACHED_CAUSES_MAX + 100):
        classifier.classify(declined(code + 10_000_000))

    assert len(classifier._classes) == CACHED_CAUSES_MAX
    assert classifier.classify(declined(503)) == "capacity"


def test_the_shipped_rules_name_every_class_that_a_rule_can_mean() -> None:
    assert set(CLASSES) - {"unknown"} == {rule.decline_class for rule in SHIPPED}
