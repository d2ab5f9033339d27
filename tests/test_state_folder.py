"""A checkpoint is there whole or as it was before, whatever the disk does and whoever kills us."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from engine.state import blob
from engine.state.durable import Disk
from engine.state.encoding import StateError
from engine.state.folder import MANIFEST, PREVIOUS, Folder, Stamp
from engine.state.line_state import USUAL, Capture, Digests
from engine.state.manifest import BlobEntry, manifest_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

STAMP = Stamp("calls", Digests("core", "detectors"), 5, 7)
RUN, OTHER_RUN = "0123abcd", "fedc9876"
BYTES_MAX = 64 << 20


def a_capture(number: int, size: int = 1000) -> Capture:
    """Make a cut of which every byte follows from its number."""
    body = np.random.default_rng(number).integers(0, 256, size, np.uint8).tobytes()
    blobs = {name: {"one": [body[:10], body[10:]], "two": [b""]} for name in ("partition-0", "judge")}
    return Capture(blobs, {0: number})


def a_folder(path: Path, run: str = RUN) -> Folder:
    folder = Folder(path, BYTES_MAX, run)
    folder.prepare()
    return folder


def number_in(path: Path, size: int = 1000) -> int:
    """Say which cut a new process finds, and that it is that one to the last byte; -1: none."""
    found, _ = Folder(path, BYTES_MAX, OTHER_RUN).load("calls")
    if found is None:
        return -1
    number = found.manifest.next_offsets[0]
    for name, parts in a_capture(number, size).blobs.items():
        assert found.read[name] == {part: b"".join(pieces) for part, pieces in parts.items()}
    return number


def test_the_newest_checkpoint_is_found_and_the_one_before_is_kept(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    assert number_in(tmp_path) == -1
    for number in range(1, 5):
        folder.save(a_capture(number), STAMP)
        assert number_in(tmp_path) == number
    assert len(list(tmp_path.glob("*.blob"))) == 4
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o600"}


def test_what_is_usual_is_written_when_it_has_changed_and_not_before(tmp_path: Path) -> None:
    """The same bytes are named again; a blob that somebody has removed is written anew."""
    folder = a_folder(tmp_path)
    usual, other = ({"0": [text * 100]} for text in (b"usual", b"other"))

    def saved(number: int, apart: dict[str, list[bytes]]) -> Path:
        taken = a_capture(number)
        folder.save(taken._replace(blobs={**taken.blobs, USUAL: apart}), STAMP)
        assert number_in(tmp_path) == number
        found, _ = Folder(tmp_path, BYTES_MAX, OTHER_RUN).load("calls")
        assert found is not None
        assert found.read[USUAL]["0"] == apart["0"][0]
        return tmp_path / found.manifest.blobs[USUAL].file

    first = saved(1, usual)
    assert [saved(number, usual) for number in (2, 3, 4)] == [first] * 3
    changed = saved(5, other)
    assert changed != first
    assert saved(6, {"0": [bytes(bytearray(other["0"][0]))]}) != changed  # Equal, but who knows.
    saved(7, usual).unlink()
    assert saved(8, usual).exists()


@pytest.mark.parametrize("size", [0, 1, blob.FRAME_BYTES_MAX, 2 * blob.FRAME_BYTES_MAX + 5])
def test_a_blob_of_any_size_is_cut_into_frames(size: int) -> None:
    """No frame is larger than its bound; all together give the same bytes."""
    body = bytes(range(251)) * (size // 251 + 1)
    pieces = [b"first", body[:size], b"", b"last"]
    head = blob.BlobHead("judge", "calls", -1, "core", (("all", size + 9),))
    data = b"".join(blob.blob_bytes(head, pieces))
    assert blob.parts_of(data, "judge", 3 * blob.FRAME_BYTES_MAX)[1] == {"all": b"".join(pieces)}
    with pytest.raises(StateError, match="bytes_max"):
        blob.parts_of(data, "judge", size)


def test_any_flipped_bit_is_found_and_the_checkpoint_before_is_used(tmp_path: Path) -> None:
    """What is bad is set aside, and said by reason."""
    folder = a_folder(tmp_path / "good")
    folder.save(a_capture(1), STAMP)
    folder.save(a_capture(2), STAMP)
    generator = np.random.default_rng(1)
    files = [*(tmp_path / "good").glob("*.2-*.blob"), tmp_path / "good" / MANIFEST]
    assert len(files) == 3
    for turn in range(60):
        here = tmp_path / str(turn)
        shutil.copytree(tmp_path / "good", here)
        victim = here / files[turn % 3].name
        data = bytearray(victim.read_bytes())
        place = int(generator.integers(0, len(data)))
        data[place] ^= 1 << int(generator.integers(0, 8))
        victim.write_bytes(data if turn % 2 else data[:place])
        found, refused = a_folder(here, OTHER_RUN).load("calls")
        assert found is not None
        assert found.manifest.next_offsets == {0: 1}
        assert [one.reason for one in refused] in (["damaged"], ["newer"])
        assert (here / "manifest.bad").exists()


def test_a_blob_that_is_cut_off_anywhere_in_its_head_is_refused() -> None:
    data = b"".join(blob.blob_bytes(blob.BlobHead("judge", "calls", -1, "core", ()), []))
    for length in range(len(data)):
        with pytest.raises(StateError):
            blob.parts_of(data[:length], "judge", BYTES_MAX)


def test_a_version_of_more_digits_than_are_read_costs_its_own_manifest_alone(tmp_path: Path) -> None:
    """Neither the start nor the next checkpoint fails of it."""
    folder = a_folder(tmp_path)
    folder.save(a_capture(1), STAMP)
    folder.save(a_capture(2), STAMP)
    text = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(text.replace(b"checkpoint 1 ", b"checkpoint " + b"9" * 5000 + b" "))
    found, refused = a_folder(tmp_path, OTHER_RUN).load("calls")
    assert found is not None
    assert found.manifest.next_offsets == {0: 1}
    assert [one.reason for one in refused] == ["damaged"]
    folder.save(a_capture(3), STAMP)
    assert number_in(tmp_path) == 3


def test_without_any_usable_checkpoint_there_is_none(tmp_path: Path) -> None:
    """A blob that is gone, a manifest of another topic, a newer version: each is refused for its reason."""

    def lose_blobs(path: Path) -> None:
        for one in path.glob("*.blob"):
            one.unlink()

    def make_newer(path: Path) -> None:
        for name in (MANIFEST, PREVIOUS):
            text = (path / name).read_bytes()
            (path / name).write_bytes(text.replace(b"callgauge-checkpoint 1", b"callgauge-checkpoint 2"))

    cases: list[tuple[Callable[[Path], Any], str, str]] = [
        (lose_blobs, "calls", "missing"),
        (lambda _: None, "turns", "other_topic"),
        (make_newer, "calls", "newer"),
    ]
    for spoil, topic, reason in cases:
        here = tmp_path / reason
        folder = a_folder(here)
        folder.save(a_capture(1), STAMP)
        folder.save(a_capture(2), STAMP)
        spoil(here)
        found, refused = a_folder(here, OTHER_RUN).load(topic)
        assert found is None
        assert [one.reason for one in refused] == [reason, reason]
        assert number_in(here) == -1
        folder.save(a_capture(3), STAMP)
        assert number_in(here) == 3


def test_a_blob_of_another_cut_is_found(tmp_path: Path) -> None:
    """It is whole; its rows and those after the offset of the manifest would overlap, or leave a gap."""
    folder = a_folder(tmp_path)
    folder.save(a_capture(1), STAMP)
    folder.save(a_capture(2), STAMP)
    (older,) = tmp_path.glob("partition-0.1-*.blob")
    (newer,) = tmp_path.glob("partition-0.2-*.blob")
    shutil.copy(older, newer)
    found, refused = a_folder(tmp_path, OTHER_RUN).load("calls")
    assert found is not None
    assert (found.manifest.next_offsets, [one.reason for one in refused]) == ({0: 1}, ["damaged"])


def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    """Names of blobs are those that we give; links are not followed, nor paths."""
    folder = a_folder(tmp_path / "here")
    folder.save(a_capture(1), STAMP)
    victim = next((tmp_path / "here").glob("judge.*.blob"))
    victim.rename(tmp_path / "elsewhere")
    victim.symlink_to(tmp_path / "elsewhere")
    assert a_folder(tmp_path / "here", OTHER_RUN).load("calls")[0] is None
    manifest = folder.newest()
    blobs = manifest.blobs | {"judge": BlobEntry("../elsewhere", manifest.blobs["judge"].bytes)}
    text = manifest_bytes(msgspec.structs.replace(manifest, blobs=blobs))
    (tmp_path / "here" / MANIFEST).write_bytes(text)
    assert a_folder(tmp_path / "here", OTHER_RUN).load("calls")[0] is None


class SmallDisk:
    """A disk with room for so many bytes in one folder."""

    def __init__(self, path: Path, room: int) -> None:
        self.path, self.room = path, room

    def write(self, file: int, data: memoryview) -> int:
        left = self.room - sum(one.stat().st_size for one in self.path.iterdir())
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(file, data[:left])


@pytest.mark.parametrize("is_at_start", [False, True])
def test_what_a_killed_process_left_does_not_keep_the_disk_full(tmp_path: Path, is_at_start: bool) -> None:
    """Once it is ten minutes old it is removed, at a start and when a save fails; never what is named."""
    killed = a_folder(tmp_path, OTHER_RUN)
    for number in (1, 2):
        killed.save(a_capture(number, 100_000), STAMP)
    left = [tmp_path / f"{name}.3-{OTHER_RUN}.blob" for name in ("judge", "partition-0")]
    for one in left:
        one.write_bytes(bytes(100_000))
    folder = Folder(tmp_path, BYTES_MAX, RUN, Disk(SmallDisk(tmp_path, 610_000).write))
    folder.prepare()
    for _ in range(2):  # They are too young.
        with pytest.raises(OSError, match="left on device"):
            folder.save(a_capture(3, 100_000), STAMP)
    for one in tmp_path.iterdir():
        os.utime(one, (1, 1))
    if is_at_start:
        folder.prepare()
    else:
        with pytest.raises(OSError, match="left on device"):
            folder.save(a_capture(3, 100_000), STAMP)
    assert not any(one.exists() for one in left)
    assert number_in(tmp_path, 100_000) == 2
    folder.save(a_capture(4, 100_000), STAMP)
    assert number_in(tmp_path, 100_000) == 4


def test_what_a_newer_version_names_is_not_removed_by_one_that_stands_by(tmp_path: Path) -> None:
    """It cannot read the manifest; and what is usual was written long ago."""
    a_folder(tmp_path).save(a_capture(1), STAMP)
    text = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(text.replace(b"callgauge-checkpoint 1", b"callgauge-checkpoint 2"))
    for one in tmp_path.iterdir():
        os.utime(one, (1, 1))
    a_folder(tmp_path, OTHER_RUN)
    (tmp_path / MANIFEST).write_bytes(text)
    assert number_in(tmp_path) == 1


def test_a_checkpoint_that_grows_too_large_is_not_written(tmp_path: Path) -> None:
    """The bound holds for the whole of it, and the one before stays."""
    a_folder(tmp_path).save(a_capture(1), STAMP)
    small = Folder(tmp_path, 1500, RUN)
    with pytest.raises(StateError, match="bytes_max"):
        small.save(a_capture(2), STAMP)
    assert number_in(tmp_path) == 1


def test_what_is_written_can_be_read_back_under_the_same_bound(tmp_path: Path) -> None:
    """The bound is of plain bytes on both sides: zeros take next to nothing on the disk."""
    zeros = Capture({"judge": {"all": [bytes(10_000)]}}, {0: 1})
    Folder(tmp_path, 10_000, RUN).save(zeros, STAMP)
    assert Folder(tmp_path, 10_000, OTHER_RUN).load("calls")[0] is not None
    with pytest.raises(StateError, match="bytes_max"):
        Folder(tmp_path, 9_999, RUN).save(zeros, STAMP)
    found, refused = Folder(tmp_path, 9_999, OTHER_RUN).load("calls")
    assert (found, [one.reason for one in refused]) == (None, ["too_large"])
    assert Folder(tmp_path, 10_000, OTHER_RUN).load("calls")[0] is not None  # The bound was raised again.
    halves = Capture({name: {"all": [bytes(5_000)]} for name in ("judge", "shared")}, {0: 1})
    Folder(tmp_path, 10_000, RUN).save(halves, STAMP)
    assert [one.reason for one in Folder(tmp_path, 9_999, OTHER_RUN).load("calls")[1]] == ["too_large"] * 2


@pytest.mark.parametrize("unreadable", [".blob", MANIFEST])
def test_what_cannot_be_read_once_is_there_at_the_next_start(tmp_path: Path, unreadable: str) -> None:
    """No descriptor left, another user, a network that is away: none of it says that a checkpoint is bad."""
    a_folder(tmp_path).save(a_capture(1), STAMP)
    a_folder(tmp_path).save(a_capture(2), STAMP)

    def open_file(path: Path, flags: int, mode: int) -> int:
        if unreadable in path.name and not flags & os.O_CREAT:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return os.open(path, flags, mode)

    folder = Folder(tmp_path, BYTES_MAX, OTHER_RUN, Disk(open=open_file))
    found, refused = folder.load("calls")
    assert (found, [one.reason for one in refused]) == (None, ["unreadable"] * 2)
    folder.save(a_capture(3), STAMP)
    assert number_in(tmp_path) == 3
    (tmp_path / MANIFEST).unlink()
    assert number_in(tmp_path) == 2, "its blobs were removed, since its manifest could not be read"


def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    """With the rights that it had, and all that the manifest names."""
    folder, usual = a_folder(tmp_path / "state"), {"0": [b"usual"]}
    for number in (1, 2):
        taken = a_capture(number)
        folder.save(taken._replace(blobs={**taken.blobs, USUAL: usual}), STAMP)
        assert oct((tmp_path / "state").stat().st_mode & 0o777) == "0o700"
        assert number_in(tmp_path / "state") == number
        shutil.rmtree(tmp_path / "state")


def test_two_writers_of_one_folder_only_set_each_other_back(tmp_path: Path) -> None:
    """Neither removes what the other has just written."""
    one, other = a_folder(tmp_path), a_folder(tmp_path, OTHER_RUN)
    for number in range(1, 9):
        (one if number % 2 else other).save(a_capture(number), STAMP)
        assert number_in(tmp_path) == number


def test_who_takes_over_while_another_still_writes_sets_nothing_aside(tmp_path: Path) -> None:
    """What was listed may be gone when its blobs are read: it is listed again."""
    one, writes = a_folder(tmp_path), iter([(3, 4), (5, 6)])
    for number in (1, 2):
        one.save(a_capture(number), STAMP)

    def open_file(path: Path, flags: int, mode: int) -> int:
        if path.suffix == ".blob":
            for number in next(writes, ()):
                one.save(a_capture(number), STAMP)
        return os.open(path, flags, mode)

    found, refused = Folder(tmp_path, BYTES_MAX, OTHER_RUN, Disk(open=open_file)).load("calls")
    assert found is not None
    assert found.manifest.next_offsets == {0: 6}
    assert {one.reason for one in refused} == {"replaced"}
    listed, _ = Folder(tmp_path, BYTES_MAX, OTHER_RUN).candidates("calls")
    one.save(a_capture(7), STAMP)
    for candidate in listed:
        candidate.set_aside()
    assert number_in(tmp_path) == 7
    assert not list(tmp_path.glob("*.bad"))


WRITER = """
import sys
from pathlib import Path
from tests.test_state_folder import STAMP, a_capture, a_folder
folder = a_folder(Path(sys.argv[1]), sys.argv[2])
number = int(sys.argv[3])
print("up", flush=True)
while True:
    folder.save(a_capture(number, 300_000), STAMP)
    print(number, flush=True)
    number += 1
"""


def test_kill_9_at_any_moment_leaves_a_whole_checkpoint_that_is_not_stale(tmp_path: Path) -> None:
    """What was said to be on the disk is found again, or something newer."""
    generator = np.random.default_rng(5)
    number = 1
    for turn in range(8):
        command = [sys.executable, "-c", WRITER, str(tmp_path), f"{turn:08x}", str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(int(generator.integers(1, 4))):
                said = int(process.stdout.readline())
            signal.sigtimedwait([], float(generator.random() * 0.02))
            process.send_signal(signal.SIGKILL)
            said = max([said, *map(int, process.stdout.read().split())])
        assert number_in(tmp_path, 300_000) >= said
        number = said + 2
