"""The learning curve rises where there is more to learn, and never where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.config import ControlsConfig, EvaluateConfig, HeadConfig
from hepar.data import LabelSet, Sample
from hepar.fit.control_inputs import ControlInputs
from hepar.fit.learning_curve import learning_curve

LABELS = LabelSet(("normal", "malignant"))


def inputs(patients=60, signal=1.0, seed=0, d=40):
    """Return features of patients, two slices each, whose label moves them in one direction."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), 2)
    codes = owner % 2
    direction = rng.normal(size=d) / np.sqrt(d)
    own = rng.normal(size=(patients, d))[owner] + 0.3 * rng.normal(size=(len(owner), d))
    names = [f"P{i:03d}" for i in owner]
    return ControlInputs(
        features=(own + signal * 3 * np.outer(codes, direction)).astype(np.float32),
        samples=tuple(
            Sample(f"{name}/{i}", name, f"{name}/{i}", LABELS.names[code])
            for i, (name, code) in enumerate(zip(names, codes, strict=True))
        ),
        fold=(owner // 2) % 5,
        labels=LABELS,
        penalty=10.0,
        origin=np.arange(len(owner)),
        background="none",
        grain=np.zeros((len(owner), 1)),
        untrained="none",
        head=HeadConfig(),
        config=ControlsConfig(),
        evaluate=EvaluateConfig(),
    )


def test_the_curve_rises_with_what_can_be_learned():
    curve = learning_curve(inputs(signal=1.5))
    means = [np.mean(record["auroc"]) for record in curve]
    assert [record["share"] for record in curve] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert [len(record["auroc"]) for record in curve] == [3, 3, 3, 3, 1]
    assert means[-1] > means[0] + 0.05
    assert curve[-1]["n_patients"] == 48
    assert curve[0]["n_patients"] == pytest.approx(48 / 5, abs=1)


def test_the_curve_stays_at_chance_where_there_is_nothing_to_learn():
    ends = [np.mean(learning_curve(inputs(signal=0.0, seed=s))[-1]["auroc"]) for s in range(6)]
    assert abs(np.mean(ends) - 0.5) < 0.12


def test_the_same_seed_draws_the_same_patients():
    assert learning_curve(inputs(30)) == learning_curve(inputs(30))


def test_no_curve_is_drawn_of_too_few_patients():
    assert learning_curve(inputs(8)) == []
