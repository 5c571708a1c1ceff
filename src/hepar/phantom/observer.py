"""An ideal observer of the phantom: it knows where a lesion may be, and judges what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hepar.errors import PhantomError
from hepar.phantom.cohort import Scene, harden, make_scene, measure_scene
from hepar.phantom.lesions import Growth, Site, draw_growth, plan_growths
from hepar.phantom.roster import LABELS, PhantomConfig
from hepar.phantom.scanner import blur, noise_covariance
from hepar.phantom.shapes import Field

__all__ = ["Look", "imagine", "observe", "weigh"]

PARTS = ("contrast", "rim", "nodules", "uneven")
"""What a `Growth` adds to the liver, in HU, each with a template of its own."""

PLANS = 100
"""How many patients of each label the observer has seen, to know the looks of their lesions."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Look:
    """What lesions of one kind look like: amplitudes of the templates.

    Attributes:
        share: of the label's patients who have lesions of this kind.
        mean: (5,) 1 for the vessels that the lesion pushes aside, then `PARTS` in HU.
        within: (5, 5) covariance of the lesions of one patient.
        between: (5, 5) covariance of what a patient's lesions share.
    """

    share: float
    mean: Floats
    within: Floats
    between: Floats


NO_LESION = Look(1.0, np.zeros(5), np.zeros((5, 5)), np.zeros((5, 5)))


def observe(config: PhantomConfig, number: int) -> dict[str, float]:
    """Return the probability of each label of one patient, for an observer told where to look.

    It knows the patient's body, the noise of the scan, the outline and texture of what it is asked
    about, and how lesions of each kind vary. It is asked about a patient's lesions; about a patient
    without any, where the same patient would have had them, malignant or benign by a coin. From the
    outlines themselves (how many, how large, how rough) it draws no conclusion, and planted copies
    have no part in this.

    Args:
        config: the cohort.
        number: of the patient, from 1.

    Source:
        Barrett and Myers, Foundations of Image Science (2004), chapter 13.
    """
    scene = make_scene(config, number)
    rng = np.random.default_rng([config.seed, number, 1])
    asked = scene.growths
    if not asked:
        asked = make_scene(config, number, str(rng.choice(LABELS[:2]))).growths
    looks = imagine(scene, harden(config.difficulty), rng)
    voxels = measure_scene(config, number, scene).volume.voxels
    return weigh(scene, voxels, asked, looks)


def imagine(
    scene: Scene, hardness: float, rng: np.random.Generator
) -> Mapping[str, Sequence[Look]]:
    """Return how lesions look in each label, were this patient of that label.

    Args:
        scene: the patient.
        hardness: from `harden`.
        rng: of the lesions that are drawn to know this.
    """
    room = Site(np.full((1, 32, 32), 1e4, np.float32), np.zeros(1, np.float32), 100.0)
    looks: dict[str, Sequence[Look]] = {}
    for label in LABELS:
        plans = [
            plan_growths(
                rng, label, room, phase=scene.phase, liver_hu=scene.liver_hu, hardness=hardness
            )
            for _ in range(PLANS)
        ]
        kinds = sorted({plan[0].kind for plan in plans if plan})
        looks[label] = [
            _look([plan for plan in plans if plan and plan[0].kind == kind], PLANS)
            for kind in kinds
        ] or [NO_LESION]
    return looks


def _look(plans: Sequence[Sequence[Growth]], of: int) -> Look:
    """Measure one kind's amplitudes; each entry of `plans` is a patient, `of` how many in all."""
    patients = [
        np.array([[1.0, *(getattr(g, part) for part in PARTS)] for g in plan]) for plan in plans
    ]
    lesions = np.concatenate(patients)
    gaps = np.concatenate([own - own.mean(axis=0) for own in patients])
    within = gaps.T @ gaps / max(len(lesions) - len(patients), 1)
    values, axes = np.linalg.eigh(np.cov(lesions.T) - within)
    between = (axes * np.maximum(values, 0)) @ axes.T
    return Look(len(plans) / of, lesions.mean(axis=0), within, between)


