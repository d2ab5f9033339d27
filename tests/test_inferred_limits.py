"""Inferred limits are kept in a file, are in force from the next slice on, and are seen by nobody before."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.app import (
    REPLAY_HASH_KEY,
    OwnedLine,
    build_line,
    configuration_loader,
    load_configuration,
    load_inferred,
    with_learned_file,
)
from engine.commands.inferred_file import AGAIN_S, InferredFile
from engine.commands.whole_file import write_whole
from engine.errors import SettingsError
from engine.judge.detection import LearnedLimit
from engine.judge.implicit import LearnedValue, LearnedValues, implicit_limits
from engine.judge.inferred_limits import LIMITS_MAX, decode, encode
from engine.judge.roll import Roller, StreamCounters
from engine.judge.series import SeriesIndex
from engine.judge.statuses import Statuses
from engine.learned import WEEK_SLOTS, Learned, LearnedBaseline
from engine.learned import encode as encode_learned
from engine.limits import Limit, Register
from engine.settings import EngineSettings, Settings
from tests.line_runs import Run
from tests.line_traffic import REGISTER, START_NS, S, Traffic, batches_of, event, make_story, raw_batch
from tests.summaries import summary
from tests.test_roll import RULES

if TYPE_CHECKING:
    from pathlib import Path

TRUNK = LearnedValue("inferred:trunk", (("trunk", "sip-1"),), 60.0, START_NS)
TOTAL = LearnedValue("inferred:total", (), 250.0, START_NS + S)
LABELS = ("tenant", "trunk", "provider")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "inferred.json"
    write_whole(path, encode((TOTAL, TRUNK)))

    assert load_inferred(str(path)) == (TOTAL, TRUNK)
    assert InferredFile(EngineSettings(learned_limits_file=str(path))).before() == (TOTAL, TRUNK)


def test_replay_takes_what_run_inferred_and_what_learn_wrote(tmp_path: Path) -> None:
    """Both are called learned: whoever names one need not know which."""
    path = tmp_path / "learned.json"
    configuration = load_configuration(None, None, None)
    path.write_bytes(encode((TRUNK,)))
    assert with_learned_file(configuration, str(path)) == configuration._replace(inferred=(TRUNK,))
    path.write_bytes(encode_learned(Learned(day=7)))
    learned = with_learned_file(configuration, str(path)).learned
    assert learned is not None
    assert learned.day == 7
    path.write_bytes(encode_learned(Learned(day=7, time_zone="Asia/Tokyo")))
    with pytest.raises(SettingsError, match="tells the week by Asia/Tokyo"):
        with_learned_file(configuration, str(path))


def test_what_a_disk_refused_is_written_again_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Inferred caps rarely change: without a second try, a full disk would cost them at the next start."""
    path, now_s = tmp_path / "later" / "inferred.json", [0.0]
    file = InferredFile(EngineSettings(learned_limits_file=str(path)), lambda: now_s[0])
    file.begin(())
    inferred = (TRUNK,)
    file.keep(inferred)
    assert not file.is_behind(inferred)
    now_s[0] = AGAIN_S
    assert file.is_behind(inferred)
    file.keep(inferred)
    assert len(caplog.records) == 1

    path.parent.mkdir()
    now_s[0] *= 2
    assert file.is_behind(inferred)
    file.keep(inferred)
    assert load_inferred(str(path)) == inferred
    now_s[0] *= 2
    assert not file.is_behind(inferred)


def test_what_was_learned_of_many_limits_is_read_at_a_start_a_reload_and_by_replay(tmp_path: Path) -> None:
    """A baseline alone takes some 20 KB."""
    week = tuple(0.001 * slot for slot in range(WEEK_SLOTS))
    names = (f"sip-{number}" for number in range(50))
    baselines = tuple(LearnedBaseline(limit=name, calls=week, watched_s=week) for name in names)
    path, config = tmp_path / "learned.json", tmp_path / "engine.yaml"
    path.write_bytes(encode_learned(Learned(baselines=baselines)))
    config.write_text(f"headroom: {{learned_file: {path}}}")
    load = configuration_loader(str(config), None, None)

    for configuration in (load(), load(), with_learned_file(load_configuration(None, None, None), str(path))):
        assert configuration.learned is not None
        assert configuration.learned.baselines == baselines


