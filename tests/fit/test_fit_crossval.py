"""Out-of-fold means that the head never saw the patient."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.config import HeadConfig, SplitConfig
from hepar.fit import cross_validate
from hepar.split import make_split

CONFIG = HeadConfig(penalties=(1.0, 100.0))


@pytest.fixture(scope="module")
def cohort(make_manifest):
    manifest = make_manifest({f"P{i:02d}": [("normal", "malignant")[i % 2]] * 4 for i in range(16)})
    rng = np.random.default_rng(0)
    own = {p: rng.normal(size=30) * 4 for p in manifest.patients}
    features = np.array([own[s.patient_id] + rng.normal(size=30) * 0.1 for s in manifest.samples])
    return manifest, features.astype(np.float32)


def test_features_that_only_name_the_patient_are_worth_nothing_out_of_fold(cohort):
    manifest, features = cohort
    split = make_split(manifest, SplitConfig(folds=4))
    result = cross_validate(features, manifest.samples, split, manifest.labels, CONFIG)
    honest = (result.predictions.predicted == result.predictions.reference).mean()
    resubstituted = result.head.probabilities(features).argmax(1)
    codes = [manifest.labels.index(s.label) for s in manifest.samples]
    assert (resubstituted == codes).mean() == 1.0
    assert honest < 0.8


def test_changing_a_held_out_patient_changes_no_other_fold_mates_prediction(cohort):
    manifest, features = cohort
    split = make_split(manifest, SplitConfig(folds=4))
    before = cross_validate(features, manifest.samples, split, manifest.labels, CONFIG)
    target = manifest.samples[0].patient_id
    changed = features.copy()
    changed[[s.patient_id == target for s in manifest.samples]] += 3
    after = cross_validate(changed, manifest.samples, split, manifest.labels, CONFIG)
    fold = split.assignments[target].fold
    mates = np.array(
        [split.of(s).fold == fold and s.patient_id != target for s in manifest.samples]
    )
    others = np.array([split.of(s).fold != fold for s in manifest.samples])
    p, q = before.predictions.probabilities, after.predictions.probabilities
    np.testing.assert_array_equal(p[mates], q[mates])
    assert (p[others] != q[others]).any()


def test_the_test_partition_is_predicted_by_a_head_that_never_saw_it(cohort):
    manifest, features = cohort
    split = make_split(manifest, SplitConfig(folds=3, test=0.25))
    result = cross_validate(features, manifest.samples, split, manifest.labels, CONFIG)
    tests = result.predictions.partition == "test"
    assert tests.sum() == 16
    assert set(result.predictions.fold[tests]) == {""}
    train = np.array([split.of(s).partition == "train" for s in manifest.samples])
    changed = features.copy()
    changed[~train] += 100
    again = cross_validate(changed, manifest.samples, split, manifest.labels, CONFIG)
    np.testing.assert_array_equal(result.head.weight, again.head.weight)
