"""Each control fires where its confounder is planted in features, and none where there is none."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from hepar.config import ControlsConfig, EvaluateConfig, HeadConfig
from hepar.data import LabelSet, Sample
from hepar.fit.control_finding import chance_p
from hepar.fit.control_inputs import ControlInputs
from hepar.fit.controls import CONTROLS, make_controls
from hepar.fit.metadata import read_metadata, source_of
from hepar.fit.refit import deal_labels, permuted_codes, prepare_refit

LABELS = LabelSet(("normal", "malignant"))
PATIENTS, SLICES, DIM = 40, 3, 30


@pytest.fixture(autouse=True)
def one_thread():
    """Matrices this small take longer to share out than to multiply."""
    with threadpool_limits(1, "blas"):
        yield


def inputs(seed=0, planted="", **changed):
    """Forty patients whose label shows in the features, and nowhere else unless planted."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(PATIENTS), SLICES)
    codes = owner % 2
    tied = owner % 2

    def noise():
        own = rng.normal(size=(PATIENTS, DIM))[owner]
        return own + 0.3 * rng.normal(size=(len(owner), DIM))

    features, background, untrained = noise(), noise(), noise()
    grain = rng.normal(size=(PATIENTS, 3))[owner]
    features[:, 0] += 3 * codes
    features[:, 1] += 3 * (tied if planted == "source" else (owner // 2) % 2)
    if planted == "background":
        background[:, 0] += 3 * codes
    if planted == "untrained":
        untrained[:, 0] = features[:, 0]
        untrained[:, 1:] = features[:, 1:]
    if planted == "grain":
        grain[:, 0] += 3 * codes
    samples = []
    for i, p in enumerate(owner):
        site = "ab"[tied[i] if planted == "source" else (p // 2) % 2]
        kernel = "st"[codes[i] if planted == "metadata" else (p // 4) % 2]
        extra = {"site": site, "kernel": kernel, "lesion_px": str(99 * codes[i])}
        label = LABELS.names[codes[i]]
        name = f"P{p:02d}/{i}"
        samples.append(Sample(name, f"P{p:02d}", name, label, slice_index=i % SLICES, extra=extra))
    origin = np.arange(len(owner))
    if planted == "permutation":  # every slice of one half is a copy of the other half's
        half = PATIENTS // 2 * SLICES
        features[half:] = features[:half]
        origin[half:] = origin[:half]
    made = {
        "features": features, "samples": tuple(samples), "fold": (owner // 2) % 4, "labels": LABELS,
        "penalty": 10.0, "origin": origin, "background": background, "grain": grain,
        "untrained": untrained, "head": HeadConfig(), "config": ControlsConfig(),
        "evaluate": EvaluateConfig(resamples=200),
    }  # fmt: skip
    return ControlInputs(**{**made, **changed})


def fired(records):
    return {record["name"] for record in records if record["fires"]}


@pytest.mark.parametrize("name", list(CONTROLS))
def test_each_control_fires_on_its_own_confounder(name):
    records = make_controls(inputs(planted=name))
    assert name in fired(records)
    (own,) = (record for record in records if record["name"] == name)
    assert own["meaning"].endswith(".")
    assert "{" not in own["meaning"]
    if name not in {"permutation", "source", "untrained"}:
        assert fired(records) == {name}


def test_a_clean_cohort_has_an_alarm_no_more_often_than_it_should():
    alarms = sum(
        bool(fired(make_controls(inputs(seed, config=ControlsConfig(permutations=10)))))
        for seed in range(1, 7)
    )
    assert alarms <= 2  # at most 5 % each: three of six would come up once in 450 times


def test_what_cannot_be_made_says_why():
    records = make_controls(inputs(background="no masks", untrained="none to compare with"))
    by_name = {record["name"]: record for record in records}
    assert by_name["background"]["not_made"] == "no masks"
    assert by_name["untrained"]["value"] is None
    assert not by_name["background"]["fires"]


def test_too_few_patients_never_fire_the_untrained_network():
    one = inputs(planted="untrained")
    few = [i for i, s in enumerate(one.samples) if int(s.patient_id[1:]) < 12]
    small = inputs(
        planted="untrained",
        features=one.features[few],
        samples=tuple(one.samples[i] for i in few),
        fold=one.fold[few] % 2,
        origin=np.arange(len(few)),
        background="none",
        grain=one.grain[few],
        untrained=one.untrained[few],
    )
    (record,) = (r for r in make_controls(small) if r["name"] == "untrained")
    assert record["value"] > record["floor"]
    assert record["p"] is None
    assert "too few" in record["detail"]


def test_labels_dealt_anew_stay_with_the_patient_and_keep_their_runs():
    codes = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 1])
    patients = np.array(["a"] * 3 + ["b"] * 3 + ["c"] * 4)
    for seed in range(20):
        dealt = deal_labels(codes, patients, np.random.default_rng(seed))
        turns = [np.count_nonzero(np.diff(dealt[patients == p], append=dealt[patients == p][:1]))
                 for p in "abc"]  # fmt: skip
        assert sorted(turns) == [0, 0, 2]


def test_a_copy_keeps_the_label_dealt_to_its_original():
    one = inputs(planted="permutation")
    refit = one.refit(one.features)
    for dealt in permuted_codes(refit, one.codes, one.origin, 5, seed=0):
        np.testing.assert_array_equal(dealt, dealt[one.origin])


def test_no_deal_is_made_where_a_fold_would_lack_a_label():
    codes, fold = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    patients = np.array(list("abcd"))
    refit = prepare_refit(np.eye(4)[:, :2], patients, fold, 2, 1.0)
    assert permuted_codes(refit, codes, np.arange(4), 3, seed=0) == []


def test_the_chance_of_a_usual_score_is_not_small():
    dealt = np.random.default_rng(0).normal(0.5, 0.05, 200)
    assert chance_p(0.5, dealt)[0] == pytest.approx(0.5, abs=0.1)
    p, floor = chance_p(0.5 + 1.645 * 0.05, dealt)
    assert p == pytest.approx(0.05, abs=0.02)
    assert floor == pytest.approx(0.582, abs=0.02)


def test_metadata_leaves_out_what_tells_the_label():
    known = read_metadata(inputs().samples, skip=("site",))
    assert known.left_out == ("lesion_px", "site")
    assert "kernel" in known.used
    assert known.features.shape[0] == PATIENTS * SLICES


def test_a_class_folder_is_not_a_source():
    samples = [Sample(f"{x}/{i}", f"{x}{i}", f"{x}/{i}", x) for x in LABELS for i in range(3)]
    assert source_of(samples)[0] == ""
    moved = [Sample(f"{x}/{i}", f"{x}{i}", f"site-{x}/{i}", x) for x in LABELS for i in range(3)]
    assert source_of(moved)[0] == "top folder"
