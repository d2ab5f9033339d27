"""The whole line over given batches, with everything kept that a test may want to look at."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from detectors import make_detectors
from engine.app import REPLAY_HASH_KEY
from engine.config_files import config_path
from engine.decode.cut import TimeCut
from engine.decode.fast_decoder import new_decoder
from engine.deliver.jsonl import alert_change_line
from engine.judge.declines import Rule, parse_rules
from engine.judge.detection import AlertPolicy, Detection, Detector, Finding
from engine.judge.judge import Judge
from engine.observe.observer import Observer
from engine.pipeline import Pipeline, Step
from engine.publish import Publisher
from engine.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.judge.lifecycle import AlertChange
    from engine.judge.measures import Measures
    from engine.judge.quantiles import LatencyQuantiles
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance, Register
    from engine.source.contract import RawBatch


class Recorder:
    """A detector that finds nothing and remembers every slice it was shown."""

    name = "recorder"
    policies: tuple[AlertPolicy, ...] = ()

    def __init__(self) -> None:
        self.summaries: list[WindowSummary] = []
        self.quantiles: list[LatencyQuantiles] = []  # as they were at each of them
        self.instances: tuple[LimitInstance, ...] = ()
        self.measures: Measures | None = None

    def new_state(self) -> tuple[()]:
        return ()

    def detect(self, state: object, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        self.summaries.append(summary)
        if self.measures is not None:
            self.quantiles.append(self.measures.latency_quantiles())
        self.instances = limits
        return Detection(state, ())


@cache
def shipped_rules() -> tuple[Rule, ...]:
    """Read the decline rules that are shipped."""
    return parse_rules(config_path("declines.yaml").read_text(), "declines.yaml")


class Overheard:
    """A detector of the registry, with what it said about each slice kept."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.name, self.policies = detector.name, detector.policies
        self.said: list[tuple[Finding, ...]] = []

    def new_state(self) -> Any:
        return self.detector.new_state()

    def detect(self, state: Any, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        detection = self.detector.detect(state, summary, limits)
        self.said.append(detection.findings)
        return detection


class Run:
    """One line, from nothing; call `step` and `finish` as `replay` does."""

    def __init__(self, register: Register, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self.recorder = Recorder()
        self.decoder = new_decoder(settings.engine, REPLAY_HASH_KEY, register.limit_labels())
        decoder = self.decoder
        self.observer = Observer(settings.engine, decoder.series, decoder.causes, decoder.stages)
        self.detectors = tuple(Overheard(one) for one in make_detectors(settings))
        detectors: tuple[Detector, ...] = (*self.detectors, self.recorder)
        self.judge = Judge(settings, register, shipped_rules(), detectors)
        self.recorder.measures = self.judge.roller.measures
        self.pipeline = Pipeline(decoder, self.observer, self.judge)
        self.publisher = Publisher(self.pipeline)
        self.changes: list[AlertChange] = []

    def cut(self, from_ns: int | None, to_ns: int | None) -> None:
        """Look at a span of event time only."""
        self.pipeline.decoder = TimeCut(self.decoder, from_ns, to_ns)

    def step(self, raw: RawBatch) -> Step:
        """Take one batch; check that no row is unaccounted for."""
        step = self.pipeline.step(raw)
        self.changes += step.changes
        assert self.accounts().is_balanced
        return step

    def finish(self) -> Step:
        """End the log."""
        step = self.pipeline.finish()
        self.changes += step.changes
        assert self.accounts().is_balanced
        assert self.observer.rows_held == 0
        return step

    def accounts(self) -> Accounts:
        """Say where every row is."""
        decoder, observer = self.pipeline.decoder, self.observer
        lost = int(decoder.losses.sum() + observer.losses.sum())
        return Accounts(decoder.rows_read, observer.rows_absorbed, observer.rows_held, lost)

    def lines(self) -> list[bytes]:
        """Give every change as `replay --output jsonl` prints it."""
        return [alert_change_line(change) for change in self.changes]


class Accounts(NamedTuple):
    """Where rows are: ARCHITECTURE section 5, invariant 1."""

    read: int
    absorbed: int
    held: int
    lost: int

    @property
    def is_balanced(self) -> bool:
        """Say whether every row read is somewhere."""
        return self.read == self.absorbed + self.held + self.lost


def run_all(batches: Iterable[RawBatch], register: Register, settings: Settings | None = None) -> Run:
    """Take every batch and end the log."""
    run = Run(register, settings)
    for raw in batches:
        run.step(raw)
    run.finish()
    return run
