"""What the ideal observer sees: everything at no noise, nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepar.errors import PhantomError
from hepar.phantom import LABELS, PhantomConfig, make_patient, observe
from hepar.phantom.cohort import Scene, harden, make_scene
from hepar.phantom.observer import NO_LESION, imagine, weigh
from hepar.phantom.scanner import blur, expose, noise_covariance

CONFIG = PhantomConfig(patients=6, slices=3, size=96, seed=5)


def _answer(probabilities: dict[str, float]) -> str:
    return max(probabilities, key=lambda label: probabilities[label])


def _picture(scene: Scene) -> np.ndarray:
    return np.stack([blur(hu, scene.scan) for hu in scene.hu])


@pytest.mark.parametrize("difficulty", [0.0, 0.5])
def test_every_patient_of_a_phantom_that_is_not_very_hard_is_answered_right(
    difficulty: float,
) -> None:
    config = replace(CONFIG, difficulty=difficulty)
    answers = [_answer(observe(config, number)) for number in range(1, 7)]
    assert answers == [make_patient(config, number).label for number in range(1, 7)]


@pytest.mark.parametrize("label", ["malignant", "benign"])
def test_a_healthy_liver_is_normal_wherever_one_asks(label: str) -> None:
    for number in (1, 2):
        scene = make_scene(CONFIG, number, label)
        rng = np.random.default_rng(number)
        looks = imagine(scene, harden(CONFIG.difficulty), rng)
        found = weigh(scene, _picture(scene), scene.growths, looks)
        assert found["normal"] > 0.99


def test_lesions_without_contrast_are_answered_by_chance() -> None:
    scene = make_scene(CONFIG, 1, "malignant")
    nothing = tuple(
        replace(g, contrast=0.0, rim=0.0, nodules=0.0, uneven=0.0) for g in scene.growths
    )
    looks = {label: [NO_LESION] for label in LABELS}
    found = weigh(scene, _picture(scene), nothing, looks)
    assert list(found.values()) == pytest.approx([1 / 3] * 3)


def test_the_noise_of_filters_is_as_strong_as_the_scanner_makes_it() -> None:
    scene = make_scene(CONFIG, 1)
    hu, inside, rng = scene.hu[1], scene.inside[1], np.random.default_rng(0)
    filters = np.zeros((2, *hu.shape))
    filters[0, 40:48, 40:48] = 1 / 64
    filters[1, 44, 30:60] = 1 / 30
    shots = np.stack([expose(hu, inside, scene.scan, rng) for _ in range(400)])
    drawn = np.cov(filters.reshape(2, -1) @ shots.reshape(400, -1).T)
    # 400 draws leave 7 % of a variance to chance
    np.testing.assert_allclose(
        np.diag(noise_covariance(filters, inside, scene.scan)), np.diag(drawn), rtol=0.25
    )


def test_the_noisier_the_scan_the_less_sure_the_answer() -> None:
    scene = make_scene(CONFIG, 1, "normal")
    asked = make_scene(CONFIG, 1, "malignant").growths
    found = []
    for noise_hu in (1.0, 60.0, 600.0):
        noisy = replace(scene, scan=replace(scene.scan, noise_hu=noise_hu))
        rng = np.random.default_rng(0)
        looks = imagine(noisy, harden(1.0), rng)
        found.append(weigh(noisy, _picture(noisy), asked, looks)["normal"])
    assert found[0] > found[1] > found[2]
    assert found[0] > 0.99
    assert found[2] < 0.6


def test_the_looks_of_a_kind_are_those_of_its_lesions() -> None:
    scene = make_scene(CONFIG, 1)
    looks = imagine(scene, 0.0, np.random.default_rng(0))
    assert looks["normal"] == [NO_LESION]
    assert sum(look.share for look in looks["malignant"]) == pytest.approx(1.0)
    cyst = looks["benign"][0]
    # a cyst holds water (6 HU on average), and easy lesions have 1.3 times their contrast
    assert cyst.mean[1] == pytest.approx(1.3 * (6 - scene.liver_hu), abs=3)


def test_without_an_outline_there_is_no_answer() -> None:
    scene = make_scene(CONFIG, 1)
    rng = np.random.default_rng(0)
    with pytest.raises(PhantomError, match="expected one outline or more"):
        weigh(scene, _picture(scene), (), imagine(scene, 0.5, rng))


def test_a_patient_can_be_drawn_with_the_lesions_of_another_label() -> None:
    scenes = {label: make_scene(CONFIG, 2, label) for label in LABELS}
    assert [bool(scenes[label].growths) for label in LABELS] == [True, True, False]
    np.testing.assert_array_equal(scenes["malignant"].hu, scenes["normal"].hu)
