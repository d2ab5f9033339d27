"""The command line: what is wrong is a message that names the place and the mend, never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Protocol

import pytest

from engine.commands.whole_file import write_whole
from engine.config_files import config_path
from tests.cli_runs import Ran, run_here

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

START_S = 1_767_600_000
LIMITS = """\
limits:
  - name: small
    kind: concurrency
    value: 3
    applies_to: {trunk: sip-1}
    confirmed_on: 2025-01-01
    owner: voice
"""
EXPECT = "expect: [{firing: CallLimitReached, labels: {limit: small}, within: 60s}]\n"


class Callgauge(Protocol):
    """Runs `callgauge` with these arguments."""

    def __call__(self, *arguments: str) -> Ran: ...


@pytest.fixture
def callgauge(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callgauge:
    """Give the command, in a folder with a log, a register and what is wrong with each."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CALLGAUGE_")]:
        monkeypatch.delenv(name)
    log = b"\n".join(calls(20))
    files = {
        "log.jsonl": log, "limits.yaml": LIMITS.encode(), "expect.yaml": EXPECT.encode(), "empty.jsonl": b"",
        "cut.jsonl.zst": zstd.compress(log)[:-40], "cut.jsonl.gz": gzip.compress(log)[:-40],
        "plain.jsonl.zst": log, "binary.jsonl": bytes(range(256)) * 64,
        "types.jsonl": b"\n".join(wrong_types()), "one-bad.jsonl": log.replace(b'"call.started"', b"7", 1),
        "no.yaml": b"limits: [", "binary.yaml": bytes(range(256)),
        "kind.yaml": LIMITS.replace("kind: concurrency", "kind: concurency").encode(),
        "twice.yaml": (LIMITS + LIMITS.partition("\n")[2]).encode(),
        "never.yaml": b"expect: [{never: CallLimitReached}]",
        "soon.yaml": EXPECT.replace("60s", "1s").encode(),
        "typo.yaml": b"expect: [{firring: CallLimitReached}]", "nothing.yaml": b"limits: []",
        "bad.engine.yaml": b"engine: {slice: 7s}", "key": b"xyz",
        "key.engine.yaml": b"engine: {call_key_file: key}",
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "segment-000001.rec").symlink_to("elsewhere")

    def run(*arguments: str) -> Ran:
        return run_here(capfd, *arguments)

    return run


def calls(seconds: int) -> list[bytes]:
    """Make a call a second that lasts; from the fourth on they are declined."""
    rows: list[dict[str, object]] = []
    for second in range(seconds):
        call = {"call_id": f"secret-{second}", "trunk": "sip-1"}
        rows.append({"time": START_S + second, "type": "call.started", **call})
        if second >= 3:
            rows.append({"time": START_S + second, "type": "call.declined", "code": 503, **call})
    return [json.dumps(row).encode() for row in rows]


def wrong_types() -> list[bytes]:
    """Make rows in which every field that is needed has a type that it cannot have."""
    return [
        json.dumps({"time": [], "type": "call.started", "call_id": "secret"}).encode(),
        json.dumps({"time": START_S, "type": {}, "call_id": "secret"}).encode(),
        json.dumps({"time": START_S, "type": "call.started", "call_id": 17}).encode(),
        b"[]",
        b"null",
    ]


