"""The composition root: puts the line together, and is the only file that knows every step.

`run` and `replay` both step an `OwnedLine`; they differ in source and sink alone.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from detectors import make_detectors
from detectors.calibration import Lesson, learned_from
from engine.config_files import config_path, is_sample
from engine.decode.cut import TimeCut
from engine.decode.events import LABELS
from engine.decode.fast_decoder import new_decoder
from engine.decode.mask import LabelMask
from engine.errors import SettingsError, UsageError
from engine.judge.declines import Rule, parse_rules
from engine.judge.inferred_limits import decode as decode_inferred
from engine.judge.judge import Judge
from engine.learned import FILE_BYTES_MAX, Learned, is_learned
from engine.learned import decode as decode_learned
from engine.limits import Register
from engine.observe.observer import Observer
from engine.observe.tables import PLATFORM
from engine.pipeline import Pipeline
from engine.publish import Publisher
from engine.secret_file import SecretError, read_secret
from engine.settings import Settings
from engine.settings_file import digest, load_register, load_settings, read_text_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.decode.series import SeriesTable
    from engine.judge.detection import Detector
    from engine.judge.implicit import LearnedValue
    from engine.judge.snapshot import Snapshot
    from engine.limits import LimitInstance
    from engine.pipeline import Step
    from engine.settings import EngineSettings
    from engine.source.contract import RawBatch

# Without a key of its own, a replay hashes call ids with this one: hashes never leave the process.
REPLAY_HASH_KEY = bytes(16)
HASH_KEY_BYTES = 16
KEY_HINT = f"make one with: openssl rand -hex {HASH_KEY_BYTES}"


class Configuration(NamedTuple):
    """Everything that is configured, as loaded, with where it came from."""

    settings: Settings
    register: Register
    rules: tuple[Rule, ...]
    limits_file: Path
    learned: Learned | None = None  # baselines and thresholds, from `headroom.learned_file`
    inferred: tuple[LearnedValue, ...] = ()  # caps that were in no register, from an earlier run
    label_key: bytes = b""  # hashes numbers and addresses in labels; b"": they become one word

    def reloaded(self, fresh: Configuration) -> Configuration:
        """Take what a reload may change; what a line is made with stays as it was at the start."""
        return self._replace(register=fresh.register, rules=fresh.rules, limits_file=fresh.limits_file)

    def digest(self) -> str:
        """Give what tells this configuration from any that can lead to other alerts."""
        return digest(self.settings, self.register, self.rules, (self.learned, self.inferred))

    def limits_origin(self) -> str:
        """Say which register is in use, and that the shipped one is nobody's."""
        advice = " (the sample that is shipped, of made-up owners; name your own with --limits)"
        return f"limits are read from {self.limits_file}{advice if is_sample(self.limits_file) else ''}"


class Line(NamedTuple):
    """The line, and what publishes its state."""

    pipeline: Pipeline
    publisher: Publisher


def load_configuration(
    config: str | None, limits: str | None, declines: str | None, flags: dict[str, str] | None = None
) -> Configuration:
    """Load settings, register and decline rules.

    Without a path, `limits.yaml` here, or the files that are shipped.
    """
    settings = load_settings(Path(config) if config else None, flags=flags)
    limits_file = Path(limits) if limits else default_file("limits.yaml")
    rules_file = Path(declines) if declines else default_file("declines.yaml")
    rules = parse_rules(read_text_file(rules_file, "the decline rules"), str(rules_file))
    register = load_register(limits_file)
    label_key = read_hash_key(settings.engine.label_key_file, b"", "the label key")
    return Configuration(settings, register, rules, limits_file, load_learned(settings), label_key=label_key)


def configuration_loader(
    config: str | None, limits: str | None, declines: str | None, flags: dict[str, str] | None = None
) -> Callable[[], Configuration]:
    """Give what loads the same files each time: none takes the place of one that is away later."""
    limits_file = limits or str(default_file("limits.yaml"))
    rules_file = declines or str(default_file("declines.yaml"))
    return partial(load_configuration, config, limits_file, rules_file, flags)


def load_learned(settings: Settings) -> Learned | None:
    """Read what `callgauge learn` wrote, if the settings name a file; raises `SettingsError`."""
    path = settings.headroom.learned_file
    if not path:
        return None
    return _learned(_learned_bytes(path), path, settings)


