"""The gate refuses by header and by distance, says why in a line, and comes back as written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepar.data import Sample
from hepar.errors import BundleError
from hepar.model import read_bundle, write_bundle, write_gate
from hepar.model.cloud import Cloud
from hepar.model.gate import Gate, Verdict, gate_from_document, gate_to_document

D = 6
SAMPLE = Sample("a/0", "a", "a/0.dcm", kind="hu", spacing_mm=(5.0, 0.8, 0.8))


def cloud(limit=3.0):
    directions = np.eye(2, D)
    mean = np.zeros(D)
    return Cloud(mean, directions, np.array([0.5, 0.2]), 0.1, limit)


def gate(**changes):
    values = {
        "clouds": {"hu": cloud()},
        "kinds": ("hu",),
        "spacing_mm": ((2.0, 0.6, 0.6), (8.0, 0.9, 0.9)),
        "phases": ("arterial", "portal_venous"),
        "coloured": False,
        "share": 0.05,
        "n_patients": 60,
        "weights": "f" * 64,
    }
    return Gate(**{**values, **changes})


NEAR = np.array([[1.0, 0.2, 0, 0, 0, 0]], np.float32)
FAR = np.array([[0, 0, 0, 0, 0, 1.0]], np.float32)


def judge(sample=SAMPLE, row=NEAR, coloured=(), **changes):
    return gate(**changes).judge(row, [sample], coloured)[0]


def test_a_proper_slice_is_accepted():
    verdict = judge()
    assert verdict.accepted
    assert verdict.reason == ""
    assert verdict.score < 1


def test_distance_is_mahalanobis_of_the_row_at_length_one():
    rows = np.random.default_rng(0).normal(size=(20, D)).astype(np.float32)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    inverse = np.diag([1 / 0.5, 1 / 0.2, *[1 / 0.1] * 4])
    by_hand = np.sqrt(np.einsum("nd,de,ne->n", units, inverse, units))
    np.testing.assert_allclose(cloud().distances(rows), by_hand, rtol=1e-6)


def test_a_row_is_judged_alike_alone_and_in_company():
    rows = np.random.default_rng(1).normal(size=(50, D)).astype(np.float32)
    alone = np.concatenate([cloud().distances(rows[i : i + 1]) for i in range(50)])
    np.testing.assert_array_equal(cloud().distances(rows), alone)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (replace(SAMPLE, kind="picture"), "8-bit picture, and the model was trained on HU"),
        (replace(SAMPLE, spacing_mm=(20.0, 0.8, 0.8)), "spacing between slices 20 mm"),
        (replace(SAMPLE, spacing_mm=(5.0, 0.2, 0.8)), "pixel height 0.2 mm"),
        (replace(SAMPLE, extra={"phase": "Delayed"}), "phase delayed was not in training"),
    ],
)
def test_the_header_alone_refuses(sample, reason):
    verdict = judge(sample)
    assert not verdict.accepted
    assert verdict.reason.startswith(reason)
    assert "\n" not in verdict.reason


@pytest.mark.parametrize(
    "sample",
    [
        replace(SAMPLE, spacing_mm=(9.9, 0.8, 0.8)),
        replace(SAMPLE, spacing_mm=None),
        replace(SAMPLE, extra={"phase": " Arterial "}),
        replace(SAMPLE, extra={"phase": ""}),
    ],
)
def test_what_is_just_outside_or_unknown_is_not_refused(sample):
    assert judge(sample).accepted


def test_hu_is_more_than_a_picture_and_not_refused_by_a_model_of_pictures():
    verdict = judge(kinds=("picture",), clouds={"picture": cloud()})
    assert verdict == Verdict(True, None, "")


def test_colours_are_refused_where_training_had_none():
    assert "colour" in judge(coloured={"a/0.dcm"}).reason
    assert gate(coloured=True).judge(NEAR, [SAMPLE], {"a/0.dcm"})[0].accepted


def test_a_damaged_row_is_refused_and_not_scored():
    verdict = judge(row=np.full((1, D), np.nan, np.float32))
    assert not verdict.accepted
    assert verdict.score is None
    assert "damaged" in verdict.reason


def test_features_of_another_width_or_number_are_refused():
    with pytest.raises(BundleError, match="width 6, got 5"):
        gate().judge(NEAR[:, :5], [SAMPLE])
    with pytest.raises(BundleError, match=r"expected features \(n, d\) of 2 slices"):
        gate().judge(NEAR, [SAMPLE, SAMPLE])


def patient(n_far, n=5):
    samples = [replace(SAMPLE, sample_id=f"a/{i}") for i in range(n)]
    rows = np.concatenate([FAR] * n_far + [NEAR] * (n - n_far))
    return gate().judge(rows, samples), samples


@pytest.mark.parametrize(("n_far", "accepted"), [(0, True), (2, True), (3, False), (5, False)])
def test_a_patient_is_refused_where_most_slices_are(n_far, accepted):
    verdicts, samples = patient(n_far)
    verdict = gate(clouds={"hu": cloud(2.0)}).judge_patients(verdicts, samples)["a"]
    assert verdict.accepted == accepted
    assert (f"{n_far} of 5 slices refused" in verdict.reason) == (not accepted)


def test_a_patient_who_is_nearer_when_turned_over_lies_upside_down():
    verdicts, samples = patient(0)
    nearer = np.array([[0.05, 0, 0, 0, 0, 0]], np.float32)
    slightly = [Verdict(True, 0.9, "") for _ in verdicts]
    said = gate().judge_patients(slightly, samples, lambda rows: np.repeat(nearer, len(rows), 0))
    assert not said["a"].accepted
    assert "looks upside down" in said["a"].reason
    assert "check the orientation" in said["a"].reason
    same = gate().judge_patients(verdicts, samples, lambda rows: np.repeat(FAR, len(rows), 0))
    assert same["a"].accepted


def test_a_gate_comes_back_as_it_was_written():
    document, arrays = gate_to_document(gate(notes=("a note",)))
    again = gate_from_document(document, arrays)
    rows = np.random.default_rng(2).normal(size=(9, D)).astype(np.float32)
    samples = [SAMPLE] * 9
    assert again.judge(rows, samples) == gate().judge(rows, samples)
    assert (again.notes, again.weights, again.phases) == (("a note",), "f" * 64, gate().phases)


def test_a_gate_with_something_missing_or_false_is_refused():
    document, arrays = gate_to_document(gate())
    with pytest.raises(BundleError, match="expected one that hepar wrote"):
        gate_from_document({k: v for k, v in document.items() if k != "kinds"}, arrays)
    with pytest.raises(BundleError, match="variances and a limit above 0"):
        gate_from_document({**document, "clouds": {"hu": {"rest": -1.0, "limit": 2.0}}}, arrays)
    with pytest.raises(BundleError, match="expected directions"):
        gate_from_document(document, {**arrays, "hu/mean": np.zeros(D + 1)})


def test_a_bundle_carries_its_gate_and_notices_every_changed_byte(small_bundle, tmp_path):
    folder = tmp_path / "bundle"
    write_bundle(folder, replace(small_bundle, gate=gate()))
    assert read_bundle(folder).gate.n_patients == 60
    arrays = folder / "gate.safetensors"
    content = arrays.read_bytes()
    arrays.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"gate.safetensors: expected the file as written"):
        read_bundle(folder)
    arrays.write_bytes(content)
    text = (folder / "gate.json").read_text()
    (folder / "gate.json").write_text(text.replace('"n_patients": 60', '"n_patients": 61'))
    with pytest.raises(BundleError, match=r"gate.json: expected the file as written"):
        read_bundle(folder)
    (folder / "gate.json").write_text(text)
    arrays.unlink()
    with pytest.raises(BundleError, match="expected the files"):
        read_bundle(folder)


def test_a_gate_can_be_taken_away(small_bundle, tmp_path):
    folder = tmp_path / "bundle"
    write_bundle(folder, replace(small_bundle, gate=gate()))
    write_gate(folder, None, small_bundle.provenance)
    assert read_bundle(folder).gate is None


def test_a_tile_has_no_upper_side():
    tiles = [replace(SAMPLE, sample_id=f"a/{i}", kind="rgb", spacing_mm=None) for i in range(4)]
    clouds = {"rgb": cloud(), "hu": cloud()}
    made = gate(clouds=clouds, kinds=("rgb", "hu"), spacing_mm=None)
    upright = made.judge(np.repeat(FAR, 4, axis=0), tiles)

    def turned(positions):
        return np.repeat(NEAR, len(positions), axis=0)

    answer = made.judge_patients(upright, tiles, turned)["a"]
    assert "upside down" not in answer.reason
    asked = made.judge_patients(upright, [replace(t, kind="hu") for t in tiles], turned)["a"]
    assert "upside down" in asked.reason
