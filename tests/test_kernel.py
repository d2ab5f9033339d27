"""Compiled functions, and a disk cache that may fail in any way but never stop the engine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import pytest

from engine import kernel_cache
from engine.kernel import kernel

# A program of its own, since the folder is chosen once in the life of a process.
PROGRAM = """
import os, resource, shutil, sys, tempfile
if "nothing-writable" in sys.argv:
    tempfile.tempdir = "/proc/nowhere"
from engine.kernel import kernel

@kernel
def twice(number):
    return 2 * number

if "full-disk" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
if "vanish" in sys.argv:
    shutil.rmtree(os.environ["NUMBA_CACHE_DIR"])
print(twice(21), twice(21.0), sum(twice.stats.cache_hits.values()), twice.stats.cache_path)
"""
COMPILED = ["42", "42.0", "0"]
LOADED = ["42", "42.0", "2"]

Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the program beside a copy of what it needs, so that nobody edits the sources between two runs."""
    (tmp_path / "engine").mkdir()
    for name in ("__init__.py", "baked_kernels.py", "errors.py", "kernel.py", "kernel_cache.py"):
        shutil.copy(Path(kernel_cache.__file__).parent / name, tmp_path / "engine" / name)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def run_program(*arguments: str, **environment: str) -> list[str]:
        kept = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
        kept |= {
            "NUMBA_DISABLE_JIT": "0",
            "NUMBA_BOUNDSCHECK": "0",
            "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        }
        kept |= environment
        command = [sys.executable, str(program), *arguments]
        done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout.split()

    return run_program


def test_the_second_run_loads_what_the_first_one_compiled(run: Run) -> None:
    assert COMPILED == run()[:3]
    assert LOADED == run()[:3]


def test_bounds_checking_has_compiled_code_of_its_own(run: Run) -> None:
    run()
    assert COMPILED == run(NUMBA_BOUNDSCHECK="1")[:3]


def test_a_home_that_cannot_be_written_gives_way_to_a_private_temporary_folder(
    run: Run, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    printed = run(NUMBA_CACHE_DIR="", HOME="/proc/nowhere", TMPDIR=str(temporary))
    folder = temporary / f"callgauge-{os.getuid()}"
    assert COMPILED == printed[:3]
    assert Path(printed[3]).is_relative_to(folder)
    assert "0o700" == oct(folder.stat().st_mode & 0o777)


def test_kernels_compile_without_a_cache_where_nothing_can_be_written(run: Run) -> None:
    printed = run("nothing-writable", NUMBA_CACHE_DIR="", HOME="/proc/nowhere")
    assert [*COMPILED, "None"] == printed


def test_a_disk_that_fills_up_costs_the_cache_and_nothing_else(run: Run) -> None:
    assert COMPILED == run("full-disk")[:3]


def test_a_folder_that_vanishes_costs_the_cache_and_nothing_else(run: Run) -> None:
    assert COMPILED == run("vanish")[:3]


def test_damaged_files_are_compiled_anew_and_healed(run: Run, tmp_path: Path) -> None:
    run()
    for path in (tmp_path / "cache").rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:10])
    assert COMPILED == run()[:3]
    run()
    assert LOADED == run()[:3]


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert not kernel_cache.is_private(open_to_all)


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert not kernel_cache.is_private(tmp_path / "link")


@pytest.mark.parametrize("edited", ["engine/judge/new.py", "detectors/old.py"])
def test_an_edit_anywhere_in_the_sources_makes_a_new_cache(tmp_path: Path, edited: str) -> None:
    for folder in ("engine/judge", "detectors"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "detectors/old.py").write_text("FACTOR = 2\n")
    before = kernel_cache.source_digest(tmp_path)
    (tmp_path / edited).write_text("FACTOR = 3\n")
    assert before != kernel_cache.source_digest(tmp_path)


def test_only_the_newest_caches_are_kept(tmp_path: Path) -> None:
    count = kernel_cache.CACHES_MAX + 3
    caches = [tmp_path / str(number) for number in range(count)]
    for number, cache in enumerate(caches):
        cache.mkdir()
        os.utime(cache, (number, number))
    kernel_cache.remove_old(tmp_path, keep=caches[0])
    kept = {"0", *(str(number) for number in range(4, count))}
    assert kept == {path.name for path in tmp_path.iterdir()}


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with kernel_cache.only_writer(folder) as first, kernel_cache.only_writer(folder) as second:
        assert (True, False) == (first, second)
    with kernel_cache.only_writer(folder) as third:
        assert third


def test_other_users_of_numba_keep_their_cache_folder() -> None:
    before = numba.config.CACHE_DIR
    kernel(_mean)
    assert before == numba.config.CACHE_DIR


def test_an_empty_mean_is_not_a_number_and_no_exception() -> None:
    # Plain Python raises here: a kernel that divides has to look first if it is to run with JIT disabled.
    if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0":
        assert np.isnan(kernel(_mean)(0.0, 0))


def test_importing_the_package_does_not_import_numba() -> None:
    program = "import engine, engine.config_files, sys; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "False" == done.stdout.strip()


def _mean(total: float, count: int) -> float:
    return total / count
