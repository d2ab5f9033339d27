"""What `/metrics` says is what the snapshot holds, in text and in protobuf alike."""

import math
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from engine.deliver import histograms, native, text
from engine.deliver.families import GAUGE, Family, headroom_ratio
from engine.deliver.metrics import Metrics, prefers_protobuf
from engine.deliver.peer import PeerStats
from engine.errors import LossReason
from engine.judge.snapshot import HistogramFamily, Snapshot
from engine.observe.latency import BUCKET_FIRST, BUCKETS, SCHEMA, UPPER_S
from engine.source.stats import SourceStats
from tests import metrics_protobuf
from tests.integration.servers import tool
from tests.snapshots import a_limit, a_snapshot, family_of, no_quantiles, no_windows

PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
PEER = PeerStats("http://am:9093", 7, (("timeout", 2),), (("queue_full", 3),), 1, 100, 9, 0.25, 1.8e9)
SOURCE = SourceStats(
    (("calls", 0, 12), ("calls", 1, 0)),
    1,
    2,
    3,
    unauthorized=4,
    lost_rows=(("deleted", 0), ("damaged", 9)),
    raw_batches=True,
    refetches=5,
    doubts_forgotten=6,
    asked_again=7,
)

Sample = tuple[str, tuple[tuple[str, str], ...]]


def some_metrics(snapshot: Snapshot | None) -> Metrics:
    metrics = Metrics(
        CollectorRegistry(),
        lambda: snapshot,
        version="1.2.3",
        peers=lambda: (PEER,),
        source=lambda: SOURCE,
    )
    metrics.step_took(0.02)
    metrics.step_runs(0.25)
    metrics.loop_lagged(0.003)
    metrics.reloaded(is_successful=True, now_s=1.8e9)
    return metrics


def parsed(body: bytes) -> dict[Sample, float]:
    """Read text as prometheus_client does; a sample that comes twice is an error."""
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} comes twice"
            found[key] = sample.value
    return found


def rendered(snapshot: Snapshot | None) -> dict[Sample, float]:
    body, content_type = some_metrics(snapshot).render("")
    assert "text/plain; version=0.0.4; charset=utf-8" == content_type
    return parsed(body)


def test_the_text_says_what_the_snapshot_holds() -> None:
    """Counts, base units, and one sample for each label set."""
    samples = rendered(a_snapshot())
    tenant = (("limit", "sip-trunk"), ("tenant", "acme"))
    expected = {
        ("callgauge_rows_read_total", ()): 10,
        ("callgauge_rows_lost_total", (("reason", "late"),)): 1,
        ("callgauge_watermark_timestamp_seconds", ()): 1_800_000_000,
        ("callgauge_calls_healed_total", (("cause", "ttl"),)): 1,
        ("callgauge_calls_started_total", (("tenant", "acme"),)): 5,
        ("callgauge_limit_headroom_ratio", tenant): 0.25,
        ("callgauge_limit_time_to_limit_high_seconds", tenant): math.inf,
        ("callgauge_limit_declined_total", tenant): 3,
        ("callgauge_limit_state", (*tenant[:1], ("state", "warning"), *tenant[1:])): 1,
        ("callgauge_limit_state", (*tenant[:1], ("state", "ok"), *tenant[1:])): 0,
        ("callgauge_alerts_firing", (("alertname", "CallLimitApproaching"), ("severity", "critical"))): 1,
        ("callgauge_alertmanager_alerts_sent_total", (("alertmanager", "http://am:9093"),)): 7,
        ("callgauge_kafka_lag_rows", (("partition", "0"), ("topic", "calls"))): 12,
        ("callgauge_kafka_lost_rows_total", (("reason", "deleted"),)): 0,
        ("callgauge_kafka_lost_rows_total", (("reason", "damaged"),)): 9,
        ("callgauge_kafka_raw_batches", ()): 1,
        ("callgauge_kafka_refetches_total", ()): 5,
        ("callgauge_kafka_doubts_forgotten_total", ()): 6,
        ("callgauge_kafka_asked_again_total", ()): 7,
        ("callgauge_kafka_unauthorized_total", ()): 4,
        ("callgauge_step_seconds_count", ()): 1,
        ("callgauge_step_running_seconds", ()): 0.25,
        ("callgauge_event_loop_lag_seconds_sum", ()): 0.003,
        ("callgauge_config_last_reload_successful", ()): 1,
    }
    assert expected == {key: samples[key] for key in expected}


def test_every_reason_for_a_loss_is_there_from_the_start() -> None:
    """A rate over a counter that appears late misses its first step."""
    samples = rendered(a_snapshot(rows_lost=()))
    reasons = {dict(labels)["reason"] for name, labels in samples if name == "callgauge_rows_lost_total"}
    assert {reason.name.lower() for reason in LossReason} == reasons


