"""No customer content: telephone numbers, mail addresses and call ids go in, and none of them comes out.

They are planted in call ids, reasons, labels, changes, limits and unknown fields of every type of event, in a
run in which everything fires; then all that leaves the core is searched.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest

from engine.decode.events import LABELS, EventType
from engine.decode.mask import PLAIN_MASK
from engine.deliver.families import snapshot_families
from engine.deliver.timeline import Timeline
from engine.judge.roll import StreamCounters
from engine.judge.snapshot import Snapshot
from engine.settings import TimelineSettings
from tests.line_runs import Run
from tests.line_traffic import REGISTER, START_NS, Event, S, Traffic, batches_of, event, make_story
from tests.test_docs import section

PHONE = "+4915223456789"
DIGITS = "4915223456789"
MAIL = "jane.doe@customer.example"
CALL = "canary-call-7f3e"
BUILD = "31415926535897"  # looks like a telephone number
TRANSCRIPT = "my pin is four two"
SECRETS = (DIGITS, "15223456789", "jane.doe", "customer.example", "canary-call", "my pin")

PLACES = ("alerts", "early", "notes", "snapshots", "summaries", "metrics", "samples")
TEXTS = (PHONE, f"sip:{PHONE}@pbx.example", f"tel:{PHONE}", "+49 1522 3456789", f"did:{PHONE}",
         "acme 0049 1522 3456789")  # fmt: skip


def planted() -> list[Event]:
    """Write events of every type with a canary in every field that may hold text."""
    found = []
    for number, (kind, text) in enumerate(itertools.product(EventType, TEXTS)):
        time_ns = START_NS + (20 + number) * S
        fields: dict[str, Any] = {
            "tenant": text,
            "trunk": "sip-1",
            "agent": text,
            "provider": text,
            "region": text,
            "platform": text,
            "release": (BUILD, MAIL)[number % 2],
            "outcome": "failed",
            "code": 503,
            "reason": f"no room for {MAIL} at {text}",
            "limit": text,
            "what": f"changed {MAIL} {text}",
            "from_": text,
            "to": f"mailto:{MAIL}",
            "by": MAIL,
            "dependency": text,
            "id": f"{CALL}-{number}",
            "parent_call_id": f"{CALL}-parent",
            "calls": [f"{CALL}-{number}", PHONE],
            "used": 3,
            "max": 70,
            "latency_ms": {"llm": 5, text: 7},
            "transcript": TRANSCRIPT,
            "caller": {"number": PHONE, "mail": MAIL},
        }
        found.append(event(time_ns, kind.wire, f"{CALL}-{number}-{PHONE}", **fields))
    return found


def texts_of(value: object) -> list[str]:
    """List every text in nested tuples, mappings and records."""
    if isinstance(value, str | bytes):
        return [value if isinstance(value, str) else value.decode("utf-8", "replace")]
    if isinstance(value, np.ndarray):
        return []
    if isinstance(value, dict):
        value = tuple(value.items())
    if isinstance(value, tuple | list | set | frozenset):
        return [text for one in value for text in texts_of(one)]
    return [repr(value)]


class Leak(NamedTuple):
    """Everything that left the core."""

    run: Run
    by_place: dict[str, list[str]]


@cache
def everything() -> Leak:
    """Run traffic that fires, with canaries; gather alerts, early alerts, notes, snapshots and summaries."""
    events = sorted([*make_story(Traffic(seed=4, rate_first=1.0, rate_last=4.0)).events, *planted()])
    run = Run(REGISTER)
    places: dict[str, list[str]] = {place: [] for place in PLACES}
    for place, raw in enumerate(batches_of(events, 2, 50)):
        decoded = run.decoder.decode(raw)
        declines = run.observer.absorb(raw, decoded)
        published = run.observer.close()
        places["summaries"] += texts_of(tuple(published))
        judgement = run.judge.take(published, run.observer.watermark_ns, StreamCounters())
        places["early"] += texts_of((declines, run.judge.preview(declines)))
        places["notes"] += texts_of(judgement.notes)
        run.changes += judgement.changes
        if place % 10 == 0:
            places["snapshots"] += texts_of(run.publisher.publish(place))
    step = run.finish()
    snapshot: Snapshot = run.publisher.publish(0)
    places["snapshots"] += texts_of(snapshot)
    places["notes"] += texts_of(step.notes)
    places["alerts"] = texts_of(run.lines())
    places["metrics"] = texts_of([(one.name, list(one.labels)) for one in snapshot_families(snapshot)])
    places["samples"] = texts_of(run.decoder.samples())
    return Leak(run, places)


@pytest.mark.parametrize("place", PLACES)
def test_nothing_of_a_call_comes_out(place: str) -> None:
    found = everything().by_place[place]

    leaks = [text for text in found for secret in SECRETS if secret in text.replace(" ", "")]
    leaks += [text for text in found for secret in ("my pin",) if secret in text]

    assert leaks == []


def test_numbers_are_shown_in_releases_alone_as_the_readme_says() -> None:
    """Versions look like them; an address in a release is hidden as everywhere."""
    found = everything().by_place["summaries"]

    assert BUILD in found
    assert not any(MAIL in text for text in found)
    assert [label for label in LABELS if PLAIN_MASK.shown(label, BUILD) == BUILD] == ["release"]
    assert "but for numbers in `release`" in section("Security")


def test_the_canaries_were_really_read_and_paged_about() -> None:
    """Or nothing could have leaked."""
    leak = everything()
    alerts = "\n".join(leak.by_place["alerts"])

    assert "CallLimitReached" in alerts
    assert "deploy" in alerts
    assert "no room for @ at" in "\n".join(leak.by_place["summaries"])
    assert "__number__" in "\n".join(leak.by_place["summaries"])
    types = {one.split('"type": "')[1].split('"')[0] for one in (event.row.decode() for event in planted())}
    assert types == {kind.wire for kind in EventType}
    absorbed = leak.run.observer.rows_absorbed
    assert absorbed >= len(make_story(Traffic(seed=4, rate_first=1.0, rate_last=4.0)).events)


def test_the_timeline_keeps_nothing_of_a_call(tmp_path: Any) -> None:
    run = everything().run
    path = tmp_path / "timeline.jsonl"
    timeline = Timeline(TimelineSettings(path=str(path)))

    timeline.alert_changes(run.changes)
    timeline.notes([note for one in run.recorder.summaries for note in one.notes], lambda _: None)

    written = path.read_text()
    assert len([orjson.loads(line) for line in written.splitlines()]) > 5
    assert [secret for secret in SECRETS if secret in written.replace(" ", "")] == []


def test_states_of_detectors_hold_no_text_of_a_call() -> None:
    """They will be in checkpoints."""
    run = everything().run

    texts = texts_of(tuple(run.judge.bank._states.values()))

    assert [text for text in texts for secret in SECRETS if secret in text] == []
