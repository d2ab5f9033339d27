"""Kernels baked into an image are used where they fit, and never where they might not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from engine import kernel_cache

MODULES = ("__init__.py", "baked_kernels.py", "errors.py", "kernel.py", "kernel_cache.py")
KERNELS = """
from engine.kernel import kernel

@kernel
def twice(number):
    return 2 * number
"""
BAKE = """
import os, pathlib
from engine.baked_kernels import BAKED_FOLDER, compile_for, make_ready, seal, this_target
make_ready(os.environ["NUMBA_CACHE_DIR"])
compile_for(this_target("").cpu)
from engine.kernel_cache import cache_name
from engine.kernels import twice
twice(21)
seal(pathlib.Path(os.environ["NUMBA_CACHE_DIR"]) / BAKED_FOLDER, cache_name())
"""
# Where nothing can be written, as on a read-only file system; a mode would not keep root from writing.
USE = """
import tempfile
tempfile.tempdir = "/proc/nowhere"
from engine.kernel import BAKED
from engine.kernels import twice
import json
print(json.dumps([twice(21), sum(twice.stats.cache_hits.values()), BAKED.why_not]))
"""


class Image(NamedTuple):
    """A copy of what is needed, and where its kernels were baked."""

    root: Path
    cache: Path

    @property
    def target(self) -> Path:
        """What they are for."""
        return self.cache / "callgauge" / "baked.json"

    def run(self, program: str, **environment: str) -> str:
        """Run a program in a process of its own."""
        dropped = ("XDG_CACHE_HOME", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        kept |= {"NUMBA_DISABLE_JIT": "0", "NUMBA_BOUNDSCHECK": "0", "HOME": "/proc/nowhere"}
        kept |= {"NUMBA_CACHE_DIR": str(self.cache), "PYTHONPATH": str(self.root)} | environment
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=self.root, env=kept, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    def used(self, **environment: str) -> tuple[int, int, str]:
        """Give what a kernel gave, how often it came from a cache, and why none was used."""
        result, hits, why_not = json.loads(self.run(USE, **environment))
        return result, hits, why_not

    def change(self, place: int, value: object) -> None:
        """Say that the kernels are for something else."""
        target = json.loads(self.target.read_bytes())
        target[place] = value
        self.target.write_text(json.dumps(target))


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Bake one kernel."""
    (tmp_path / "root" / "engine").mkdir(parents=True)
    for name in MODULES:
        shutil.copy(Path(kernel_cache.__file__).parent / name, tmp_path / "root" / "engine" / name)
    (tmp_path / "root" / "engine" / "kernels.py").write_text(KERNELS)
    made = Image(tmp_path / "root", tmp_path / "cache")
    made.run(BAKE)
    return made


def test_baked_kernels_are_loaded_where_nothing_can_be_written(image: Image) -> None:
    """A read-only image and a user without a home start at once."""
    assert image.used() == (42, 1, "")


def test_everybody_may_read_them_and_nobody_else_may_write(image: Image) -> None:
    """They are unpickled, so whoever may write them may run code."""
    modes = {path.stat().st_mode & 0o777 for path in image.target.parent.rglob("*")}
    assert modes == {0o755, 0o644}
    image.target.parent.chmod(0o777)
    assert image.used() == (42, 0, f"others may write to {image.target.parent}")


@pytest.mark.parametrize(
    ("place", "value", "why_not"),
    [
        (1, ["avx2", "none-such"], "this processor lacks none-such"),
        (2, "sparc", "another kind of machine: sparc"),
        (3, "0123", "they are of other sources: 0123"),
        (4, "0.1", "another numba: 0.1"),
        (5, "2.7.18", "another Python: 2.7.18"),
    ],
)
def test_what_does_not_fit_is_compiled_and_the_reason_is_given(
    image: Image, place: int, value: object, why_not: str
) -> None:
    """Code for another processor would end the process."""
    image.change(place, value)
    result, hits, said = image.used()
    assert (42, 0) == (result, hits)
    assert why_not in said


def test_damage_costs_compiling_and_nothing_else(image: Image) -> None:
    """A half-copied image starts, too."""
    for path in image.target.parent.rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:10])
    assert image.used() == (42, 0, "")
    image.target.write_text("{")
    assert image.used()[2].startswith("they cannot be read")


def test_a_file_in_the_place_of_the_folder_costs_compiling_and_nothing_else(
    image: Image, tmp_path: Path
) -> None:
    """NUMBA_CACHE_DIR may name anything."""
    (tmp_path / "file").write_text("")
    result, hits, _ = image.used(NUMBA_CACHE_DIR=str(tmp_path / "file"))
    assert (42, 0) == (result, hits)
