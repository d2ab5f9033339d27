"""A page about a dependency has its name, digits and all, and what the register says of a guardrail."""

from __future__ import annotations

import msgspec

from engine.judge.detection import CRITICAL, AlertPolicy, Finding
from engine.judge.pages import PageWriter
from engine.limits import Guardrail
from tests.line_runs import run_all
from tests.line_traffic import REGISTER, START_NS, S, Traffic, batches_of, event, make_story

GUARDRAIL = Guardrail(
    name="cap-24h", on_check_error="open", because="a caller is worth more", owner="finance"
)
POLICY = AlertPolicy("A", CRITICAL)


def worded(row: int) -> tuple[dict[str, str], dict[str, str]]:
    told = make_story(Traffic(seed=1, duration_s=20)).events
    called = [
        event(START_NS + S, "dependency.called", dependency=name, outcome="ok", id=name)
        for name in ("cap-24h", "crm-v2")
    ]
    run = run_all(
        batches_of(sorted([*told, *called])), msgspec.structs.replace(REGISTER, guardrails=(GUARDRAIL,))
    )
    finding = Finding("A", CRITICAL, ("dependency", row), "{dependency} of {owner}", "{because}")
    names = run.recorder.summaries[-1].facts.dependencies.name
    assert names == ("cap-24h", "crm-v2")
    found = PageWriter(run.judge.roller).word(finding, POLICY, run.judge.last)
    return dict(found.labels), dict(found.annotations)


def test_a_guardrail_has_its_owner_and_its_reason() -> None:
    labels, texts = worded(0)

    assert labels == {
        "alertname": "A", "severity": "critical", "dependency": "cap-24h", "owner": "finance",
    }  # fmt: skip
    assert texts["summary"] == "cap-24h of finance"
    assert texts["because"] == texts["description"] == "a caller is worth more"
    assert texts["on_check_error"] == "open"


def test_what_is_not_in_the_register_has_its_name_alone() -> None:
    labels, texts = worded(1)

    assert labels == {"alertname": "A", "severity": "critical", "dependency": "crm-v2"}
    assert texts["summary"] == "crm-v2 of unknown"
    assert "because" not in texts
