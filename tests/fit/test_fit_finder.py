"""Lesion finders learn from masks, by patient, and only from patients that a fold may know."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hepar.backbone import Network, find_weights, read_graph
from hepar.config import BackboneConfig, FinderConfig, HeadConfig, IngestConfig, SplitConfig
from hepar.errors import FitError
from hepar.fit.finder import fit_finder, teach
from hepar.ingest import ingest
from hepar.model import InputReader, Part
from hepar.phantom import PhantomConfig, write_cohort
from hepar.preprocess import NetworkInput, make_recipe
from hepar.split import make_split

HOW = FinderConfig(pixels=12_000, steps=100), HeadConfig(inner_folds=2), BackboneConfig(batch=8)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Twelve easy phantom patients of three labels."""
    folder = tmp_path_factory.mktemp("phantom")
    write_cohort(
        folder, PhantomConfig(patients=12, slices=3, difficulty=0.0), formats=("dicom", "masks")
    )
    return ingest(folder / "dicom", IngestConfig(labels_csv=str(folder / "labels.csv")))


def finder(manifest, size=96):
    weights = find_weights("lesion_finder")
    recipe = make_recipe("lesion", manifest, NetworkInput(size, weights.mean, weights.std))
    backbone = {"name": "lesion_finder", "sha256": weights.sha256, "feature_dim": 2}
    return Part(recipe, read_graph(weights.graph), weights.arrays, backbone)


@pytest.fixture(scope="module")
def found(cohort):
    part = finder(cohort)
    split = make_split(cohort, SplitConfig(folds=3))
    reader = InputReader(cohort, part.recipe)
    return fit_finder(part, reader, split, cohort.labels, HOW), split, reader


def test_easy_lesions_are_found_in_patients_that_no_finder_saw(cohort, found):
    result, _, _ = found
    table = result.predictions
    lesion = np.array([sample.label != "normal" for sample in cohort.samples])
    some = 1 - table.probabilities[:, 0]
    assert some[lesion].mean() > some[~lesion].mean() + 0.15
    assert len(result.folds) == 3


def test_the_bundles_part_answers_as_the_final_finder(found):
    result, _, reader = found
    assert result.part.backbone["feature_dim"] == 4
    network = Network(result.part.graph, result.part.weights)
    features = network.features(np.stack(reader([0, 1])))
    assert features.shape == (2, 4)
    assert result.head.probabilities(features).shape == (2, 3)


def test_a_patient_left_out_changes_nothing_of_the_finder_that_answers_for_it(cohort, found):
    """The lesions of one patient are painted over: its fold's finder must stay what it was."""
    result, split, reader = found
    own = cohort.samples[0].patient_id
    fold = split.of(cohort.samples[0]).fold
    part = finder(cohort)

    class Painted(InputReader):
        def look(self, positions):
            looked = super().look(positions)
            if cohort.samples[positions[0]].patient_id != own:
                return looked
            return [
                (image, dataclasses.replace(shown, pixels=shown.pixels * 0.5))
                for image, shown in looked
            ]

    changed = fit_finder(part, Painted(cohort, reader.recipe), split, cohort.labels, HOW)
    for name, array in result.folds[fold].weights.items():
        np.testing.assert_array_equal(changed.folds[fold].weights[name], array)
    other = (fold + 1) % 3
    assert any(
        (changed.folds[other].weights[name] != array).any()
        for name, array in result.folds[other].weights.items()
    )


def test_masks_without_lesions_are_refused(cohort):
    blind = dataclasses.replace(cohort, mask_values={"liver": 1})
    part = finder(blind)
    split = make_split(blind, SplitConfig(folds=3))
    with pytest.raises(FitError, match=r"expected masks that show lesions.*got 0.*mask_values"):
        fit_finder(part, InputReader(blind, part.recipe), split, blind.labels, HOW)


def test_five_perceptrons_in_one_graph_learn_what_pixels_are():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3000, 17)).astype(np.float32) * 3 + 1
    codes = ((values[:, 0] > 1).astype(np.int64) + (values[:, 1] > 4)).astype(np.int64)
    arrays = teach(values, codes, 2)
    hidden = values
    for number in (1, 2, 3):
        weight = arrays[f"layer{number}.weight"][:, :, 0, 0]
        hidden = hidden @ weight.T + arrays[f"layer{number}.bias"]
        hidden = np.maximum(hidden, 0) if number < 3 else hidden
    assert (hidden.argmax(axis=1) == codes).mean() > 0.9
    again = teach(values, codes, 2)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


def test_a_lesion_of_a_label_that_no_patient_shows_is_never_said():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(800, 17)).astype(np.float32)
    arrays = teach(values, (values[:, 0] > 0).astype(np.int64) * 2, 2)
    assert arrays["layer3.bias"][1] == -30
    assert not arrays["layer3.weight"][1].any()
