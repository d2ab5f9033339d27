"""A published snapshot, small or large, for tests and benchmarks of what is read from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.judge.lifecycle import FIRING, PENDING, Alert
from engine.judge.quantiles import LatencyQuantiles
from engine.judge.sketch_pages import SketchPages
from engine.judge.snapshot import HistogramFamily, LimitStatus, Snapshot
from engine.judge.sparse import SumTable
from engine.judge.spread import SeriesFacts, added_up
from engine.judge.stage_rows import StageRows
from engine.judge.windows import WindowView
from engine.observe.latency import BUCKETS, PER_OCTAVE

NS = 1_000_000_000
WATERMARK_NS = 1_800_000_000 * NS
STAGES = ("setup", "stt", "llm", "tts", "e2e")
LABELS = ("tenant", "trunk", "provider", "release", "stage")


def a_limit(**changes: object) -> LimitStatus:
    """Give a limit on its way up."""
    status = LimitStatus(
        limit="sip-trunk",
        split=(("tenant", "acme"),),
        kind="concurrency",
        owner="voice",
        applies_to=(),
        value=80.0,
        used=60,
        unseen_use=0,
        peak=61,
        declined_total=3,
        expected_used=75.5,
        probability=0.4,
        offered_load=70.0,
        holding_s=180.0,
        time_to_limit_s=300.0,
        time_to_limit_s_low=100.0,
        time_to_limit_s_high=math.inf,
        safe_load=60.0,
        state="warning",
    )
    return status._replace(**changes)  # type: ignore[arg-type]


def an_alert(state: str = FIRING, **annotations: str) -> Alert:
    """Give an alert about that limit."""
    labels = {
        "alertname": "CallLimitApproaching",
        "severity": "critical",
        "limit": "sip-trunk",
        "tenant": "acme",
    }
    texts = {"summary": "The trunk fills up.", **annotations}
    fired_ns = WATERMARK_NS - 60 * NS if state != PENDING else -1
    moments = (WATERMARK_NS - 90 * NS, fired_ns, WATERMARK_NS, -1)
    return Alert(tuple(sorted(labels.items())), tuple(sorted(texts.items())), state, *moments)


def family_of(
    labels: tuple[str, ...], values: tuple[tuple[str, ...], ...], counts: Any, sum_us: Any
) -> HistogramFamily:
    """Give histograms as they are published; `counts` (rows, BUCKETS) are whole sketches."""
    rows = np.arange(len(values) + 1)
    known, pages = StageRows(), SketchPages()
    known.ids(rows[:-1], np.zeros(len(values), np.int16), ("",))
    row, bucket = np.nonzero(counts)
    one = np.ones(len(row), np.int64)  # Counts may be larger than those of a slice.
    facts = SeriesFacts(row.astype(np.int32), np.zeros_like(row, np.int16), bucket.astype(np.int16), one)
    added_up(facts, (rows, rows[:-1].astype(np.int32)), known, ("",), pages, SumTable())
    table = np.zeros(pages.many * PER_OCTAVE, np.int64)
    page = pages.page_of[row, bucket // PER_OCTAVE].astype(np.int64)
    table[page * PER_OCTAVE + bucket % PER_OCTAVE] = counts[row, bucket]
    page_of = pages.page_of[: len(values)]
    return HistogramFamily(labels, values, page_of, table.reshape(-1, PER_OCTAVE), sum_us)


def histograms(rows: int, seed: int = 1) -> HistogramFamily:
    """Give latency histograms with about as many filled buckets as real ones."""
    generator = np.random.default_rng(seed)
    values = tuple(
        (f"tenant-{row // len(STAGES)}", "sip-1", "carrier", "r1", STAGES[row % len(STAGES)])
        for row in range(rows)
    )
    counts = np.zeros((rows, BUCKETS), np.int64)
    counts[:, 350:520] = generator.integers(0, 50, (rows, 170))
    return family_of(LABELS, values, counts, generator.integers(0, 10**12, rows))


def no_windows() -> WindowView:
    """Give a view of nothing."""
    none = np.zeros((0, 3), np.int64)
    rows = np.zeros(0, np.int32)
    return WindowView(
        (),
        rows.astype(np.int64),
        none,
        none,
        none,
        none,
        rows,
        (),
    )


def no_quantiles() -> LatencyQuantiles:
    """Give those of a view of nothing."""
    return LatencyQuantiles(np.zeros((0, 3), np.int64), np.zeros((0, 3)), np.zeros((0, 3)))


def some_windows() -> WindowView:
    """Give the total, one tenant, and a series whose other labels are empty; nothing ended for the tenant."""
    labels = ((), (("tenant", "acme"),), (("tenant", "acme"), ("trunk", "")))
    ones = np.ones((3, 3), np.int64)
    ended = np.array([[4, 8, 16], [0, 0, 0], [4, 8, 16]])
    rows = np.array([0, 2], np.int32)
    return WindowView(
        labels,
        np.ones(3, np.int64),
        ones,
        ended,
        ended // 4,
        ones,
        rows,
        ("llm", "llm"),
    )


def some_quantiles() -> LatencyQuantiles:
    """Give those of the windows above; one is not known."""
    p50_s = np.array([[0.25, 0.5, math.nan], [0.125, 0.125, 0.125]])
    return LatencyQuantiles(np.ones((2, 3), np.int64), p50_s, p50_s * 4)


def a_snapshot(rows: int = 3, **changes: object) -> Snapshot:
    """Give a snapshot with something in every field."""
    snapshot = Snapshot(
        watermark_ns=WATERMARK_NS,
        received_ns=WATERMARK_NS + 6 * NS,
        rows_read=10,
        rows_absorbed=9,
        rows_lost=(("late", 1),),
        rows_amended=2,
        rows_clock_ahead=0,
        calls_in_flight=5,
        series=2,
        series_collapsed=0,
        causes_collapsed=4,
        measures_collapsed=5,
        fields_ignored=(("code", 0), ("duration_ms", 6)),
        alerts_refused=7,
        bounds_met=(("window_rows_max", 3), ("reports_max", 0)),
        slices_closed=7,
        in_flight_healed=(("ttl", 1),),
        limits=(a_limit(), a_limit(limit="unknown", split=(), value=math.nan, state="unknown")),
        windows=some_windows(),
        quantiles=some_quantiles(),
        latency=histograms(rows),
        arrivals_total=((("tenant", "acme"),), (("tenant", ""),)),
        counters=(("calls_started", np.array([5, 6])), ("calls_declined", np.array([0, 1]))),
        alerts=(an_alert(runbook_url="https://runbooks.example/x"),),
    )
    return snapshot._replace(**changes)  # type: ignore[arg-type]
