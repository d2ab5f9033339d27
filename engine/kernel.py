"""The decorator of every compiled function.

`@kernel` is `numba.njit` with our choices: no GIL (the event loop stays alive), no fastmath (the same bits on
every run), numpy's division (an empty series gives NaN, not an exception), and no counting of references: a
kernel borrows its arrays. Counted, each array handed to another kernel costs two atomic additions.

Compiled code is kept on disk where `engine.kernel_cache` finds a folder, and taken from what was baked into
an image (`engine.baked_kernels`). Nothing about that disk may stop the engine: a cache that cannot be read or
written costs compiling, and no more.
Rejected: plain `cache=True`, which raises "no locator available" at import on a read-only file system, raises
at the first call on a full or damaged one, and does not notice an edit to a kernel that another one calls.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba
from numba.core.caching import FunctionCache

from engine.baked_kernels import adopt_baked
from engine.kernel_cache import cache_folder, cache_name, only_writer

# The way back, should the fast path ever be wrong: rows are parsed, and Kafka's records are taken one by one.
FAST_PATH = os.environ.get("CALLGAUGE_FAST_PATH", "on") != "off"

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of scalars, arrays and NamedTuples of arrays on its first call.

    It cannot allocate: numba refuses to compile it then.
    """
    return _compiled(function)


def allocating_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a kernel that makes arrays.

    One that is none may call it only if it returns no array of its own: there nobody would let go of it.
    """
    return _compiled(function, is_allocating=True)


def inlined_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a kernel whose code is put wherever a kernel calls it: a call costs some nanoseconds.

    An array that is handed on is some words more at each call, and `Desk` of `observe` holds several. Only in
    the hottest loops: the caller gets larger.
    """
    return _compiled(function, is_inlined=True)


def _compiled(
    function: Callable[P, R], *, is_inlined: bool = False, is_allocating: bool = False
) -> Callable[P, R]:
    options = {
        "nogil": True, "fastmath": False, "error_model": "numpy", "forceinline": is_inlined,
        "_nrt": is_allocating,
    }  # fmt: skip
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


# Before the first kernel: numba decides once what processor it compiles for.
BAKED = adopt_baked(cache_name())
READ_ONLY = "engine.baked_kernels.ReadOnlyLocator"


def _disk_cache(function: Callable[..., object]) -> "DiskCache | None":
    own, baked = _cache_in(cache_folder(), function), _cache_in(BAKED.folder, function, READ_ONLY)
    return DiskCache(own, baked) if own or baked else None


def _cache_in(
    folder: Path | None, function: Callable[..., object], locator: str = ""
) -> FunctionCache | None:
    if folder is None:
        return None
    # numba reads these while a cache is made and never again: no other user of numba is moved.
    before = numba.config.CACHE_DIR, numba.config.CACHE_LOCATOR_CLASSES
    numba.config.CACHE_DIR, numba.config.CACHE_LOCATOR_CLASSES = str(folder), locator
    try:
        return FunctionCache(function)
    except (RuntimeError, OSError):  # The folder vanished, or the function has no source file.
        return None
    finally:
        numba.config.CACHE_DIR, numba.config.CACHE_LOCATOR_CLASSES = before


class DiskCache:
    """numba's caches of one function, which treat every failure as "not in the cache".

    Baked code is only read; what it lacks goes into the cache of our own, if there is one.
    """

    def __init__(self, own: FunctionCache | None, baked: FunctionCache | None) -> None:
        self._own = own
        self._caches = [cache for cache in (baked, own) if cache is not None]
        self.cache_path: str = self._caches[-1].cache_path

    def load_overload(self, signature: object, target: object) -> object:
        """Return the code for a signature, or None: compile it."""
        for cache in self._caches:
            try:
                if (code := cache.load_overload(signature, target)) is not None:
                    return code
            except Exception:  # noqa: BLE001, S112 - unpickling a damaged file may raise anything.
                continue
        return None

    def save_overload(self, signature: object, code: object) -> None:
        """Store the code for a signature, unless the disk is full or another process is writing."""
        if self._own is None:
            return
        try:
            with only_writer(self._own.cache_path) as is_ours:
                if is_ours:
                    self._own.save_overload(signature, code)
        except Exception:  # noqa: BLE001 - the damaged index is read before it is written.
            self.flush()

    def flush(self) -> None:
        """Begin with an empty index, which also heals a damaged one."""
        if self._own is not None:
            try:
                self._own.flush()
            except OSError:
                self._own.disable()

    def enable(self) -> None:
        """Do as numba's own caches do."""
        for cache in self._caches:
            cache.enable()

    def disable(self) -> None:
        """Do as numba's own caches do."""
        for cache in self._caches:
            cache.disable()
