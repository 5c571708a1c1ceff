"""Several views of an image: learned from together, averaged in prediction, the same in service."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.backbone import Network
from hepar.config import AugmentConfig, BackboneConfig, HeadConfig
from hepar.fit import cross_validate
from hepar.model import Bundle, InputReader, Part, Predictor, compute_features, mean_over_views
from hepar.provenance import stamp


def test_a_view_more_or_less_does_not_change_view_zero(pictures, part_of):
    part = part_of()
    network = Network(part.graph, part.weights)
    one = compute_features(network, InputReader(pictures, part.recipe), BackboneConfig(batch=7))
    three = InputReader(pictures, part.recipe, views=3)
    features = compute_features(network, three, BackboneConfig(batch=7))
    assert features.shape == (24, 3, 1280)
    np.testing.assert_array_equal(features[:, 0], one[:, 0])
    assert not np.array_equal(features[:, 1], features[:, 2])
    assert len(set(three.keys)) == 72


def test_a_bundle_averages_over_the_views_it_was_tested_with(pictures, part_of, split):
    part = part_of()
    network = Network(part.graph, part.weights)
    augment = AugmentConfig(rotation=30)
    reader = InputReader(pictures, part.recipe, augment=augment, views=3)
    features = compute_features(network, reader, BackboneConfig())
    result = cross_validate(features, pictures.samples, split, pictures.labels, HeadConfig())
    bundle = Bundle(
        labels=pictures.labels,
        parts=(Part(part.recipe, part.graph, part.weights, part.backbone),),
        head=result.head,
        augment=augment,
        views=3,
        unit="patient",
        kinds=("picture",),
        provenance=stamp("test"),
    )
    answer = Predictor(bundle, (network,)).predict(pictures)
    np.testing.assert_array_equal(
        answer.slices.probabilities, mean_over_views(result.head, features)
    )
    plain = result.head.probabilities(features[:, 0])
    assert not np.allclose(answer.slices.probabilities, plain)


@pytest.mark.torch
def test_dense_layers_on_a_wholly_frozen_network(tune):
    tuned = tune(finetune={"freeze": "all", "epochs": 20, "patience": 20})
    right = tuned.predictions.predicted == tuned.predictions.reference
    assert right.mean() > 0.8
    before = tune("other", finetune={"freeze": "all", "epochs": 1}).part.weights
    for key, array in tuned.part.weights.items():
        np.testing.assert_array_equal(array, before[key])
