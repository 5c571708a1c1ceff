"""The gate learns from patients left out, and says where it cannot promise anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepar.data import Sample
from hepar.errors import FitError
from hepar.fit import fit_gate

D = 40


def slices(n_patients, each=6, seed=0, start=0, spread=0.3):
    """Return features of patients who differ, and their samples."""
    rng = np.random.default_rng(seed)
    centre = np.random.default_rng(99).normal(size=D)
    own = centre + spread * rng.normal(size=(n_patients, D))
    rows = np.repeat(own, each, axis=0) + 0.1 * rng.normal(size=(n_patients * each, D))
    samples = [
        Sample(f"p{start + p:04d}/{i}", f"p{start + p:04d}", f"{p}_{i}.png", "liver")
        for p in range(n_patients)
        for i in range(each)
    ]
    return rows.astype(np.float32), samples


def refused(gate, rows, samples):
    return np.array([not verdict.accepted for verdict in gate.judge(rows, samples)])


def test_no_more_than_the_share_of_new_patients_slices_is_refused():
    shares = []
    for seed in range(20):
        gate = fit_gate(*slices(40, seed=seed), share_refused=0.1)
        new = slices(60, seed=1000 + seed, start=500)
        shares.append(refused(gate, *new).mean())
    assert 0.005 < np.mean(shares) < 0.1


def test_what_lies_elsewhere_is_refused():
    gate = fit_gate(*slices(40))
    rows, samples = slices(10, seed=5, start=100)
    assert refused(gate, -rows, samples).all()
    verdict = gate.judge(-rows, samples)[0]
    assert "unlike the training slices" in verdict.reason
    assert verdict.score > 1


def test_the_order_of_slices_does_not_matter():
    rows, samples = slices(25)
    order = np.random.default_rng(1).permutation(len(rows))
    one = fit_gate(rows, samples)
    other = fit_gate(rows[order], [samples[i] for i in order])
    new, whose = slices(10, seed=3, start=100)
    scores = [[v.score for v in gate.judge(new, whose)] for gate in (one, other)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)


def test_one_patient_gives_a_gate_by_header_alone_and_says_so():
    rows, samples = slices(1)
    gate = fit_gate(rows, samples)
    assert "needs two patients" in gate.notes[0]
    assert not refused(gate, -rows, samples).any()
    assert gate.clouds == {}


def test_few_patients_promise_nothing_and_the_gate_says_how_many_would():
    assert "needs 19 patients" in fit_gate(*slices(12)).notes[0]
    assert fit_gate(*slices(19)).notes == ()


def test_slices_that_are_all_the_same_give_no_limit():
    rows, samples = slices(5)
    gate = fit_gate(np.ones_like(rows), samples)
    assert gate.clouds == {}
    assert "same features" in gate.notes[0]


def test_features_that_are_not_numbers_are_refused_by_name():
    rows, samples = slices(3)
    rows[7, 2] = np.nan
    with pytest.raises(FitError, match=r"sample p0001/1: expected finite features"):
        fit_gate(rows, samples)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_makes_no_sense_is_refused(share):
    with pytest.raises(FitError, match="share of refused slices above 0 and below 1"):
        fit_gate(*slices(3), share_refused=share)


def test_a_patient_of_many_slices_counts_no_more_than_one_of_few():
    rows, samples = slices(30, each=3)
    many = np.repeat(rows[:3], 60, axis=0) + 5.0
    far = [replace(samples[0], sample_id=f"x{i}", patient_id="x") for i in range(len(many))]
    gate = fit_gate(np.concatenate([rows, many]), [*samples, *far])
    new = slices(40, seed=8, start=700)
    assert refused(gate, *new).mean() < 0.2
