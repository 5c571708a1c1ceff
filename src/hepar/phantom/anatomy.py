"""Who lies in the scanner: the size, organs, vessels and tissue values of one phantom.

Everything is in a standard body's mm: x towards the patient's left, y towards the back, z towards
the head with 0 at the top of the liver; `Body.scale` makes a real body of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hepar.phantom.shapes import Tube, Waves, make_waves

__all__ = ["PHASES", "Body", "Solid", "make_body"]

PHASES = ("non_contrast", "arterial", "portal_venous", "delayed")
"""Contrast phases; the column of `TISSUES` is the place in this tuple."""

PHASE_SHARES = (0.15, 0.15, 0.55, 0.15)

TISSUES: Mapping[str, tuple[float, float, float, float]] = {
    "liver": (57, 72, 108, 92),
    "spleen": (48, 118, 120, 96),
    "cortex": (33, 165, 188, 158),
    "medulla": (32, 70, 165, 165),
    "aorta": (42, 300, 160, 112),
    "cava": (41, 85, 145, 110),
    "portal": (41, 110, 168, 114),
    "hepatic_vein": (41, 68, 160, 113),
    "heart": (42, 210, 150, 108),
    "pancreas": (40, 98, 92, 72),
    "bowel_wall": (42, 95, 92, 72),
    "muscle": (54, 58, 62, 62),
}
"""Mean HU by phase; after textbook values of 120 kV abdominal CT."""

FIXED_TISSUES: Mapping[str, float] = {
    "fat": -102.0,
    "skin": 25.0,
    "lung": -840.0,
    "gas": -960.0,
    "fluid": 16.0,
    "bile": 9.0,
    "trabecular": 165.0,
    "cortical": 620.0,
    "cartilage": 95.0,
    "disc": 82.0,
    "canal": 28.0,
}


@dataclass(frozen=True)
class Solid:
    """An ellipsoid of the standard body: centre and semi-axes in mm, turn in degrees."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    tilt: float = 0.0


SOLIDS: Mapping[str, Solid] = {
    "right_dome": Solid((-66, -2, -118), (67, 100, 118)),
    "left_dome": Solid((66, 2, -130), (66, 100, 116)),
    "mediastinum": Solid((4, -8, -70), (54, 104, 100)),
    "heart": Solid((24, -44, 28), (58, 46, 62), -25),
    "right_lobe": Solid((-74, -2, -68), (70, 96, 102), 6),
    "left_lobe": Solid((6, -54, -46), (66, 36, 58), 8),
    "caudate": Solid((-18, -2, -62), (17, 20, 34), 20),
    "hollow": Solid((22, 12, -118), (56, 52, 78), 0),
    "kidney_bed": Solid((-52, 52, -142), (40, 42, 60), 0),
    "ligament": Solid((-10, -58, -88), (2.6, 34, 46), 12),
    "venosum": Solid((-6, -22, -66), (24, 2.2, 26), 14),
    "gallbladder": Solid((-44, -50, -122), (15, 24, 32), 35),
    "spleen": Solid((92, 38, -68), (32, 52, 58), -24),
    "stomach": Solid((54, -24, -58), (40, 48, 64), -18),
    "right_kidney": Solid((-52, 46, -140), (27, 31, 55), 25),
    "left_kidney": Solid((56, 44, -128), (27, 31, 56), -25),
    "oesophagus": Solid((12, -10, -10), (10, 7, 40), 20),
}
"""The mean body; each phantom's own is drawn around it."""


@dataclass(frozen=True, eq=False)
class Body:
    """One phantom's anatomy: every random choice about it, and nothing that is drawn later.

    Attributes:
        phase: contrast phase.
        scale: (x, y) real mm per standard mm.
        fat_mm: thickness of the fat under the skin, in standard mm.
        wall_mm: thickness of the muscular wall.
        tissues: mean HU by name.
        steatosis: share of fat in the liver that makes its HU uneven, 0 to 1.
        solids: ellipsoids by name.
        tubes: vessels, gland and bowel, in the order in which they are painted.
        loops: bowel loops: solid and content.
        warp: two fields that bend x and y.
        bumps: three fields that make organ surfaces uneven.
        grain: a fine field for fat, gland and parenchyma.
        vertebra_mm: height of the middle of a vertebra above z = 0.
        rib_turn: angle of the first rib in degrees.
        gas_level: y of the air-fluid level in the stomach, in mm.
        meal_hu: HU of what is in the stomach.
        has_gallbladder: it has not been removed.
    """

    phase: str
    scale: tuple[float, float]
    fat_mm: float
    wall_mm: float
    tissues: Mapping[str, float]
    steatosis: float
    solids: Mapping[str, Solid]
    tubes: tuple[Tube, ...]
    loops: tuple[tuple[Solid, str], ...]
    warp: tuple[Waves, Waves]
    bumps: tuple[Waves, Waves, Waves]
    grain: Waves
    vertebra_mm: float
    rib_turn: float
    gas_level: float
    meal_hu: float
    has_gallbladder: bool


