"""The decorator of every compiled function.

`@kernel` is `numba.njit` with our choices: no GIL (the event loop stays alive), no fastmath (the same bits on
every run), numpy's division (an empty series gives NaN, not an exception).

Compiled code is kept on disk where `engine.kernel_cache` finds a folder. Nothing about that disk may stop the
engine: a cache that cannot be read or written costs compiling, and no more.
Rejected: plain `cache=True`, which raises "no locator available" at import on a read-only file system, raises
at the first call on a full or damaged one, and does not notice an edit to a kernel that another one calls.
"""

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numba
from numba.core.caching import FunctionCache

from engine.kernel_cache import cache_folder, only_writer

# The way back, should the fast path ever be wrong: rows are parsed, and Kafka's records are taken one by one.
FAST_PATH = os.environ.get("CALLGAUGE_FAST_PATH", "on") != "off"

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of scalars, arrays and NamedTuples of arrays on its first call."""
    return _compiled(function, is_inlined=False)


def inlined_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a kernel whose code is put wherever a kernel calls it: a call costs some nanoseconds.

    Only for functions of scalars in the hottest loops: the caller gets larger, and slower to compile.
    """
    return _compiled(function, is_inlined=True)


def _compiled(function: Callable[P, R], *, is_inlined: bool) -> Callable[P, R]:
    options = {"nogil": True, "fastmath": False, "error_model": "numpy", "forceinline": is_inlined}
    compiled: Any = numba.njit(**options)(function)
    is_compiled = compiled is not function  # NUMBA_DISABLE_JIT=1 hands the function back.
    if is_compiled:
        _ignore_literals(compiled)
    if is_compiled and (cache := _disk_cache(function)):
        compiled._cache = cache  # noqa: SLF001 - `cache=True` would put numba's own there, which raises.
    decorated: Callable[P, R] = compiled
    return decorated


def _ignore_literals(compiled: Any) -> None:
    """Compile a kernel once for int64, not again for every plain number that another kernel calls it with."""
    template_of = compiled.get_call_template

    def get_call_template(args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        plain = {name: numba.types.unliteral(one) for name, one in kws.items()}
        return template_of(tuple(numba.types.unliteral(one) for one in args), plain)

    compiled.get_call_template = get_call_template


def _disk_cache(function: Callable[..., object]) -> "DiskCache | None":
    folder = cache_folder()
    if folder is None:
        return None
    # numba reads CACHE_DIR while a cache is made and never again: no other user of numba is moved.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        return DiskCache(FunctionCache(function))
    except (RuntimeError, OSError):  # The folder vanished, or the function has no source file.
        return None
    finally:
        numba.config.CACHE_DIR = before


class DiskCache:
    """numba's cache of one function, which treats every failure as "not in the cache"."""

    def __init__(self, cache: FunctionCache) -> None:
        self._cache = cache
        self.cache_path: str = cache.cache_path

    def load_overload(self, signature: object, target: object) -> object:
        """Return the code for a signature, or None: compile it."""
        try:
            return self._cache.load_overload(signature, target)
        except Exception:  # noqa: BLE001 - unpickling a damaged file may raise anything.
            return None

    def save_overload(self, signature: object, code: object) -> None:
        """Store the code for a signature, unless the disk is full or another process is writing."""
        try:
            with only_writer(self.cache_path) as is_ours:
                if is_ours:
                    self._cache.save_overload(signature, code)
        except Exception:  # noqa: BLE001 - the damaged index is read before it is written.
            self.flush()

    def flush(self) -> None:
        """Begin with an empty index, which also heals a damaged one."""
        try:
            self._cache.flush()
        except OSError:
            self._cache.disable()

    def enable(self) -> None:
        """Do as numba's own caches do."""
        self._cache.enable()

    def disable(self) -> None:
        """Do as numba's own caches do."""
        self._cache.disable()
