"""Which fields of which class a checkpoint holds, and which are made anew at a start.

Every field of every object on the line that changes stands in one of the columns; `tests/test_state.py`
compares them with the objects of a busy line, so that a field cannot be forgotten. Made anew is what follows
from settings, from the register or from what is kept: bounds, collaborators, caches. A new object is made by
its own constructor, then filled: lists, tables and arrays in place, because others refer to them; what must
be there at once, and follows from that, it works out itself.
Rejected: a pair of methods in each class, which says the names of the fields three times.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.decode.causes import CauseTable
from engine.decode.decoder import JsonDecoder
from engine.decode.fast_decoder import FastDecoder
from engine.decode.series import SeriesTable
from engine.decode.stages import StageTable
from engine.judge.bank import DetectorBank
from engine.judge.fact_rows import FactRows
from engine.judge.implicit import LearnedValues
from engine.judge.judge import Judge
from engine.judge.lifecycle import AlertBook
from engine.judge.measures import Measures
from engine.judge.occupancy import Occupancy
from engine.judge.pages import PageWriter
from engine.judge.reports import Reports
from engine.judge.roll import Roller
from engine.judge.series import Csr, SeriesIndex
from engine.judge.silence import Silence
from engine.judge.sketch_pages import SketchPages
from engine.judge.stage_rows import StageRows
from engine.judge.windows import RollingSums, RunningSum
from engine.observe.observer import Observer
from engine.observe.partition import Partition
from engine.pipeline import Pipeline
from engine.state.encoding import ObjectState, StateError, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fields(NamedTuple):
    """The fields of a class, each named once."""

    kept: str
    anew: str = ""
    apart: str = ""  # kept too, in a part or blob of its own
    follows: str = ""  # from what is kept: `work_out` of the object finds it again


FIELDS: Mapping[type, Fields] = {
    # decode: ids are only meant where the tables are, so the tables go with every partition
    FastDecoder: Fields(
        "parsing",
        "losses fields_ignored series causes stages rows_scanned mask rejects _settings _unwanted "
        "_has_vectors _vocabulary _numbers _lessons_max _status _columns _measure_row _measure_stage "
        "_measure_ms",
    ),
    JsonDecoder: Fields(
        "losses rows_read fields_ignored series causes stages _plain_log_ns",
        "_settings key labels parser mask rejects _samples",
    ),
    SeriesTable: Fields(
        "labels values rows_by_admission identities_unkept",
        "_limit_labels _limits_end _free_end _series_max",
        follows="_ids",
    ),
    CauseTable: Fields("causes rows_collapsed _ids", "_ends"),
    StageTable: Fields("names measures_collapsed _ids _taken", "_stages_max"),
    # observe
    Pipeline: Fields("next_offsets", "decoder observer judge"),
    Observer: Fields(
        "watermark_ns first_ns _book _unmatched _idleness _lists _lists_apart",
        "settings _tables _no_notes _has_closed _has_unmatched",
        apart="_partitions",
    ),
    Partition: Fields(
        "topic partition clock held calls recent notes notes_by_slice declines_seen closed_until_ns "
        "_next_note _published _keys",
        "slice_ns out_of_order_ns _runs _order _lost _sketches _flow _rests_until_ns",
    ),
    # judge
    Judge: Fields("roller pages bank first_declines last", apart="book"),
    Roller: Fields(
        "index occupancy measures facts reports series_level series_answered declined_total next_ns "
        "first_ns slices_closed _waiting _judged _late _heard _first_ns_by_instance _counters _amended "
        "_was_busy silence",
        "settings classifier _late_ns_max",
        apart="learned",
    ),
    Silence: Fields("gap _from_ns _usual_per_s"),
    SeriesIndex: Fields(
        "register _implicit_count series instances by_start by_answer rows row_labels _instance_ids",
        "instances_max window_rows_max implicit met _terms _ids_by_values",
        follows="_ids _row_ids",
    ),
    Csr: Fields("_start _rows", "_arrays"),
    LearnedValues: Fields("values _by_key"),
    Occupancy: Fields("state _end_ns _restarted", "slice_ns cells bins"),
    Measures: Fields(
        "counts sketches latency_rows pages totals errors_total histogram_rows "
        "histogram_pages histograms sums_us _histogram_values",
        "index classifier quantiles table",
    ),
    RollingSums: Fields("rows windows", "width"),
    RunningSum: Fields("dense _held _pane", "window_ns pane_ns"),
    SketchPages: Fields("page_of many _row_of _first_of"),
    StageRows: Fields("_stages _ids", "_columns", follows="pairs"),
    FactRows: Fields("timings scores dependencies", "index dependencies_refused"),
    Reports: Fields("_newest", "_names refused"),
    PageWriter: Fields("_changes", "roller"),
    DetectorBank: Fields("forecast verdicts", "detectors roller pages places _policies", apart="_states"),
    AlertBook: Fields("refused _lives _last_fired_ns", "alerts_max resolved_keep_ns"),
}

KEPT: Mapping[type, tuple[str, ...]] = {kind: tuple(one.kept.split()) for kind, one in FIELDS.items()}


def fill(target: Any, state: Any) -> None:
    """Give a new object the fields that were kept of one like it; StateError if the class has changed."""
    fields = KEPT[type(target)]
    if not isinstance(state, ObjectState) or state.class_name != name_of(type(target)):
        raise StateError("changed", f"{name_of(type(target))} was kept in another way")
    if tuple(state.values) != fields:
        raise StateError("changed", f"{state.class_name} has other fields in this version of callgauge")
    for name in fields:
        _set(target, name, state.values[name])
    if FIELDS[type(target)].follows:
        target.work_out()


def _set(target: Any, name: str, new: Any) -> None:
    """Set one field, in place where something else may refer to what is there."""
    old = getattr(target, name)
    if isinstance(new, ObjectState):
        fill(old, new)
    elif isinstance(new, tuple) and any(isinstance(one, ObjectState) for one in new):
        for each, state in zip(old, new, strict=True):
            fill(each, state)
    elif isinstance(old, dict | set) and type(new) is type(old):
        old.clear()
        old.update(new)
    elif isinstance(old, list | deque) and type(new) is type(old):
        old.clear()
        old.extend(new)
    elif isinstance(old, np.ndarray) and _is_alike(old, new):
        old[...] = new
    else:
        setattr(target, name, new)


def _is_alike(old: np.ndarray[Any, Any], new: Any) -> bool:
    is_same = isinstance(new, np.ndarray) and (new.shape, new.dtype) == (old.shape, old.dtype)
    return is_same and bool(old.flags.writeable) and old.flags.c_contiguous == new.flags.c_contiguous
