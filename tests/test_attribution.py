"""Which limit a decline is put down to."""

from __future__ import annotations

import numpy as np
import pytest

from engine.judge.attribution import UNATTRIBUTED, Declines, Heard, attribute, blame, fullness
from engine.judge.declines import Classifier, Rule
from engine.judge.series import SeriesIndex
from engine.limits import Limit, Register
from tests.summaries import ACME, GLOBEX, LABELS, declined, ended, summary

TRUNK = Limit(name="trunk", kind="concurrency", value=80.0, applies_to={"trunk": ("sip-1",)})
RATE = Limit(name="cps", kind="rate", value=5.0)
QUOTA = Limit(name="daily", kind="quota", value=1000.0)
TENANT = Limit(name="tenant", kind="concurrency", split_by=("tenant",))
RULES = (
    Rule("capacity", codes=(503,)),
    Rule("rate", codes=(429,)),
    Rule("quota", codes=(402,)),
    Rule("busy", codes=(486,)),
    Rule("capacity", reasons=("no room",)),
)
T, R, Q, A, G = range(5)  # the instances below, in order


def the_index() -> SeriesIndex:
    """Make an index of all four limits, with two tenants."""
    index = SeriesIndex(Register(limits=(TRUNK, RATE, QUOTA, TENANT)), 100, 100)
    index.ids(LABELS, (ACME, GLOBEX))
    return index


def blamed(decline_class: str, full: list[float], limit: str = "", *, is_early: bool = False) -> int:
    """Say whom a decline of acme's is put down to."""
    index, cause = the_index(), declined(limit=limit)
    return blame(index, index.instances_of(0), cause, decline_class, np.array(full), is_early=is_early)


FULL = [0.9, 0.5, 0.1, np.nan, np.nan]


@pytest.mark.parametrize(
    ("decline_class", "full", "expected"),
    [
        ("capacity", FULL, T),
        ("rate", [0.2, 0.5, 0.1, 0.1, 0.1], R),
        ("quota", FULL, Q),
        ("unknown", [0.1, 0.2, 0.99, 0.3, 0.3], Q),
        ("busy", FULL, UNATTRIBUTED),
        # A limit of unknown value is blamed only when no known one is nearly full.
        ("capacity", [0.5, 0.5, 0.5, np.nan, np.nan], A),
        ("capacity", [0.85, 0.5, 0.5, np.nan, np.nan], T),
        # An instance that appeared after the last slice has no fullness yet.
        ("capacity", [0.5], R),
    ],
)
def test_the_fullest_limit_whose_kind_fits_the_class_is_blamed(
    decline_class: str, full: list[float], expected: int
) -> None:
    assert expected == blamed(decline_class, full)


@pytest.mark.parametrize(
    ("decline_class", "full", "expected"),
    [
        ("capacity", FULL, T),
        ("quota", [0.5, 0.5, 0.1, np.nan, np.nan], Q),  # there is no other
        ("capacity", [0.7, 0.5, 0.5, np.nan, np.nan], UNATTRIBUTED),  # the trunk may have filled up since
        ("capacity", [0.7, 0.5, 0.5, 0.2, 0.2], UNATTRIBUTED),
    ],
)
def test_before_the_slice_is_closed_a_limit_is_named_only_if_it_can_be_no_other(
    decline_class: str, full: list[float], expected: int
) -> None:
    """A page that names the wrong limit cannot be taken back."""
    index = the_index()
    given = index.instances_of(0), declined(), decline_class, np.array(full)
    assert blame(index, *given, is_early=True) == expected


def test_the_limit_that_the_event_names_is_blamed_however_full_it_is() -> None:
    assert blamed("capacity", FULL, limit="daily") == Q
    assert blamed("capacity", FULL, limit="no such limit") == T


