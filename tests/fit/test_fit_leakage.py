"""The meter shows what images of known patients add, and nothing where there is one image each."""

from pathlib import Path

import numpy as np
import pytest

from hepar.config import ControlsConfig, EvaluateConfig, HeadConfig, SplitConfig
from hepar.data import LabelSet, Manifest, Sample
from hepar.fit.leakage import measure_leakage
from hepar.split import make_split


def measure(slices, patients=24, seed=0):
    """Features that show the patient and nothing of the label."""
    rng = np.random.default_rng(seed)
    labels = LabelSet(("normal", "malignant"))
    samples = tuple(
        Sample(f"P{p:02d}/{i}", f"P{p:02d}", f"P{p:02d}/{i}", labels.names[p % 2], slice_index=i)
        for p in range(patients)
        for i in range(slices)
    )
    own = np.repeat(rng.normal(size=(patients, 40)), slices, axis=0)
    features = (own + 0.1 * rng.normal(size=own.shape)).astype(np.float32)
    manifest = Manifest(samples, labels, Path())
    split = make_split(manifest, SplitConfig(folds=4))
    head = HeadConfig(penalties=(10.0,))
    controls = ControlsConfig(permutations=5)
    return measure_leakage(features, manifest, split, head, controls, EvaluateConfig(resamples=200))


def test_patients_known_again_are_told_from_skill():
    found = measure(slices=6)
    for record in found["metrics"]:
        assert record["image"]["value"] > 0.95
        assert record["unit"]["value"] < 0.75
        assert record["inflation"]["low"] > 0.1
        assert record["inflation"]["value"] == pytest.approx(
            record["image"]["value"] - record["unit"]["value"]
        )
        assert record["floor"]["image"]["mean"] > 0.9
        assert record["floor"]["unit"]["mean"] < 0.65


def test_one_image_a_patient_has_nothing_to_inflate():
    found = measure(slices=1, patients=40)
    for record in found["metrics"]:
        assert record["inflation"]["low"] <= 0 <= record["inflation"]["high"]


def test_few_patients_have_an_inflation_without_interval():
    (record, _) = measure(slices=6, patients=8)["metrics"]
    assert record["inflation"]["value"] is not None
    assert record["inflation"]["low"] is None
    assert "rests on 4 patients" in record["inflation"]["undefined"]
