"""The decorator of every compiled function, and where the compiled code is kept.

`@kernel` is `numba.njit` with our choices: no GIL (the event loop stays alive), no fastmath (the same bits on
every run), numpy's division (an empty series gives NaN, not an exception).

numba keys its disk cache by one file only, so an edit to an imported kernel would go unnoticed. Here the cache
folder is named after a digest of all our sources. Compiled code is loaded by unpickling, so a folder is used only
if it is ours and closed to others. Where no folder will do (a read-only file system) the kernels are compiled at
each start instead: telemetry must start.
Rejected: setting `numba.config.CACHE_DIR` for good (it would move the cache of every other numba user in the
process) and plain `cache=True` (it raises "no locator available" at import).
"""

import functools
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import numba

PACKAGES = ("engine", "detectors")
# One cache per version of the sources; older ones are removed.
CACHES_MAX = 8

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of scalars, arrays and NamedTuples of arrays on its first call."""
    folder = _cache_folder()
    if folder is None:
        return _compiled(function, cache=False)
    # numba reads CACHE_DIR while the decorator runs and never again for this function.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        return _compiled(function, cache=True)
    except RuntimeError:  # "no locator available": the folder vanished, or the function has no source file.
        return _compiled(function, cache=False)
    finally:
        numba.config.CACHE_DIR = before


def _compiled(function: Callable[P, R], *, cache: bool) -> Callable[P, R]:
    decorate = numba.njit(nogil=True, cache=cache, fastmath=False, error_model="numpy")
    compiled: Callable[P, R] = decorate(function)
    return compiled


@functools.cache
def _cache_folder() -> Path | None:
    """Choose the first folder that is ours, or None; one choice for the life of the process."""
    digest = source_digest(Path(__file__).parent.parent)
    for parent in cache_parents():
        folder = parent / digest
        if _make_private(parent) and _make_private(folder) and _is_writable(folder):
            _remove_old(parent, keep=folder)
            return folder
    return None


def source_digest(root: Path) -> str:
    """Digest the names and contents of all our sources below `root`."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


def cache_parents() -> Iterator[Path]:
    """Name the folders to try, the one the user asked for first."""
    if asked := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(asked) / "callgauge"
    if cache_home := os.environ.get("XDG_CACHE_HOME"):
        yield Path(cache_home) / "callgauge"
    try:
        yield Path.home() / ".cache" / "callgauge"
    except RuntimeError:  # The user has no home folder, as in many containers.
        pass
    try:
        yield Path(tempfile.gettempdir()) / f"callgauge-{os.getuid()}"
    except FileNotFoundError:  # Nothing is writable, not even the folder for temporary files.
        pass


def _make_private(folder: Path) -> bool:
    """Make the folder if need be, and say whether it is ours and nobody else can write or read it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    closed = stat.S_IMODE(found.st_mode) & 0o077 == 0
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and closed


def _is_writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _remove_old(parent: Path, *, keep: Path) -> None:
    """Remove the caches of older sources; a process that still uses one makes its folder anew."""
    try:
        keep.touch()
        caches = sorted(parent.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    except OSError:
        return
    for path in caches[CACHES_MAX:]:
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)