def weigh(
    scene: Scene,
    voxels: Field,
    asked: Sequence[Growth],
    looks: Mapping[str, Sequence[Look]],
) -> dict[str, float]:
    """Return the probability of each label, all being as likely beforehand.

    The outputs of a lesion's matched filters are taken for normal: without the lesion with mean 0
    and the covariance of the noise, with it with the mean and spread of its kind seen through the
    filters besides.

    Args:
        scene: the patient, lesions not drawn.
        voxels: (z, y, x) HU as measured.
        asked: outlines to look at, at least one.
        looks: from `imagine`.

    Raises:
        PhantomError: there is nowhere to look.
    """
    if not asked:
        raise PhantomError(
            "ideal observer: expected one outline or more to look at, got none. "
            "Make patients whose slices show more of the liver."
        )
    healthy = np.stack([blur(hu, scene.scan) for hu in scene.hu])
    kinds = [(label, look) for label in LABELS for look in looks[label]]
    gains, outputs, stills = [], [], []
    for growth in asked:
        templates = _templates(scene, growth)
        norms = np.sqrt((templates**2).sum(axis=(1, 2, 3), keepdims=True))
        filters = templates / np.maximum(norms, 1e-9)
        flat = filters.reshape(len(filters), -1)
        gains.append(flat @ templates.reshape(len(templates), -1).T)
        outputs.append(flat @ (voxels - healthy).ravel())
        stills.append(_noise(scene, filters))
    evidence = np.array([_weigh_one(look, gains, outputs, stills) for _, look in kinds])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    return {
        label: float(sum(w for w, (own, _) in zip(weights, kinds, strict=True) if own == label))
        for label in LABELS
    }


def _noise(scene: Scene, filters: Floats) -> Floats:
    """Return the covariance of what filters (n, z, y, x) make of noise, rounding included."""
    total = np.eye(len(filters)) / 12
    for level in np.flatnonzero(filters.any(axis=(0, 2, 3))):
        total += noise_covariance(filters[:, level], scene.inside[level], scene.scan)
    return total


def _templates(scene: Scene, growth: Growth) -> Floats:
    """Return what each amplitude of a `Look` adds to the picture, (5, z, y, x) HU."""
    bare = replace(growth, contrast=0.0, rim=0.0, nodules=0.0, uneven=0.0)
    parts = [
        replace(bare, contrast=1.0),
        replace(bare, rim=1.0),
        replace(bare, nodules=1.0),
        replace(bare, uneven=1.0),
    ]
    templates = np.zeros((1 + len(PARTS), *scene.hu.shape))
    nothing = np.zeros(scene.hu.shape[1:], np.float32)
    for level, z in enumerate(scene.heights):
        liver, scan = scene.liver[level], scene.scan
        pushed = scene.hu[level].copy()
        if not draw_growth(pushed, scene.ground[level], liver, bare, z, scene.pixel_mm).any():
            continue
        templates[0, level] = blur(pushed - scene.hu[level], scan)
        for k, part in enumerate(parts, 1):
            drawn = nothing.copy()
            draw_growth(drawn, nothing, liver, part, z, scene.pixel_mm)
            templates[k, level] = blur(drawn, scan)
    return templates


def _weigh_one(
    look: Look, gains: Sequence[Floats], outputs: Sequence[Floats], stills: Sequence[Floats]
) -> float:
    """Return the logarithm of how likely all outputs are under one look, but for a constant."""
    gain, output = np.concatenate(gains), np.concatenate(outputs)
    covariance = gain @ look.between @ gain.T
    for k, (own, still) in enumerate(zip(gains, stills, strict=True)):
        block = slice(k * len(still), (k + 1) * len(still))
        covariance[block, block] += own @ look.within @ own.T + still
    gap = output - gain @ look.mean
    _, volume = np.linalg.slogdet(covariance)
    fit = gap @ np.linalg.solve(covariance, gap) + volume
    return float(np.log(look.share) - fit / 2)
