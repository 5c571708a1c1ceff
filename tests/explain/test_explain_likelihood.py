"""Maps of lesion finders show what the finder says of each pixel, on a scale of their own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hepar.explain import AUTO, LIKELIHOOD, method_of
from hepar.explain.likelihood import likelihood_maps


class Finder:
    """Answers what it is given as likelihoods of one or two kinds of lesion."""

    outputs = ("maps", "features", "pixels", "likely")

    def __init__(self, kinds):
        self.kinds = kinds

    def value(self, name, images):
        assert name == "likely"
        return images[:, : self.kinds]


IMAGES = np.random.default_rng(0).uniform(size=(2, 3, 4, 4)).astype(np.float32)


def test_finders_show_likelihood_and_other_networks_do_not():
    other = SimpleNamespace(outputs=("maps", "features"))
    assert method_of(AUTO, [Finder(1)]) == LIKELIHOOD
    assert method_of(AUTO, [Finder(1), other]) == "grad-cam"
    assert method_of("hirescam", [Finder(1)]) == "hirescam"


def test_each_label_shows_its_own_lesions_and_one_without_the_likeliest():
    for maps, image in zip(likelihood_maps(Finder(2), IMAGES, 3, (1, 2)), IMAGES, strict=True):
        np.testing.assert_allclose(maps[1], image[0], atol=1e-3)
        np.testing.assert_allclose(maps[2], image[1], atol=1e-3)
        np.testing.assert_allclose(maps[0], image[:2].max(axis=0), atol=1e-3)


@pytest.mark.parametrize("kinds", [1, 2])
def test_a_bundle_that_does_not_say_whose_lesions_shows_all(kinds):
    (maps, _) = likelihood_maps(Finder(kinds), IMAGES, 2, ())
    for label in range(2):
        np.testing.assert_allclose(maps[label], IMAGES[0, :kinds].max(axis=0), atol=1e-3)
