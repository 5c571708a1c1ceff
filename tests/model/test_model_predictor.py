"""One inference path: what was read, what was guessed, and what could not be answered."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hepar.data import LESION, LabelSet, Manifest, Sample
from hepar.errors import BundleError, RecipeError
from hepar.ingest import read_slices
from hepar.model import InputReader, Predictor, load_predictor
from hepar.preprocess import NetworkInput, make_recipe
from hepar.provenance import sha256_file


@pytest.fixture
def pictures(tmp_path):
    """Six pictures of three patients, half of them with a disc to be found as liver."""
    rng = np.random.default_rng(0)
    samples = []
    for i in range(6):
        image = np.clip(rng.normal(40, 10, (96, 96)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        mask = np.zeros((96, 96), np.uint8)
        if i != 5:
            cv2.circle(mask, (40, 45), 20, 255, -1)
        cv2.imwrite(str(tmp_path / f"{i}_m.png"), mask)
        samples.append(
            Sample(
                f"{i}.png",
                f"P{i // 2}",
                f"{i}.png",
                mask=f"{i}_m.png",
                sha256=sha256_file(tmp_path / f"{i}.png"),
                mask_sha256=sha256_file(tmp_path / f"{i}_m.png"),
            )
        )
    return Manifest(tuple(samples), LabelSet(()), tmp_path, mask_values={"liver": 255})


def abdomen():
    body = np.zeros((96, 96), np.uint8)
    cv2.ellipse(body, (48, 48), (44, 34), 0, 0, 360, 90, -1)
    return cv2.ellipse(body, (30, 42), (20, 18), 0, 0, 360, 150, -1)


def liver(bundle, manifest):
    weights = NetworkInput(64, (0.5,) * 3, (0.5,) * 3)
    part = replace(bundle.parts[0], recipe=make_recipe("liver", manifest, weights))
    return replace(bundle, parts=(part,))


def test_a_loaded_bundle_predicts_what_the_bundle_in_memory_does(
    small_bundle, network, bundle_folder, pictures
):
    one = Predictor(small_bundle, (network,)).predict(pictures)
    other = load_predictor(bundle_folder).predict(pictures)
    np.testing.assert_array_equal(one.slices.probabilities, other.slices.probabilities)
    assert one.patients.patient_id.tolist() == ["P0", "P1", "P2"]
    assert set(one.slices.partition) == {"predict"}


def test_the_order_of_the_samples_does_not_change_an_answer(small_bundle, network, pictures):
    predictor = Predictor(small_bundle, (network,))
    renamed = tuple(replace(s, patient_id=f"Q{9 - i}") for i, s in enumerate(pictures.samples))
    backwards = predictor.predict(replace(pictures, samples=renamed)).slices
    forwards = predictor.predict(pictures).slices
    at = {name: i for i, name in enumerate(backwards.sample_id)}
    rows = [at[name] for name in forwards.sample_id]
    np.testing.assert_array_equal(forwards.probabilities, backwards.probabilities[rows])


def test_a_slice_without_liver_is_left_out_and_counted(small_bundle, network, pictures):
    answer = Predictor(liver(small_bundle, pictures), (network,)).predict(pictures)
    assert "5.png" not in answer.slices.sample_id
    assert [f.code for f in answer.findings] == ["no-liver"]
    assert "1 of 6 slices show no liver" in answer.findings[0].message


def test_a_guessed_liver_is_said(small_bundle, network, pictures):
    bare = tuple(replace(s, mask="", mask_sha256="") for s in pictures.samples)
    for sample in bare:
        cv2.imwrite(str(pictures.root / sample.path), abdomen())
    answer = Predictor(liver(small_bundle, pictures), (network,)).predict(
        replace(pictures, samples=bare)
    )
    assert answer.findings[0].code == "liver-guessed"
    assert len(answer.slices) == 6


def test_the_liver_is_guessed_where_masks_show_lesions_alone(small_bundle, pictures):
    """A tumour taken for the liver would tell its label by its outline."""
    lesions = replace(pictures, mask_values={"lesion": 255})
    recipe = liver(small_bundle, pictures).parts[0].recipe
    reader = InputReader(lesions, recipe, guess_liver=True)
    cv2.imwrite(str(pictures.root / "0.png"), abdomen())
    image, seen = reader.look([0])[0]
    own = read_slices(lesions, lesions.samples[:1])[0].mask
    assert reader.guessed == {0}
    assert ((image.mask == LESION) == (own == LESION)).all()
    assert (own == LESION).any()
    bare = replace(lesions.samples[0], mask="", mask_sha256="")
    plain = InputReader(replace(lesions, samples=(bare,)), recipe, guess_liver=True)
    np.testing.assert_array_equal(seen.pixels, plain.look([0])[0][1].pixels)


def test_nothing_to_answer_for_is_an_error(small_bundle, network, pictures):
    empty = tuple(s for s in pictures.samples if s.sample_id == "5.png")
    with pytest.raises(BundleError, match="expected slices that show the liver, got none in 1"):
        Predictor(liver(small_bundle, pictures), (network,)).predict(
            replace(pictures, samples=empty)
        )


def test_a_misfit_names_the_sample(pictures):
    recipe = make_recipe(
        "ct",
        replace(pictures, samples=tuple(replace(s, kind="hu") for s in pictures.samples)),
        NetworkInput(64, (0.5,) * 3, (0.5,) * 3),
    )
    with pytest.raises(RecipeError, match=r"sample 0.png: 8-bit picture, not HU"):
        InputReader(pictures, recipe)([0])


def test_images_of_another_kind_than_in_training_are_said(small_bundle, network, pictures):
    trained_on_hu = replace(liver(small_bundle, pictures), kinds=("hu",))
    (finding, _) = Predictor(trained_on_hu, (network,)).predict(pictures).findings
    assert finding.code == "other-kind"
    assert "6 of 6 slices are pictures, and the bundle was trained and tested on HU" in (
        finding.message
    )
    (only,) = Predictor(liver(small_bundle, pictures), (network,)).predict(pictures).findings
    assert only.code == "no-liver"


def test_a_tile_in_colour_is_refused_by_a_model_of_ct(small_bundle, network, tmp_path):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "a.png"), rng.integers(0, 255, (64, 64, 3), np.uint8))
    tile = Sample("a.png", "P", "a.png", kind="rgb", sha256=sha256_file(tmp_path / "a.png"))
    predictor = Predictor(small_bundle, (network,))
    with pytest.raises(RecipeError, match=r"a\.png: RGB tile, not grey; step 'picture_scale' need"):
        predictor.predict(Manifest((tile,), LabelSet(()), tmp_path))


def test_what_a_patients_slices_share_is_taken_away_where_the_bundle_says_so(
    small_bundle, network, pictures
):
    plain = Predictor(small_bundle, (network,))
    centring = Predictor(replace(small_bundle, centre=True), (network,))
    alone = replace(pictures, samples=pictures.samples[:1])
    answer = centring.predict(alone).slices.probabilities
    np.testing.assert_allclose(answer, 0.5, atol=1e-6)  # one slice is its own mean
    assert abs(plain.predict(alone).slices.probabilities - 0.5).max() > 1e-3


def test_a_patient_without_liver_is_named(small_bundle, network, pictures):
    recipe = make_recipe("liver", pictures, NetworkInput(64, (0.5,) * 3, (0.5,) * 3))
    part = replace(small_bundle.parts[0], recipe=recipe)
    bundle = replace(small_bundle, parts=(part,))
    lone = replace(pictures.samples[5], patient_id="LONE")
    seen = replace(pictures, samples=(*pictures.samples[:2], lone), mask_values={"liver": 255})
    answer = Predictor(bundle, (network,)).predict(seen)
    assert [f.where for f in answer.findings if f.code == "no-answer"] == ["LONE"]
    assert "LONE" not in answer.patients.patient_id


def slab(bundle, manifest):
    recipe = make_recipe("slab", manifest, NetworkInput(64, (0.5,) * 3, (0.5,) * 3))
    return replace(bundle, parts=(replace(bundle.parts[0], recipe=recipe),))


@pytest.fixture
def stack(pictures):
    """The pictures as two series of three slices."""
    rows = [
        replace(s, patient_id=f"P{i // 3}", series_id=f"s{i // 3}", slice_index=i % 3)
        for i, s in enumerate(pictures.samples)
    ]
    return replace(pictures, samples=tuple(rows))


def test_a_slab_is_answered_alike_in_any_order_and_company(small_bundle, network, stack):
    predictor = Predictor(slab(small_bundle, stack), (network,))
    whole = predictor.predict(stack).slices
    renamed = tuple(replace(s, patient_id=f"Q{9 - i // 3}") for i, s in enumerate(stack.samples))
    other = predictor.predict(replace(stack, samples=renamed)).slices
    half = predictor.predict(replace(stack, samples=stack.samples[3:])).slices
    at = {name: i for i, name in enumerate(whole.sample_id)}
    for table in (other, half):
        rows = [at[name] for name in table.sample_id]
        np.testing.assert_array_equal(table.probabilities, whole.probabilities[rows])


def test_the_key_of_a_slab_is_that_of_its_neighbours_too(small_bundle, stack):
    recipe = slab(small_bundle, stack).parts[0].recipe
    keys = InputReader(stack, recipe).samples
    changed = replace(stack.samples[0], sha256="another")
    new = InputReader(replace(stack, samples=(changed, *stack.samples[1:])), recipe).samples
    assert [a == b for a, b in zip(keys, new, strict=True)] == [False, False, True] + 3 * [True]


def test_a_series_of_one_slice_is_answered_and_said(small_bundle, network, stack):
    predictor = Predictor(slab(small_bundle, stack), (network,))
    answer = predictor.predict(replace(stack, samples=stack.samples[:1]))
    (finding,) = answer.findings
    assert finding.code == "alone"
    assert "1 of 1 slices have none beside them" in finding.message


def test_a_patient_without_a_liver_is_answered_with_the_reason(small_bundle, network, pictures):
    bare = np.zeros((96, 96), np.uint8)
    cv2.imwrite(str(pictures.root / "4_m.png"), bare)
    answer = Predictor(liver(small_bundle, pictures), (network,)).predict(pictures)
    assert [one.patient_id for one in answer.answers] == ["P0", "P1", "P2"]
    gone = answer.answers[-1]
    assert (gone.label, gone.reason) == ("", "no slice shows the liver")
    assert answer.numbers(2) == ("", [])
    assert sum(answer.numbers(0)[1]) == pytest.approx(1)
    assert "P2: no slice shows the liver, so there is no answer." in {
        one.message for one in answer.findings
    }
