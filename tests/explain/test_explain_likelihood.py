"""Maps of lesion finders show what the finder says of each pixel, on a scale of their own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hepar.data import LabelSet
from hepar.explain import AUTO, LIKELIHOOD, Model, check_map, method_of
from hepar.explain.likelihood import likelihood_maps
from hepar.model import LinearHead

LIKELY = np.random.default_rng(0).uniform(size=(2, 3, 4, 4)).astype(np.float32)


def test_finders_show_likelihood_and_other_networks_do_not():
    finder = SimpleNamespace(outputs=("maps", "features", "pixels", "likely"))
    other = SimpleNamespace(outputs=("maps", "features"))
    assert method_of(AUTO, [finder]) == LIKELIHOOD
    assert method_of(AUTO, [finder, other]) == "grad-cam"
    assert method_of("hirescam", [finder]) == "hirescam"


def test_each_label_shows_its_own_lesions_and_one_without_the_likeliest():
    for maps, image in zip(likelihood_maps(LIKELY[:, :2], 3, (1, 2)), LIKELY, strict=True):
        np.testing.assert_allclose(maps[1], image[0], atol=1e-3)
        np.testing.assert_allclose(maps[2], image[1], atol=1e-3)
        np.testing.assert_allclose(maps[0], image[:2].max(axis=0), atol=1e-3)


@pytest.mark.parametrize("kinds", [1, 2])
def test_a_bundle_that_does_not_say_whose_lesions_shows_all(kinds):
    (maps, _) = likelihood_maps(LIKELY[:, :kinds], 2, ())
    for label in range(2):
        np.testing.assert_allclose(maps[label], LIKELY[0, :kinds].max(axis=0), atol=1e-3)


class Finder:
    """Calls a channel of its input likely lesion, inside a square; its head sees the mean."""

    outputs = ("maps", "features", "likely")

    def __init__(self, channel):
        self.channel = channel

    def value(self, _, images):
        inside = np.zeros((32, 32), np.float32)
        inside[8:24, 8:24] = 1
        return images[:, self.channel : self.channel + 1] * inside

    def features(self, images):
        return self.value("likely", images).mean(axis=(2, 3))


def test_checks_compare_likelihood_inside_the_liver_alone():
    labels = LabelSet(("normal", "tumour"))
    weight = np.array([[0.0], [40.0]])
    head = LinearHead(labels, np.zeros(1), np.ones(1), weight, np.array([0.0, -2.0]), 1.0)
    image = np.random.default_rng(0).uniform(size=(3, 32, 32)).astype(np.float32)
    model = Model((Finder(0),), head, (1,))
    same, other = (check_map(model, Finder(i), image, 1, LIKELIHOOD, 0) for i in (0, 1))
    assert same.randomised == 1
    assert abs(other.randomised) < 0.2  # over the whole picture the squares alone agree: 0.7
    assert same.deletion < same.deletion_random
    assert same.insertion > same.insertion_random
