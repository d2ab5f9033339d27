"""config/events.md, the contract of events, says what the decoder does: each type, field, word and range."""

from __future__ import annotations

import json
import re

import pytest

from engine.config_files import config_path
from engine.decode.decoder import DEFAULT_METRIC
from engine.decode.events import FALLBACKS, LABELS, OUTCOMES, EventType
from engine.decode.fields import TYPE_RULES, EventFields
from engine.decode.timestamp import event_time_ns
from engine.errors import LossReason
from engine.settings import EngineSettings
from tests.event_rows import T, decode_one, new_decoder, raw_batch

PAGE = config_path("events.md").read_text()
WORD = re.compile(r"`([a-z_]+)`")
COMMON = frozenset(("time", "type", "call_id", "id", *LABELS))
FIELDS = EventFields.__struct_encode_fields__

Event = dict[str, object]
# A value that each field takes, wherever it is looked at.
GOOD: Event = {
    "outcome": "failed", "code": 503, "reason": "full", "limit": "sip", "duration_ms": 5,
    "latency_ms": {"llm": 5}, "score": 0.5, "metric": "csat", "dependency": "crm", "fallback": "open",
    "used": 1, "max": 2, "calls": ["c2"], "expected": 3, "until": T + 60, "what": "deploy",
    "from": str(T + 7), "to": "v2", "by": "ops",
}  # fmt: skip


def section(title: str) -> str:
    """Give the text of a section of the page."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def cells(title: str) -> dict[str, list[str]]:
    """Give the rows of the tables of a section, by the names in their first cell."""
    rows = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("| `")]
    return {name: row for row in rows for name in re.findall(r"`([a-z._]+)`", row[0])}


def example_of(wire: str) -> Event:
    """Give the example of a type."""
    (found,) = [event for event in EXAMPLES if event["type"] == wire]
    return found


def columns_of(event: Event) -> str:
    """Give all that the decoder makes of an event."""
    batch, decoder = decode_one(json.dumps(event).encode())
    return repr((batch, decoder.series.values, decoder.causes.causes, decoder.stages.names))


LINES = re.findall(r"^\{.*\}$", section("One of each"), re.MULTILINE)
EXAMPLES: list[Event] = [json.loads(line) for line in LINES]
TYPES = cells("Types")
NEEDED = {wire: frozenset(WORD.findall(row[2])) for wire, row in TYPES.items()}
ALLOWED = {wire: frozenset(WORD.findall(row[3])) for wire, row in TYPES.items()}
WIRES = tuple(TYPE_RULES)


def test_every_type_is_on_the_page_once_with_an_example() -> None:
    assert {kind.wire for kind in EventType} == set(TYPES)
    assert sorted(TYPES) == sorted(str(event["type"]) for event in EXAMPLES)


def test_every_field_is_on_the_page_and_none_that_there_is_not() -> None:
    """Those of every event in one table, those of some types in the other."""
    assert COMMON == set(cells("Fields of every event"))
    listed = {name for name in cells("Their fields") if name not in OUTCOMES}
    assert set(FIELDS) - COMMON == listed == set(GOOD)


def test_every_outcome_fallback_and_usual_metric_is_on_the_page() -> None:
    """A word that nobody can look up is `other`."""
    table = cells("Their fields")
    outcomes = [name for name in table if name in OUTCOMES]
    assert sorted(OUTCOMES) == sorted(outcomes)
    assert list(FALLBACKS) == WORD.findall(table["fallback"][1])
    assert f"`{DEFAULT_METRIC}` if not given" in table["metric"][1]


@pytest.mark.parametrize("labels", [EngineSettings().series_labels, LABELS], ids=["default", "all"])
def test_every_example_decodes_and_nothing_of_it_is_ignored(labels: tuple[str, ...]) -> None:
    """By the settings as they are shipped, and with every label."""
    decoder = new_decoder(series_labels=labels)
    batch = decoder.decode(raw_batch([line.encode() for line in LINES]))
    assert len(LINES) == batch.rows
    assert not decoder.losses.any()
    assert {} == {field: count for field, count in decoder.fields_ignored.items() if count}
    assert 0 == decoder.stages.measures_collapsed


@pytest.mark.parametrize("wire", WIRES)
def test_an_example_shows_every_field_of_its_type_and_each_makes_a_difference(wire: str) -> None:
    """What the decoder does not look at is in no example and in no row of the table."""
    example = example_of(wire)
    assert NEEDED[wire] | ALLOWED[wire] == set(example) - (COMMON - NEEDED[wire] - ALLOWED[wire])
    whole = columns_of(example)
    for field in example:
        assert whole != columns_of({name: value for name, value in example.items() if name != field}), field


@pytest.mark.parametrize("wire", WIRES)
def test_a_type_has_no_field_that_its_row_does_not_name(wire: str) -> None:
    """Each other field, with a value that it takes elsewhere, changes nothing."""
    example = example_of(wire)
    whole = columns_of(example)
    for field in set(FIELDS) - COMMON - NEEDED[wire] - ALLOWED[wire]:
        assert whole == columns_of({**example, field: GOOD[field]}), field


@pytest.mark.parametrize("wire", WIRES)
def test_a_row_is_lost_without_what_the_page_says(wire: str) -> None:
    """`time`, `type`, and `call_id` or `calls` where the type needs them; without the rest it is counted."""
    example = example_of(wire)
    for field in example:
        batch, _ = decode_one(json.dumps({k: v for k, v in example.items() if k != field}).encode())
        is_lost = field in {"time", "type"} or field in NEEDED[wire] & {"call_id", "calls"}
        assert is_lost == (batch.rows == 0), field


def test_the_times_on_the_page_are_one_moment() -> None:
    """In all four magnitudes, and as text."""
    text = section("Fields of every event").split("The same moment:")[1]
    times = re.findall(r"`([^`]+)`", text)
    assert 6 == len(times)
    assert {T * 10**9 + 43_607_000} == {event_time_ns(time.encode()) for time in times}


@pytest.mark.parametrize(
    ("field", "least", "most", "beyond"),
    [("score", 0, 1, 1.01), ("code", 0, 999_999, 1_000_000), ("duration_ms", 0, 1e12, -1)],
)
def test_the_ranges_on_the_page_are_those_of_the_decoder(
    field: str, least: float, most: float, beyond: float
) -> None:
    wire = "quality.scored" if field == "score" else "call.ended"
    ignored = []
    for value in (least, most, beyond):
        _, decoder = decode_one(json.dumps({**example_of(wire), field: value}).encode())
        ignored.append(decoder.fields_ignored[field])
    assert [0, 0, 1] == ignored


@pytest.mark.parametrize("field", FIELDS)
def test_a_number_that_no_double_holds_costs_what_the_page_says(field: str) -> None:
    """The row, whether its type has the field or not; such a time is read by itself."""
    assert "`1e400`" in PAGE
    event = {**example_of("load.planned"), field: "huge"}
    batch, decoder = decode_one(json.dumps(event).replace('"huge"', "1e400").encode())
    reason = LossReason.TIME_OUT_OF_RANGE if field == "time" else LossReason.FIELD_RANGE
    assert (field == "until") == batch.rows
    assert (field != "until") == decoder.losses[reason]
