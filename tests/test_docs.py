"""What README says exists, exists; and what exists is in README."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import typer.main

from detectors import make_detectors
from engine.app import EVERYTHING, load_configuration
from engine.check_config import check
from engine.cli import app
from engine.commands.replay import ReplayOptions, outcome_of, run_log
from engine.commands.report import headline, table
from engine.config_files import config_path
from engine.decode.events import LABELS, EventType
from engine.errors import LossReason
from engine.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "engine" / "ARCHITECTURE.md").read_text()
DECISIONS = (ROOT / "engine" / "DECISIONS.md").read_text()
EVENTS = config_path("events.md").read_text()


def section(title: str) -> str:
    """Give the text of a section of the README."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_readme_says_of_make_test_what_the_makefile_says_and_how_to_get_the_command() -> None:
    """CI runs it as CI: a server that cannot be had is then an error, and no reason to skip."""
    promised = "every test but the long ones"
    assert f"test: $(STAMP) ## {promised}" in (ROOT / "Makefile").read_text()
    assert f"make test    # {promised}" in section("Two commands")
    assert ".venv/bin/callgauge" in section("Two commands")
    assert "pip install ." in section("Two commands")
    assert "\nexport CI=true\n" in (ROOT / ".ci" / "run").read_text()


def test_every_command_and_option_is_in_the_table_of_commands() -> None:
    """A command or option that nobody can find is not there."""
    table = section("Commands")
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"`callgauge {name}" in table
        row = next(line for line in table.splitlines() if f"`callgauge {name}" in line)
        for option in command.params:
            for flag in option.opts:
                if flag.startswith("--"):
                    assert flag in row, f"{flag} of {name}"


def test_every_option_in_the_table_of_commands_exists() -> None:
    """A documented option that does not exist costs a reader more than a missing one."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    flags = {flag for command in commands.values() for option in command.params for flag in option.opts}
    for flag in re.findall(r"--[a-z][a-z-]*", section("Commands")):
        assert flag in flags


def test_every_alert_is_in_the_table_of_alerts_with_its_severity() -> None:
    """On-call engineers look an alert up by its name."""
    table = section("Alerts")
    policies = {
        (policy.alertname, policy.severity)
        for detector in make_detectors(Settings())
        for policy in detector.policies
    }
    listed = set(re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.MULTILINE))
    assert policies == listed


def test_every_loss_reason_is_explained() -> None:
    """A counter is worth as much as its explanation."""
    listed = re.findall(r"^\| `(\w+)` \|", section("What is not counted"), re.MULTILINE)
    assert [reason.name.lower() for reason in LossReason] == listed


def test_every_event_type_and_label_is_in_the_contract() -> None:
    """The contract names all that is read."""
    contract = section("Point it at your own traffic")
    for event_type in EventType:
        assert f"`{event_type.wire}`" in contract
    for label in LABELS:
        assert f"`{label}`" in contract


def test_every_make_target_in_the_readme_exists() -> None:
    """A command that fails at once is the worst first impression."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)) <= targets


@pytest.mark.parametrize(
    "text",
    [README, ARCHITECTURE, DECISIONS, EVENTS],
    ids=["README", "ARCHITECTURE", "DECISIONS", "events"],
)
def test_every_file_that_is_named_exists(text: str) -> None:
    """Names of files and folders in the documents are checked against the tree."""
    for name in re.findall(r"`((?:engine|detectors|config|tests|bench)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name


def test_the_register_in_the_readme_is_ready_for_a_launch(tmp_path: Path) -> None:
    """The text below it tells to check it, and names the field without which headroom cannot be checked."""
    contract = section("Point it at your own traffic")
    (sample,) = re.findall(r"```yaml\n( *limits:\n.*?)```", contract, re.DOTALL)
    register = tmp_path / "limits.yaml"
    register.write_text(textwrap.dedent(sample))

    report = check(limits=register, launch=True, environment={})

    assert (0, ()) == (report.exit_code, report.limits[0].findings)
    assert "`expected_peak`" in contract.split(sample)[1]


def test_every_file_that_the_readme_links_to_exists() -> None:
    """A link of the first page that leads nowhere."""
    links = re.findall(r"\]\(([\w./-]+)\)", README)
    assert "config/events.md" in links
    for link in links:
        assert (ROOT / link).is_file(), link


async def test_the_page_and_the_lead_in_the_readme_are_those_of_the_recording() -> None:
    """What a reader is promised is what the bundled recording gives today."""
    configuration = load_configuration(None, str(config_path("demo/limits.yaml")), None)
    log = str(config_path("demo/sip-go-live.events.jsonl.zst"))
    replayed = await run_log(configuration, ReplayOptions((log,), "table", EVERYTHING, None))
    shown = table(replayed.changes) + headline(outcome_of(replayed), replayed.changes)
    page, lead = re.findall(r"```\n(.*?)\n```", section("What a page looks like"), re.DOTALL)
    assert page in shown
    assert lead in shown


def test_architecture_stays_short() -> None:
    """It documents principles: at most 200 lines."""
    assert len(ARCHITECTURE.splitlines()) <= 200
