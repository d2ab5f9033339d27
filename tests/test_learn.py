"""`callgauge learn`: weeks of a log to a file, and the file into the engine that reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.app import load_configuration
from engine.learned import decode
from tests.cli_runs import Ran, run_apart
from tests.line_traffic import START_NS, event

DAYS, TRUNKS = 2, 10
LIMITS = """
limits:
  - {name: trunk, kind: concurrency, value: 20, split_by: [trunk], confirmed_on: 2026-01-01}
"""


def run_cli(*words: object) -> Ran:
    """Run `callgauge` as a process of its own."""
    return run_apart("callgauge", *(str(word) for word in words), cwd=Path.cwd())


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a log of two days on ten trunks, a call in four minutes each, its register and settings."""
    folder = tmp_path_factory.mktemp("learn")
    rng = np.random.default_rng(7)
    at_s = np.sort(rng.uniform(0.0, DAYS * 86_400.0, DAYS * 360 * TRUNKS))
    told = []
    for number, start_s in enumerate(at_s.tolist()):
        start_ns = START_NS + int(start_s * 1000) * 1_000_000
        trunk = f"sip-{number % TRUNKS}"
        told.append(event(start_ns, "call.started", f"c{number}", trunk=trunk))
        end_ns = start_ns + int(rng.exponential(180.0) * 1000) * 1_000_000
        told.append(event(end_ns, "call.ended", f"c{number}", outcome="completed", trunk=trunk))
    rows = [one.row for one in sorted(told)]
    (folder / "weeks.jsonl").write_bytes(b"\n".join(rows) + b"\n")
    (folder / "limits.yaml").write_text(LIMITS)
    (folder / "engine.yaml").write_text("engine: {slice: 15s}\n")
    return folder


def test_weeks_become_a_baseline_and_thresholds_that_the_engine_reads(weeks: Path) -> None:
    learned_file = weeks / "learned.json"
    done = run_cli(
        "learn", weeks / "weeks.jsonl", "--out", learned_file, "--limits", weeks / "limits.yaml",
        "--config", weeks / "engine.yaml",
    )  # fmt: skip

    assert done.code == 0, done.err
    assert "10 baselines" in done.out
    assert "thresholds for 1 false pages a week over 10 limits" in done.out
    learned = decode(learned_file.read_bytes(), "learned.json")
    assert {one.split for one in learned.baselines} == {(("trunk", f"sip-{one}"),) for one in range(TRUNKS)}
    for one in learned.baselines:
        assert one.limit == "trunk"
        assert sum(one.calls) / sum(one.watched_s) == pytest.approx(360 / 86_400, rel=0.15)
    assert {one.tier for one in learned.thresholds} == {"page", "warn"}

    config = weeks / "with.yaml"
    config.write_text(f"engine: {{slice: 15s}}\nheadroom: {{learned_file: {learned_file}}}\n")
    loaded = load_configuration(str(config), str(weeks / "limits.yaml"), None)
    assert loaded.learned == learned
    done = run_cli(
        "replay", weeks / "weeks.jsonl", "--config", config, "--limits", weeks / "limits.yaml",
        "--output", "jsonl", "--to", "2026-11-22T22:00:00Z",
    )  # fmt: skip
    assert done.code == 0, done.err
    names = {json.loads(line)["labels"]["alertname"] for line in done.out.splitlines()}
    assert names == {"CallgaugeWatchdog"}


def test_a_file_that_was_edited_or_is_of_another_time_zone_is_refused(weeks: Path, tmp_path: Path) -> None:
    learned_file = tmp_path / "learned.json"
    log = tmp_path / "log.jsonl"
    log.write_bytes(event(START_NS, "call.started", "c", trunk="sip-1").row + b"\n")
    done = run_cli("learn", log, "--out", learned_file, "--limits", weeks / "limits.yaml")
    assert done.code == 0, done.err
    assert "no thresholds" in done.out
    config = tmp_path / "engine.yaml"
    config.write_text(f"headroom: {{learned_file: {learned_file}, time_zone: Europe/Berlin}}\n")

    done = run_cli("replay", log, "--config", config)
    assert done.code == 2
    assert "Europe/Berlin" in done.err

    learned_file.write_bytes(learned_file.read_bytes().replace(b"trunk", b"trunc"))
    config.write_text(f"headroom: {{learned_file: {learned_file}}}\n")
    done = run_cli("replay", log, "--config", config)
    assert done.code == 2
    assert "its digest does not fit" in done.err


def test_nothing_to_learn_from_and_nowhere_to_write_are_said(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"")

    done = run_cli("learn", log, "--out", tmp_path / "learned.json")
    assert (done.code, "no event to learn from" in done.err) == (1, True)

    done = run_cli("learn", log, "--out", tmp_path / "nowhere" / "learned.json")
    assert (done.code, "the folder does not exist" in done.err) == (2, True)


def test_a_log_is_not_written_over(tmp_path: Path) -> None:
    """`--out *.jsonl` names the first log as the file to write; what was learned is written anew."""
    log, out = tmp_path / "log.jsonl", tmp_path / "learned.json"
    log.write_bytes(event(START_NS, "call.started", "c1", trunk="sip-1").row + b"\n")

    done = run_cli("learn", log, "--out", log)
    assert (done.code, "this file is there already" in done.err) == (2, True)
    assert b"call.started" in log.read_bytes()

    out.write_bytes(b"")
    for _ in range(2):
        assert run_cli("learn", log, "--out", out).code == 0
    assert b'"baselines"' in out.read_bytes()
