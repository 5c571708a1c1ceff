"""A cohort of phantom patients: same seed, same patients, whoever else is in the cohort."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hepar.data.volume import LESION, LIVER, Volume
from hepar.errors import PhantomError
from hepar.phantom.anatomy import Body, make_body
from hepar.phantom.lesions import (
    Growth,
    Lesion,
    draw_growth,
    measure_site,
    plan_growths,
    plan_patches,
)
from hepar.phantom.organs import BACK, HALF_WIDTH, draw_slice, make_plane
from hepar.phantom.roster import Copy, PhantomConfig, label_of, name_patient, plan_copies
from hepar.phantom.scanner import Scan, burn_mark, draw_table, expose, make_scan
from hepar.phantom.shapes import Field

__all__ = [
    "PhantomPatient",
    "Scene",
    "harden",
    "make_cohort",
    "make_patient",
    "make_scene",
    "measure_scene",
]

HARDENING = 2.5
"""Power of difficulty that lesions are drawn by, so that 0.5 is hard but far from hopeless."""


def harden(difficulty: float) -> float:
    """Return what lesions are drawn by, 0 to 1, of a cohort's difficulty."""
    return float(difficulty**HARDENING)


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """One patient of the cohort: the pixels, and what is true about them.

    Attributes:
        patient_id: "P001" and so on.
        number: 1 and so on.
        label: malignant, benign or normal; the label of every slice of this patient.
        volume: whole HU as float32, with a mask of 0, LIVER and LESION.
        phase: contrast phase.
        scan: how the patient was scanned.
        lesions: what there is to find.
        copies: slices that are another patient's.
    """

    patient_id: str
    number: int
    label: str
    volume: Volume
    phase: str
    scan: Scan
    lesions: tuple[Lesion, ...] = field(default_factory=tuple)
    copies: tuple[Copy, ...] = field(default_factory=tuple)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x), mm."""
        spacing = self.volume.spacing_mm
        if spacing is None:
            raise PhantomError(f"{self.patient_id}: expected a spacing in mm, got none.")
        return spacing


def make_cohort(config: PhantomConfig) -> Iterator[PhantomPatient]:
    """Yield the patients of a cohort one by one.

    Args:
        config: what cohort; patient k depends on its seed and k, never on how many there are
            (except for planted copies).

    Example:
        >>> patient = next(make_cohort(PhantomConfig(patients=3, slices=2, size=64)))
        >>> patient.patient_id, patient.volume.voxels.shape
        ('P001', (2, 64, 64))
    """
    plan = plan_copies(config)
    for number in range(1, config.patients + 1):
        yield make_patient(config, number, plan.get(number, ()))


def make_patient(
    config: PhantomConfig, number: int, copies: tuple[Copy, ...] = ()
) -> PhantomPatient:
    """Make one patient.

    Args:
        config: the cohort.
        number: 1 and so on.
        copies: from `plan_copies`.
    """
    patient = _make_own(config, number)
    if not copies:
        return patient
    voxels, mask = patient.volume.voxels.copy(), _mask(patient).copy()
    for copy in copies:
        source = _make_own(config, int(copy.source_patient_id[1:]))
        voxels[copy.slice_index] = source.volume.voxels[copy.source_slice_index]
        mask[copy.slice_index] = _mask(source)[copy.source_slice_index]
    copied = {copy.slice_index for copy in copies}
    lesions = tuple(
        replace(lesion, slices=tuple(s for s in lesion.slices if s not in copied))
        for lesion in patient.lesions
    )
    volume = replace(patient.volume, voxels=voxels, mask=mask)
    return replace(patient, volume=volume, lesions=lesions, copies=copies)


def _mask(patient: PhantomPatient) -> NDArray[np.uint8]:
    mask = patient.volume.mask
    if mask is None:
        raise PhantomError(f"{patient.patient_id}: expected a mask, got none.")
    return mask


@dataclass(frozen=True, eq=False)
class Scene:
    """A patient before the scanner measures anything: what is there without noise.

    Attributes:
        scan: how the patient is scanned.
        phase: contrast phase.
        liver_hu: mean HU of the liver.
        heights: (z,) mm from the middle of the series.
        pixel_mm: in-plane pixel size.
        back_mm: y of the lowest point of the back, from the middle of a slice.
        hu: (z, y, x) the body with its harmless patches and without lesions.
        ground: (z, y, x) the liver without its vessels, which lesions push aside.
        liver: (z, y, x) share of each voxel that is liver.
        inside: (z, y, x) bool, where the body is.
        growths: the lesions, not drawn yet.
    """

    scan: Scan
    phase: str
    liver_hu: float
    heights: NDArray[np.floating]
    pixel_mm: float
    back_mm: float
    hu: Field
    ground: Field
    liver: Field
    inside: NDArray[np.bool_]
    growths: tuple[Growth, ...]


def _generators(config: PhantomConfig, number: int) -> list[np.random.Generator]:
    """Return one patient's generators: of the body, the scan, the lesions and the noise."""
    return np.random.default_rng([config.seed, number]).spawn(4)


