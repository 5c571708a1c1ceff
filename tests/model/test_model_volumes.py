"""Volumes through the one inference path: read by the reader, answered by a predictor."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from hepar.backbone import Network, find_weights
from hepar.config import AugmentConfig, IngestConfig
from hepar.data import LabelSet, stack_series
from hepar.errors import BackboneError, RecipeError
from hepar.ingest import ingest
from hepar.model import Bundle, InputReader, LinearHead, Part, Predictor
from hepar.preprocess import NetworkInput, make_recipe
from hepar.provenance import stamp

LABELS = LabelSet(("normal", "malignant"))


def write_ball(folder, name, z_mm, radius=45.0, seed=0):
    """A ball of liver in a NIfTI volume with its mask; more liver is more slices."""
    rng = np.random.default_rng(seed)
    n = int(120 / z_mm)
    z, y, x = np.ogrid[:n, :60, :64]
    liver = (z * z_mm - 60) ** 2 + (y * 2.0 - 60) ** 2 + (x * 2.0 - 60) ** 2 < radius**2
    voxels = np.where(liver, 110, -100) + rng.normal(0, 8, liver.shape)
    affine = np.diag([-2.0, -2.0, z_mm, 1.0])
    for suffix, array, kind in (("", voxels, np.int16), ("_mask", liver, np.uint8)):
        image = nibabel.Nifti1Image(array.transpose(2, 1, 0).astype(kind), affine)
        nibabel.save(image, folder / f"{name}{suffix}.nii.gz")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two patients of other slice distances, and one with hardly any liver."""
    folder = tmp_path_factory.mktemp("balls")
    write_ball(folder, "a", 4.0)
    write_ball(folder, "b", 10.0, seed=1)
    write_ball(folder, "c", 10.0, radius=8.0, seed=2)
    return ingest(folder, IngestConfig(patient_pattern=r"^(\w)"))


@pytest.fixture(scope="module")
def predictor(cohort):
    weights = find_weights("resnet10_3d", "random")
    network = Network.from_weights(weights, 1)
    rng = np.random.default_rng(0)
    head = LinearHead(
        LABELS, np.zeros(512), np.ones(512), rng.normal(size=(2, 512)), np.zeros(2), 1
    )
    recipe = make_recipe("volume", cohort, NetworkInput(48, (0.5,) * 3, (0.5,) * 3))
    part = Part(recipe, network.graph, network.arrays, {"name": "resnet10_3d", "sha256": "0"})
    bundle = Bundle(
        LABELS, (part,), head, AugmentConfig(), views=1, unit="patient", kinds=("hu",),
        provenance=stamp("test"),
    )  # fmt: skip
    return Predictor(bundle, (network,))


def reader(cohort, predictor, **more):
    return InputReader(stack_series(cohort), predictor.bundle.parts[0].recipe, **more)


def test_a_series_is_one_answer_and_one_without_liver_is_left_out(cohort, predictor):
    answer = predictor.predict(cohort, gate=False)
    assert answer.patients.patient_id.tolist() == ["a", "b"]
    assert len(answer.slices) == 2
    assert [finding.code for finding in answer.findings] == ["no-liver", "no-answer"]


def test_a_series_is_answered_alike_in_any_company_and_order_of_slices(cohort, predictor):
    both = predictor.predict(cohort, gate=False).patients
    alone = tuple(s for s in cohort.samples if s.patient_id == "b")
    shuffled = replace(cohort, samples=alone[::-1])
    one = predictor.predict(shuffled, gate=False).patients
    np.testing.assert_array_equal(one.probabilities[0], both.probabilities[1])


def test_a_series_is_read_once_and_not_every_epoch(cohort, predictor, monkeypatch):
    own = reader(cohort, predictor)
    (first,) = own([0])
    monkeypatch.setattr("hepar.model.inputs.read_slices", None)
    (again,) = own([0])
    np.testing.assert_array_equal(again, first)
    assert first.shape == (1, 16, 48, 48)


def test_views_of_a_volume_change_its_planes_alike(cohort, predictor):
    plain, turned = reader(cohort, predictor, views=2)([0, 1])
    assert plain.shape == turned.shape
    assert not np.array_equal(plain, turned)


def test_the_key_of_a_series_is_that_of_every_slice_and_its_place(cohort, predictor):
    stacked = stack_series(cohort)
    keys = reader(cohort, predictor).samples
    for changed in (
        replace(stacked.samples[0].slices[3], sha256="another"),
        replace(stacked.samples[0].slices[3], spacing_mm=(9.0, 2.0, 2.0)),
    ):
        slices = [*stacked.samples[0].slices]
        slices[3] = changed
        sample = replace(stacked.samples[0], slices=tuple(slices))
        other = replace(stacked, samples=(sample, *stacked.samples[1:]))
        recipe = predictor.bundle.parts[0].recipe
        now = InputReader(other, recipe).samples
        assert [a == b for a, b in zip(keys, now, strict=True)] == [False, True, True]


def test_slices_without_spacing_are_refused_by_name(cohort, predictor):
    bare = tuple(replace(s, spacing_mm=None) for s in cohort.samples)
    with pytest.raises(RecipeError, match=r"sample a.*: expected a spacing in mm, got none"):
        predictor.predict(replace(cohort, samples=bare), gate=False)


def in_windows(cohort, predictor, windows):
    (part,) = predictor.bundle.parts
    recipe = make_recipe("volume", cohort, NetworkInput(48, (0.5,) * 3, (0.5,) * 3, windows))
    bundle = replace(predictor.bundle, parts=(replace(part, recipe=recipe),))
    return replace(predictor, bundle=bundle)


def test_a_series_in_windows_is_answered_by_the_mean_of_their_probabilities(cohort, predictor):
    five = in_windows(cohort, predictor, 5)  # of 64 mm each, in a liver of 90 mm
    own = reader(cohort, five)
    assert own.each == 5
    inputs = np.stack(own(range(5)))
    assert inputs.shape == (5, 1, 16, 48, 48)
    assert not np.array_equal(inputs[0], inputs[4])
    (network,) = five.networks
    wanted = five.bundle.head.probabilities(network.features(inputs)).mean(axis=0)
    found = five.predict(cohort, gate=False).patients.probabilities[0]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_windows_of_a_view_are_augmented_alike_and_each_has_a_key_of_its_own(cohort, predictor):
    own = reader(cohort, in_windows(cohort, predictor, 2), views=3)
    assert own.each == 6
    assert len(set(own.keys)) == 6 * len(own.manifest)
    plain, turned = np.stack(own([0, 1])), np.stack(own([2, 3]))
    assert not np.array_equal(plain, turned)
    one = reader(cohort, predictor, views=3)
    assert one.keys[::3] == own.keys[::6]


def test_planes_of_a_series_are_asked_for_and_not_slices(cohort, predictor):
    with pytest.raises(RecipeError, match="expected one that sees slices, got one that sees"):
        reader(cohort, predictor).look([0])


def test_a_network_of_volumes_refuses_pictures(predictor):
    with pytest.raises(BackboneError, match=r"expected images \(n, 1, depth, height, width\)"):
        predictor.networks[0].features(np.zeros((1, 3, 64, 64), np.float32))