def _learned_bytes(path: str) -> bytes:
    return read_text_file(Path(path), "the learned file", FILE_BYTES_MAX).encode()


def _learned(data: bytes, path: str, settings: Settings) -> Learned:
    learned = decode_learned(data, path)
    if learned.time_zone != settings.headroom.time_zone:
        raise SettingsError(
            f"it tells the week by {learned.time_zone}, headroom.time_zone is {settings.headroom.time_zone}",
            where=path,
            hint="learn again, or set the time zone back",
        )
    return learned


def with_learned_file(configuration: Configuration, path: str) -> Configuration:
    """Take a file that `learn` wrote, or caps that `run` has inferred; raises `SettingsError`."""
    data = _learned_bytes(path)
    if is_learned(data):
        return configuration._replace(learned=_learned(data, path, configuration.settings))
    return configuration._replace(inferred=decode_inferred(data, path))


def load_inferred(path: str) -> tuple[LearnedValue, ...]:
    """Read the limits that an earlier run has inferred."""
    return decode_inferred(read_text_file(Path(path), "the inferred limits", FILE_BYTES_MAX).encode(), path)


def inferred_before(path: str) -> tuple[LearnedValue, ...]:
    """Give what an earlier run has inferred; nothing without a path, or if this is the first run."""
    return load_inferred(path) if path and Path(path).exists() else ()


def default_file(name: str) -> Path:
    """Give the file of this name here, or the shipped one."""
    here = Path(name)
    return here if here.is_file() else config_path(name)


def read_hash_key(path: str, default: bytes, what: str = "the call key") -> bytes:
    """Give the key that call ids or labels are hashed with: 32 hexadecimal digits, or the default."""
    if not path:
        return default
    try:
        key = bytes.fromhex(read_secret(path))
    except SecretError as error:
        raise UsageError(f"{what} cannot be read", where=path, cause=str(error), hint=KEY_HINT) from None
    except ValueError:
        key = b""
    if len(key) != HASH_KEY_BYTES:
        raise UsageError(
            f"{what} is not 32 hexadecimal digits",
            where=path,
            hint=KEY_HINT,
        )
    return key


def time_to_live(configuration: Configuration, series: SeriesTable) -> Callable[[tuple[str, ...]], int]:
    """Say how long calls of a series may show no sign of life: the longest `max_duration` of its limits."""

    def ttl_ns_of(values: tuple[str, ...]) -> int:
        labels = dict(zip(series.labels, values, strict=True))
        own = [
            limit.max_duration_ns
            for limit in configuration.register.limits
            if limit.max_duration_ns is not None and limit.matches(labels)
        ]
        return max(own, default=configuration.settings.engine.call_ttl_ns)

    return ttl_ns_of


def kept_labels(engine: EngineSettings, of_limits: Iterable[str]) -> tuple[str, ...]:
    """Give the labels that tell series apart, but for those that only limits need, which are added to them.

    By some of them caps are looked for, or rows are late.
    """
    wanted = set(engine.hidden_cap_labels if engine.hidden_cap_instances_max else ())
    if engine.late_by_platform_ns:
        wanted.add(PLATFORM)
    wanted -= {*engine.series_labels, *of_limits}
    return (*engine.series_labels, *(label for label in LABELS if label in wanted))


class Span(NamedTuple):
    """The part of a log that is wanted: event time in ns, half-open; None: no bound."""

    from_ns: int | None = None
    to_ns: int | None = None


EVERYTHING = Span()


def build_line(
    configuration: Configuration,
    hash_key: bytes,
    span: Span = EVERYTHING,
    detectors: tuple[Detector, ...] | None = None,
) -> Line:
    """Make a line that has seen nothing; `detectors` may stand in for those of the registry."""
    settings, register = configuration.settings, configuration.register
    mask = LabelMask(configuration.label_key, register.named_values())
    of_limits = register.limit_labels()
    kept = msgspec.structs.replace(settings.engine, series_labels=kept_labels(settings.engine, of_limits))
    decoder = new_decoder(kept, hash_key, of_limits, mask)
    decoder.rejects.is_on = bool(settings.quarantine.path or settings.quarantine.topic)
    if span != EVERYTHING:
        decoder = TimeCut(decoder, span.from_ns, span.to_ns)
    observer = Observer(
        settings.engine,
        decoder.series,
        decoder.causes,
        decoder.stages,
        time_to_live(configuration, decoder.series),
    )
    if detectors is None:
        detectors = make_detectors(settings, configuration.learned)
    judge = Judge(settings, register, configuration.rules, detectors)
    judge.know(configuration.inferred)
    pipeline = Pipeline(decoder, observer, judge)
    return Line(pipeline, Publisher(pipeline))


