"""Let the garbage collector leave alone what stays.

numba leaves very many objects behind, and each full collection walks over all of them while it holds
the interpreter: the event loop stood still, longest after kernels had been compiled.
`python -m bench.smoke loop_lag` prints how late the loop runs. What comes later, arrays and snapshots, is
little.
"""

from __future__ import annotations

import gc


def leave_alone_what_is_there() -> None:
    """Collect once, before anything is read, and look at what is left never again."""
    gc.collect()
    gc.freeze()
