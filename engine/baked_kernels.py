"""Kernels that `callgauge warmup --into DIR` compiled beforehand: read where they lie, never written.

numba's own key names one model of processor, so a cache made on one machine serves few others. Baked kernels
are for a level of processors, and beside them stands what they are for: sources, numba, Python, processor.
Where all of it fits, the engine compiles for that level as well; else everything is compiled here, and the
log says why. The folder may be read-only. It is believed, since it is unpickled, if it belongs to root or to
us and nobody else may write to it.
"""

import functools
import os
import platform
import stat
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding
import msgspec
import numba
from numba.core.caching import UserProvidedCacheLocator

from engine.errors import UsageError

TARGET_FILE = "baked.json"
BAKED_FOLDER = "callgauge"
LEVELS = {
    "x86_64": ("x86-64-v3", ("avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sse4.2")),
    "aarch64": ("generic", ()),
}
GENERIC: tuple[str, tuple[str, ...]] = ("generic", ())
OWN_MODE, FOLDER_MODE, FILE_MODE = 0o700, 0o755, 0o644
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Target(NamedTuple):
    """What baked kernels were compiled for, and by."""

    cpu: str  # a name of LLVM's
    needs: tuple[str, ...]  # features that the processor must have
    machine: str
    sources: str
    numba: str
    python: str


class Baked(NamedTuple):
    """What was found: the folder of the kernels, or why there is none to use ("": nobody baked any)."""

    folder: Path | None
    why_not: str = ""
    cpu: str = ""


class ReadOnlyLocator(UserProvidedCacheLocator):  # type: ignore[misc]
    """numba's place for the files of a function, without the attempt to write there."""

    def ensure_cache_path(self) -> None:
        """Nothing is made: what is missing is compiled."""


def this_target(sources: str) -> Target:
    """Give the level of processors to bake for on this machine."""
    machine = platform.machine()
    cpu, needs = LEVELS.get(machine, GENERIC)
    return Target(cpu, needs, machine, sources, numba.__version__, platform.python_version())


def find_baked(sources: str) -> Baked:
    """Look where NUMBA_CACHE_DIR says."""
    asked = os.environ.get("NUMBA_CACHE_DIR")
    if not asked:
        return Baked(None)
    parent = Path(asked) / BAKED_FOLDER
    try:
        if not all(map(_is_trusted, (parent, parent / TARGET_FILE))):
            return Baked(None, f"others may write to {parent}")
        target = msgspec.json.decode((parent / TARGET_FILE).read_bytes(), type=Target)
        folder = parent / target.sources
        if target.sources == sources and not _is_trusted(folder):
            return Baked(None, f"others may write to {folder}")
    except FileNotFoundError:
        return Baked(None)
    except (OSError, msgspec.MsgspecError) as error:
        return Baked(None, f"they cannot be read: {error}")
    why_not = _why_not(target, this_target(sources))
    return Baked(None, why_not) if why_not else Baked(folder, "", target.cpu)


def _why_not(target: Target, here: Target) -> str:
    """Say what does not fit, or ""."""
    for what, made_for, found in (
        ("other sources", target.sources, here.sources),
        ("another numba", target.numba, here.numba),
        ("another Python", target.python, here.python),
        ("another kind of machine", target.machine, here.machine),
    ):
        if made_for != found:
            return f"they are of {what}: {made_for}, and this is {found}"
    missing = sorted(set(target.needs) - _features())
    return f"they are for {target.cpu}, and this processor lacks {', '.join(missing)}" if missing else ""


def _features() -> set[str]:
    try:
        return {name for name, is_there in llvmlite.binding.get_host_cpu_features().items() if is_there}
    except RuntimeError:  # LLVM does not know this kind of machine.
        return set()


def _is_trusted(path: Path) -> bool:
    found = path.lstat()
    is_ours = found.st_uid in (0, os.getuid())
    return is_ours and not stat.S_ISLNK(found.st_mode) and not found.st_mode & OTHERS_MAY_WRITE


def make_ready(into: str) -> None:
    """Let the folder be taken for a cache of our own; to be called before kernels are imported."""
    folder = Path(into) / BAKED_FOLDER
    try:
        folder.mkdir(mode=OWN_MODE, parents=True, exist_ok=True)
        (folder / TARGET_FILE).unlink(missing_ok=True)
        for each in (folder, *(one for one in folder.iterdir() if one.is_dir())):
            each.chmod(OWN_MODE)
    except OSError as error:
        raise UsageError(f"{into} cannot be written", where="--into", cause=str(error.strerror)) from None


def seal(folder: Path, sources: str) -> Target:
    """Write down what the kernels in a folder are for, and let everybody read them."""
    target = this_target(sources)
    (folder / TARGET_FILE).write_bytes(msgspec.json.encode(target))
    for path in (folder, *folder.rglob("*")):
        path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)
    return target


@functools.cache
def adopt_baked(sources: str) -> Baked:
    """Find baked kernels, once in the life of a process, and let numba compile for the same processors."""
    baked = find_baked(sources)
    if baked.folder is not None and numba.config.CPU_NAME is None:
        compile_for(baked.cpu)
    return baked


def compile_for(cpu: str) -> None:
    """Let numba compile for a level of processors; to be called before anything is compiled."""
    # In the environment, since numba reads it again whenever something in it has changed.
    os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"] = cpu, ""
    numba.config.reload_config()
