"""What a run does with its checkpoints: taken in time, written aside, read at an assignment, never fatal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.app import Configuration, OwnedLine
from engine.commands.checkpoints import Checkpoints, Resumed
from engine.settings import KafkaSettings, Settings, StateSettings
from engine.source.contract import tick
from engine.state.folder import Folder
from engine.state.line_state import state_hash
from engine.state.manifest import Candidate, Manifest, in_order
from tests.line_runs import shipped_rules
from tests.line_traffic import REGISTER, TOPIC, Traffic, batches_of, make_story

if TYPE_CHECKING:
    from engine.source.contract import RawBatch

TRAFFIC = Traffic(duration_s=240, rate_first=2.0, rate_last=4.0)


def configured(folder: Path | str, **settings: Any) -> Configuration:
    state = StateSettings(folder=str(folder), period_ns=1, **settings)
    return Configuration(
        Settings(state=state, kafka=KafkaSettings(topic=TOPIC)),
        REGISTER,
        shipped_rules(),
        Path("limits.yaml"),
    )


def rows() -> list[RawBatch]:
    return list(batches_of(make_story(TRAFFIC).events, partitions=2, rows_max=200))


async def kept(
    folder: Path, batches: list[RawBatch], topic_id: str = "", told_ns: int = -1
) -> tuple[OwnedLine, dict[int, int]]:
    """Let one process read these and keep a checkpoint of it."""
    configuration = configured(folder)
    checkpoints = Checkpoints(configuration)
    checkpoints.told_ns = told_ns
    line = OwnedLine(configuration, checkpoints.open(configuration))
    line.adopt(None, topic_id)
    for raw in batches:
        line.step(raw)
    durable: dict[int, int] = {}
    taken = checkpoints.take_if_due(line, {})
    assert taken is not None
    await checkpoints.write(taken, durable)
    return line, durable


async def test_another_process_goes_on_with_the_same_line_key_and_offsets(tmp_path: Path) -> None:
    """The key is made once: under another one no call would be known again."""
    batches = rows()
    line, durable = await kept(tmp_path, batches[:-2])
    assert durable == {raw.partition: int(raw.offset[-1]) + 1 for raw in batches[:-2]}
    configuration = configured(tmp_path)
    checkpoints = Checkpoints(configuration)
    fresh = OwnedLine(configuration, checkpoints.open(configuration))
    resumed = checkpoints.resume(configuration)
    assert resumed.next_offsets == durable
    assert {one.state for one in resumed.firing} == {"firing"}
    fresh.adopt(resumed.line)
    for raw in batches[-2:]:
        assert fresh.step(raw) == line.step(raw)
    assert state_hash(fresh.line.pipeline) == state_hash(line.line.pipeline)
    assert checkpoints.stats.outcomes == {"whole": 1}
    assert (tmp_path / "call.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("told_ns", [-1, 7])
async def test_a_checkpoint_says_when_its_alerts_were_told(tmp_path: Path, told_ns: int) -> None:
    """Who has told nothing yet passes on what the one before says; an older one says when it was cut."""
    await kept(tmp_path, rows()[:2], told_ns=told_ns)
    checkpoints = Checkpoints(configured(tmp_path))
    checkpoints.open(configured(tmp_path))
    resumed = checkpoints.resume(configured(tmp_path))
    assert resumed.told_ns == (told_ns if told_ns >= 0 else resumed.written_ns)


async def test_a_line_that_was_read_waits_for_the_partitions(tmp_path: Path) -> None:
    """Ticks before the assignment belong to nobody; a loss after it begins anew."""
    batches = rows()
    line, _ = await kept(tmp_path, batches)
    configuration = configured(tmp_path)
    checkpoints = Checkpoints(configuration)
    fresh = OwnedLine(configuration, checkpoints.open(configuration))
    fresh.adopt(checkpoints.resume(configuration).line)
    at_ns = batches[-1].received_ns
    fresh.step(tick(TOPIC, at_ns, (), ()))
    assert fresh.line.pipeline.decoder.rows_read == 0
    assert checkpoints.take(fresh, {}) is None  # It owns nothing: what it knows would replace what is there.
    fresh.step(tick(TOPIC, at_ns, (0, 1), ()))
    assert fresh.line.pipeline.decoder.rows_read == line.line.pipeline.decoder.rows_read
    fresh.step(tick(TOPIC, at_ns, (), ()))
    assert fresh.line.pipeline.decoder.rows_read == 0


async def test_what_was_lost_before_a_checkpoint_is_told_apart_from_what_is_lost_now(tmp_path: Path) -> None:
    batches = rows()
    line, _ = await kept(tmp_path, [*batches, batches[-1]])  # Its rows come twice, and count once.
    lost = line.publish(0).rows_lost
    assert line.publish(0).rows_lost_before == ()
    configuration = configured(tmp_path)
    checkpoints = Checkpoints(configuration)
    fresh = OwnedLine(configuration, checkpoints.open(configuration))
    fresh.adopt(checkpoints.resume(configuration).line)
    fresh.step(batches[-1])
    assert fresh.publish(0).rows_lost_before == lost
    assert sum(dict(fresh.publish(0).rows_lost).values()) > sum(dict(lost).values()) > 0


async def test_a_limit_that_is_loaded_while_a_line_waits_is_in_force_when_it_begins(tmp_path: Path) -> None:
    await kept(tmp_path, rows())
    configuration = configured(tmp_path)
    checkpoints = Checkpoints(configuration)
    fresh = OwnedLine(configuration, checkpoints.open(configuration))
    fresh.adopt(checkpoints.resume(configuration).line)
    cap, tenant = REGISTER.limits
    register = msgspec.structs.replace(REGISTER, limits=(msgspec.structs.replace(cap, value=7.0), tenant))
    fresh.reload(configuration._replace(register=register))
    fresh.step(tick(TOPIC, 1, (0, 1), ()))
    assert fresh.line.pipeline.judge.roller.index.instances[0].limit.value == 7.0


async def test_a_checkpoint_of_a_topic_that_was_made_anew_is_set_aside(tmp_path: Path) -> None:
    """The name is the same, the log another one; where an id is not known, nothing is compared."""
    for written, read, outcome in (
        ("a", "a", "whole"), ("", "a", "whole"), ("a", "", "whole"), ("a", "b", "refused_topic_made_anew"),
    ):  # fmt: skip
        await kept(tmp_path, rows()[:5], written)
        checkpoints = Checkpoints(configured(tmp_path))
        checkpoints.open(configured(tmp_path))
        resumed = checkpoints.resume(configured(tmp_path), read)
        assert outcome in checkpoints.stats.outcomes
        assert (resumed == Resumed()) == (outcome != "whole")


async def test_checkpoints_that_count_rows_that_are_gone_give_their_alerts_alone(tmp_path: Path) -> None:
    """One that is older may count them as well: nobody knows from where on they are gone."""
    await kept(tmp_path, rows()[:-4])
    _, durable = await kept(tmp_path, rows())
    configuration = configured(tmp_path)
    checkpoints = Checkpoints(configuration)
    checkpoints.open(configuration)
    assert checkpoints.resume(configuration, "", (), durable).next_offsets == durable
    resumed = checkpoints.resume(configuration, "", (), {**durable, 1: durable[1] - 1})
    assert resumed.next_offsets == {}
    assert {one.state for one in resumed.firing} == {"firing"}
    assert resumed.line is not None
    assert resumed.line.pipeline.decoder.rows_read == 0
    assert checkpoints.stats.outcomes == {"whole": 1, "alerts": 1, "refused_tail_lost": 2}
    assert checkpoints.resume(configuration) == Resumed()


def spoil(folder: Path, damage: str) -> None:
    """Write over a file, or all of a kind."""
    for path in folder.iterdir():
        if damage in {path.name, "everything"} or (damage == "blobs" and path.suffix == ".blob"):
            path.write_bytes(b"\xff" * 100)


@pytest.mark.parametrize("damage", ["manifest", "blobs", "everything"])
async def test_whatever_is_in_the_folder_the_engine_starts(tmp_path: Path, damage: str) -> None:
    """It is counted by reason, and set aside: the next start does not meet it again."""
    await kept(tmp_path, rows()[:5])
    spoil(tmp_path, damage)
    configuration = configured(tmp_path)
    checkpoints = Checkpoints(configuration)
    key = checkpoints.open(configuration)
    assert checkpoints.resume(configuration) == Resumed()
    assert checkpoints.stats.outcomes == {"refused_damaged": 1}
    assert checkpoints.resume(configuration) == Resumed()
    assert checkpoints.stats.outcomes == {"refused_damaged": 1}
    await write_one(checkpoints, configuration, key)
    assert key == Checkpoints(configuration).open(configuration)


async def write_one(checkpoints: Checkpoints, configuration: Configuration, key: bytes) -> dict[int, int]:
    """Read a little under this key, and keep a checkpoint of it."""
    line = OwnedLine(configuration, key)
    for raw in rows()[:5]:
        line.step(raw)
    taken = checkpoints.take(line, {})
    assert taken is not None
    durable: dict[int, int] = {}
    await checkpoints.write(taken, durable)
    return durable


async def test_the_furthest_checkpoint_wins_and_one_that_is_hurt_gives_way(tmp_path: Path) -> None:
    """One of another host may be ahead of the one here, or behind it."""
    batches = rows()
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    here.mkdir()
    for folder in (here, there):
        (folder / "call.key").write_text("0" * 32)
        (folder / "call.key").chmod(0o600)
    _, behind = await kept(here, batches[:4])
    _, ahead = await kept(there, batches[:8])
    others, _ = Folder(there, 1 << 30, "0" * 8).candidates(TOPIC)
    checkpoints = Checkpoints(configured(here))
    checkpoints.open(configured(here))
    assert checkpoints.resume(configured(here)).next_offsets == behind
    assert checkpoints.resume(configured(here), "", others).next_offsets == ahead
    spoil(there, "blobs")
    assert checkpoints.resume(configured(here), "", others).next_offsets == behind
    assert checkpoints.stats.outcomes == {"whole": 3, "refused_damaged": 1}


@pytest.mark.parametrize(
    ("age_ns", "order"),
    [(0, ["ours", "before", "other"]), (10, ["ours", "before", "other"]), (11, ["other", "ours", "before"])],
)
def test_of_what_was_made_under_other_settings_the_furthest_wins_if_the_rest_is_old(
    age_ns: int, order: list[str]
) -> None:
    """One that is older by more than we would read back costs more than it saves."""

    def candidate(name: str, digest: str, offset: int, written_ns: int) -> Candidate:
        manifest = Manifest(1, written_ns, TOPIC, digest, "", 0, {0: offset}, {})
        return Candidate(manifest, name, lambda *_: b"", lambda: None)

    found = [
        candidate("before", "core", 3, 100 - age_ns), candidate("other", "another", 9, 100),
        candidate("ours", "core", 4, 100 - age_ns),
    ]  # fmt: skip
    assert [one.where for one in in_order(found, "core", 10)] == order
    assert in_order([], "core", 10) == []


async def test_what_nobody_foresaw_in_a_checkpoint_costs_that_one_alone(tmp_path: Path) -> None:
    """The one before it is tried, and is not set aside for it."""
    batches = rows()
    _, behind = await kept(tmp_path, batches[:4])
    folder = Folder(tmp_path, 1 << 30, "0" * 8)
    (newest,), _ = folder.candidates(TOPIC)

    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    manifest = msgspec.structs.replace(newest.manifest, written_ns=newest.manifest.written_ns + 1)
    set_aside: list[str] = []
    newer = Candidate(manifest, "elsewhere", broken, lambda: set_aside.append("newer"))
    checkpoints = Checkpoints(configured(tmp_path))
    checkpoints.open(configured(tmp_path))
    resumed = checkpoints.resume(configured(tmp_path), "", [newer])
    assert resumed.next_offsets == behind
    assert checkpoints.stats.outcomes == {"whole": 1, "refused_zerodivisionerror": 1}
    assert set_aside == ["newer"]
    assert [one.manifest for one in folder.candidates(TOPIC)[0]] == [newest.manifest]


async def test_after_the_last_checkpoint_there_is_no_other(tmp_path: Path) -> None:
    """A consumer that is closed may give its partitions up: what was told is of the last one."""
    batches = rows()
    line, durable = await kept(tmp_path, batches[:3])
    checkpoints = Checkpoints(line.configuration)
    checkpoints.open(line.configuration)
    with ThreadPoolExecutor(1) as worker:
        await checkpoints.finish(worker, line, {}, durable)
        line.step(batches[3])
        before = dict(durable)
        await checkpoints.save_now(worker, line, {}, durable)
    assert (durable, checkpoints.stats.count, checkpoints.stats.failures) == (before, 1, {})


class FailingJudge:
    """A judge whose memory is used up."""

    def hear(self, _: object) -> None:
        """Hear what was declined."""

    def take(self, *_: object) -> None:
        raise MemoryError


async def test_of_a_step_that_failed_no_checkpoint_is_taken(tmp_path: Path) -> None:
    """Its offsets are ahead of what has taken effect: a start goes on before it, and reads its rows again."""
    batches = rows()
    line, durable = await kept(tmp_path, batches[:6])
    checkpoints = Checkpoints(line.configuration)
    checkpoints.open(line.configuration)
    assert checkpoints.take(line, {}) is not None
    judge, line.line.pipeline.judge = line.line.pipeline.judge, FailingJudge()  # type: ignore[assignment]
    with pytest.raises(MemoryError):
        line.step(batches[6])
    line.line.pipeline.judge = judge

    assert checkpoints.take(line, {}) is None
    with ThreadPoolExecutor(1) as worker:
        await checkpoints.finish(worker, line, {}, {})
    again = Checkpoints(line.configuration)
    again.open(line.configuration)
    assert again.resume(line.configuration).next_offsets == durable


async def test_a_state_of_other_settings_gives_its_alerts_and_no_offsets(tmp_path: Path) -> None:
    """Without the calls the partitions are read again from before."""
    await kept(tmp_path, rows()[:5])
    configuration = configured(tmp_path)
    labels = msgspec.structs.replace(configuration.settings.engine, series_labels=("tenant",))
    configuration = configuration._replace(
        settings=msgspec.structs.replace(configuration.settings, engine=labels)
    )
    checkpoints = Checkpoints(configuration)
    checkpoints.open(configuration)
    resumed = checkpoints.resume(configuration)
    assert resumed.next_offsets == {}
    assert resumed.line is not None
    assert checkpoints.stats.outcomes == {"alerts": 1}


async def test_a_folder_that_cannot_be_used_costs_checkpoints_and_nothing_else(tmp_path: Path) -> None:
    """A file where the folder should be: it is said once, counted each time, and the line goes on."""
    (tmp_path / "file").write_bytes(b"")
    configuration = configured(tmp_path / "file" / "state")
    checkpoints = Checkpoints(configuration)
    line = OwnedLine(configuration, checkpoints.open(configuration))
    assert checkpoints.resume(configuration) == Resumed()
    for raw in rows()[:3]:
        line.step(raw)
        taken = checkpoints.take_if_due(line, {})
        assert taken is not None
        durable: dict[int, int] = {}
        await checkpoints.write(taken, durable)
        assert durable == {}
    assert checkpoints.stats.failures == {"disk": 4, "key": 1}
    assert checkpoints.stats.count == 0


async def test_without_a_folder_nothing_is_written_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    configuration = configured("")
    checkpoints = Checkpoints(configuration)
    line = OwnedLine(configuration, checkpoints.open(configuration))
    line.step(rows()[0])
    assert checkpoints.take_if_due(line, {}) is None
    assert "state.folder is not set" in caplog.text


async def test_a_checkpoint_that_is_larger_than_it_may_be_is_counted(tmp_path: Path) -> None:
    configuration = configured(tmp_path, bytes_max=5000)
    checkpoints = Checkpoints(configuration)
    line = OwnedLine(configuration, checkpoints.open(configuration))
    for raw in rows():
        line.step(raw)
    taken = checkpoints.take(line, {})
    assert taken is not None
    await checkpoints.write(taken, {})
    assert checkpoints.stats.failures == {"too_large": 1}
