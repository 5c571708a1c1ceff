"""A bundle gives back what was put in, and every change to it is noticed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hepar.errors import BundleError
from hepar.model import Known, read_bundle, write_bundle, write_known


def test_a_bundle_gives_back_what_was_put_in(small_bundle, bundle_folder):
    again = read_bundle(bundle_folder)
    (part,), (put,) = again.parts, small_bundle.parts
    assert part.recipe == put.recipe
    assert again.labels == small_bundle.labels
    assert again.augment == small_bundle.augment
    assert part.graph == put.graph
    assert set(part.weights) == set(put.weights)
    for name, array in put.weights.items():
        np.testing.assert_array_equal(part.weights[name], array)
    features = np.random.default_rng(1).normal(size=(5, 1280)).astype(np.float32)
    np.testing.assert_array_equal(
        again.head.probabilities(features), small_bundle.head.probabilities(features)
    )


def test_there_is_no_pickle_in_a_bundle(bundle_folder):
    assert sorted(path.name for path in bundle_folder.iterdir()) == [
        "bundle.json",
        "decision.json",
        "graph-0.onnx",
        "head.safetensors",
        "weights-0.safetensors",
    ]


def test_one_changed_byte_anywhere_is_refused(bundle_folder):
    rng = np.random.default_rng(2)
    files = sorted(bundle_folder.iterdir())
    for i in range(60):
        path = files[i % len(files)]
        content = path.read_bytes()
        at = int(rng.integers(len(content)))
        spoiled = bytes([content[at] ^ (1 << int(rng.integers(8)))])
        path.write_bytes(content[:at] + spoiled + content[at + 1 :])
        with pytest.raises(BundleError):
            read_bundle(bundle_folder)
        path.write_bytes(content)
    read_bundle(bundle_folder)


@pytest.mark.parametrize("name", ["graph-0.onnx", "weights-0.safetensors", "head.safetensors"])
def test_a_truncated_file_is_refused_by_name(bundle_folder, name):
    path = bundle_folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=f"{name}: expected SHA-256.*cut short"):
        read_bundle(bundle_folder)


def test_a_missing_file_is_refused_by_name(bundle_folder):
    (bundle_folder / "head.safetensors").unlink()
    with pytest.raises(BundleError, match=r"expected the files .*head.safetensors"):
        read_bundle(bundle_folder)


def test_an_added_file_is_refused(bundle_folder):
    (bundle_folder / "extra.pkl").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"got \[.*extra.pkl"):
        read_bundle(bundle_folder)


@pytest.fixture
def known_folder(small_bundle, bundle_folder):
    """The same with three slices that it learned from."""
    rows, numbers = np.ones((3, 1280), np.float16), np.arange(3, dtype=np.int32)
    known = Known(rows, np.array([0, 1, 1], np.int32), numbers)
    write_known(bundle_folder, known, small_bundle.provenance)
    return bundle_folder


def test_slices_that_a_bundle_knows_come_back_and_can_be_taken_away(small_bundle, known_folder):
    known = read_bundle(known_folder).known
    assert known.features.shape == (3, 1280)
    assert known.labels.tolist() == [0, 1, 1]
    assert known.patients.tolist() == [0, 1, 2]
    write_known(known_folder, None, small_bundle.provenance)
    assert read_bundle(known_folder).known is None


def test_changed_slices_that_a_bundle_knows_are_refused(known_folder):
    path = known_folder / "known.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(BundleError, match=r"known.safetensors: expected the file as written"):
        read_bundle(known_folder)


def test_swapped_labels_are_noticed(bundle_folder):
    path = bundle_folder / "bundle.json"
    document = json.loads(path.read_text())
    document["labels"].reverse()
    path.write_text(json.dumps(document))
    with pytest.raises(BundleError, match="got one altered since"):
        read_bundle(bundle_folder)


def test_a_folder_of_other_files_is_not_overwritten(small_bundle, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="expected a new folder or an old bundle"):
        write_bundle(tmp_path, small_bundle)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_old_bundle_is_replaced_whole(small_bundle, bundle_folder):
    write_bundle(bundle_folder, small_bundle)
    read_bundle(bundle_folder)
    assert [path.name for path in bundle_folder.parent.iterdir()] == ["bundle"]


def test_a_folder_without_a_bundle_says_who_writes_one(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle|expected a bundle folder.*hepar run"):
        read_bundle(tmp_path)


def test_a_head_in_fortran_order_survives_the_disk(small_bundle, tmp_path):
    """Scikit-learn gives its coefficients so; written as they lay, they came back scrambled."""
    head = replace(small_bundle.head, weight=np.asfortranarray(small_bundle.head.weight))
    write_bundle(tmp_path / "bundle", replace(small_bundle, head=head))
    again = read_bundle(tmp_path / "bundle").head
    np.testing.assert_array_equal(again.weight, head.weight)


def test_a_decision_of_another_bundle_is_refused(small_bundle, bundle_folder, tmp_path):
    other = replace(small_bundle, views=2)
    write_bundle(tmp_path / "other", other)
    content = (tmp_path / "other" / "decision.json").read_bytes()
    (bundle_folder / "decision.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"decision.json: expected the file as written for this"):
        read_bundle(bundle_folder)


def test_a_changed_threshold_is_noticed(bundle_folder):
    path = bundle_folder / "decision.json"
    document = json.loads(path.read_text())
    document["top_k"] = 1
    path.write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"decision.json: expected the file as written"):
        read_bundle(bundle_folder)


def test_the_folder_of_a_run_is_told_from_its_bundle(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="got the folder of a run"):
        read_bundle(tmp_path)
