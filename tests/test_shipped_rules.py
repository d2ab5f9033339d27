"""The shipped Alertmanager and Prometheus configurations are valid, and send each alert where it belongs."""

import subprocess
from pathlib import Path

import pytest

from engine.config_files import config_path
from tests.integration.servers import tool

ALERTMANAGER = config_path("alertmanager/alertmanager.yml")
PROMETHEUS = config_path("prometheus/prometheus.yml")
RULES = config_path("prometheus/callgauge.rules.yml")
RULES_TEST = Path(__file__).parent / "configs" / "callgauge.rules.test.yml"

PACKAGES = {"amtool": "prometheus-alertmanager", "promtool": "prometheus"}


def run(*command: str) -> str:
    """Run a tool of Prometheus or Alertmanager, which is installed if it can be."""
    path = tool(command[0], package=PACKAGES[command[0]])
    done = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_alertmanager_configuration_is_valid() -> None:
    """As Alertmanager itself reads it."""
    assert "SUCCESS" in run("amtool", "check-config", str(ALERTMANAGER))


def test_the_prometheus_configuration_is_valid() -> None:
    """With the rule file that it names, and without a remark from the linter."""
    assert "SUCCESS" in run("promtool", "check", "config", "--lint=all", "--lint-fatal", str(PROMETHEUS))


def test_the_rules_on_the_engine_fire_when_they_should() -> None:
    """Each rule once firing and once silent, in Prometheus' own test of rules."""
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert "SUCCESS" in run("promtool", "test", "rules", str(RULES_TEST))


def test_every_alert_rule_is_tested() -> None:
    """A rule without a case in the test file would pass unseen."""
    rules = RULES.read_text("utf-8").splitlines()
    named = [line.split(":")[1].strip() for line in rules if "- alert:" in line]
    tested = RULES_TEST.read_text("utf-8")
    assert named
    for name in named:
        assert tested.count(f"alertname: {name}\n        exp_alerts") == 1, name
        assert f"alertname: {name}}}" in tested, f"{name} is nowhere expected to be silent"


@pytest.mark.parametrize(
    ("alertname", "severity", "owner", "receiver"),
    [
        ("CallLimitApproaching", "critical", "voice-platform", "page-voice-platform"),
        ("CallLimitApproaching", "critical", "nobody-routed", "page-default"),
        ("CallLimitReached", "critical", "voice-platform", "page-voice-platform"),
        ("CallRateLimitApproaching", "critical", "", "page-default"),
        ("CallQuotaExhaustion", "critical", "finance", "page-finance"),
        ("HiddenCallLimit", "critical", "", "page-default"),
        ("CallTimeoutCliff", "critical", "voice-platform", "page-voice-platform"),
        ("CallArrivalsStopped", "critical", "", "page-default"),
        ("CallErrorBudgetBurn", "critical", "voice-platform", "page-voice-platform"),
        ("CallLimitApproaching", "warning", "voice-platform", "tickets-voice-platform"),
        ("CallLimitMismatch", "warning", "", "tickets"),
        ("CallLimitUnconfirmed", "info", "voice-platform", "notes"),
        ("CallgaugeWatchdog", "info", "", "dead-man"),
    ],
)
def test_alerts_reach_their_receiver(alertname: str, severity: str, owner: str, receiver: str) -> None:
    """By severity and owner; an owner without a route still reaches somebody."""
    labels = [f"alertname={alertname}", f"severity={severity}", *([f"owner={owner}"] if owner else [])]
    route = f"--config.file={ALERTMANAGER}"
    run("amtool", "config", "routes", "test", route, f"--verify.receivers={receiver}", *labels)