REPLAY_LIMITS = ("replay", "log.jsonl", "--limits")
# Arguments, exit code, and what the message must say: the file, the place and the mend.
MISTAKES: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "no such log": (("replay", "none.jsonl"), 1, ("none.jsonl", "no such file", "hint: ")),
    "no log matches": (("replay", "none-*.jsonl"), 1, ("none-*.jsonl", "no file matches", "hint: ")),
    "zst cut off": (("replay", "cut.jsonl.zst"), 1, ("cut.jsonl.zst", "near byte", "hint: ")),
    "gz cut off": (("replay", "cut.jsonl.gz"), 1, ("cut.jsonl.gz", "near byte", "hint: ")),
    "zst that is none": (("replay", "plain.jsonl.zst"), 1, ("plain.jsonl.zst", "hint: ")),
    "binary": (("replay", "binary.jsonl"), 1, ("binary.jsonl", "no row is a call event", "row ", "hint: ")),
    "wrong types": (("replay", "types.jsonl"), 1, ("types.jsonl", "row 1 (time_malformed)", "field_type")),
    "no recording": (("replay", "folder"), 1, ("folder", "no recording", "--record")),
    "recording elsewhere": (("replay", "linked"), 1, ("linked/segment-000001.rec", "No such file")),
    "recording and log": (("replay", "folder", "log.jsonl"), 2, ("folder", "alone", "hint: ")),
    "no register": ((*REPLAY_LIMITS, "none.yaml"), 2, ("none.yaml", "no such file", "hint: ")),
    "folder as register": ((*REPLAY_LIMITS, "folder"), 2, ("folder", "directory", "hint: ")),
    "register not YAML": ((*REPLAY_LIMITS, "no.yaml"), 2, ("no.yaml", "line 2", "hint: ")),
    "register binary": ((*REPLAY_LIMITS, "binary.yaml"), 2, ("binary.yaml", "binary", "hint: ")),
    "unknown kind": ((*REPLAY_LIMITS, "kind.yaml"), 2, ("kind.yaml", "line 3", "concurency", "concurrency")),
    "one name twice": ((*REPLAY_LIMITS, "twice.yaml"), 2, ("twice.yaml", "small", "line ")),
    "settings": (("replay", "log.jsonl", "--config", "bad.engine.yaml"), 2, ("bad.engine.yaml", "7s", "5s")),
    "no settings": (("run", "--config", "none.yaml"), 2, ("none.yaml", "no such file")),
    "call key": (("replay", "log.jsonl", "--config", "key.engine.yaml"), 2, ("key", "openssl rand -hex 16")),
    "log level": (("run", "--log-level", "loud"), 2, ("loud", "warning")),
    "from": (("replay", "log.jsonl", "--from", "noon"), 2, ("--from", "noon", "2026-11-22T15:38:37Z")),
    "to before from": (
        ("replay", "log.jsonl", "--from", "2026-01-05T09:00:00Z", "--to", "2026-01-05T08:00:00Z"),
        2,
        ("--to", "after", "hint: "),
    ),
    "output": (("replay", "log.jsonl", "--output", "xml"), 2, ("--output", "xml", "table, json, jsonl")),
    "option": (("replay", "log.jsonl", "--speed", "2"), 2, ("--speed", "Usage:")),
    "command": (("rerun",), 2, ("rerun", "Usage:")),
    "no log": (("replay",), 2, ("LOG", "Usage:")),
    "no expectations": (("replay", "log.jsonl", "--expect", "none.yaml"), 2, ("none.yaml", "no such file")),
    "empty expectations": (
        ("replay", "log.jsonl", "--expect", "nothing.yaml"),
        2,
        ("nothing.yaml", "expect:"),
    ),
    "expectation": (("replay", "log.jsonl", "--expect", "typo.yaml"), 2, ("expect[0]", "firring", "never")),
}


@pytest.mark.parametrize(("out", "says"), [("folder", "a folder"), ("/dev/null", "no plain file")])
def test_learn_refuses_what_no_file_can_be_written_to_before_it_reads(
    callgauge: Callgauge, out: str, says: str
) -> None:
    ran = callgauge("learn", "there-is-no-log.jsonl", "--out", out)
    assert (2, True, True) == (ran.code, says in ran.err, f"{out}: " in ran.err)
    assert "limits are read from limits.yaml" in ran.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_learn_refuses_a_folder_that_it_may_not_write_in_before_it_reads(callgauge: Callgauge) -> None:
    Path("folder").chmod(0o500)
    ran = callgauge("learn", "there-is-no-log.jsonl", "--out", "folder/learned.json")
    assert (2, True) == (ran.code, "not allowed to write in this folder" in ran.err)


def test_what_learn_cannot_write_is_said(callgauge: Callgauge) -> None:
    """No file system takes this name with `.new` behind it."""
    ran = callgauge("learn", "log.jsonl", "--out", "x" * 253)
    assert (1, "") == (ran.code, ran.out)
    assert "what was learned cannot be written: File name too long" in ran.err
    assert "hint: " in ran.err
    assert "Traceback" not in ran.err


