"""The graphs of the liver U-Net against the package's own code in Keras.

The numbers are of TensorFlow 2.12: `create_unet_like_model` of pyliverlesionseg 0.3 with the
arguments of its `unet_liver_predict` and `unet_lesion_predict`, smaller outputs, and these arrays.
"""

from __future__ import annotations

import numpy as np
import pytest

from hepar.backbone import open_session, read_graph
from hepar.backbone.graph import parameters


def random_arrays(graph):
    rng = np.random.default_rng(1)
    return {
        name: (
            rng.standard_normal(shape) * (np.sqrt(2 / np.prod(shape[1:])) if shape[1:] else 0.1)
        ).astype(np.float32)
        for name, shape in parameters(graph).items()
    }


@pytest.mark.parametrize(
    ("name", "size", "answered", "mean", "spread", "some"),
    [
        (
            "liver_unet_3d", (54, 81, 54), (28, 55, 28), 0.42325631, 0.16441980,
            [0.29664820, 0.22503068, 0.32581601, 0.39063254, 0.33342049],
        ),
        (
            "liver_lesion_unet", (100, 92, 46), (12, 4, 2), 0.32580349, 0.15509498,
            [0.25674543, 0.13518174, 0.48534331, 0.15623620, 0.55751103, 0.28507826],
        ),
    ],
)  # fmt: skip
def test_the_graph_answers_as_keras_did(name, size, answered, mean, spread, some):
    graph = read_graph(name)
    session, _keep = open_session(graph, random_arrays(graph), threads=1)
    noise = np.random.default_rng(2).standard_normal(size) * 0.2
    volume = np.clip(noise, -0.5, 0.5).astype(np.float32)
    (found,) = session.run(["probability"], {"volume": volume[None, None]})
    assert found.shape == (1, 1, *answered)
    flat = found.ravel()
    step = flat.size // 5
    np.testing.assert_allclose(flat[::step][: len(some)], some, atol=1e-4)
    assert flat.mean() == pytest.approx(mean, abs=1e-5)
    assert flat.std() == pytest.approx(spread, abs=1e-5)
