"""`callgauge demo`: the bundled go-live through the real engine, sped up, to the page and the first decline.

No server is needed. On a terminal one line moves; off it there is a line for every half minute of the log.
"""

from __future__ import annotations

import asyncio
import math
import sys
from typing import TYPE_CHECKING

from engine.app import REPLAY_HASH_KEY, OwnedLine, load_configuration
from engine.commands.replay import Replayed, load_kernels, outcome_of
from engine.commands.report import NS_PER_S, headline, page
from engine.commands.stdout import write_out
from engine.config_files import config_path
from engine.judge.lifecycle import FIRING
from engine.source.contract import RawBatch
from engine.source.file import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.judge.lifecycle import AlertChange
    from engine.judge.snapshot import LimitStatus

LOG = "demo/sip-go-live.events.jsonl.zst"
LIMITS = "demo/limits.yaml"
PICTURES_PER_S = 25
SECONDS_PER_PICTURE = 5  # of event time: sixteen minutes take eight seconds
LINE_EVERY_S = 30
BAR_WIDTH = 40
ROWS_PER_STEP = 32

INTRO = """\
A go-live, recorded from a real SIP server with a cap of 80 calls. Nobody told the engine how long calls
last or how many would come; it knows the cap from a register ({limits}).
Sixteen minutes follow, sped up.

"""
OUTRO = """
What to try next:
  callgauge replay YOUR-LOG.jsonl --limits YOUR-limits.yaml     your own calls, through the same engine
  callgauge check-config --launch --limits {limits}
  callgauge run --config engine.yaml --limits limits.yaml       live, from Kafka to Alertmanager
"""


async def demo() -> None:
    """Play the recording."""
    configuration = load_configuration(None, str(config_path(LIMITS)), str(config_path("declines.yaml")))
    write_out(INTRO.format(limits=configuration.limits_file))
    load_kernels(configuration)
    line = OwnedLine(configuration, REPLAY_HASH_KEY)
    stage = Stage(is_terminal=sys.stdout.isatty())
    source = FileSource([str(config_path(LOG))])
    changes: list[AlertChange] = []
    await source.start()
    try:
        while (raw := await source.read()) is not None:
            for part in parts(raw):
                changes += line.step(part).changes
                await stage.show(line, changes)
        changes += line.line.pipeline.finish().changes
    finally:
        await source.close()
    stage.end(changes)
    replayed = Replayed(line, tuple(changes), line.line.pipeline.first_event_ns, 0.0, None)
    write_out(headline(outcome_of(replayed), changes, is_timed=False))
    write_out(OUTRO.format(limits=configuration.limits_file))


def parts(raw: RawBatch) -> Iterator[RawBatch]:
    """Cut a batch into small ones, so that there is something to see between them."""
    for first in range(0, raw.rows, ROWS_PER_STEP):
        cut = slice(first, first + ROWS_PER_STEP)
        yield RawBatch(
            raw.data,
            raw.row_start[cut],
            raw.row_end[cut],
            raw.offset[cut],
            raw.topic,
            raw.partition,
            raw.received_ns,
            raw.assigned,
            raw.caught_up,
        )


class Stage:
    """Shows the limit filling, and each page when it fires."""

    def __init__(self, *, is_terminal: bool) -> None:
        """Move one line on a terminal; elsewhere write plain lines."""
        self.is_terminal = is_terminal
        self._told = 0
        self._next_ns = 0

    async def show(self, line: OwnedLine, changes: list[AlertChange]) -> None:
        """Draw a picture if it is time for one."""
        pipeline = line.line.pipeline
        now_ns = pipeline.observer.watermark_ns
        self._tell(changes)
        if now_ns < self._next_ns:
            return
        every_s = SECONDS_PER_PICTURE if self.is_terminal else LINE_EVERY_S
        self._next_ns = now_ns + every_s * NS_PER_S
        limits = line.publish(-1).limits
        if not limits:
            return
        after_s = (now_ns - pipeline.first_event_ns) / NS_PER_S
        drawn = picture(after_s, limits[0])
        write_out(f"\r\x1b[K{drawn}" if self.is_terminal else f"{drawn}\n")
        if self.is_terminal:
            await asyncio.sleep(1 / PICTURES_PER_S)

    def end(self, changes: list[AlertChange]) -> None:
        """Tell what is left to tell."""
        self._tell(changes)
        if self.is_terminal:
            write_out("\n")

    def _tell(self, changes: list[AlertChange]) -> None:
        for change in changes[self._told :]:
            labels = dict(change.labels)
            if change.state == FIRING and labels["severity"] != "info":
                title = f"{labels['severity'].upper()} {labels['alertname']}"
                write_out("\r\x1b[K" if self.is_terminal else "")
                write_out(f"\n>>> {title}\n{page(change)}\n")
        self._told = len(changes)


def picture(after_s: float, status: LimitStatus) -> str:
    """Draw one moment of one limit."""
    share = min(status.peak / status.value, 1.0) if status.value > 0 else 0.0
    filled = round(share * BAR_WIDTH)
    bar = "#" * filled + "." * (BAR_WIDTH - filled)
    is_foretold = not math.isnan(status.expected_used)
    expected = f"  expected in 10 min: {status.expected_used:.0f}" if is_foretold else ""
    declined = f"  declined: {status.declined_total}" if status.declined_total else ""
    used = f"{status.peak:3d} of {status.value:.0f}"
    return f"{after_s / 60:5.1f} min  {status.limit} [{bar}] {used}{expected}{declined}"