class Learning(NamedTuple):
    """What `learn` found: the file, and of each limit the ordinary days and the busiest usual load."""

    learned: Learned
    instances: tuple[LimitInstance, ...]
    days: tuple[int, ...]
    loads: tuple[float, ...]  # share of the cap; NaN: no ordinary day


class LearningLine:
    """A line that learns from logs instead of paging: the same steps, with one silent detector."""

    def __init__(self, configuration: Configuration, hash_key: bytes) -> None:
        """Start with a line that has seen nothing."""
        self.configuration = configuration
        self.lesson = Lesson(configuration.settings)
        self.line = build_line(configuration, hash_key, detectors=(self.lesson,))

    def step(self, raw: RawBatch) -> Step:
        """Take one batch."""
        return self.line.pipeline.step(raw)

    def learned(self) -> Learning:
        """Give what was learned so far."""
        judge = self.line.pipeline.judge
        state = judge.bank.state_of(self.lesson.name)
        limits = tuple(judge.roller.index.instances)
        learned, days, watched = learned_from(state, limits, self.configuration.settings)
        own = [days.load[days.row == instance.index] for instance in watched]
        loads = tuple(float(np.median(one)) if len(one) else math.nan for one in own)
        return Learning(learned, watched, tuple(len(one) for one in own), loads)


def alert_names(settings: Settings) -> frozenset[str]:
    """Give the names of all alerts that there are."""
    return frozenset(
        policy.alertname for detector in make_detectors(settings) for policy in detector.policies
    )


class OwnedLine:
    """The line of one member of a consumer group. Not safe for use from two threads at once.

    When the partitions go to another member, what was known of their calls is no longer true, and if they
    come back they are rewound and read again: so the line then starts anew. A replayed recording walks
    through the same beginnings.
    """

    def __init__(self, configuration: Configuration, hash_key: bytes, span: Span = EVERYTHING) -> None:
        """Start with a line that has seen nothing, and without partitions."""
        self.configuration = configuration
        self.line = build_line(configuration, hash_key, span)
        self._hash_key = hash_key
        self._span = span
        self.topic_id = ""  # of the topic that the line has read, as far as it is known
        self.is_whole = True  # False: a step failed, and its rows have taken effect by half
        self._owns = False
        self._restored: Line | None = None
        self._topic_id = ""

    @property
    def owns(self) -> bool:
        """Say whether the newest batch came with partitions."""
        return self._owns

    def adopt(self, line: Line | None, topic_id: str = "") -> None:
        """Go on with a line that was restored, or with a new one, when partitions are next given to us."""
        self._restored, self._topic_id = line, topic_id
        if line is not None:
            line.publisher.note_restored_losses()

    def step(self, raw: RawBatch) -> Step:
        """Take one batch or tick to alert changes."""
        if self._owns and not raw.assigned:
            # Calls are forgotten; a cap that was found stays where it is.
            self.configuration = self.configuration._replace(inferred=self.line.pipeline.judge.inferred())
            self.line = build_line(self.configuration, self._hash_key, self._span)
        if raw.assigned and not self._owns:
            self.topic_id = self._topic_id
            if self._restored is not None:
                self.line, self._restored = self._restored, None
                self._refresh()
        self._owns = bool(raw.assigned)
        self.is_whole = False
        step = self.line.pipeline.step(raw)
        self.is_whole = True
        return step

    def reload(self, configuration: Configuration) -> None:
        """Take limits and decline rules anew; all else stays as it was at the start."""
        self.configuration = self.configuration.reloaded(configuration)
        self.line.pipeline.judge.reload(configuration.register, configuration.rules)

    def _refresh(self) -> None:
        """Let limits and rules take effect that were loaded since the line was restored."""
        judge, configuration = self.line.pipeline.judge, self.configuration
        is_same = judge.roller.index.register == configuration.register
        if not is_same or judge.roller.classifier.rules != configuration.rules:
            judge.reload(configuration.register, configuration.rules)

    def publish(self, received_ns: int) -> Snapshot:
        """Give the picture after a step."""
        return self.line.publisher.publish(received_ns)
