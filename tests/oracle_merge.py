"""The slow twin of the merge of logs: rows one by one, their times by a regular expression, one sort.

Twin of the kernels `plain_times`, `plain_time`, `decimal_ns` and `unit_of` is `event_time_ns` beside them,
which reads the text of a row; that of `copy_rows` is a list of rows.
"""

from __future__ import annotations

from statistics import median

from engine.source.order_times import event_time_ns


def order_keys(rows: list[bytes]) -> list[int]:
    """Give the rows of one file their keys: the running maximum of the median of 17 times."""
    times: list[int] = []
    for row in rows:
        found = event_time_ns(row)
        times.append(found if found is not None else times[-1] if times else 0)
    # Beyond both ends times go on as they came: mirrored at the first and the last one.
    ahead = [2 * times[0] - times[place] for place in range(8, 0, -1)] if len(times) > 8 else []
    behind = [2 * times[-1] - times[-1 - place] for place in range(1, 9)] if len(times) > 8 else []
    padded = ahead + times + behind
    keys = [int(median(padded[at : at + 17])) for at in range(len(times))] if ahead else list(times)
    # No file begins with a wrong clock.
    usual = sorted(times[:17])[len(times[:17]) // 2] if times else 0
    keys = [min(key, usual) if place < len(times[:17]) // 2 else key for place, key in enumerate(keys)]
    running: list[int] = []
    for key in keys:
        running.append(max(key, running[-1] if running else 0))
    return running


def merged(files: list[list[bytes]]) -> list[bytes]:
    """Put all rows in the order of their keys; at the same key, in the order of the files."""
    keyed = [
        (key, number, place, row)
        for number, rows in enumerate(files)
        for place, (key, row) in enumerate(zip(order_keys(rows), rows, strict=True))
    ]
    return [row for *_, row in sorted(keyed)]
