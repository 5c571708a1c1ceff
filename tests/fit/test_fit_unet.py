"""The U-Net learns to outline what is drawn, and never sees rows that it is not given."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.backbone import Network, read_graph, untrained_arrays
from hepar.config import SegmentConfig
from hepar.data import LabelSet, Manifest, Sample
from hepar.errors import FitError
from hepar.preprocess import NetworkInput, segmenter_recipe

pytest.importorskip("torch")
from hepar.fit.unet import Lesson, fit_unet, read_lesson

pytestmark = pytest.mark.torch
SIZE = 64
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def lesson():
    """Bright discs on a grey ground, six of each of two patients."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    images, livers = [], []
    for _ in range(12):
        top, left = rng.uniform(20, 44, 2)
        disc = (y - top) ** 2 + (x - left) ** 2 < 15**2
        grey = np.where(disc, 0.8, -0.4) + 0.1 * rng.normal(size=disc.shape)
        images.append(np.repeat(grey[None], 3, axis=0))
        livers.append(disc)
    return Lesson(
        np.stack(images).astype(np.float16),
        np.stack(livers).astype(np.float16),
        np.array(["A", "B"] * 6),
    )


def dice(arrays, lesson, rows):
    found = Network(read_graph("liver_unet"), arrays).value(
        "logits", lesson.images[rows].astype(np.float32)
    )
    drawn = lesson.livers[rows][:, None, ::2, ::2] > 0.5
    return 2 * ((found > 0) & drawn).sum() / ((found > 0).sum() + drawn.sum())


@pytest.mark.slow
def test_a_disc_is_learned_and_found_in_another_patient(lesson):
    graph = read_graph("liver_unet")
    fresh = untrained_arrays(graph)
    a, b = (np.flatnonzero(lesson.patients == name) for name in "AB")
    config = SegmentConfig(size=SIZE, steps=40, batch=6)
    learnt = fit_unet(graph, fresh, lesson, a, config)
    assert dice(learnt, lesson, b) > 0.8 > dice(fresh, lesson, b)


def test_rows_that_are_not_given_change_nothing(lesson):
    graph = read_graph("liver_unet")
    rows = np.flatnonzero(lesson.patients == "A")
    config = SegmentConfig(size=SIZE, steps=2, batch=2)
    spoiled = lesson.images.copy()
    spoiled[lesson.patients == "B"] = np.nan
    first = fit_unet(graph, untrained_arrays(graph), lesson, rows, config)
    other = Lesson(spoiled, lesson.livers, lesson.patients)
    second = fit_unet(graph, untrained_arrays(graph), other, rows, config)
    for name, array in first.items():
        np.testing.assert_allclose(array, second[name], atol=1e-5, err_msg=name)


def test_sources_without_a_drawn_liver_are_refused(tmp_path):
    bare = Manifest((Sample("a", "A", "a.png"),), LabelSet(("normal",)), tmp_path)
    with pytest.raises(FitError, match="expected samples with masks of the liver"):
        read_lesson([bare], segmenter_recipe(NetworkInput(SIZE, HALF, HALF)))
