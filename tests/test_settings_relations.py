"""Settings that are fine alone and would break a promise together are refused, each at its own bound."""

from __future__ import annotations

import pytest

from engine.errors import SettingsError
from engine.settings_file import parse_settings

MINUTE = 60


def problems_of(text: str) -> str:
    """Give what is wrong with settings, "" if nothing is."""
    try:
        parse_settings(text, "test")
    except SettingsError as error:
        return "\n".join(error.problems)
    return ""


@pytest.mark.parametrize(
    ("text", "least_s"),
    [
        ("engine: {late: %s}", 5),
        ("engine: {clock_ahead: %s}", 5),
        ("engine: {idle: %s}", 5),
        ("engine: {idle: %s}\nkafka: {poll: 3s, session_timeout: 1m}", 6),
        ("engine: {call_ttl: %s}", 60),
        ("headroom: {page_horizon: %s, evaluate: 1m}", 2 * MINUTE),
        ("headroom: {warn_horizon: %s}", 10 * MINUTE),
        ("headroom: {warn_horizon_baseline: %s}", 30 * MINUTE),
        ("kafka: {session_timeout: %s, heartbeat: 4s}", 12),
        ("kafka: {session_timeout: %s, heartbeat: 100ms, poll: 2s}", 8),
        ("alertmanager: {ends_after: %s}", 2 * MINUTE),
        ("alertmanager: {ends_after: %s}\nstate: {period: 1m}", 3 * MINUTE),
        ("alertmanager: {resolved_resend: %s}", 30),
        ("alertmanager: {resend: %s}", 10),
    ],
)
def test_a_duration_has_its_least(text: str, least_s: int) -> None:
    """That of a shorter one, as often as a promise needs it; at it all is well."""
    assert problems_of(text % f"{least_s}s") == ""
    found = problems_of(text % f"{1000 * least_s - 1}ms")
    assert " is less than " in found
    assert "\n" not in found


@pytest.mark.parametrize(
    "name",
    [
        "engine.out_of_order", "headroom.evaluate", "kafka.heartbeat", "kafka.poll", "kafka.fetch_wait",
        "alertmanager.resend", "alertmanager.timeout", "state.period",
        "state.topic_period",
    ],
)  # fmt: skip
def test_what_is_done_again_and_again_has_a_pause(name: str) -> None:
    """Without one it would take a processor, or never be done."""
    section, key = name.split(".")
    assert f"{name}: 0s is not above zero" in problems_of(f"{section}: {{{key}: 0s}}")


@pytest.mark.parametrize("other", ["kafka: {topic: a}", "state: {topic: a}"])
def test_rejected_rows_go_into_a_topic_of_their_own(other: str) -> None:
    """They would be read as events, or stand between checkpoints."""
    assert "quarantine.topic: is kafka.topic or state.topic" in problems_of(
        f"quarantine: {{topic: a}}\n{other}"
    )


LOGIN = "username: me, password_file: /run/password"


@pytest.mark.parametrize(
    ("alertmanager", "wrong"),
    [
        (f"urls: ['http://alerts.example:9093'], {LOGIN}", "the password would go there unencrypted"),
        (f"urls: ['https://alerts.example', 'http://10.0.0.1'], {LOGIN}", "'http://10.0.0.1' is another"),
        (f"urls: ['http://alerts.example:9093'], {LOGIN}, allow_insecure: true", ""),
        (f"urls: ['https://alerts.example', 'http://[::1]:9093', 'http://localhost:9093'], {LOGIN}", ""),
        ("urls: ['http://alerts.example:9093']", ""),
        ("urls: ['http://127.0.0.1:9093'], ca_file: /run/ca.pem", "no address begins with https"),
        ("urls: ['http://127.0.0.1:9093', 'https://alerts.example'], ca_file: /run/ca.pem", ""),
    ],
)
def test_a_password_for_alertmanagers_leaves_this_machine_only_encrypted(
    alertmanager: str, wrong: str
) -> None:
    text = f"alertmanager: {{{alertmanager}}}"
    if not wrong:
        assert parse_settings(text, "test").alertmanager.urls
        return
    with pytest.raises(SettingsError, match=wrong):
        parse_settings(text, "test")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("engine: {hidden_cap_labels: [tenantt]}", "engine.hidden_cap_labels[0]: 'tenantt' is not a label"),
        ("headroom: {page_threshold: 80}", "headroom.page_threshold: 80 is not between -10 and 10"),
        ("headroom: {warn_threshold: -60}", "headroom.warn_threshold: -60 is not between -10 and 10"),
        ("quarantine: {path: a}\ntimeline: {path: a}", "quarantine.path: is timeline.path as well"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_settings(text, "test")
    (problem,) = raised.value.problems
    assert problem.startswith(wrong)