def test_a_file_that_cannot_be_put_in_place_leaves_no_other_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "taken", b"x")
    assert [tmp_path / "taken"] == list(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "code", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_message_with_the_place_and_the_mend(
    callgauge: Callgauge, arguments: tuple[str, ...], code: int, says: tuple[str, ...]
) -> None:
    """Exit code 1 for what cannot be read, 2 for what was asked wrongly; stdout stays free of it."""
    ran = callgauge(*arguments)
    assert code == ran.code, ran.err
    for text in says:
        assert text in ran.err
    assert "Traceback" not in ran.err
    assert "secret" not in ran.err
    assert "hint" not in ran.out
    assert all(json.loads(line)["alertname"] for line in ran.out.splitlines())


def test_a_record_folder_that_cannot_be_written_is_said_before_the_kernels_are_loaded(
    callgauge: Callgauge,
) -> None:
    """Nobody waits for a compiler to hear that a folder is missing."""
    Path("engine.yaml").write_text('web: {listen: "127.0.0.1:0"}', "utf-8")
    ran = callgauge("run", "--config", "engine.yaml", "--record", "log.jsonl/recording")
    assert (1, "") == (ran.code, ran.out)
    assert "limits are read from limits.yaml" in ran.err
    assert "nobody is paged" in ran.err
    assert "log.jsonl/recording" in ran.err
    assert "hint: " in ran.err
    assert "Traceback" not in ran.err


def test_an_empty_log_is_no_mistake(callgauge: Callgauge) -> None:
    """A quiet night leaves one; no alert fired, and the note says that there was nothing."""
    ran = callgauge("replay", "empty.jsonl", "--output", "table")
    assert 0 == ran.code
    assert "no alert fired" in ran.out
    assert "no event in the log" in ran.err


def test_jsonl_holds_one_change_a_line_in_order_and_nothing_else(callgauge: Callgauge) -> None:
    """In a pipe it is the default; what else there is to say goes to stderr."""
    ran = callgauge("replay", "log.jsonl")
    changes = [json.loads(line) for line in ran.out.splitlines()]
    assert 0 == ran.code
    assert ["time", "state", "alertname", "severity", "labels", "annotations"] == list(changes[0])
    assert sorted(change["time"] for change in changes) == [change["time"] for change in changes]
    assert "CallLimitReached" in {change["alertname"] for change in changes}
    assert "secret" not in ran.out + ran.err


def test_rows_of_no_use_are_counted_and_named_on_stderr(callgauge: Callgauge) -> None:
    """The others are judged; which row was wrong and why is said without its content."""
    ran = callgauge("replay", "one-bad.jsonl", "--output", "jsonl")
    assert 0 == ran.code
    assert "1 of 37 rows were not used: field_type 1; such as row 1 (field_type)" in ran.err
    assert all(json.loads(line)["alertname"] for line in ran.out.splitlines())


def test_values_of_no_use_are_counted_by_field_on_stderr(callgauge: Callgauge) -> None:
    """Their rows count; a word that is none of the contract is not taken for another one in silence."""
    end = {"time": START_S + 9, "type": "call.ended", "call_id": "secret-0", "trunk": "sip-1"}
    rows = [{**end, "outcome": "hungup", "duration_ms": -1}, {**end, "call_id": "x", "outcome": "hungup"}]
    Path("words.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    ran = callgauge("replay", "words.jsonl", "--output", "json")
    (note,) = [line for line in ran.err.splitlines() if "could not be used" in line]
    assert "note: values that could not be used" in note
    assert ": duration_ms 1, outcome 2; " in note
    assert str(config_path("events.md")) in note
    assert "hungup" not in ran.err
    assert {"read": 2, "absorbed": 2, "lost": {}} == json.loads(ran.out)["rows"]
    assert "could not be used" not in callgauge("replay", "log.jsonl").err


def test_what_a_replay_did_not_tell_apart_is_noted_on_stderr(callgauge: Callgauge) -> None:
    """As `run` says it in its log and metrics; the numbers themselves are said nowhere."""
    rows = [row.replace(b"sip-1", b"+4930555%04d" % number) for number, row in enumerate(calls(20))]
    Path("lines.jsonl").write_bytes(b"\n".join(rows))
    Path("split.yaml").write_text(LIMITS.replace("applies_to: {trunk: sip-1}", "split_by: [trunk]"), "utf-8")
    ran = callgauge("replay", "lines.jsonl", "--limits", "split.yaml")
    assert "note: limit small: values of trunk are numbers or addresses" in ran.err
    assert "4930555" not in ran.out + ran.err
    assert "note: " not in callgauge("replay", "log.jsonl").err


def test_damage_comes_after_what_was_read_before_it(callgauge: Callgauge) -> None:
    """Half a log is better than none after an incident."""
    rows = b"\n".join(calls(4000))
    Path("half.jsonl.gz").write_bytes(gzip.compress(rows)[:-200])
    ran = callgauge("replay", "half.jsonl.gz", "--output", "table")
    assert 1 == ran.code
    assert "CallLimitReached" in ran.out
    assert "half.jsonl.gz" in ran.err


def test_json_has_changes_leads_and_rows(callgauge: Callgauge) -> None:
    """One document for programs."""
    document = json.loads(callgauge("replay", "log.jsonl", "--output", "json").out)
    (limit,) = document["limits"]
    assert {"read": 37, "absorbed": 37, "lost": {}} == document["rows"]
    assert ("small", None, "2026-01-05T08:00:03.000000Z", 17) == (
        limit["limit"],
        limit["first_page"],
        limit["first_decline"],
        limit["declined"],
    )


def test_the_table_ends_with_the_lead_of_each_limit(callgauge: Callgauge) -> None:
    """Counts agree with their nouns, times are to the second, and the page says what to do."""
    lines = callgauge("replay", "log.jsonl", "--output", "table").out.splitlines()
    assert "2026-01-05T08:00:05Z  firing    critical  CallLimitReached limit=small" == lines[0]
    assert "    owner: voice" in lines
    assert "small: no page, first decline after 3.0 s; 17 calls declined" == lines[-2]
    assert lines[-1].startswith("37 events in ")


def test_several_files_and_globs_are_one_log_in_order_of_time(callgauge: Callgauge) -> None:
    """Rows of two files, one within the time of the other, give what one file gives."""
    rows = calls(20)
    Path("a.jsonl").write_bytes(b"\n".join(rows[::2]))
    Path("b.jsonl.gz").write_bytes(gzip.compress(b"\n".join(rows[1::2])))
    whole = callgauge("replay", "log.jsonl").out
    assert whole == callgauge("replay", "a.jsonl", "b.jsonl.gz").out
    assert whole == callgauge("replay", "[ab].jsonl*").out


def test_from_and_to_cut_a_span_of_event_time(callgauge: Callgauge) -> None:
    """Half-open; rows outside it were not asked for and count nowhere."""
    span = ("--from", "2026-01-05T08:00:02Z", "--to", "2026-01-05T08:00:04Z", "--output", "json")
    document = json.loads(callgauge("replay", "log.jsonl", *span).out)
    assert {"read": 3, "absorbed": 3, "lost": {}} == document["rows"]
    ran = callgauge("replay", "log.jsonl", "--to", "2020-01-01T00:00:00Z")
    assert (0, "") == (ran.code, ran.out)
    assert "no event in the log between --from and --to" in ran.err


def test_expectations_that_are_met_change_nothing(callgauge: Callgauge) -> None:
    """The same output, exit code 0."""
    assert callgauge("replay", "log.jsonl") == callgauge("replay", "log.jsonl", "--expect", "expect.yaml")


@pytest.mark.parametrize(
    ("file", "says"), [("never.yaml", "never: CallLimitReached"), ("soon.yaml", "fired after 5.0 s")]
)
def test_expectations_that_are_not_met_end_with_3(callgauge: Callgauge, file: str, says: str) -> None:
    """Each one that was not met is named; the data is on stdout all the same."""
    ran = callgauge("replay", "log.jsonl", "--expect", file)
    assert 3 == ran.code
    assert says in ran.err
    assert file in ran.err
    assert "CallLimitReached" in ran.out


def test_check_config_says_whether_limits_are_ready(callgauge: Callgauge) -> None:
    """0: fine; 1 with --launch: not ready; 2: a file cannot be used."""
    assert [0, 1, 2] == [
        callgauge("check-config").code,
        callgauge("check-config", "--launch").code,
        callgauge("check-config", "--limits", "kind.yaml").code,
    ]
    sample = str(config_path("limits.yaml"))
    assert 0 == callgauge("check-config", "--launch", "--limits", sample).code


def test_a_register_here_is_taken_and_named(callgauge: Callgauge) -> None:
    """Without --limits it is ./limits.yaml, and the user is told."""
    assert "limits are read from limits.yaml" in callgauge("replay", "log.jsonl").err
