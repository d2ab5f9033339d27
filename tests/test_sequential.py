"""Mixtures of evidence: a short cut says what the long way says."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.remembered import Remembered
from detectors.sequential import log_mixture, log_mixture_from

LOG_M = st.one_of(st.just(-np.inf), st.floats(-40.0, 40.0))


@given(st.lists(st.lists(LOG_M, min_size=3, max_size=3), max_size=6), st.floats(-30.0, 30.0))
def test_a_mixture_is_worked_out_where_it_can_be_that_much(rows: list[list[float]], least: float) -> None:
    log_m = np.array(rows).reshape(-1, 3)
    whole, found = log_mixture(log_m), log_mixture_from(log_m, least)

    assert found[whole >= least].tolist() == whole[whole >= least].tolist()
    assert (found < least).tolist() == (whole < least).tolist()


def test_what_follows_from_an_object_is_worked_out_once_for_it() -> None:
    """Another object of the same value is another one: nobody compares arrays at every slice."""
    asked: list[list[int]] = []

    def total(given: list[int]) -> int:
        asked.append(given)
        return sum(given)

    remembered, one, other = Remembered(total), [1, 2], [1, 2]
    assert [remembered(each) for each in (one, one, other, [5], one)] == [3, 3, 3, 5, 3]
    assert len(asked) == 4
    by_value = Remembered(total, by_value=True)
    assert [by_value(each) for each in (one, other, [1, 2], [5])] == [3, 3, 3, 5]
    assert len(asked) == 6
