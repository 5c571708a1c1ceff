"""Lesions are counted one by one, and so are places wrongly taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.evaluate import Search, froc, search_series, sensitivity_at, share_found
from hepar.evaluate.lesions import Candidate, Lesion


def volume(*boxes, z=4, side=60, value=True):
    found = np.zeros((z, side, side), type(value) if value is not True else bool)
    for low, high, top, left, size in boxes:
        found[low:high, top : top + size, left : left + size] = value
    return found


def scores(*boxes, z=4, side=60):
    found = np.full((z, side, side), 0.05, np.float32)
    for (low, high, top, left, size), value in boxes:
        found[low:high, top : top + size, left : left + size] = value
    return found


def test_a_lesion_in_several_slices_is_one():
    drawn = volume((0, 3, 10, 10, 12))
    found = search_series(drawn, scores(((0, 3, 10, 10, 12), 0.8)), 0.5, (1, 1))
    lesions, candidates = found.lesions, found.candidates
    assert len(lesions) == len(candidates) == 1
    np.testing.assert_array_equal(found.lesion_of, drawn)
    np.testing.assert_array_equal(found.candidate_of, drawn)
    assert lesions[0].score == pytest.approx(0.8)
    assert lesions[0].diameter_mm == pytest.approx(2 * np.sqrt(144 / np.pi))


def test_a_place_off_every_lesion_is_false_and_finds_nothing():
    drawn = volume((0, 1, 5, 5, 10))
    found = search_series(drawn, scores(((2, 3, 40, 40, 10), 0.9)), 0.5, (1, 1))
    assert [c.is_false for c in found.candidates] == [True]
    assert found.lesions[0].score == 0


def test_a_touch_of_less_than_a_tenth_is_no_hit():
    drawn = volume((0, 1, 5, 5, 20))
    found = search_series(drawn, scores(((0, 1, 24, 5, 20), 0.9)), 0.5, (1, 1))
    assert found.candidates[0].is_false
    assert found.lesions[0].score == 0


def test_specks_are_no_candidates():
    boxes = ((0, 1, 5, 5, 3), 0.9), ((2, 3, 30, 30, 9), 0.8)
    found = search_series(volume(), scores(*boxes), 0.5, (1, 1))
    assert [round(c.score, 1) for c in found.candidates] == [0.8]
    np.testing.assert_array_equal(found.candidate_of, volume((2, 3, 30, 30, 9)))


def test_the_froc_counts_patients_without_lesions():
    searches = [
        Search("A", (Lesion(20, 0.9), Lesion(5, 0.0)), (Candidate(0.9, False),)),
        Search("B", (), (Candidate(0.7, True), Candidate(0.6, True))),
    ]
    assert froc(searches, 0)[-1] == (0.6, 1.0, 0.5)
    assert sensitivity_at(searches, 0.2, 10) == (1.0, 0.9)


def test_sensitivity_never_falls_with_more_false_ones_allowed():
    rng = np.random.default_rng(0)
    searches = [
        Search(
            str(i),
            tuple(Lesion(12, s) for s in rng.uniform(0, 1, 4)),
            tuple(Candidate(s, True) for s in rng.uniform(0, 1, 5)),
        )
        for i in range(6)
    ]
    found = [sensitivity_at(searches, n, 0)[0] for n in (0, 0.5, 1, 2, 4, 8)]
    assert found == sorted(found)
    assert found[-1] == 1.0


def test_false_ones_are_counted_a_series_where_asked():
    twice = Search(
        "A", (Lesion(20, 0.4),), (Candidate(0.5, True), Candidate(0.6, True)), n_series=2
    )
    assert sensitivity_at([twice], 1, 0)[0] == 0.0
    assert sensitivity_at([twice], 1, 0, by_series=True) == (1.0, 0.4)


def test_marked_voxels_are_compared_with_drawn_ones():
    drawn = volume((0, 2, 10, 10, 10))
    found = search_series(
        drawn, scores(((0, 2, 10, 15, 10), 0.8), ((3, 4, 40, 40, 10), 0.6)), 0.5, (1, 1)
    )
    search = Search("A", found.lesions, found.candidates)
    assert search.overlap(0.7).dice == pytest.approx(0.5)
    assert search.overlap(0.7).volume_error == pytest.approx(0)
    assert search.overlap(0.5).volume_error == pytest.approx(0.5)
    assert search.overlap(0.9).dice == 0


def test_the_share_found_has_an_interval_over_patients_if_they_are_enough():
    searches = [
        Search(str(i), (Lesion(12, 0.9), Lesion(12, 0.1 + 0.05 * i)), ()) for i in range(16)
    ]
    config = EvaluateConfig(resamples=500)
    share = share_found(searches, 0.5, 10, config)
    assert share.value == pytest.approx(24 / 32)
    assert share.low < share.value < share.high
    assert share_found(searches, 0.5, 20, config).low is None
    assert share_found(searches[:4], 0.5, 10, config).low is None
