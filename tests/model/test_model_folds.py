"""Models of folds come back from disk as they were."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.data import LabelSet
from hepar.errors import BundleError
from hepar.model import FoldModel, LinearHead, read_folds, write_folds

LABELS = LabelSet(("benign", "malignant"))


def head(seed):
    rng = np.random.default_rng(seed)
    weight = np.asfortranarray(rng.normal(size=(2, 4)))
    return LinearHead(LABELS, rng.normal(size=4), np.ones(4), weight, rng.normal(size=2), 1.0)


def test_folds_come_back_in_order_with_what_they_trained(tmp_path):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3).T
    folds = [FoldModel(head(i), {"conv/last": kernel + i} if i else {}) for i in range(12)]
    write_folds(tmp_path / "folds.safetensors", folds)
    found = read_folds(tmp_path / "folds.safetensors", LABELS)
    rows = np.random.default_rng(0).normal(size=(3, 4))
    for ours, theirs in zip(found, folds, strict=True):
        np.testing.assert_array_equal(
            ours.head.probabilities(rows), theirs.head.probabilities(rows)
        )
        assert set(ours.weights) == set(theirs.weights)
    np.testing.assert_array_equal(found[11].weights["conv/last"], kernel + 11)


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 40])
def test_what_is_no_such_file_is_one_line(tmp_path, content):
    path = tmp_path / "folds.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"expected the models of the folds.*Fit the model again"):
        read_folds(path, LABELS)


def test_arrays_of_several_networks_are_told_apart_and_of_one_they_keep_their_names():
    one, two = np.zeros(1), np.ones(1)
    fold = FoldModel(head(0), {"onnx::w": one, "2:onnx::w": two, "0:b": two})
    assert fold.of_part(0) == {"onnx::w": one, "b": two}
    assert fold.of_part(1) == {}
    assert fold.of_part(2) == {"onnx::w": two}
