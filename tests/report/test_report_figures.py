"""Figures carry hostile names as text, and nothing else."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from hepar.evaluate import Predictions, decide
from hepar.report.figures import draw_histograms, draw_roc


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


@pytest.mark.parametrize(
    "draw", [lambda p: draw_roc(p, ["0.8", "0.8"]), draw_histograms], ids=["roc", "histograms"]
)
def test_a_figure_is_well_formed_described_and_shows_names_as_they_are(predictions, draw):
    svg = draw(predictions)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    text = "".join(root.itertext())
    assert "mal$ig$nant" in text
    assert "normal & <b>" in text
    assert "<b>" not in svg
    assert "http" not in svg
    assert "var(--ink)" in svg
    assert svg == draw(predictions)