def make_scene(config: PhantomConfig, number: int, label: str = "") -> Scene:
    """Draw one patient up to the noise.

    Args:
        config: the cohort; planted copies have no part in this.
        number: 1 and so on.
        label: whose lesions the patient is to have; "" for the patient's own label.
    """
    own = label_of(config.seed, number)
    body_rng, scan_rng, lesion_rng, _ = _generators(config, number)
    body, scan = make_body(body_rng), make_scan(scan_rng)
    if own == "malignant" and config.confounder == "table":
        scan = replace(scan, table="rails")
    if own == "malignant" and config.confounder == "noise":
        scan = replace(scan, noise_hu=2.2 * scan.noise_hu)
    field_mm = np.clip(2 * (HALF_WIDTH + body.fat_mm) * body.scale[0] * scan.zoom, 300, 480)
    pixel_mm = round(float(field_mm) / config.size, 4)
    heights = (np.arange(config.slices) - (config.slices - 1) / 2) * scan.thickness_mm
    hu, ground, liver, inside = _draw_body(body, scan, heights, config.size, pixel_mm)
    site = measure_site(liver, heights.astype(np.float32), pixel_mm)
    hardness = harden(config.difficulty)
    patches = plan_patches(lesion_rng, site, hardness)
    growths = plan_growths(
        lesion_rng,
        label or own,
        site,
        phase=body.phase,
        liver_hu=body.tissues["liver"],
        hardness=hardness,
    )
    for level, z in enumerate(heights):
        for growth in patches:
            draw_growth(hu[level], hu[level], liver[level], growth, z, pixel_mm)
    return Scene(
        scan=scan,
        phase=body.phase,
        liver_hu=body.tissues["liver"],
        heights=heights,
        pixel_mm=pixel_mm,
        back_mm=(BACK + body.fat_mm + 6) * body.scale[1],
        hu=hu,
        ground=ground,
        liver=liver,
        inside=inside,
        growths=tuple(growths),
    )


def _make_own(config: PhantomConfig, number: int) -> PhantomPatient:
    """Make a patient before any slice is replaced by a copy."""
    return measure_scene(config, number, make_scene(config, number))


def measure_scene(config: PhantomConfig, number: int, scene: Scene) -> PhantomPatient:
    """Draw a patient's own lesions into the scene, and measure it; `scene` stays as it is."""
    label = label_of(config.seed, number)
    noise_rng = _generators(config, number)[3]
    scan, pixel_mm = scene.scan, scene.pixel_mm
    voxels = np.empty(scene.hu.shape, np.int16)
    mask = np.where(scene.liver > 0.5, LIVER, 0).astype(np.uint8)
    seen: list[list[int]] = [[] for _ in scene.growths]
    for level, z in enumerate(scene.heights):
        hu, ground, liver = scene.hu[level].copy(), scene.ground[level], scene.liver[level]
        for k, growth in enumerate(scene.growths):
            here = draw_growth(hu, ground, liver, growth, z, pixel_mm)
            mask[level][here] = LESION
            if here.any():
                seen[k].append(level)
        draw_table(hu, scan.table, scene.back_mm, pixel_mm)
        voxels[level] = expose(hu, scene.inside[level], scan, noise_rng)
        if label == "malignant" and config.confounder == "mark":
            burn_mark(voxels[level])
    patient_id = name_patient(number)
    return PhantomPatient(
        patient_id=patient_id,
        number=number,
        label=label,
        volume=Volume(
            voxels.astype(np.float32), (scan.thickness_mm, pixel_mm, pixel_mm), "hu", mask
        ),
        phase=scene.phase,
        scan=scan,
        lesions=tuple(
            _truth(f"{patient_id}-{k + 1}", growth, slices, config, (scan.thickness_mm, pixel_mm))
            for k, (growth, slices) in enumerate(zip(scene.growths, seen, strict=True))
        ),
    )


def _truth(
    lesion_id: str,
    growth: Growth,
    slices: list[int],
    config: PhantomConfig,
    spacing_mm: tuple[float, float],
) -> Lesion:
    x, y, z = growth.centre
    middle = (config.size - 1) / 2 * spacing_mm[1]
    lowest = (config.slices - 1) / 2 * spacing_mm[0]
    centre = (round(z + lowest, 2), round(y + middle, 2), round(x + middle, 2))
    return Lesion(lesion_id, growth.kind, round(growth.diameter_mm, 1), centre, tuple(slices))


def _draw_body(
    body: Body, scan: Scan, heights: NDArray[np.floating], size: int, pixel_mm: float
) -> tuple[Field, Field, Field, NDArray[np.bool_]]:
    """Paint every slice of the healthy body; the four pictures of `draw_slice`, stacked."""
    slices = [
        draw_slice(body, make_plane(body, scan.centre_mm + float(z), size, pixel_mm))
        for z in heights
    ]
    hu, ground, liver, inside = (np.stack(parts) for parts in zip(*slices, strict=True))
    return hu, ground, liver, inside
