"""The history is complete lines, in a file only its owner reads, and never stops the engine."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.decode.events import EventType, Note
from engine.deliver.jsonl import alert_change_line
from engine.deliver.timeline import Timeline
from engine.judge.judge import FirstDeclined
from engine.judge.lifecycle import FIRING, AlertChange
from engine.settings import TimelineSettings

S = 1_000_000_000
T = 1_800_000_000 * S
CHANGE = AlertChange(
    T,
    FIRING,
    (("alertname", "CallLimitReached"), ("limit", "sip-trunk"), ("severity", "critical")),
    (("declined_so_far", "3"), ("summary", 'A "trunk" is full.')),
    T,
)


def lines_of(path: Path) -> list[dict[str, object]]:
    text = path.read_text("utf-8")
    assert text.endswith("\n"), "the last line is whole"
    return [json.loads(line) for line in text.splitlines()]


def a_timeline(path: Path, bytes_max: int = 1 << 20) -> Timeline:
    return Timeline(TimelineSettings(path=str(path), bytes_max=bytes_max))


def a_report(maximum: float, used: float = 1) -> Note:
    fields = (("limit", "sip-trunk"), ("used", used), ("max", maximum))
    return Note(T, EventType.LIMIT_REPORTED, (("trunk", "sip-1"),), fields)


def test_an_alert_change_is_one_line_with_its_keys_in_order() -> None:
    """What `replay --output jsonl` prints: byte for byte the same for the same change."""
    expected = (
        b'{"time":"2027-01-15T08:00:00.000000Z","state":"firing","alertname":"CallLimitReached",'
        b'"severity":"critical","labels":{"alertname":"CallLimitReached","limit":"sip-trunk",'
        b'"severity":"critical"},"annotations":{"declined_so_far":"3","summary":"A \\"trunk\\" is full."}}\n'
    )
    assert expected == alert_change_line(CHANGE)


def test_alerts_changes_plans_and_declines_are_kept(tmp_path: Path) -> None:
    """Each line says when in event time, and what kind of event it was."""
    path = tmp_path / "timeline.jsonl"
    timeline = a_timeline(path)
    timeline.alert_changes([CHANGE])
    change = Note(T, EventType.CHANGE_MADE, (("release", "r2"),), (("what", "deploy"), ("to", "r2")))
    planned = Note(T, EventType.LOAD_PLANNED, (), (("expected", 60), ("until_ns", T)))
    timeline.notes([change, planned], lambda _: None)
    timeline.first_declines([FirstDeclined("sip-trunk", (("tenant", "acme"),), T)])
    lines = lines_of(path)
    assert ["alert", "change.made", "load.planned", "first_decline"] == [line["kind"] for line in lines]
    assert {"2027-01-15T08:00:00.000000Z"} == {line["time"] for line in lines}
    assert ("r2", {"release": "r2"}) == (lines[1]["to"], lines[1]["labels"])
    assert "2027-01-15T08:00:00.000000Z" == lines[2]["until"]
    assert {"limit": "sip-trunk", "tenant": "acme"} == lines[3]["labels"]


def test_history_that_the_file_has_is_not_written_twice(tmp_path: Path) -> None:
    """After a start hours are read again: what is new to the file is kept, what it has is not."""
    path = tmp_path / "timeline.jsonl"
    a_timeline(path).alert_changes([CHANGE])
    again = a_timeline(path)
    later = CHANGE._replace(time_ns=T + 1_000_000_000)
    again.alert_changes([CHANGE, later], is_history=True)
    again.alert_changes([CHANGE])
    times = [str(line["time"])[17:19] for line in lines_of(path)]
    assert ["00", "01", "00"] == times


def test_history_that_the_file_lacks_is_written_whatever_its_time(tmp_path: Path) -> None:
    """A first decline is told before slices before it are closed; a change may be late; then comes a kill."""
    path = tmp_path / "timeline.jsonl"
    declines = [FirstDeclined("sip-trunk", (("tenant", tenant),), T + 8 * S) for tenant in ("acme", "umbra")]
    notes = [Note(T + at * S, EventType.CHANGE_MADE, (), (("to", f"r{at}"),)) for at in (4, 3)]
    before = a_timeline(path)
    before.first_declines(declines[:1])
    before.alert_changes([CHANGE])
    before.notes(notes[:1], lambda _: None)
    again = a_timeline(path)
    again.first_declines(declines, is_history=True)
    again.alert_changes([CHANGE, CHANGE._replace(time_ns=T + 5 * S)], is_history=True)
    again.notes(notes, lambda _: None, is_history=True)
    told = [(line["kind"], str(line["time"])[17:19]) for line in lines_of(path)]
    assert [("first_decline", "08"), ("alert", "00"), ("change.made", "04"),
            ("first_decline", "08"), ("alert", "05"), ("change.made", "03")] == told  # fmt: skip


def test_history_of_the_file_before_it_was_rotated_is_not_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    decline = FirstDeclined("sip-trunk", (), T)
    a_timeline(path).first_declines([decline])
    a_timeline(path).alert_changes([CHANGE])
    path.rename(tmp_path / "timeline.jsonl.1")
    a_timeline(path).first_declines([decline._replace(time_ns=T + S)])
    again = a_timeline(path)
    again.first_declines([decline], is_history=True)
    again.alert_changes([CHANGE], is_history=True)
    assert 1 == len(lines_of(path))


def test_a_reported_limit_is_kept_once_when_it_is_not_the_declared_one(tmp_path: Path) -> None:
    """A platform repeats itself every few seconds; only news is history."""
    path = tmp_path / "timeline.jsonl"
    timeline = a_timeline(path)
    for maximum in (80, 80, 60, 60, 60, 50, 80, 60):
        timeline.notes([a_report(maximum)], lambda _: 80.0)
    assert [60, 50, 60] == [line["max"] for line in lines_of(path)]


def test_the_keys_of_calls_are_never_kept(tmp_path: Path) -> None:
    """Lists of calls are not history, and not for a file."""
    path = tmp_path / "timeline.jsonl"
    listed = Note(T, EventType.CALLS_LISTED, (), (("call_keys", (1, 2)),))
    a_timeline(path).notes([listed, a_report(60)], lambda _: 80.0)
    assert ["limit.reported"] == [line["kind"] for line in lines_of(path)]


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    """Also when it was there before with other rights."""
    path = tmp_path / "timeline.jsonl"
    path.touch(0o644)
    a_timeline(path).alert_changes([CHANGE])
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_the_file_is_rotated_once_when_full(tmp_path: Path) -> None:
    """Two files of the bound at most, whole lines in both, and the newest line in the file itself."""
    path = tmp_path / "timeline.jsonl"
    timeline = a_timeline(path, bytes_max=1000)
    for number in range(20):
        timeline.alert_changes([CHANGE._replace(time_ns=T + number * 1_000_000_000)])
    rotated = tmp_path / "timeline.jsonl.1"
    assert [path, rotated] == sorted(tmp_path.iterdir())
    assert max(path.stat().st_size, rotated.stat().st_size) <= 1000
    assert [str(line["time"])[17:19] for line in lines_of(rotated) + lines_of(path)][-1] == "19"
    assert (20, 0) == (timeline.lines_written, timeline.lines_failed)


def test_a_file_that_cannot_be_written_is_counted_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The timeline fails open; it goes on as soon as it can."""
    path = tmp_path / "later" / "timeline.jsonl"
    timeline = a_timeline(path)
    timeline.alert_changes([CHANGE, CHANGE])
    timeline.alert_changes([CHANGE])
    assert 3 == timeline.lines_failed
    assert 1 == len(caplog.records)
    path.parent.mkdir()
    timeline.alert_changes([CHANGE])
    assert 1 == len(lines_of(path))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Nobody can make the engine append to a file of their choice."""
    target = tmp_path / "target"
    target.touch()
    (tmp_path / "timeline.jsonl").symlink_to(target)
    timeline = a_timeline(tmp_path / "timeline.jsonl")
    timeline.alert_changes([CHANGE])
    assert (1, 0) == (timeline.lines_failed, target.stat().st_size)


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    """A device keeps its rights, and a pipe that nobody reads does not hold the engine up."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    before = Path("/dev/null").stat().st_mode
    for path in (pipe, Path("/dev/null")):
        timeline = a_timeline(path)
        timeline.alert_changes([CHANGE])
        assert (0, 1) == (timeline.lines_written, timeline.lines_failed)
    assert before == Path("/dev/null").stat().st_mode


DISK_FULL_IN_THE_MIDDLE_OF_A_LINE = """
import resource, sys
from tests.test_timeline import CHANGE, Path, a_timeline
timeline = a_timeline(Path(sys.argv[1]))
timeline.alert_changes([CHANGE])
resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
timeline.alert_changes([CHANGE])
timeline.alert_changes([CHANGE])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
timeline.alert_changes([CHANGE])
print(timeline.lines_written, timeline.lines_failed)
"""


def test_a_line_cut_off_by_a_full_disk_spoils_no_other(tmp_path: Path) -> None:
    """The next line begins on a line of its own, and what was lost is counted."""
    path = tmp_path / "timeline.jsonl"
    command = [sys.executable, "-c", DISK_FULL_IN_THE_MIDDLE_OF_A_LINE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "2 2" == done.stdout.strip()
    first, cut, last = path.read_text("utf-8").splitlines()
    assert json.loads(first) == json.loads(last)
    assert first.startswith(cut)


def test_without_a_path_nothing_is_kept() -> None:
    """A timeline is a choice."""
    timeline = Timeline(TimelineSettings())
    timeline.alert_changes([CHANGE])
    assert (0, 0) == (timeline.lines_written, timeline.lines_failed)
