"""Outlines are the largest organ, whole, and at the slice's own size."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.preprocess import clean_logits, doubts, outline_of

MM = (5.0, 5.0)


def logits(z=3, side=40):
    return np.full((z, side, side), -4, np.float32)


def test_in_a_stack_the_largest_piece_in_3d_is_the_liver():
    found = logits()
    found[:, 5:15, 5:15] = 4
    found[1, 20:35, 20:35] = 4  # larger in its slice, smaller in all
    cleaned = clean_logits(found, MM, stacked=True)
    assert (cleaned[:, 5:15, 5:15] > 0).all()
    assert not (cleaned[:, 20:, 20:] > 0).any()


def test_slices_alone_keep_their_larger_pieces():
    found = logits(1)
    found[0, 5:15, 5:15] = 4
    found[0, 20:25, 20:25] = 4  # a quarter of the largest
    found[0, 30:32, 30:32] = 4  # four hundredths
    cleaned = clean_logits(found, MM, stacked=False)
    assert (cleaned[0, 20:25, 20:25] > 0).all()
    assert not (cleaned[0, 30:32, 30:32] > 0).any()


def test_holes_are_filled_and_specks_taken_away():
    found = logits(2)
    found[0, 5:15, 5:15] = 4
    found[0, 9:11, 9:11] = -4
    found[1, 5, 5] = 4  # a quarter of a square centimetre
    cleaned = clean_logits(found, MM, stacked=False)
    assert (cleaned[0, 9:11, 9:11] > 0).all()
    assert not (cleaned[1] > 0).any()


@pytest.mark.parametrize("stacked", [True, False])
def test_nothing_found_stays_nothing(stacked):
    assert not (clean_logits(logits(), MM, stacked=stacked) > 0).any()


def test_an_outline_has_the_slices_size_and_place():
    found = logits(1)[0]
    found[10:20, 5:15] = 4
    outline = outline_of(found, (80, 120))
    assert outline.shape == (80, 120)
    rows, columns = np.nonzero(outline)
    assert abs(rows.min() - 20) <= 1
    assert abs(rows.max() - 39) <= 1
    assert abs(columns.min() - 15) <= 2
    assert abs(columns.max() - 44) <= 2


def test_a_series_that_ends_inside_the_liver_is_told():
    found = logits(4)
    found[1:, 5:20, 5:20] = 4
    cleaned = clean_logits(found, MM, stacked=True)
    assert [("head" in told, "feet" in told) for told in doubts(found, cleaned, MM)] == [
        (True, False)
    ]


def test_a_second_organ_as_large_as_half_the_liver_is_told():
    found = logits(4)
    found[1:3, 5:20, 5:20] = 4
    found[1:3, 25:37, 25:37] = 4
    (told,) = doubts(found, clean_logits(found, MM, stacked=True), MM)
    assert "64%" in told
    found[1:3, 25:37, 25:37] = -4
    assert doubts(found, clean_logits(found, MM, stacked=True), MM) == []


def test_a_liver_too_small_to_be_one_is_told_of_a_picture_too():
    found = logits(1)
    found[0, 5:9, 5:9] = 4  # 4 cm2
    cleaned = clean_logits(found, MM, stacked=False)
    assert doubts(found, cleaned, MM, stacked=False) == [
        "4 cm2 of liver at most in a slice: perhaps there is none"
    ]


def test_slices_alone_do_not_end_inside_the_liver():
    found = logits(2)
    found[:, 5:20, 5:20] = 4
    cleaned = clean_logits(found, MM, stacked=False)
    assert doubts(found, cleaned, MM, stacked=False) == []


def test_more_liver_than_a_patient_has_is_told_with_the_spacing():
    found = logits(6)
    found[1:-1, 5:25, 5:25] = 4  # 4 x 100 cm2
    cleaned = clean_logits(found, MM, stacked=True)
    assert doubts(found, cleaned, MM, apart_mm=10.0) == []
    (told,) = doubts(found, cleaned, MM, apart_mm=200.0)
    assert "8.0 litres of liver" in told
    assert "spacing of 200 mm" in told