@pytest.mark.parametrize("is_early", [False, True])
def test_who_names_a_limit_that_nobody_wrote_down_does_not_mean_one_that_has_room(is_early: bool) -> None:
    """One of unknown value may be meant by another name, but not before the slice is closed."""
    room, unknown = [0.2, 0.5, 0.1, 0.3, 0.3], [0.2, 0.5, 0.1, np.nan, np.nan]

    assert blamed("capacity", room, "stt-sessions", is_early=is_early) == UNATTRIBUTED
    assert blamed("quota", room, "stt-sessions", is_early=is_early) == UNATTRIBUTED  # there is one alone
    assert blamed("capacity", FULL, "stt-sessions", is_early=is_early) == T
    assert blamed("capacity", unknown, "stt-sessions", is_early=is_early) == (UNATTRIBUTED if is_early else A)


@pytest.mark.parametrize(
    ("decline_class", "full", "expected"),
    [
        ("capacity", [46 / 40, 0.5, 0.1, 1.0, 1.0], A),  # what is up beyond its value is not in force
        ("capacity", [46 / 40, 0.5, 0.1, 41 / 40, 0.2], A),
        ("capacity", [46 / 40, 0.5, 0.1, 0.9, 0.9], T),
        ("capacity", [46 / 40, 1.2, 0.1, np.nan, np.nan], R),  # a rate counts attempts, declined ones too
        ("capacity", [1.0, 1.2, 0.1, 1.0, 1.0], T),  # the kind that comes to mind first, then the first one
        ("rate", [1.0, 1.2, 0.1, 1.0, 1.0], R),
        ("capacity", [np.inf, 0.5, 0.1, 0.9, 0.9], T),  # a cap of zero
    ],
)
def test_a_limit_above_its_value_is_no_fuller_than_a_full_one(
    decline_class: str, full: list[float], expected: int
) -> None:
    assert expected == blamed(decline_class, full)


def test_a_call_that_matches_no_limit_is_put_down_to_none() -> None:
    index = SeriesIndex(Register(limits=(TRUNK,)), 100, 100)
    index.ids(LABELS, (("acme", "sip-9", "", ""),))

    assert blame(index, index.instances_of(0), declined(), "capacity", np.array([1.0])) == UNATTRIBUTED


def put_down(*causes: tuple[int, object, int]) -> Declines:
    """Attribute the causes of one slice."""
    index = the_index()
    one = summary(series=(ACME, GLOBEX), causes=causes)
    ids = index.ids(LABELS, (ACME, GLOBEX))
    return attribute(index, Classifier(RULES), one, ids, np.array(FULL), Heard(0, {}))


def test_declines_are_counted_by_instance_and_by_cause() -> None:
    full, again = declined(503), declined(503, "again")

    found = put_down((0, full, 3), (1, full, 4), (0, again, 1))

    assert found.by_instance.tolist() == [8, 0, 0, 0, 0]
    assert found.causes == ((T, full, 7), (T, again, 1))
    assert found.unattributed == 0


def test_busy_lines_and_good_ends_are_nobodys_declines() -> None:
    found = put_down((0, declined(486), 3), (0, ended("completed"), 5), (0, ended("failed"), 2))

    assert not found.by_instance.any()
    assert found.causes == ()


def test_an_end_whose_reason_says_that_a_limit_cut_it_is_a_decline() -> None:
    """Some platforms end a call that they never admitted."""
    assert put_down((0, ended("failed", "no room"), 2)).by_instance.tolist() == [2, 0, 0, 0, 0]


def test_declines_without_a_limit_are_counted_as_such() -> None:
    index = SeriesIndex(Register(), 100, 100)
    one = summary(causes=[(0, declined(503), 2)])

    ids = index.ids(LABELS, (ACME,))
    found = attribute(index, Classifier(RULES), one, ids, np.zeros(0), Heard(0, {}))

    assert found.unattributed == 2
    assert found.causes == ((UNATTRIBUTED, declined(503), 2),)


def test_fullness_is_unknown_without_a_use_or_a_value_and_full_at_a_cap_of_zero() -> None:
    full = fullness(
        np.array([40.0, 4.0, 40.0, np.nan, 0.0]),
        np.array([80.0, 5.0, np.nan, 80.0, 0.0]),
    )

    assert full[:2].tolist() == [0.5, 0.8]
    assert np.isnan(full[2:4]).all()
    assert full[4] == np.inf
