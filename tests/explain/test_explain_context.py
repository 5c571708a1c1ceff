"""Slices of new data are compared with known ones as the head sees them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hepar.data import LabelSet, Sample
from hepar.model import Known, in_context
from hepar.series_job import _similar

SAMPLES = [Sample(str(i), "A", "", series_id="1", slice_index=i) for i in range(4)]
PLAIN = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


def similar(beside, known, empty=()):
    bundle = SimpleNamespace(
        labels=LabelSet(("normal", "tumour")),
        beside=beside,
        known=Known(known.astype(np.float16), np.arange(4) % 2, np.arange(4)),
    )
    seen = [SimpleNamespace(features=row, blank=i in empty) for i, row in enumerate(PLAIN)]
    return _similar(bundle, seen, SAMPLES)


@pytest.mark.parametrize("beside", [0.0, 0.25])
def test_a_known_slice_is_most_like_itself(beside):
    known = in_context(PLAIN[:, None], SAMPLES, beside=beside)[:, 0]
    found = similar(beside, known)
    assert [own[0]["training_patient"] for own in found] == [0, 1, 2, 3]
    assert [own[0]["likeness"] for own in found] == pytest.approx([1.0] * 4, abs=2e-3)
    assert [own[0]["label"] for own in found] == ["normal", "tumour", "normal", "tumour"]


def test_plain_features_would_not_be_the_same():
    assert any(own[0]["likeness"] < 0.99 for own in similar(0.25, PLAIN))


def test_slices_without_liver_are_nobodys_neighbour():
    kept = [0, 2, 3]
    known = in_context(PLAIN[kept][:, None], [SAMPLES[i] for i in kept], beside=0.25)[:, 0]
    found = similar(0.25, np.concatenate([known, known[:1] + 9]), empty={1})
    assert found[1] == []
    assert [found[i][0]["likeness"] for i in kept] == pytest.approx([1.0] * 3, abs=2e-3)
