"""Focal lesions with a known kind, place and diameter, and the harmless patches that mimic them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hepar.phantom.shapes import Field, Waves, cover, ellipsoid, make_waves, paint

__all__ = ["KINDS", "Growth", "Lesion", "draw_growth", "plan_growths", "plan_patches"]

KINDS = {"malignant": ("metastasis", "carcinoma"), "benign": ("cyst", "haemangioma"), "normal": ()}
"""Kinds of lesion by label."""


@dataclass(frozen=True)
class Lesion:
    """One lesion as the reference standard knows it.

    Attributes:
        lesion_id: unique in the cohort.
        kind: metastasis, carcinoma, cyst or haemangioma.
        diameter_mm: of the sphere of the same volume.
        centre_mm: (z, y, x) from the centre of voxel (0, 0, 0), in mm.
        slices: indices of the slices whose mask shows it.
    """

    lesion_id: str
    kind: str
    diameter_mm: float
    centre_mm: tuple[float, float, float]
    slices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Growth:
    """How a lesion, or a patch that is none, is drawn; mm are real, HU are added to the liver.

    Attributes:
        kind: a lesion's kind, or "patch".
        centre: (x, y, z) in mm, from the middle of the slice grid.
        radii: semi-axes in mm.
        tilt: turn in the plane, degrees.
        roughness: how far the surface wanders, as a share of the radius.
        surface: the field it wanders by.
        inside: the field that makes it uneven.
        edge_mm: width of its margin.
        contrast: HU of the middle relative to the liver.
        rim: HU of the outer shell relative to the middle.
        nodules: HU of the nodules under the surface relative to the middle.
        uneven: HU of the unevenness.
    """

    kind: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    tilt: float
    roughness: float
    surface: Waves
    inside: Waves
    edge_mm: float
    contrast: float
    rim: float
    nodules: float
    uneven: float

    @property
    def diameter_mm(self) -> float:
        """Diameter of the sphere of the same volume, mm."""
        return float(2 * np.prod(self.radii) ** (1 / 3))


@dataclass(frozen=True)
class Look:
    """What a kind of lesion looks like in one contrast phase; fields as in `Growth`."""

    contrast: float
    rim: float
    nodules: float
    uneven: float
    roughness: float
    edge_mm: float


COMMON = Look(contrast=-42, rim=0, nodules=0, uneven=5, roughness=0.10, edge_mm=2.4)
"""What malignant and benign lesions come to look like as difficulty grows."""

COMMON_COUNT, COMMON_RADIUS_MM = 3.0, 12.0
"""How many, and how large, they come to be."""

COUNTS = {"metastasis": (7, 4.0), "carcinoma": (2, 1.2), "cyst": (1, 0.5), "haemangioma": (1, 0.5)}
"""Fewest, and the mean number beyond that, of the lesions that one patient has of a kind."""

RADII_MM = {"metastasis": 9.5, "carcinoma": 17.0, "cyst": 20.0, "haemangioma": 20.0}
"""Median radius by kind before difficulty changes it."""


def _look(kind: str, phase: str, liver: float, rng: np.random.Generator) -> Look:
    """Return the textbook look of a lesion."""
    if kind == "cyst":
        return Look(float(rng.normal(6, 4)) - liver, 0, 0, 1.0, 0.03, 0.8)
    if kind == "haemangioma":
        middle = {"arterial": -20.0, "portal_venous": 12.0, "delayed": 30.0}[phase]
        nodules = {"arterial": 150.0, "portal_venous": 100.0, "delayed": 40.0}[phase]
        return Look(middle + float(rng.normal(0, 6)), 0, nodules, 3, 0.07, 1.2)
    if kind == "carcinoma":
        by_phase = {"non_contrast": -16, "arterial": 16, "portal_venous": -12, "delayed": -16}
        rim = 30.0 if phase in {"portal_venous", "delayed"} else 0.0
        return Look(by_phase[phase] + float(rng.normal(0, 6)), rim, 0, 38, 0.2, 2.5)
    middle = -20.0 if phase == "non_contrast" else -40.0
    rim = 0.0 if phase == "non_contrast" else float(rng.choice([15, 35, 45]))
    return Look(middle + float(rng.normal(0, 6)), rim, 0, 13, 0.24, 5.0)


def _blend(own: Look, share: float) -> Look:
    """Return a look part of the way to `COMMON`."""
    mixed = {
        name: (1 - share) * getattr(own, name) + share * getattr(COMMON, name)
        for name in Look.__dataclass_fields__
    }
    return Look(**mixed)


@dataclass(frozen=True, eq=False)
class Site:
    """The liver to place lesions in.

    Attributes:
        depth: (z, y, x) distance to the liver's edge within each slice, mm.
        heights: (z,) mm from the middle of the series.
        pixel_mm: in-plane pixel size.
    """

    depth: Field
    heights: Field
    pixel_mm: float


def measure_site(liver: Field, heights: Field, pixel_mm: float) -> Site:
    """Measure how deep in the liver each voxel lies.

    Args:
        liver: (z, y, x) share of each voxel that is liver.
        heights: (z,) mm.
        pixel_mm: in-plane pixel size.
    """
    depth = np.stack(
        [cv2.distanceTransform((share > 0.5).astype(np.uint8), cv2.DIST_L2, 5) for share in liver]
    )
    return Site(np.asarray(depth * pixel_mm, np.float32), heights, pixel_mm)


def _place(
    rng: np.random.Generator, site: Site, radius: float, taken: list[Growth]
) -> tuple[tuple[float, float, float], float] | None:
    """Return a centre where a lesion fits whole, and the radius that fits; None if none does."""
    size = site.depth.shape[1]
    for _ in range(30):
        level = int(rng.integers(len(site.heights)))
        reach = np.abs(site.heights - site.heights[level]) < radius
        depth = site.depth[reach].min(axis=0)
        depth = np.minimum(depth, site.depth[level])
        rows, columns = np.nonzero(depth > 1.15 * radius)
        radius *= 0.94
        if len(rows) == 0:
            continue
        pick = int(rng.integers(len(rows)))
        x = (float(columns[pick]) - (size - 1) / 2) * site.pixel_mm
        y = (float(rows[pick]) - (size - 1) / 2) * site.pixel_mm
        z = float(site.heights[level])
        gaps = [
            np.hypot(np.hypot(x - g.centre[0], y - g.centre[1]), z - g.centre[2]) for g in taken
        ]
        room = [
            gap - 1.25 * radius - 1.25 * max(g.radii) for gap, g in zip(gaps, taken, strict=True)
        ]
        if min(room, default=1.0) > 0:
            return (x, y, z), radius
    return None


def _grow(
    rng: np.random.Generator,
    kind: str,
    centre: tuple[float, float, float],
    radius: float,
    look: Look,
    contrast: float,
) -> Growth:
    stretch = np.exp(rng.normal(0, 0.09, 3))
    radii = radius * stretch / np.prod(stretch) ** (1 / 3)
    return Growth(
        kind=kind,
        centre=centre,
        radii=(float(radii[0]), float(radii[1]), float(radii[2])),
        tilt=float(rng.uniform(-90, 90)),
        roughness=look.roughness,
        surface=make_waves(rng, 0.8 * radius, 3.0 * radius, 16),
        inside=make_waves(rng, max(3.5, 0.35 * radius), 1.4 * radius + 4, 24),
        edge_mm=look.edge_mm,
        contrast=contrast * look.contrast,
        rim=contrast * look.rim,
        nodules=contrast * look.nodules,
        uneven=contrast * look.uneven,
    )


def plan_growths(
    rng: np.random.Generator,
    label: str,
    site: Site,
    *,
    phase: str,
    liver_hu: float,
    hardness: float,
) -> list[Growth]:
    """Place one patient's lesions: at least one, and enough to show on most slices.

    Args:
        rng: the patient's own generator.
        label: malignant, benign or normal; normal gets none.
        site: the liver to place them in.
        phase: contrast phase.
        liver_hu: mean HU of this liver.
        hardness: 0 to 1; takes away contrast and size, and makes the two labels look alike.
    """
    if not KINDS[label]:
        return []
    kind = str(rng.choice(KINDS[label]))
    if kind == "haemangioma" and phase == "non_contrast":
        kind = "cyst"  # without contrast nothing tells a haemangioma apart
    alike = float(np.clip(0.8 * hardness**2 + 0.2 * hardness * rng.normal(), 0, 1))
    faint = float(np.clip(1.3 - hardness * rng.normal(1.0, 0.2), 0.12, 1.3))
    fewest, beyond = COUNTS[kind]
    wanted = round((1 - alike) * (fewest + int(rng.poisson(beyond))) + alike * COMMON_COUNT)
    usual = ((1 - alike) * RADII_MM[kind] + alike * COMMON_RADIUS_MM) * (1.2 - 0.4 * hardness)
    growths: list[Growth] = []
    for _ in range(24):
        shown = [
            any(abs(h - g.centre[2]) < 0.8 * g.radii[2] for g in growths) for h in site.heights
        ]
        if len(growths) >= wanted and np.mean(shown) >= 0.75:
            break
        radius = float(np.clip(usual * np.exp(rng.normal(0, 0.3)), 4.5, 34))
        found = _place(rng, site, radius, growths)
        if found is None:
            continue
        look = _blend(_look(kind, phase, liver_hu, rng), alike)
        growths.append(_grow(rng, kind, *found, look, faint))
    return growths


def plan_patches(rng: np.random.Generator, site: Site, hardness: float) -> list[Growth]:
    """Place patches of uneven fat or perfusion, which any liver may have and no mask shows."""
    patches: list[Growth] = []
    for _ in range(int(rng.poisson(2.0 * hardness))):
        found = _place(rng, site, float(rng.uniform(6, 13)), patches)
        if found is not None:
            look = Look(float(rng.choice([-18, -14, 14])), 0, 0, 5, 0.22, 6.0)
            patches.append(_grow(rng, "patch", *found, look, 1.0))
    return patches


def draw_growth(
    hu: Field, ground: Field, liver: Field, growth: Growth, z: float, pixel_mm: float
) -> np.ndarray:
    """Paint a lesion or patch into one slice, in place, inside the liver.

    Args:
        hu: (y, x) picture.
        ground: (y, x) HU that it adds to: the liver without its vessels, which a lesion pushes
            aside, or `hu` itself, so that they run on.
        liver: (y, x) share of each pixel that is liver.
        growth: what to paint.
        z: height of the slice in mm.
        pixel_mm: in-plane pixel size.

    Returns:
        (y, x) bool, where it is.
    """
    here = np.zeros(hu.shape, bool)
    reach = 1.5 * max(growth.radii) + growth.edge_mm
    if abs(z - growth.centre[2]) > reach:
        return here
    axis = (np.arange(hu.shape[0], dtype=np.float32) - (hu.shape[0] - 1) / 2) * np.float32(pixel_mm)
    columns = slice(*np.searchsorted(axis, (growth.centre[0] - reach, growth.centre[0] + reach)))
    rows = slice(*np.searchsorted(axis, (growth.centre[1] - reach, growth.centre[1] + reach)))
    xs, ys = axis[columns].astype(np.float32), axis[rows].astype(np.float32)
    radius = growth.diameter_mm / 2
    x, y = np.meshgrid(xs, ys)
    gap = ellipsoid(x, y, z, growth.centre, growth.radii, growth.tilt)
    gap = gap + np.float32(growth.roughness * radius) * growth.surface(xs, ys, z)
    inside = growth.inside(xs, ys, z)
    value = growth.contrast + growth.uneven * inside
    shell = np.clip(1 - np.abs(gap + 0.14 * radius) / (0.14 * radius + 1), 0, 1)
    value = value + growth.rim * shell
    nodule = np.clip((inside + 0.3) * 1.5, 0, 1) * np.clip(
        1 + (gap + 0.1 * radius) / (0.4 * radius), 0, 1
    )
    value = value + growth.nodules * nodule
    box = (rows, columns)
    share = cover(gap, 1.0, max(growth.edge_mm, pixel_mm)) * np.clip(liver[box], 0, 1)
    paint(hu[box], share, ground[box] + value)
    here[box] = (gap < 0) & (liver[box] > 0.5)
    return here
