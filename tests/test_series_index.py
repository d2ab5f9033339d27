"""Which limits and window rows a series counts in."""

from __future__ import annotations

import msgspec
import numpy as np

from engine.decode.events import EventType
from engine.judge.series import SeriesIndex
from engine.limits import Limit, Register
from tests.summaries import ACME, GLOBEX, LABELS, note

TRUNK = Limit(name="trunk", kind="concurrency", value=80.0, applies_to={"trunk": ("sip-1", "sip-2")})
TENANT = Limit(name="tenant", kind="concurrency", value=20.0, split_by=("tenant",), counts_from="answered")
OTHER_TRUNK = ("acme", "sip-9", "", "")


def new_index(*limits: Limit, instances_max: int = 100, rows_max: int = 100) -> SeriesIndex:
    """Make an index of some limits."""
    return SeriesIndex(Register(limits=limits), instances_max, rows_max)


def names(index: SeriesIndex) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """List the instances."""
    return [(one.limit.name, one.split) for one in index.instances]


def test_series_are_numbered_by_their_labels_whatever_the_order_they_come_in() -> None:
    one, other = new_index(), new_index()

    assert one.ids(LABELS, (ACME, GLOBEX)).tolist() == [0, 1]
    assert other.ids(LABELS, (GLOBEX, ACME)).tolist() == [1, 0]
    assert one.series == other.series
    assert one.ids(LABELS, ()).tolist() == []


def test_an_empty_label_is_a_missing_one() -> None:
    index = new_index()

    ids = index.ids(LABELS, (ACME,)), index.ids(("tenant", "trunk"), (("acme", "sip-1"),))

    assert ids[0].tolist() == ids[1].tolist()


def test_what_load_is_announced_for_is_there_before_its_first_call() -> None:
    """The new tenant of a launch; and nothing for who says no tenant, or for other calls."""
    index = new_index(TRUNK, TENANT)
    index.take_announced(
        [
            note(EventType.LOAD_PLANNED, labels=[("tenant", "newco"), ("trunk", "sip-9")], expected=60.0),
            note(EventType.LOAD_PLANNED, labels=[("trunk", "sip-1")], expected=60.0),
            note(EventType.CHANGE_MADE, labels=[("tenant", "another")], what="deploy"),
        ]
    )

    assert names(index) == [("trunk", ()), ("tenant", (("tenant", "newco"),))]
    index.ids(LABELS, (("newco", "sip-9", "", ""),))
    assert index.instances_of(0) == [1]


def test_every_limit_that_matches_counts_the_series() -> None:
    index = new_index(TRUNK, TENANT)
    index.ids(LABELS, (ACME, GLOBEX, OTHER_TRUNK, ("", "sip-2", "", "")))

    assert names(index) == [
        ("trunk", ()),
        ("tenant", (("tenant", "acme"),)),
        ("tenant", (("tenant", "globex"),)),
        ("tenant", (("tenant", ""),)),
    ]
    by_series = {series: index.instances_of(number) for number, series in enumerate(index.series)}
    assert by_series[("tenant", "acme"), ("trunk", "sip-1")] == [0, 1]
    assert by_series[("tenant", "acme"), ("trunk", "sip-9")] == [1]
    assert by_series[("trunk", "sip-2"),] == [0, 3]


def test_an_instance_appears_with_its_first_series_and_one_without_split_at_once() -> None:
    index = new_index(TRUNK, TENANT)

    assert names(index) == [("trunk", ())]
    index.ids(LABELS, (GLOBEX,))
    assert names(index) == [("trunk", ()), ("tenant", (("tenant", "globex"),))]


def test_when_instances_are_full_the_rest_of_a_limit_share_one() -> None:
    index = new_index(TENANT, TRUNK, instances_max=2)
    index.ids(LABELS, (ACME,))
    index.ids(LABELS, (GLOBEX,))
    index.ids(LABELS, (("initech", "sip-1", "", ""),))

    assert names(index) == [
        ("trunk", ()),
        ("tenant", (("tenant", "acme"),)),
        ("tenant", (("tenant", "__other__"),)),
    ]
    assert index.instances_of(1) == index.instances_of(2) == [0, 2]


def test_a_value_with_a_cap_of_its_own_has_its_place_when_instances_are_full() -> None:
    """Its cap can decline calls, and `__other__` has none: it would be silent whoever came first."""
    named = msgspec.structs.replace(TENANT, values={"initech": 5.0})
    by_both = Limit(
        name="both", kind="concurrency", split_by=("tenant", "trunk"), values={"initech,sip-1": 3.0}
    )
    index = new_index(named, by_both, instances_max=2)
    index.ids(LABELS, (ACME,))
    index.ids(LABELS, (GLOBEX, ("initech", "sip-1", "", ""), ("hooli", "sip-1", "", "")))

    assert names(index)[2:] == [
        ("tenant", (("tenant", "__other__"),)),
        ("both", (("tenant", "__other__"), ("trunk", "__other__"))),
        ("tenant", (("tenant", "initech"),)),
        ("both", (("tenant", "initech"), ("trunk", "sip-1"))),
    ]
    assert index.terms().value_at(0)[-2:].tolist() == [5.0, 3.0]
    assert index.met["limit_instances_max"] == 4


