"""The picture of the first page shows every answer, or says how many it shows."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from hepar.evaluate import Predictions, decide
from hepar.report import write_report
from hepar.report.answer_figure import MOST_DOTS, draw_answers, take_dots

LABELS = ("normal", "benign", "malignant")


def predictions(n, surety=2.0):
    generator = np.random.default_rng(0)
    reference = np.arange(n) % 3
    scores = generator.normal(size=(n, 3)) + surety * np.eye(3)[reference]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    ids = np.array([f"P{i}" for i in range(n)])
    return Predictions(
        sample_id=ids,
        patient_id=ids,
        partition=np.full(n, "train"),
        fold=np.full(n, "0"),
        reference=np.array(LABELS)[reference],
        predicted=decide(probabilities, LABELS),
        probabilities=probabilities,
        labels=LABELS,
        level="patient",
    )


def dots(svg):
    """Return how many dots are filled and how many are open, legend left out."""
    styles = re.findall(r'<use [^>]*style="([^"]+)"', svg)
    dots = [style for style in styles if "#0072b2" in style or "#d55e00" in style]
    filled = sum("fill: #0072b2" in style for style in dots)
    return filled - 1, len(dots) - filled - 1


def test_each_patient_is_a_dot_filled_where_right_and_open_where_wrong():
    table = predictions(60)
    right = int((table.predicted == table.reference).sum())
    assert 0 < right < 60
    svg = draw_answers(table, "patient")
    assert dots(svg) == (right, 60 - right)
    root = ElementTree.fromstring(svg)
    own = table.reference == "benign"
    score = f"{int((own & (table.predicted == 'benign')).sum())} of 20 right"
    assert f"benign: {score}" in root.get("aria-label")
    assert score in "".join(root.itertext())


@pytest.mark.parametrize("n", [1, 2, 300])
def test_no_patient_is_left_out_of_a_picture_that_holds_them(n):
    assert sorted(take_dots(predictions(n)).tolist()) == list(range(n))


def test_of_many_patients_some_are_taken_and_no_group_is_lost():
    table = predictions(5000, surety=5.0)
    wrong = table.predicted != table.reference
    rows = take_dots(table)
    assert MOST_DOTS * 0.9 <= len(rows) <= MOST_DOTS + 6
    assert len(set(rows.tolist())) == len(rows)
    assert {*table.reference[rows][wrong[rows]]} == {*table.reference[wrong]}
    assert wrong[rows].mean() == pytest.approx(wrong.mean(), abs=0.01)
    assert len(draw_answers(table, "patient")) < 60_000


def test_dots_of_one_probability_stand_in_their_own_row():
    table = predictions(200, surety=60.0)
    root = ElementTree.fromstring(draw_answers(table, "patient"))
    bottom = float(root.get("viewBox").split()[3])
    places = [float(use.get("y")) for use in root.iter("use") if "#0072b2" in use.get("style", "")]
    assert len(places) == 201
    assert all(0 < y < bottom for y in places)
    steps = np.diff(sorted(set(places[:-1])))
    assert (steps > 5).sum() >= 2


def test_the_first_page_says_how_many_dots_stand_for_how_many(make_run, tmp_path):
    few = make_run(tmp_path / "few", LABELS, [f"P{i}" for i in range(12)])
    page = write_report(few).read_text()
    assert page.index("Each dot is a patient left out of training.") < page.index("<nav")
    many = make_run(tmp_path / "many", LABELS, [f"P{i:03}" for i in range(330)], slices=1)
    page = write_report(many).read_text()
    shown = re.search(r"(\d+) of 330 are drawn, evenly taken", page)
    assert shown
    assert int(shown[1]) <= MOST_DOTS
    alt = re.search(r'aria-label="Dots of patients[^"]+"', page)[0]
    assert sum(map(int, re.findall(r"of (\d+) right", alt))) == 330