def test_what_is_not_known_is_left_out() -> None:
    """A limit without a value has no headroom, an empty window no quantile and no error ratio."""
    samples = rendered(a_snapshot())
    assert ("callgauge_limit_headroom_ratio", (("limit", "unknown"),)) not in samples
    ratios = [labels for name, labels in samples if name == "callgauge_call_error_ratio"]
    assert {"total", "series"} == {dict(labels)["by"] for labels in ratios}
    assert 5 == sum(name == "callgauge_call_latency_p50_seconds" for name, _ in samples)


def test_what_was_cut_down_or_refused_is_counted() -> None:
    """Every bound that was met can be seen from outside."""
    samples = rendered(a_snapshot())
    for name, count in (("causes_collapsed", 4), ("measures_collapsed", 5), ("alerts_refused", 7)):
        assert count == samples[f"callgauge_{name}_total", ()]
    ignored = {labels: count for (name, labels), count in samples.items() if "fields_ignored" in name}
    assert {(("field", "code"),): 0, (("field", "duration_ms"),): 6} == ignored


def test_the_use_of_a_limit_that_nothing_measures_is_left_out() -> None:
    """A gap says that nobody counts it; a zero would say that it is free."""
    quota = a_limit(limit="daily", split=(), kind="quota", used=math.nan, peak=math.nan, state="unknown")
    samples = rendered(a_snapshot(limits=(quota,)))
    about = [name for name, labels in samples if dict(labels).get("limit") == "daily"]
    assert not {f"callgauge_limit_{name}" for name in ("used", "peak_used", "headroom_ratio")} & set(about)
    assert "callgauge_limit_value" in about


def test_windows_say_what_they_are_grouped_by() -> None:
    """A tenant over all trunks is not its series without a trunk, though empty labels vanish."""
    samples = rendered(a_snapshot())
    key = (("by", "series"), ("stage", "llm"), ("tenant", "acme"), ("trunk", ""), ("window", "5m"))
    assert 0.5 == samples["callgauge_call_latency_p99_seconds", key]


def test_before_the_first_step_there_are_no_counts() -> None:
    """Nothing known is not the same as zero."""
    names = {name for name, _ in rendered(None)}
    assert "callgauge_build_info" in names
    assert "callgauge_rows_read_total" not in names


def test_promtool_has_nothing_to_say() -> None:
    """Names, units, help texts and types follow the conventions."""
    body, _ = some_metrics(a_snapshot()).render("")
    done = subprocess.run(
        [tool("promtool", package="prometheus"), "check", "metrics"],
        input=body,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)


def test_protobuf_holds_the_same_numbers_as_text() -> None:
    """A scraper that asks for protobuf takes everything from it: nothing may be missing or different."""
    metrics = some_metrics(a_snapshot())
    in_text = parsed(metrics.render("")[0])
    body, content_type = metrics.render(PROTOBUF)
    assert content_type.startswith("application/vnd.google.protobuf")
    in_protobuf: dict[Sample, float] = {}
    for name, family in metrics_protobuf.families(body).items():
        for labels, value in family.samples.items():
            pairs = tuple(sorted(labels))
            if isinstance(value, metrics_protobuf.Histogram):
                in_protobuf[f"{name}_count", pairs] = value.count
                in_protobuf[f"{name}_sum", pairs] = value.sum
                for bound, count in value.classic.items():
                    edge = "+Inf" if math.isinf(bound) else repr(bound)
                    in_protobuf[f"{name}_bucket", tuple(sorted((*pairs, ("le", edge))))] = count
            else:
                in_protobuf[name, pairs] = value
    changing = "process_"
    without_infinity = {
        key: value
        for key, value in in_text.items()
        if not key[0].startswith(changing)
        and not (key[0] == f"{histograms.NAME}_bucket" and ("le", "+Inf") in key[1])
    }
    assert without_infinity == {
        key: value for key, value in in_protobuf.items() if not key[0].startswith(changing)
    }


sketches = st.lists(
    st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 1 << 40), max_size=12), max_size=4
)


def family_of_rows(rows: list[dict[int, int]]) -> HistogramFamily:
    counts = np.zeros((len(rows), BUCKETS), np.int64)
    for row, buckets in enumerate(rows):
        for bucket, count in buckets.items():
            counts[row, bucket] = count
    values = tuple((f"tenant {row}", "llm") for row in range(len(rows)))
    return family_of(("tenant", "stage"), values, counts, np.arange(len(rows)) * 1_234_567)