def test_a_report_of_a_hidden_value_is_not_taken_for_all_that_are_hidden() -> None:
    """Without a key every number is `__number__`: what one trunk has in use says nothing of all."""
    index = new_index(msgspec.structs.replace(TENANT, split_by=("trunk",)))
    index.ids(LABELS, (ACME, ("acme", "__number__", "", "")))

    assert index.terms().row_of == {("tenant", ("sip-1",)): 1}
    assert np.isnan(index.terms().value_at(0)).tolist() == [True, False]


def test_a_value_that_is_given_a_cap_of_its_own_leaves_other() -> None:
    index = new_index(TENANT, instances_max=1)
    index.ids(LABELS, (ACME, GLOBEX))

    index.reload(Register(limits=(msgspec.structs.replace(TENANT, values={"globex": 5.0}),)))

    assert names(index)[-1] == ("tenant", (("tenant", "globex"),))
    assert [index.instances_of(series) for series in (0, 1)] == [[0], [2]]


def test_asking_which_instances_are_known_takes_nothing_up() -> None:
    index = new_index(TRUNK, TENANT)
    index.ids(LABELS, (ACME,))

    assert index.instances_known(LABELS, ACME) == [0, 1]
    assert index.instances_known(LABELS, GLOBEX) == [0]
    assert len(index.series) == 1
    assert len(index.instances) == 2


def test_a_changed_value_goes_on_as_the_same_instance() -> None:
    index = new_index(TRUNK)
    index.ids(LABELS, (ACME,))
    larger = Limit(name="trunk", kind="concurrency", value=120.0, applies_to=TRUNK.applies_to)

    index.reload(Register(limits=(larger,)))

    assert [one.limit.value for one in index.instances] == [120.0]
    assert index.instances_of(0) == [0]


def test_a_limit_that_counts_other_calls_is_another_instance_and_the_old_one_retires() -> None:
    index = new_index(TRUNK)
    index.ids(LABELS, (ACME,))
    narrower = Limit(name="trunk", kind="concurrency", value=80.0, applies_to={"trunk": ("sip-1",)})

    index.reload(Register(limits=(narrower,)))

    assert [one.limit.value for one in index.instances] == [None, 80.0]
    assert index.instances[0].limit.confirmed_on == "retired"
    assert index.instances_of(0) == [1]
    assert index.counting() == {1}


def test_a_limit_that_comes_back_is_a_new_instance() -> None:
    """What it did in between is not known: to go on as if it had been at nothing looks like a surge."""
    index = new_index(TRUNK, TENANT)
    index.ids(LABELS, (ACME, GLOBEX))

    index.reload(Register(limits=(TENANT,)))
    assert index.counting() == {1, 2}
    index.reload(Register(limits=(TRUNK, TENANT)))

    assert index.counting() == {1, 2, 3}
    assert [one.index for one in index.instances] == [0, 1, 2, 3]
    assert index.instances_of(0) == [1, 3]
    assert [index.instances[row].limit.value for row in (0, 3)] == [None, 80.0]


def test_instances_that_have_retired_take_no_room_but_there_is_an_end_to_it() -> None:
    """A limit that is edited now and then, split by more tenants than half of the bound."""
    index = new_index(TENANT, instances_max=2)
    index.ids(LABELS, (ACME, GLOBEX))

    for edit in range(8):
        trunks = ("sip-1", *(f"sip-{number + 2}" for number in range(edit)))
        edited = Limit(
            name="tenant", kind="concurrency", value=20.0, split_by=("tenant",), applies_to={"trunk": trunks}
        )
        index.reload(Register(limits=(edited,)))
        splits = [dict(index.instances[row].split)["tenant"] for row in sorted(index.counting())]
        assert splits == (["acme", "globex"] if edit < 3 else ["__other__"])
    assert index.met["limit_instances_max"] == 2


def test_a_reload_does_not_count_again_what_had_no_room_before() -> None:
    index = new_index(TENANT, instances_max=1)
    index.ids(LABELS, (ACME, GLOBEX))
    before = dict(index.met)

    index.reload(Register(limits=(TENANT,)))

    assert before == dict(index.met) == {"limit_instances_max": 1}


def test_window_rows_are_bounded_and_the_total_is_always_one_of_them() -> None:
    index = new_index(rows_max=3)
    index.ids(LABELS, (ACME, GLOBEX))

    rows = index.rows.arrays()

    assert len(index.row_labels) == 3
    assert index.row_labels[0] == ()
    assert 0 in rows.instance[rows.start[1] : rows.start[2]]
    assert index.series[1] not in index.row_labels