def _tissues(rng: np.random.Generator, phase: int, steatosis: float) -> dict[str, float]:
    """Draw the tissue values of one patient in one phase, HU."""
    timing = rng.normal(0, 0.08)
    hu = dict(FIXED_TISSUES)
    for name, values in TISSUES.items():
        rest = values[0]
        hu[name] = rest + (values[phase] - rest) * (1 + timing) + rng.normal(0, 3)
    hu["liver"] -= 45 * steatosis
    hu["trabecular"] += rng.normal(0, 35)
    hu["fat"] += rng.normal(0, 3)
    return hu


def _solids(rng: np.random.Generator) -> dict[str, Solid]:
    """Draw the organs of one patient around the mean body."""
    size = {"right_lobe": rng.normal(1, 0.06), "left_lobe": rng.normal(1, 0.16)}
    size["spleen"] = rng.normal(1.0, 0.12)
    solids = {}
    for name, mean in SOLIDS.items():
        if name in {"right_dome", "left_dome", "mediastinum"}:
            shift, grow, turn = rng.normal(0, 1.0, 3), rng.normal(1, 0.01, 3), 0.0
        else:
            shift, grow, turn = rng.normal(0, 3.5, 3), rng.normal(1, 0.06, 3), rng.normal(0, 6)
        grow = grow * float(np.clip(size.get(name, 1.0), 0.7, 1.35))
        centre = [float(c + s) for c, s in zip(mean.centre, shift, strict=True)]
        radii = [float(r * g) for r, g in zip(mean.radii, grow, strict=True)]
        solids[name] = Solid(
            (centre[0], centre[1], centre[2]),
            (radii[0], radii[1], radii[2]),
            mean.tilt + float(turn),
        )
    return solids


def _branch(
    rng: np.random.Generator,
    tissue: str,
    start: np.ndarray,
    heading: np.ndarray,
    length: float,
    radius: float,
) -> list[Tube]:
    """Grow a vessel tree: each piece bends a little and parts into two thinner ones."""
    tubes = []
    waiting = [(start, heading / np.linalg.norm(heading), length, radius)]
    while waiting:
        here, way, reach, thick = waiting.pop()
        for step in range(2):
            way = way + rng.normal(0, 0.16, 3)
            way /= np.linalg.norm(way)
            there = here + way * reach / 2
            tubes.append(_tube(here, there, thick * (1 - 0.12 * step), thick * 0.86, tissue))
            here, thick = there, thick * 0.88
        if thick < 0.9:
            continue
        side = rng.normal(size=3)
        side -= way * (side @ way)
        side /= np.linalg.norm(side)
        for sign, share in ((1.0, rng.uniform(0.72, 0.9)), (-1.0, rng.uniform(0.6, 0.8))):
            turned = way + sign * side * rng.uniform(0.35, 0.75)
            waiting.append(
                (
                    here,
                    turned / np.linalg.norm(turned),
                    reach * rng.uniform(0.6, 0.85),
                    thick * share,
                )
            )
    return tubes


def _tube(start: np.ndarray, end: np.ndarray, first: float, last: float, tissue: str) -> Tube:
    a, b = [float(v) for v in start], [float(v) for v in end]
    return Tube((a[0], a[1], a[2]), (b[0], b[1], b[2]), float(first), float(last), tissue)


def _chain(points: list[tuple[float, float, float]], radii: list[float], tissue: str) -> list[Tube]:
    """Join points to a string of tubes."""
    return [
        Tube(points[i], points[i + 1], radii[i], radii[i + 1], tissue)
        for i in range(len(points) - 1)
    ]


def _liver_vessels(rng: np.random.Generator) -> list[Tube]:
    """Draw the three hepatic veins and the portal tree of one liver."""
    jitter = rng.normal(0, 4, (9, 3))
    cava = np.array([-24.0, 4.0, -22.0])
    tubes: list[Tube] = []
    for i, tip in enumerate(((-112, 22, -66), (-62, -60, -74), (30, -58, -50))):
        way = np.array(tip) + jitter[i] - cava
        tubes += _branch(rng, "hepatic_vein", cava, way, float(np.linalg.norm(way)) * 0.52, 4.6)
    hilum = np.array([-34.0, -10.0, -84.0]) + jitter[3]
    fork = np.array([-50.0, -12.0, -74.0]) + jitter[4]
    for i, (tip, radius) in enumerate(
        (((-92, -46, -52), 4.8), ((-98, 36, -84), 4.8), ((-86, -20, -118), 4.2))
    ):
        way = np.array(tip) + jitter[5 + i] - fork
        tubes += _branch(rng, "portal", fork, way, float(np.linalg.norm(way)) * 0.6, radius)
    left = np.array([-14.0, -40.0, -62.0]) + jitter[8]
    tubes += _branch(rng, "portal", left, np.array([0.9, -0.4, 0.1]), 26, 3.6)
    tubes += _branch(rng, "portal", left, np.array([-0.3, -0.8, 0.3]), 24, 3.2)
    tubes.append(_tube(hilum, fork, 6.6, 5.6, "portal"))
    tubes.append(_tube(hilum, left, 5.2, 4.0, "portal"))
    tubes.append(_tube(np.array([-8.0, -12.0, -112.0]), hilum, 6.6, 6.6, "portal"))
    return tubes