@settings(max_examples=60)
@given(sketches)
def test_native_buckets_are_the_buckets_of_the_sketch(rows: list[dict[int, int]]) -> None:
    """Same schema, same indexes, same counts, however sparse; an empty sketch is still a native histogram."""
    body = native.histograms_protobuf(family_of_rows(rows), native.LabelMessages())
    found = metrics_protobuf.families(body)
    decoded = list(found[histograms.NAME].samples.values()) if rows else []
    assert len(rows) == len(decoded)
    for buckets, histogram in zip(rows, decoded, strict=True):
        assert isinstance(histogram, metrics_protobuf.Histogram)
        assert SCHEMA == histogram.schema
        assert {bucket + BUCKET_FIRST: count for bucket, count in buckets.items()} == histogram.native
        assert sum(buckets.values()) == histogram.count


@settings(max_examples=60)
@given(sketches)
def test_classic_buckets_are_exact(rows: list[dict[int, int]]) -> None:
    """Each bound ends a bucket of the sketch, so the count up to it is a sum and nothing is split."""
    samples = parsed(histograms.histograms_text(family_of_rows(rows), text.LabelTexts()).encode())
    bounds = [2.0**octave for octave in histograms.CLASSIC_OCTAVES]
    assert set(bounds) <= set(UPPER_S.tolist())
    for row, buckets in enumerate(rows):
        labels = (("stage", "llm"), ("tenant", f"tenant {row}"))
        for bound in bounds:
            expected = sum(count for bucket, count in buckets.items() if UPPER_S[bucket] <= bound)
            key = (f"{histograms.NAME}_bucket", (("le", repr(bound)), *labels))
            assert expected == samples[key]
        everything = sum(buckets.values())
        assert everything == samples[f"{histograms.NAME}_bucket", (("le", "+Inf"), *labels)]
        assert everything == samples[f"{histograms.NAME}_count", labels]
        assert row * 1.234567 == pytest.approx(samples[f"{histograms.NAME}_sum", labels])


label_values = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=80)
@given(label_values, label_values)
def test_label_values_are_escaped(first: str, second: str) -> None:
    """Whatever a tenant is called, the text reads back as it was."""
    labels = (("tenant", first), ("trunk", second))
    written = text.families_text([Family("callgauge_x", GAUGE, "Help.", (labels,), (1,))], text.LabelTexts())
    assert {("callgauge_x", labels): 1} == parsed(written.encode())
    written = histograms.histograms_text(
        family_of(
            ("tenant", "stage"), ((first, second),), np.zeros((1, BUCKETS), np.int64), np.zeros(1, np.int64)
        ),
        text.LabelTexts(),
    )
    pairs = (("stage", second), ("tenant", first))
    assert 0 == parsed(written.encode())[f"{histograms.NAME}_count", pairs]


def test_the_cache_of_label_texts_is_bounded() -> None:
    """When full it forgets all and goes on; what is written stays right."""
    texts = text.LabelTexts(label_sets_max=2)
    messages = native.LabelMessages(label_sets_max=2)
    written = [texts.pairs((("a", str(number)),)) for number in (1, 2, 3, 1)]
    assert ['a="1"', 'a="2"', 'a="3"', 'a="1"'] == written
    encoded = [messages.pairs((("a", str(number)),)) for number in (1, 2, 3, 1)]
    assert encoded[0] == encoded[3] != encoded[2]


@pytest.mark.parametrize(
    ("accept", "is_protobuf"),
    [
        ("", False),
        ("*/*", False),
        (PROTOBUF, True),
        (f"{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5,*/*;q=0.1", True),
        (f"application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.5,{PROTOBUF};q=0.3", False),
        (f"text/plain;q=0.5,{PROTOBUF};q=0.5", False),
        (f"{PROTOBUF};q=broken", False),
        ("application/vnd.google.protobuf;proto=other.Message;encoding=delimited", False),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", False),
        (f"{PROTOBUF};q=0", False),
        (",;=,,", False),
    ],
)
def test_protobuf_is_sent_only_to_those_who_prefer_it(accept: str, is_protobuf: bool) -> None:
    """The first two protobuf headers are those of Prometheus with native histograms switched on."""
    assert is_protobuf == prefers_protobuf(accept)


def test_headroom_is_never_negative() -> None:
    """A limit that is passed has no headroom; a limit of zero or unknown value has no ratio."""
    assert 0.0 == headroom_ratio(a_limit(used=90))
    assert math.isnan(headroom_ratio(a_limit(value=0.0)))


def test_an_engine_without_series_is_rendered() -> None:
    """Right after the start there are limits but no calls."""
    empty = family_of(("stage",), (), np.zeros((0, BUCKETS), np.int64), np.zeros(0, np.int64))
    snapshot = a_snapshot(latency=empty, windows=no_windows(), quantiles=no_quantiles(), limits=(), alerts=())
    metrics = some_metrics(snapshot)
    parsed(metrics.render("")[0])
    metrics_protobuf.families(metrics.render(PROTOBUF)[0])
