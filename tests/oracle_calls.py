"""The slow, obvious twin of the table of calls: which keys a table holds, told from its slots alone.

Whatever `insert`, `remove`, `split_some` and `open_upper_half` do to a table, a key must stand where a walk
from its home comes by before it comes to a free slot (`free_slot`, `put_right`), and stand there once. What
is said of an entry goes with it (`copy_entry`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def home_of(key: int, mask: int, split: int) -> int:
    """Begin at the place of the key in the lower half; where that has been split, at that in the whole."""
    slots = mask + 1
    lower = key % (slots // 2)
    return key % slots if lower < slots // 2 + split else lower


def keys_within_reach(slots: Sequence[int], split: int) -> list[int]:
    """Walk from the home of every key that is in a slot (0: free); give those that are met, in order."""
    found = []
    for key in {one for one in slots if one != 0}:
        place = home_of(key, len(slots) - 1, split)
        while slots[place] not in (0, key):
            place = (place + 1) % len(slots)
        if slots[place] == key:
            found.append(key)
    return sorted(found)
