"""A cohort of small pictures that a network can learn in a few steps."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from hepar.backbone import BACKBONES, find_weights, read_graph
from hepar.config import SplitConfig, config_from
from hepar.data import LabelSet, Manifest, Sample
from hepar.model import InputReader, Part
from hepar.preprocess import NetworkInput, make_recipe
from hepar.provenance import sha256_file
from hepar.split import make_split

SIDE = 64


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Eight patients of three pictures; the malignant ones have a bright disc."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    samples = []
    for patient in range(8):
        label = ("benign", "malignant")[patient % 2]
        for number in range(3):
            image = np.clip(rng.normal(60, 12, (SIDE, SIDE)), 0, 255).astype(np.uint8)
            if label == "malignant":
                x, y = (int(v) for v in rng.integers(20, 44, 2))
                cv2.circle(image, (x, y), 9, 210, -1)
            name = f"{patient}-{number}.png"
            cv2.imwrite(str(folder / name), image)
            samples.append(
                Sample(name, f"P{patient}", name, label=label, sha256=sha256_file(folder / name))
            )
    return Manifest(tuple(samples), LabelSet(("benign", "malignant")), folder)


@pytest.fixture(scope="session")
def part_of(pictures):
    """Return a function from a network's name to its part, with real weights where there are."""

    def make(name="efficientnet_lite0", weights=""):
        found = find_weights(name, weights)
        recipe = make_recipe("picture", pictures, NetworkInput(SIDE, found.mean, found.std))
        backbone = {
            "name": name,
            "sha256": found.sha256,
            "is_random": found.is_random,
            "feature_dim": BACKBONES.get(name).feature_dim,
        }
        return Part(recipe, read_graph(found.graph), found.arrays, backbone)

    return make


@pytest.fixture(scope="session")
def split(pictures):
    return make_split(pictures, SplitConfig(folds=2))


@pytest.fixture
def tune(pictures, part_of, split, tmp_path):
    """Return a function that fine-tunes on the pictures with settings by stage."""
    from hepar.fit import fine_tune

    def run(folder="run", name="efficientnet_lite0", weights="", cache="", new=None, **settings):
        settings = {
            "head": {"kind": "dense"},
            "augment": {"views": 2},
            **settings,
            "finetune": {
                "freeze": "early",
                "epochs": 3,
                "batch": 8,
                "learning_rate": 1e-3,
                "hidden": [16],
                "tune": 0.25,
                **settings.get("finetune", {}),
            },
        }
        config = config_from(settings)
        part = part_of(name, weights)
        reader = InputReader(
            pictures, part.recipe, augment=config.augment, views=config.augment.views
        )
        folders = (tmp_path / folder, tmp_path / (cache or folder))
        unseen = new and dataclasses.replace(reader, manifest=new)
        return fine_tune(part, reader, split, pictures.labels, config, folders, unseen)

    return run