def test_the_first_run_finds_no_file_and_begins_with_nothing(tmp_path: Path) -> None:
    assert InferredFile(EngineSettings(learned_limits_file=str(tmp_path / "none.json"))).before() == ()
    assert InferredFile(EngineSettings()).before() == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "these are no inferred limits"),
        ("{}", "these are no inferred limits"),
        ('{"version": 2, "digest": "", "limits": []}', "version 2"),
        ('{"version": 1, "digest": "", "limits": []}', "digest does not fit"),
        (encode((TRUNK,)).decode().replace("60", "61"), "digest does not fit"),
        (encode((TRUNK._replace(value=-1.0),)).decode(), "not a positive number"),
        (encode((TRUNK,) * (LIMITS_MAX + 1)).decode(), "are more than"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        decode(text.encode(), "inferred.json")


@pytest.mark.parametrize("text", ["limits:\n  - {name: trunk}\n", "{}", '{"changes": []}'])
def test_nobody_is_told_to_remove_a_file_that_is_not_ours(text: str) -> None:
    """It may be the register that was named by mistake."""
    with pytest.raises(SettingsError) as raised:
        decode(text.encode(), "limits.yaml")
    assert "remove" not in str(raised.value)
    assert "`learn --out` wrote" in raised.value.hint


def index_of(*limits: Limit, instances_max: int = 100, implicit_max: int = 100) -> SeriesIndex:
    """Make an index with implicit limits on trunks and providers."""
    implicit = implicit_limits(("trunk", "provider"), implicit_max)
    return SeriesIndex(Register(limits=limits), instances_max, 100, implicit)


def test_all_calls_and_every_trunk_and_provider_are_watched() -> None:
    index = index_of(Limit(name="panel", kind="concurrency", value=80.0))

    shared = (("", "__other__", "carrier"), ("", "__number__", "__address__"))
    index.ids(LABELS, (("acme", "sip-1", ""), *shared))

    names = [one.name for one in index.instances]
    assert names == [
        "panel", "inferred:total", "inferred:trunk=sip-1", "inferred:provider=carrier",
    ]  # fmt: skip
    assert index.counting() == {0}
    assert dict(index.instances[2].labels) == {"limit": "inferred:trunk=sip-1", "trunk": "sip-1"}


@pytest.mark.parametrize(("instances_max", "found"), [(64, ["agent=sip-1"]), (0, [])])
def test_labels_by_which_caps_are_looked_for_are_kept(instances_max: int, found: list[str]) -> None:
    """They need not be among `series_labels`: nothing would be looked for, and nobody be told."""
    engine = EngineSettings(
        series_labels=("tenant",), hidden_cap_labels=("agent",), hidden_cap_instances_max=instances_max
    )
    configuration = load_configuration(None, None, None)._replace(
        settings=Settings(engine=engine), register=Register()
    )
    line = build_line(configuration, REPLAY_HASH_KEY)
    told = [event(START_NS + at * S, "call.started", f"c{at}", agent="sip-1") for at in range(30)]
    line.pipeline.step(raw_batch([one.row for one in told], 0, 0, 1))

    names = [one.name for one in line.pipeline.judge.roller.index.instances if one.split]
    assert names == [f"inferred:{one}" for one in found]
    assert line.pipeline.decoder.series.labels == ("tenant", *(["agent"] if found else []))


def test_labels_that_a_limit_brings_keep_their_order() -> None:
    """A checkpoint is of the labels in their order: another order would begin everything anew."""
    by_both = Limit(name="both", kind="concurrency", split_by=("trunk", "provider"))
    orders = set()
    for instances_max in (0, 64):
        engine = EngineSettings(series_labels=("tenant",), hidden_cap_instances_max=instances_max)
        configuration = load_configuration(None, None, None)._replace(
            settings=Settings(engine=engine), register=Register(limits=(by_both,))
        )
        orders.add(build_line(configuration, REPLAY_HASH_KEY).pipeline.decoder.series.labels)
    assert orders == {("tenant", "provider", "trunk")}


def test_the_register_comes_first_when_there_is_no_room() -> None:
    by_tenant = Limit(name="tenant", kind="concurrency", split_by=("tenant",))
    index = index_of(by_tenant, instances_max=4, implicit_max=2)

    index.ids(LABELS, tuple((f"t{number}", f"sip-{number}", "") for number in range(5)))

    names = [one.name for one in index.instances]
    assert sum(name.startswith("inferred:") for name in names) <= 2
    assert names.count("tenant") == 5  # Four tenants, and one instance for all others.


def test_none_are_watched_if_none_may_be() -> None:
    assert implicit_limits(("trunk",), 0).limits == ()


def test_implicit_limits_outlive_a_reload() -> None:
    index = index_of()
    index.ids(LABELS, (("acme", "sip-1", ""),))

    index.reload(Register(limits=(Limit(name="panel", kind="concurrency", value=80.0),)))

    assert [one.name for one in index.instances] == ["inferred:total", "inferred:trunk=sip-1", "panel"]
    assert index.instances_of(0) == [0, 1, 2]


def test_an_inferred_value_is_in_force_from_the_next_slice_on_and_behind_the_register() -> None:
    null = Limit(name="null", kind="concurrency")
    panel = Limit(name="panel", kind="concurrency", value=80.0)
    roller = Roller(EngineSettings(), Register(limits=(null, panel)), RULES)
    roller.take([summary(START_NS, (("acme", "sip-1", "", ""),), bins=[(0, 0, 1, 1, 0, 0)])])
    (first,) = list(roller.close_until(START_NS + 5 * S, StreamCounters()))
    assert np.isnan(first.summary.limits.value[[0, 2, 3]]).all()

    said = [LearnedLimit(row, 20.0, START_NS) for row in range(4)]
    roller.learned.take(said, roller.index.instances)
    (second,) = list(roller.close_until(START_NS + 10 * S, StreamCounters()))

    assert second.summary.limits.value.tolist() == [20.0, 80.0, 20.0, 20.0]
    assert np.isnan(second.summary.limits.declared[[0, 2, 3]]).all()


def test_values_stay_the_same_object_until_one_changes() -> None:
    index, learned = index_of(), LearnedValues()
    before = learned.values
    learned.take((), index.instances)
    assert learned.values is before

    index.ids(LABELS, (("acme", "sip-1", ""),))
    learned.take((LearnedLimit(1, 60.0, START_NS),), index.instances)
    assert learned.values == (TRUNK,)

    learned.take((LearnedLimit(1, float("nan"), START_NS),), index.instances)
    assert not learned.values


def test_nobody_sees_an_implicit_limit_before_it_has_a_value() -> None:
    events = [one for one in make_story(Traffic(3)).events if one.time_ns < START_NS + 60 * S]
    unknown, known = Run(REGISTER), Run(REGISTER)
    known.judge.know((TRUNK,))
    for run in (unknown, known):
        for raw in batches_of(events):
            run.step(raw)
        run.finish()

    names = [[row.limit for row in Statuses(run.judge).rows(())] for run in (unknown, known)]

    assert not [name for name in names[0] if name.startswith("inferred:")]
    assert [name for name in names[1] if name.startswith("inferred:")] == ["inferred:trunk=sip-1"]
    pages = [dict(change.labels).get("limit", "") for change in unknown.changes]
    assert not [name for name in pages if name.startswith("inferred:")]


def test_a_line_that_starts_anew_keeps_what_was_inferred() -> None:
    configuration = load_configuration(None, None, None)._replace(inferred=(TRUNK,))
    line = OwnedLine(configuration, REPLAY_HASH_KEY)
    line.step(raw_batch([b"{}"], 0, 0, 1))
    before = line.line

    line.step(dataclasses.replace(raw_batch([], 0, 1, 1), assigned=()))

    assert line.line is not before
    assert line.line.pipeline.judge.inferred() == (TRUNK,)
