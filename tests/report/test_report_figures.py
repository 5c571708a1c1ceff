"""Figures carry hostile names as text, and nothing else."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.evaluate import Predictions, decide, measure_curves
from hepar.report.figures import (
    draw_histograms,
    draw_precision_recall,
    draw_roc,
    new_figure,
    plain,
)
from hepar.report.model_figures import draw_bars, draw_cost, write_names
from hepar.report.training import _curves, _mean, draw_training


@pytest.fixture
def predictions():
    labels = ("_normal & <b>", "mal$ig$nant\"'")
    generator = np.random.default_rng(0)
    p = generator.uniform(size=40)
    probabilities = np.stack([1 - p, p], axis=1)
    reference = np.array(labels)[(p + generator.normal(0, 0.3, 40) > 0.5).astype(int)]
    ids = np.array([f"P{i}" for i in range(40)])
    return Predictions(
        sample_id=ids,
        patient_id=ids,
        partition=np.full(40, "train"),
        fold=np.full(40, "0"),
        reference=reference,
        predicted=decide(probabilities, labels),
        probabilities=probabilities,
        labels=labels,
        level="patient",
    )


def curves(predictions):
    config = EvaluateConfig(resamples=50)
    return [measure_curves(predictions, i, config) for i in range(len(predictions.labels))]


def roc(predictions, legend):
    return draw_roc(list(predictions.labels), curves(predictions), legend)


@pytest.mark.parametrize(
    ("draw", "names"),
    [
        (lambda p: roc(p, ["0.8", "0.8"]), ["mal$ig$nant"]),
        (lambda p: draw_precision_recall(list(p.labels), curves(p)), ["mal$ig$nant"]),
        (draw_histograms, ["mal$ig$nant", "normal & <b>"]),
    ],
    ids=["roc", "precision-recall", "histograms"],
)
def test_a_figure_is_well_formed_described_and_shows_names_as_they_are(predictions, draw, names):
    svg = draw(predictions)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    text = "".join(root.itertext())
    assert all(name in text for name in names)
    assert "<b>" not in svg
    assert "http" not in svg
    assert "var(--ink)" in svg
    assert svg == draw(predictions)


def test_a_name_is_cut_and_cannot_turn_its_neighbours_around():
    assert plain("x" * 32) == "x" * 32
    assert len(plain("x" * 200)) == 32
    assert plain("a\u202eb\nc") == "abc"
    assert plain("\u05d0\u05d1").endswith("\N{LEFT-TO-RIGHT MARK}")


def test_an_emoji_is_drawn_without_a_warning(predictions):
    assert "\U0001f9ea" in roc(predictions, ["0.8", "\U0001f9ea"])


def test_of_two_labels_one_curve_is_drawn_because_the_other_is_its_mirror(predictions):
    text = "".join(ElementTree.fromstring(roc(predictions, ["first", "second"])).itertext())
    assert "second" in text
    assert "first" not in text


def test_names_of_points_in_one_place_do_not_overlap_and_stay_inside():
    figure, (axis,) = new_figure(7.2, 4.4)
    points = [(f"a model named {i}", 1.0, 0.5) for i in range(10)]
    axis.plot([1.0], [0.5], "o")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    write_names(axis, points, [])
    boxes = [text.get_window_extent() for text in axis.texts if text.get_text()]
    assert len(boxes) == 10
    inside = axis.get_window_extent().padded(1)
    for box in boxes:
        assert inside.contains(box.x0, box.y0)
        assert inside.contains(box.x1, box.y1)
    for one, other in itertools.combinations(boxes, 2):
        assert not one.padded(-0.5).overlaps(other.padded(-0.5))


def test_figures_of_models_say_what_is_undefined_and_leave_out_what_has_no_place(comparison):
    models = comparison["models"][:2]
    models[0]["metrics"]["f1"]["value"] = None
    assert "undefined" in draw_bars(models)
    models[1]["cost"]["predict_ms"] = None
    drawn = "".join(ElementTree.fromstring(draw_cost(models)).itertext())
    assert models[0]["name"] in drawn
    assert models[1]["name"] not in drawn
    assert draw_cost(models[1:]) == ""


def test_the_mean_of_training_curves_ends_where_most_folds_have_stopped():
    rows = [
        {"fold": fold, "epoch": epoch, "train_loss": float(fold), "tune_loss": 1.0}
        for fold, last in enumerate((2, 4, 9))
        for epoch in range(last)
    ]
    mean = _mean(list(_curves(rows, "train_loss").values()))
    np.testing.assert_allclose(mean, [[1, 1], [2, 1], [3, 1.5], [4, 1.5]])
    svg = draw_training({"": rows})
    assert svg == draw_training({"": rows})
    assert "final fit" not in svg
