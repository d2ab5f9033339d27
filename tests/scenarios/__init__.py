"""One scenario per detector, in a file of its name: traffic in which it must speak, and how soon.

They are texts (`.scenario`), for people to read, and run by `callgauge check` too; `incidents/` are those of
the project's history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.settings import Settings

if TYPE_CHECKING:
    from engine.limits import Register
    from engine.source.contract import RawBatch


class Scenario(NamedTuple):
    """What is read, and what must follow. Times are event time in ns."""

    register: Register
    batches: tuple[RawBatch, ...]
    alertname: str
    severity: str
    labels: tuple[tuple[str, str], ...]  # some of the labels of the alert
    onset_ns: int  # from when on the trouble can be seen
    delay_s: float  # at most so much later the alert fires, and never before the onset
    settings: Settings = Settings()
