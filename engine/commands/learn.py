"""`callgauge learn`: what is usual, and thresholds that keep the budget of pages, from recorded logs.

The logs go through the line as in a replay, with the forecast alone and without alerts. The file is written
whole or not at all. `run` and `replay` read it (`headroom.learned_file`) and never change it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.app import REPLAY_HASH_KEY, LearningLine, read_hash_key
from engine.commands.replay import load_kernels, open_source, read_all
from engine.commands.stdout import write_out
from engine.commands.whole_file import write_whole
from engine.errors import CallgaugeError, SourceError, UsageError
from engine.learned import FILE_BYTES_MAX, encode, is_learned

if TYPE_CHECKING:
    from engine.app import Configuration, Learning

WHAT_SPEAKS = ("forecast with growth", "forecast at the level of now", "straight line")  # as SPEAKERS
DAY_SLOTS = 288.0
SLOT_S = 300.0


class LearnOptions(NamedTuple):
    """What was asked for."""

    logs: tuple[str, ...]
    out: str


async def learn(configuration: Configuration, options: LearnOptions) -> None:
    """Read the logs, write the file, say what is in it."""
    out = Path(options.out)
    _refuse_no_place(out)
    # What was learned before must not bend the scores that thresholds are made from.
    configuration = configuration._replace(learned=None)
    source = open_source(options.logs, configuration)
    hash_key = read_hash_key(configuration.settings.engine.call_key_file, REPLAY_HASH_KEY)
    line = LearningLine(configuration, hash_key)
    try:
        await source.start()
        load_kernels(configuration)
        damage = await read_all(source, line, [])
    finally:
        await source.close()
    if damage is not None:
        raise damage
    if line.line.pipeline.first_event_ns < 0:
        raise SourceError("there is no event to learn from", where=", ".join(options.logs))
    learning = line.learned()
    try:
        write_whole(out, encode(learning.learned))
    except OSError as error:
        raise CallgaugeError(
            "what was learned cannot be written",
            where=str(out),
            cause=error.strerror or type(error).__name__,
            hint="name another file with --out, and learn again",
        ) from None
    write_out(told(learning, out))


def _refuse_no_place(out: Path) -> None:
    """Raise `UsageError` if no file can be written there, before weeks of logs are read."""
    if not out.parent.is_dir():
        raise UsageError("the folder does not exist", where=str(out.parent), hint="make it first")
    if out.exists() and not out.is_file():
        what = "this is a folder" if out.is_dir() else "this is no plain file"
        raise UsageError(what, where=str(out), hint="name a file with --out")
    # `--out *.jsonl` expands so that the first log is named as the file to write.
    if out.exists() and not _may_be_replaced(out):
        raise UsageError(
            "this file is there already, and nothing that was learned",
            where=str(out),
            hint="name another file with --out; logs come before it",
        )
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UsageError(
            "not allowed to write in this folder",
            where=str(out.parent),
            hint="let the user who runs callgauge write there, or name another file with --out",
        )


def _may_be_replaced(out: Path) -> bool:
    """Say whether a file is empty or what was learned before; one that cannot be read is neither."""
    try:
        with out.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError:
        return False
    return not data or (len(data) <= FILE_BYTES_MAX and is_learned(data))


def told(learning: Learning, out: Path) -> str:
    """Say what was learned, limit by limit, and what the thresholds rest on."""
    learned = learning.learned
    lines = [f"wrote {out}: {len(learned.baselines)} baselines, {len(learned.thresholds)} thresholds"]
    for baseline, instance, days, load in zip(
        learned.baselines, learning.instances, learning.days, learning.loads, strict=True
    ):
        watched = sum(baseline.watched_s) / SLOT_S / DAY_SLOTS
        name = ",".join([instance.limit.name, *(f"{label}={value}" for label, value in instance.split)])
        used = f", busiest usual load {load:.0%} of it" if days else ""
        lines.append(
            f"  {name}: {watched:.1f} days watched (old ones count less){used}, {days} ordinary days"
        )
    if learned.thresholds:
        lines.append(
            f"thresholds for {learned.pages_per_week:g} false pages a week over {learned.limits} limits, "
            f"from {sum(learning.days)} days pooled by size of cap and load; by {', '.join(WHAT_SPEAKS)}"
        )
    else:
        lines.append(
            "no thresholds: two weeks of days are needed, over all limits of like size and load; the "
            "built-in ones stay in force"
        )
    lines.append(
        f"to use it, set headroom.learned_file: {out}; to try it, callgauge replay LOG... --learned {out}"
    )
    return "\n".join(lines) + "\n"
