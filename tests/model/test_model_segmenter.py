"""A segmenter outlines livers, its own patients by networks that never saw them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hepar.backbone import read_graph, untrained_arrays
from hepar.data import LIVER, LabelSet, Manifest, Sample
from hepar.errors import BundleError
from hepar.model import (
    InputReader,
    Outlines,
    Part,
    Segmenter,
    load_predictor,
    read_bundle,
    read_segmenter,
    write_bundle,
    write_segmenter,
)
from hepar.preprocess import NetworkInput, make_recipe, segmenter_recipe
from hepar.provenance import digest, stamp

HALF = (0.5, 0.5, 0.5)
SIZE = NetworkInput(64, HALF, HALF)


def always(value):
    """Weights of a network that gives every pixel the same logit."""
    arrays = untrained_arrays(read_graph("liver_unet"))
    arrays["out.weight"] = np.zeros_like(arrays["out.weight"])
    arrays["out.bias"] = np.full_like(arrays["out.bias"], value)
    return arrays


@pytest.fixture
def segmenter():
    """Says yes to everybody new, and no to A, who taught it."""
    graph = read_graph("liver_unet")
    part = Part(segmenter_recipe(SIZE), graph, always(5.0), {"name": "liver_unet"})
    return Segmenter(part, (always(-5.0),), {digest("A"): 0}, stamp("test"))


@pytest.fixture
def pictures(tmp_path):
    """A slice of A and one of B, each with a drawn liver in the middle."""
    mask = np.zeros((80, 80), np.uint8)
    mask[30:50, 30:50] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    grey = np.random.default_rng(0).integers(0, 255, (80, 80)).astype(np.uint8)
    samples = []
    for name in "AB":
        cv2.imwrite(str(tmp_path / f"{name}.png"), grey)
        samples.append(Sample(name, name, f"{name}.png", "normal", mask="mask.png"))
    return Manifest(
        tuple(samples), LabelSet(("normal", "sick")), tmp_path, mask_values={"liver": 255}
    )


def test_what_is_written_is_read_and_every_change_noticed(segmenter, tmp_path):
    folder = tmp_path / "job" / "segmenter"
    write_segmenter(folder, segmenter)
    for place in (folder, folder.parent):
        again = read_segmenter(place)
        assert again.key == segmenter.key
        assert again.places == segmenter.places
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(BundleError, match="expected"):
            read_segmenter(folder)
        path.write_bytes(content)
    read_segmenter(folder)


def test_a_folder_with_other_files_is_neither_read_nor_replaced(segmenter, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="expected a segmenter"):
        read_segmenter(tmp_path)
    with pytest.raises(BundleError, match="got other files"):
        write_segmenter(tmp_path, segmenter)


def test_no_patient_id_stands_in_the_folder(segmenter, tmp_path):
    named = replace(segmenter, places={digest("Doe^Jane"): 0})
    write_segmenter(tmp_path / "s", named)
    assert b"Doe" not in (tmp_path / "s" / "segmenter.json").read_bytes()


def test_a_patient_who_taught_it_is_outlined_by_a_network_that_never_saw_them(segmenter, pictures):
    outlines = Outlines(pictures, segmenter)
    a, b = pictures.samples
    assert not outlines(a, (80, 80)).any()
    assert (outlines(b, (80, 80)) == LIVER).all()


def test_a_drawn_liver_is_looked_at_unless_the_patient_is_to_be_seen_as_new(segmenter, pictures):
    recipe = make_recipe("liver", pictures, SIZE)
    outlines = Outlines(pictures, segmenter)
    how = {"guess_liver": True, "outlines": outlines}
    drawn = InputReader(pictures, recipe, **how)
    new = InputReader(pictures, recipe, drawn=False, **how)
    seen, unseen = (reader.look([1])[0][1].window for reader in (drawn, new))
    assert seen[2] < 30 < unseen[2]
    new(range(2))
    assert new.empty == {0}
    assert new.guessed == {0, 1}
    assert drawn.samples[1] != new.samples[1]  # the cache never mixes them


def test_a_bundle_carries_its_segmenter(small_bundle, segmenter, pictures, tmp_path):
    recipe = make_recipe("liver", pictures, SIZE)
    part = replace(small_bundle.parts[0], recipe=recipe)
    bundle = replace(small_bundle, parts=(part,), segmenter=segmenter.part)
    write_bundle(tmp_path / "bundle", bundle)
    again = read_bundle(tmp_path / "bundle").segmenter
    np.testing.assert_array_equal(again.weights["out.bias"], [5.0])
    bare = replace(pictures, samples=tuple(replace(s, mask="") for s in pictures.samples))
    answer = load_predictor(tmp_path / "bundle").predict(bare)
    (finding,) = [f for f in answer.findings if f.code.startswith("liver")]
    assert finding.code == "liver-outlined"
    assert len(answer.slices) == 2  # A is a new patient to the bundle, too


def test_a_bundle_is_no_segmenter_for_a_run(bundle_folder):
    with pytest.raises(BundleError, match="got a bundle: the segmenter in it has"):
        read_segmenter(bundle_folder)


def test_a_fit_that_was_interrupted_is_told_from_a_wrong_folder(tmp_path):
    (tmp_path / "job" / "folds").mkdir(parents=True)
    with pytest.raises(BundleError, match="got a fit that is not finished"):
        read_segmenter(tmp_path / "job")
    with pytest.raises(BundleError, match=r"segmenter\.json, got none"):
        read_segmenter(tmp_path)
