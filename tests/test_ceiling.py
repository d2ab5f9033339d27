"""The kernels that walk levels do what their twin does, and the evidence of silence is an e-value."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import ceiling as at
from detectors.ceiling import Bins, Ceilings, WalkParams
from tests import oracle_ceiling as oracle

PARAMS = WalkParams(bin_s=0.1, errors=1.0, caution=0.97)
NAMES = {
    at.LEVEL: "level", at.CEILING: "ceiling", at.PEAK: "peak", at.PEAK_BEFORE: "peak_before",
    at.TOUCHES: "touches", at.DECLINES: "declines", at.REFILLS: "refills", at.IS_ARMED: "is_armed",
    at.SINCE: "since", at.BINS: "bins", at.NEW_DECLINES: "new_declines", at.NEW_TOUCHES: "new_touches",
}  # fmt: skip
REAL_NAMES = {
    at.ATTEMPTS_BELOW: "attempts_below", at.DECLINES_BELOW: "declines_below", at.ROUGHNESS: "roughness",
    at.EXPECTED: "expected", at.LOG_E: "log_e", at.MISSING: "missing", at.AT_CEILING_S: "at_ceiling_s",
    at.RATE: "rate", at.CAUTIOUS_RATE: "cautious_rate",
}  # fmt: skip


def random_slices(seed: int, slices: int, cap: int, per_bin: float) -> list[list[oracle.Bin]]:
    """Make up traffic under a cap that now and then declines, silently drops, or lets one more in."""
    rng, level, made = np.random.default_rng(seed), 0, []
    for number in range(slices):
        bins = []
        top = cap if number % 17 else cap + 1
        for _ in range(50):
            level -= int(rng.binomial(level, 0.9 * per_bin / cap)) if level else 0
            asked = int(rng.poisson(per_bin))
            let_in = min(asked, max(top - level, 0))
            level += let_in
            declined = int(rng.binomial(asked - let_in, 0.5)) if number % 3 else 0
            bins.append(oracle.Bin(level, let_in + declined, declined))
        if number % 11 == 0:  # An attempt that is declined in the next slice.
            bins[-1] = bins[-1]._replace(level=bins[-1].level + 1, arrivals=bins[-1].arrivals + 1)
        made.append(bins)
    return made


@pytest.mark.parametrize(("cap", "per_bin"), [(3, 0.1), (12, 0.4), (40, 2.5), (80, 9.0)])
def test_the_kernels_walk_as_their_twin_does(cap: int, per_bin: float) -> None:
    """fade, begin_quarter (move_ceiling), walk_bins (walk_over, walk_under, at_the_top, steps_of)."""
    made = random_slices(cap, 120, cap, per_bin)
    state, row = at.new_ceilings(2), oracle.Row()
    for number, bins in enumerate(made):
        if number % 40 == 39:
            at.begin_quarter(state)
            row.begin_quarter()
        at.fade(state, 0.99)
        row.fade(0.99)
        columns = zip(*bins, strict=True)
        level, arrivals, declines = (np.array([[0] * 50, column], np.int32) for column in columns)
        at.walk_bins(state, Bins(level, arrivals, declines), at.paths(), PARAMS)
        row.walk_bins(bins, PARAMS.bin_s, PARAMS.errors, PARAMS.caution)
        assert {name: int(getattr(row, name)) for name in NAMES.values()} == {
            name: int(state.whole[1, column]) for column, name in NAMES.items()
        }, number
        for column, name in REAL_NAMES.items():
            assert state.real[1, column] == pytest.approx(getattr(row, name), rel=1e-9, abs=1e-9), name
        assert state.depths[1, at.CALLS].tolist() == pytest.approx(row.calls)
        assert state.depths[1, at.SECONDS].tolist() == pytest.approx(row.seconds)
    assert row.ceiling >= cap
    assert not state.whole[0].any() or not state.whole[0, at.CEILING]


def test_orders_of_steps_are_counted_as_if_they_were_listed() -> None:
    known = at.paths()
    for room in range(4):
        for ups in range(5):
            for downs in range(5):
                log_share, at_top = oracle.paths(room, ups, downs)
                assert known.log_share[room, ups, downs] == pytest.approx(log_share)
                assert known.at_ceiling[room, ups, downs] == pytest.approx(at_top)


@pytest.mark.parametrize("per_bin", [0.05, 0.6])
def test_evidence_of_silence_is_one_on_average_where_nothing_is_capped(per_bin: float) -> None:
    """Of bins that begin at the ceiling: exp(evidence), and nothing where the level has passed it."""
    rng, known = np.random.default_rng(4), at.paths()
    ups, downs = rng.poisson(per_bin, 200_000), rng.poisson(per_bin, 200_000)
    for room in (0, 1, 2):
        held = ups - downs <= room
        log_e = known.log_share[room, ups, downs] + per_bin * known.at_ceiling[room, ups, downs]

        mean = float(np.where(held, np.exp(np.where(held, log_e, 0.0)), 0.0).mean())

        assert 0.9 < mean < 1.01


def test_a_state_of_no_rows_can_be_walked() -> None:
    state = at.new_ceilings(0)
    nothing = np.zeros((0, 50), np.int32)

    at.fade(state, 0.5)
    at.begin_quarter(state)
    at.walk_bins(state, Bins(nothing, nothing, nothing), at.paths(), PARAMS)

    assert isinstance(state, Ceilings)


def test_what_was_below_stays_known_by_its_depth_when_the_ceiling_moves() -> None:
    state = at.new_ceilings(1)
    state.whole[0, at.CEILING] = 10
    state.depths[0, at.CALLS, :3] = (5.0, 4.0, 3.0)

    at.move_ceiling(state, 0, 12)
    assert state.depths[0, at.CALLS, :6].tolist() == [0.0, 0.0, 5.0, 4.0, 3.0, 0.0]

    at.move_ceiling(state, 0, 9)
    assert state.depths[0, at.CALLS, :3].tolist() == [4.0, 3.0, 0.0]
