"""Where compiled kernels are kept between runs.

numba keys its disk cache by one source file, so an edit to an imported kernel would go unnoticed. Here the
folder is named after a digest of all our sources (and of bounds checking, which numba's key leaves out).
Compiled code is loaded by unpickling, so a folder is used only if it belongs to us and is closed to others.
The candidates are tried in order: NUMBA_CACHE_DIR, the user's cache folder, the folder for temporary files.
Where none will do the kernels are compiled at each start instead: telemetry must start.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba

PACKAGES = ("engine", "detectors")
# One cache per version of the sources; older ones are removed.
CACHES_MAX = 8


@functools.cache
def cache_folder() -> Path | None:
    """Choose the first folder that will do, or None; one choice for the life of the process."""
    name = cache_name()
    for parent in parents():
        folder = parent / name
        if is_private(parent) and is_private(folder) and is_writable(folder):
            remove_old(parent, keep=folder)
            return folder
    return None


@functools.cache
def cache_name() -> str:
    """Name the cache of these sources."""
    name = source_digest(Path(__file__).parent.parent)
    return name + "-checked" if numba.config.BOUNDSCHECK else name


def source_digest(root: Path) -> str:
    """Digest the names and contents of all our sources below `root`."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:20]


def parents() -> Iterator[Path]:
    """Name the folders to try, the one the user asked for first."""
    if asked := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(asked) / "callgauge"
    if cache_home := os.environ.get("XDG_CACHE_HOME"):
        yield Path(cache_home) / "callgauge"
    with contextlib.suppress(RuntimeError):  # A user without a home folder, as in many containers.
        yield Path.home() / ".cache" / "callgauge"
    with contextlib.suppress(FileNotFoundError):  # No folder for temporary files can be written.
        yield Path(tempfile.gettempdir()) / f"callgauge-{os.getuid()}"


def is_private(folder: Path) -> bool:
    """Make the folder if need be, and say whether it is ours and closed to everybody else."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    is_closed = stat.S_IMODE(found.st_mode) & 0o077 == 0
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and is_closed


def is_writable(folder: Path) -> bool:
    """Say whether a byte can really be written: a full disk takes empty files."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"1")
    except OSError:
        return False
    return True


def remove_old(parent: Path, *, keep: Path) -> None:
    """Remove the caches of older sources; a process that still uses one makes its folder anew."""
    with contextlib.suppress(OSError):
        keep.touch()
        caches = sorted(parent.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in caches[CACHES_MAX:]:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def only_writer(folder: str) -> Iterator[bool]:
    """Say whether nobody else writes in `folder` meanwhile: numba's index takes one writer. Never waits."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(lock)
