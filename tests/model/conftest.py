"""A bundle that was never trained: its parts are real, its head is arbitrary."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.backbone import Network, find_weights
from hepar.config import AugmentConfig
from hepar.data import LabelSet, Manifest, Sample
from hepar.model import Bundle, LinearHead, Part, write_bundle
from hepar.preprocess import NetworkInput, make_recipe
from hepar.provenance import stamp

LABELS = LabelSet(("normal", "malignant"))


@pytest.fixture(scope="session")
def network():
    return Network.from_weights(find_weights("efficientnet_lite0"))


@pytest.fixture(scope="session")
def small_bundle(network):
    """A bundle for 64-pixel pictures; tests read it and never write to it."""
    weights = find_weights("efficientnet_lite0")
    rng = np.random.default_rng(0)
    head = LinearHead(
        LABELS, np.zeros(1280), np.ones(1280), rng.normal(size=(2, 1280)), np.zeros(2), 1.0
    )
    one = Manifest((Sample("a", "A", "a.png"),), LABELS, root=None)
    recipe = make_recipe("picture", one, NetworkInput(64, weights.mean, weights.std))
    return Bundle(
        labels=LABELS,
        parts=(
            Part(
                recipe,
                network.graph,
                network.arrays,
                {"name": "efficientnet_lite0", "sha256": weights.sha256},
            ),
        ),
        head=head,
        augment=AugmentConfig(),
        views=1,
        unit="patient",
        kinds=("picture",),
        provenance=stamp("test"),
    )


@pytest.fixture
def bundle_folder(small_bundle, tmp_path):
    """A fresh copy on disk, for tests that spoil it."""
    write_bundle(tmp_path / "bundle", small_bundle)
    return tmp_path / "bundle"
