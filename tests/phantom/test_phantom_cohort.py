"""What a phantom cohort promises: same seed, same patients, a truth that the pixels bear out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from hepar.data.volume import LESION, LIVER
from hepar.errors import PhantomError
from hepar.phantom import LABELS, PhantomConfig, PhantomPatient, make_cohort, make_patient
from hepar.phantom.lesions import draw_growth, measure_site, plan_growths


def _differ(first: PhantomPatient, second: PhantomPatient) -> bool:
    return not np.array_equal(first.volume.voxels, second.volume.voxels)


def test_the_same_seed_gives_the_same_patient(
    config: PhantomConfig, patients: list[PhantomPatient]
) -> None:
    again = make_patient(config, 2)
    np.testing.assert_array_equal(again.volume.voxels, patients[1].volume.voxels)
    np.testing.assert_array_equal(again.volume.mask, patients[1].volume.mask)
    assert again.lesions == patients[1].lesions


def test_another_seed_gives_another_patient(
    config: PhantomConfig, patients: list[PhantomPatient]
) -> None:
    assert _differ(make_patient(replace(config, seed=config.seed + 1), 1), patients[0])


def test_a_patient_does_not_depend_on_how_many_there_are(
    config: PhantomConfig, patients: list[PhantomPatient]
) -> None:
    small = list(make_cohort(replace(config, patients=3)))
    for few, many in zip(small, patients, strict=False):
        assert few.label == many.label
        np.testing.assert_array_equal(few.volume.voxels, many.volume.voxels)


def test_labels_have_equal_shares(patients: list[PhantomPatient]) -> None:
    assert Counter(p.label for p in patients) == dict.fromkeys(LABELS, 4)


def test_only_diseased_patients_have_lesions(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        drawn = bool((patient.volume.mask == LESION).any())
        assert drawn == bool(patient.lesions) == (patient.label != "normal"), patient.patient_id


def test_most_slices_of_a_diseased_patient_show_a_lesion(patients: list[PhantomPatient]) -> None:
    shown = [
        (p.volume.mask == LESION).any(axis=(1, 2)).mean() for p in patients if p.label != "normal"
    ]
    assert np.mean(shown) > 0.5


def test_lesions_lie_inside_the_liver(patients: list[PhantomPatient]) -> None:
    # every neighbour of a lesion pixel is liver or lesion, but for the few that touch the edge,
    # a vessel or the gallbladder
    for patient in patients:
        mask = np.asarray(patient.volume.mask)
        lesion = mask == LESION
        if not lesion.any():
            continue
        ring = np.zeros_like(lesion)
        for axis in (1, 2):
            for step in (-1, 1):
                ring |= np.roll(lesion, step, axis)
        ring &= ~lesion
        assert (mask[ring] == LIVER).mean() > 0.9, patient.patient_id


def test_no_vessel_runs_through_a_cyst(
    config: PhantomConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without noise; a vessel in contrast is some 50 HU brighter than the liver around it
    monkeypatch.setattr("hepar.phantom.cohort.expose", lambda hu, *_: hu.astype(np.int16))
    seen = 0
    for number in range(1, 25):
        patient = make_patient(replace(config, slices=3), number)
        if patient.phase != "portal_venous" or {x.kind for x in patient.lesions} != {"cyst"}:
            continue
        mask = np.asarray(patient.volume.mask)
        inside = [cv2.erode((m == LESION).astype(np.uint8), np.ones((5, 5))) > 0 for m in mask]
        fluid = patient.volume.voxels[np.stack(inside)]
        seen += len(fluid)
        # 99 %: a vessel in a fissure of the liver may still touch the cyst
        assert np.percentile(fluid, 99) < np.median(fluid) + 15, number
    assert seen > 500


def test_diameters_agree_with_masks() -> None:
    # drawn one by one in a block of liver with slices 2 mm apart, so that nothing is cut off;
    # 15 % because the surface wanders by up to a quarter of the radius
    heights = np.arange(-60, 61, 2, dtype=np.float32)
    liver = np.zeros((len(heights), 128, 128), np.float32)
    liver[:, 4:-4, 4:-4] = 1
    site = measure_site(liver, heights, 1.0)
    errors = []
    for seed in range(4):
        for label in ("malignant", "benign"):
            growths = plan_growths(
                np.random.default_rng(seed),
                label,
                site,
                phase="portal_venous",
                liver_hu=100.0,
                hardness=0.2,
            )
            for growth in growths:
                if abs(growth.centre[2]) + 1.5 * growth.radii[2] > 60:
                    continue
                hu = np.zeros((128, 128), np.float32)
                drawn = sum(
                    int(draw_growth(hu, hu, share, growth, z, 1.0).sum())
                    for share, z in zip(liver, heights, strict=True)
                )
                errors.append((drawn * 2.0 * 6 / np.pi) ** (1 / 3) / growth.diameter_mm - 1)
    assert len(errors) > 8
    assert np.max(np.abs(errors)) < 0.15, np.round(errors, 3)


def test_organs_have_the_hu_of_their_phase(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        voxels, mask = patient.volume.voxels, patient.volume.mask
        liver = float(np.median(voxels[mask == LIVER]))
        # steatosis takes the liver down to about 0 HU; no phase takes it above 140
        assert -10 < liver < 140, patient.patient_id
        assert voxels.min() < -900  # air
        assert voxels.max() > 300  # bone
        assert np.array_equal(voxels, np.rint(voxels))


def test_contrast_brightens_the_liver(patients: list[PhantomPatient]) -> None:
    enhanced = [p for p in patients if p.phase == "portal_venous"]
    assert enhanced
    liver = [np.median(p.volume.voxels[p.volume.mask == LIVER]) for p in enhanced]
    assert np.median(liver) > 75


@pytest.mark.parametrize("confounder", ["table", "noise", "mark"])
def test_a_confounder_touches_malignant_patients_alone(
    config: PhantomConfig, patients: list[PhantomPatient], confounder: str
) -> None:
    planted = replace(config, confounder=confounder)
    for label in LABELS:
        own = next(p for p in patients if p.label == label)
        assert _differ(make_patient(planted, own.number), own) == (label == "malignant")


def test_a_mark_is_outside_the_body_and_only_there_when_asked_for(
    config: PhantomConfig, patients: list[PhantomPatient]
) -> None:
    own = next(p for p in patients if p.label == "malignant")
    marked = make_patient(replace(config, confounder="mark"), own.number)
    changed = marked.volume.voxels != own.volume.voxels
    assert changed.any()
    assert (own.volume.voxels[changed] < -700).all()
    assert (marked.volume.voxels[changed] == 1500).all()


def test_copies_are_recorded_and_identical(config: PhantomConfig) -> None:
    leaky = replace(config, slices=2, size=64, duplicates=4)
    cohort = {p.patient_id: p for p in make_cohort(leaky)}
    copies = [(p, copy) for p in cohort.values() for copy in p.copies]
    assert len(copies) == 4
    for patient, copy in copies:
        source = cohort[copy.source_patient_id]
        assert source.patient_id != patient.patient_id
        assert source.label == patient.label
        np.testing.assert_array_equal(
            patient.volume.voxels[copy.slice_index], source.volume.voxels[copy.source_slice_index]
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patients": 2}, "patients: expected a whole number from 3"),
        ({"slices": 0}, "slices: expected a whole number from 1"),
        ({"size": 63}, "size: expected a whole number from 64"),
        ({"difficulty": 1.5}, "difficulty: expected 0 .easy. to 1"),
        ({"confounder": "tabel"}, "confounder: expected one of .*table"),
        ({"duplicates": 999}, "duplicates: expected a whole number"),
        ({"patients": 3, "duplicates": 1}, "6 or more patients"),
    ],
)
def test_a_config_out_of_range_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(PhantomError, match=message):
        PhantomConfig(**wrong)