def _abdomen_vessels(rng: np.random.Generator) -> list[Tube]:
    """Draw gland and vessels outside the liver: pancreas, mesentery, adrenals, renal veins."""
    up = float(rng.normal(0, 8))
    tubes = _chain(
        [(-26, -10, -132 + up), (-4, -24, -118 + up), (22, -26, -108 + up), (74, 10, -92 + up)],
        [13, 10, 9, 8],
        "pancreas",
    )
    tubes += _chain(
        [(-8, -12, -112 + up), (24, -16, -106 + up), (56, 4, -95 + up), (82, 22, -80 + up)],
        [4.6, 4, 3.6, 3.2],
        "portal",
    )
    tubes += _chain([(8, -6, -92), (8, -20, -100), (5, -22, -190)], [3.2, 3.4, 3.2], "aorta")
    tubes += _chain([(8, -4, -78), (10, -22, -80), (-22, -20, -86)], [3, 2.8, 2.2], "aorta")
    tubes += _chain([(-10, -20, -112), (-9, -26, -190)], [5, 5], "portal")
    for side in (-1, 1):
        tubes += _chain(
            [(side * 30, 20, -88), (side * 36, 26, -96), (side * 42, 38, -106)],
            [1.8, 2.4, 1.6],
            "adrenal",
        )
        tubes += _chain([(-18, 2, -136), (side * 28, 34, -136)], [4, 3.5], "cava")
    for _ in range(70):
        x, y = rng.uniform(-40, 100), rng.uniform(-90, 10)
        start = np.array([x, y, rng.uniform(-190, -70)])
        way = rng.normal(0, 1, 3) * (9, 9, 22)
        radius = rng.uniform(0.8, 1.9)
        tubes.append(_tube(start, start + way, radius, radius * 0.8, "mesenteric"))
    return tubes


def _loops(rng: np.random.Generator) -> list[tuple[Solid, str]]:
    """Draw bowel: colon under the front wall and at both flexures, small bowel on the left."""
    loops: list[tuple[Solid, str]] = []
    for _ in range(16):
        centre = (rng.uniform(0, 100), rng.uniform(-70, 0), rng.uniform(-185, -105))
        radii = (rng.uniform(9, 17), rng.uniform(9, 14), rng.uniform(10, 24))
        loops.append((Solid(centre, radii, rng.uniform(-90, 90)), "small"))
    for x in np.arange(-40, 100, 19.0):
        centre = (x + rng.normal(0, 3), -74 + 0.003 * x * x + rng.normal(0, 4), rng.normal(-146, 9))
        radii = (rng.uniform(11, 17), rng.uniform(10, 14), rng.uniform(16, 26))
        loops.append((Solid(centre, radii, rng.uniform(-40, 40)), "colon"))
    for z in np.arange(-175, -75, 22.0):
        centre = (104 + rng.normal(0, 3), -34 + rng.normal(0, 5), z + rng.normal(0, 4))
        loops.append((Solid(centre, (14, 15, rng.uniform(13, 20)), rng.uniform(-40, 40)), "colon"))
    for z in np.arange(-190, -135, 22.0):
        centre = (-84 + rng.normal(0, 4), -40 + rng.normal(0, 5), z + rng.normal(0, 4))
        loops.append((Solid(centre, (19, 20, rng.uniform(13, 20)), rng.uniform(-40, 40)), "colon"))
    return loops


def make_body(rng: np.random.Generator) -> Body:
    """Draw one phantom's anatomy.

    Args:
        rng: the patient's own generator; the label has no part in this.

    Returns:
        The anatomy, healthy: lesions are added by `hepar.phantom.lesions`.
    """
    phase = int(rng.choice(len(PHASES), p=PHASE_SHARES))
    steatosis = float(rng.uniform(0.3, 1.0)) if rng.random() < 0.25 else float(rng.uniform(0, 0.15))
    build = float(rng.normal(1, 0.065))
    return Body(
        phase=PHASES[phase],
        scale=(build * float(rng.normal(1, 0.03)), build * float(rng.normal(1, 0.04))),
        fat_mm=float(np.clip(rng.gamma(5, 3.4), 6, 38)),
        wall_mm=float(rng.uniform(10, 14.5)),
        tissues=_tissues(rng, phase, steatosis),
        steatosis=steatosis,
        solids=_solids(rng),
        tubes=(*_abdomen_vessels(rng), *_liver_vessels(rng)),
        loops=tuple(_loops(rng)),
        warp=(make_waves(rng, 70, 240), make_waves(rng, 70, 240)),
        bumps=(make_waves(rng, 45, 140), make_waves(rng, 30, 90), make_waves(rng, 18, 60)),
        grain=make_waves(rng, 8, 22, 40),
        vertebra_mm=float(rng.uniform(0, 33)),
        rib_turn=float(rng.uniform(0, 24)),
        gas_level=float(rng.uniform(-52, -30)),
        meal_hu=float(rng.choice([12.0, 25.0, 45.0, 60.0])),
        has_gallbladder=bool(rng.random() < 0.85),
    )
