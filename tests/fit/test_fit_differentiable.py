"""Every network cut at every stage, its two halves against ONNX Runtime and timm."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.backbone import BACKBONES, Network, find_weights
from hepar.backbone.graph import parameters, read_graph

pytestmark = pytest.mark.torch
CASES = [
    (name, stage)
    for name, spec in BACKBONES.items()
    for stage in ["none", *spec.freeze_boundaries]
    if spec.fitted_to == "labels" and (name != "vgg19" or stage in {"none", "block4"})
]


def lively(name):
    """Random weights whose BatchNorm does something, so that a forgotten statistic shows."""
    weights = find_weights(name, "random")
    rng = np.random.default_rng(1)
    arrays = dict(weights.arrays)
    for key, array in arrays.items():
        if array.ndim == 1:
            arrays[key] = (array + rng.uniform(0.1, 0.3, array.shape)).astype(np.float32)
    return weights, arrays


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_prefix_and_tail_together_are_the_network(name, stage):
    torch = pytest.importorskip("torch")
    from hepar.fit.cut import cut_graph
    from hepar.fit.differentiable import Tail

    spec = BACKBONES.get(name)
    weights, arrays = lively(name)
    graph = read_graph(weights.graph)
    side = spec.min_size + 32
    shape = (2, *spec.input_shape(side))
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = Network(graph, arrays).features(images)
    frozen = spec.frozen_prefixes(stage)
    cut = cut_graph(graph, frozen)
    assert all(not key.startswith(frozen) for key in cut.trained) or not frozen
    assert set(cut.trained) == {k for k in parameters(graph) if not k.startswith(frozen or ("?",))}
    value = images
    if cut.prefix:
        value = Network(cut.prefix, arrays).value(cut.boundary, images)
    with torch.inference_mode():
        got = Tail(cut, arrays)(torch.from_numpy(value), training=False).numpy()
    assert np.linalg.norm(got - expected) / np.linalg.norm(expected) < 1e-4
    if stage == list(spec.freeze_boundaries)[-1]:
        assert cut.boundary == "features"
        assert not cut.tail
