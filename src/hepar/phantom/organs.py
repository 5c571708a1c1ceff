"""One axial slice of a body, painted organ by organ from the skin inwards, in HU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepar.phantom.anatomy import Body, Solid
from hepar.phantom.shapes import (
    Field,
    Tube,
    add_smooth,
    capsule,
    cover,
    cut_smooth,
    ellipsoid,
    paint,
    stretch,
)

__all__ = ["AIR_HU", "SlicePlane", "draw_slice", "make_plane"]

AIR_HU = -1000.0
HALF_WIDTH, FRONT, BACK = 142.0, 104.0, 112.0
"""Semi-axes of the standard body inside its fat, mm."""


@dataclass(frozen=True, eq=False)
class SlicePlane:
    """The plane of one slice: where each pixel lies in the standard body.

    Attributes:
        x: (y, x) mm, bent by the body's warp.
        y: (y, x) mm.
        z: mm.
        xs: (x,) unbent columns, mm.
        ys: (y,) unbent rows, mm.
        pixel: pixel size in standard mm.
        bumps: three (y, x) surface fields.
        grain: (y, x) fine field.
    """

    x: Field
    y: Field
    z: float
    xs: Field
    ys: Field
    pixel: float
    bumps: tuple[Field, Field, Field]
    grain: Field

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Return rows and columns of everything within `reach` mm of a point, bending included."""
        reach += 14
        rows = np.searchsorted(self.ys, (y - reach, y + reach))
        columns = np.searchsorted(self.xs, (x - reach, x + reach))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))


def make_plane(body: Body, z: float, size: int, pixel_mm: float) -> SlicePlane:
    """Lay the pixel grid of a slice over the standard body.

    Args:
        body: the anatomy.
        z: height in mm, 0 at the top of the liver.
        size: pixels along each side.
        pixel_mm: real pixel size in mm.
    """
    middle = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    xs = middle * np.float32(pixel_mm / body.scale[0])
    ys = middle * np.float32(pixel_mm / body.scale[1]) - np.float32(6)
    coarse = 64
    cx = np.interp((np.arange(coarse) + 0.5) / coarse, (np.arange(size) + 0.5) / size, xs)
    cy = np.interp((np.arange(coarse) + 0.5) / coarse, (np.arange(size) + 0.5) / size, ys)
    cx, cy = cx.astype(np.float32), cy.astype(np.float32)
    bend_x = 3.2 * stretch(body.warp[0](cx, cy, z), size)
    bend_y = 3.2 * stretch(body.warp[1](cx, cy, z), size)
    bumps = tuple(stretch(wave(cx, cy, z), size) for wave in body.bumps)
    return SlicePlane(
        x=(xs[None, :] + bend_x).astype(np.float32),
        y=(ys[:, None] + bend_y).astype(np.float32),
        z=z,
        xs=xs,
        ys=ys,
        pixel=pixel_mm / float(np.mean(body.scale)),
        bumps=(bumps[0], bumps[1], bumps[2]),
        grain=body.grain(xs, ys, z),
    )


def _solid(plane: SlicePlane, solid: Solid) -> Field:
    return ellipsoid(plane.x, plane.y, plane.z, solid.centre, solid.radii, solid.tilt)


def _trunk(plane: SlicePlane) -> Field:
    """Return the distance to the body under its fat: a rounded box, flatter at the back."""
    depth = np.where(plane.y < 0, np.float32(FRONT), np.float32(BACK))
    u, v = np.abs(plane.x) / np.float32(HALF_WIDTH), np.abs(plane.y) / depth
    ring = (u**2.35 + v**2.35) ** np.float32(1 / 2.35) + np.float32(1e-4)
    radius = np.sqrt(plane.x**2 + plane.y**2)
    return np.asarray((ring - 1) * radius / ring * np.float32(0.93), np.float32)


def _paint_wall(body: Body, plane: SlicePlane, hu: Field, trunk: Field) -> Field:
    """Paint skin, fat and muscle; return the distance to the inside of the wall."""
    x, y, px, bumps = plane.x, plane.y, plane.pixel, plane.bumps
    tissues = body.tissues
    back = np.clip(y / np.float32(BACK), -1, 1)
    side = np.abs(x) / np.float32(HALF_WIDTH)
    groove = np.exp(-((x / 16) ** 2)) * np.maximum(back, 0) * np.float32(5)
    fat = body.fat_mm * (1 + 0.25 * back * side + 0.1 * side) + bumps[0] - groove
    skin = trunk - fat
    paint(hu, cover(skin, px), tissues["skin"])
    under = tissues["fat"] + 5 * plane.grain + 26 * np.maximum(plane.grain * bumps[2] - 1.6, 0)
    paint(hu, cover(skin + 2.0, px), under)
    muscle = tissues["muscle"] + 3.5 * plane.grain
    paint(hu, cover(trunk + 0.8 * bumps[2], px), muscle)
    seam = np.abs(trunk + 4.6 + 1.1 * bumps[1]) - np.float32(0.35)
    where = np.clip((np.abs(x) - 46) / 14, 0, 1) * np.clip(0.75 + 0.5 * bumps[1], 0, 1)
    paint(hu, cover(seam, px) * where, tissues["fat"] * 0.8)
    linea = np.maximum(np.abs(x) - 2.0, y + 70)
    paint(hu, cover(linea, px) * cover(trunk + 1, px) * 0.7, tissues["fat"] * 0.6)
    front = np.clip(-y / np.float32(FRONT), 0, 1)
    wall = body.wall_mm * (1 - 0.35 * front**2) + 1.2 * bumps[1]
    spine = ellipsoid(x, y, 0, (0, 84, 0), (52, 52, 1e4))
    cavity = -add_smooth(-(trunk + wall), spine + 0.9 * bumps[1], 14)
    inside = tissues["fat"] + 8 + 6 * plane.grain
    inside = inside + 34 * np.maximum(plane.grain * bumps[2] - 1.1, 0)
    paint(hu, cover(cavity, px), inside)
    return np.asarray(cavity, np.float32)


def _paint_back(body: Body, plane: SlicePlane, hu: Field) -> None:
    """Paint the long back muscles' fat seams, psoas and crura."""
    x, y, px, tissues = plane.x, plane.y, plane.pixel, body.tissues
    for side in (-1.0, 1.0):
        erector = ellipsoid(x, y, 0, (side * 26, 88, 0), (24, 19, 1e4), side * 12)
        seam = np.abs(erector + 1.0 * plane.bumps[2]) - np.float32(0.5)
        strength = np.clip(0.55 + 0.5 * plane.bumps[1], 0, 1) * cover(-(np.abs(x) - 7), px)
        paint(hu, cover(seam, px) * strength * (y > 62), tissues["fat"] * 0.75)
        marbling = np.maximum(plane.grain * side + plane.bumps[2] * 0.8 - 1.7, 0)
        paint(hu, cover(erector + 2, px) * np.clip(marbling, 0, 0.6), tissues["fat"])
        if plane.z < -118:
            grow = float(np.clip((-118 - plane.z) / 50, 0.15, 1))
            psoas = ellipsoid(x, y, 0, (side * 33, 42, 0), (13 * grow + 3, 16 * grow + 3, 1e4))
            paint(hu, cover(psoas + plane.bumps[2], px), tissues["muscle"])
        crus = ellipsoid(x, y, 0, (5 + side * 17, 12, 0), (4.2, 19, 1e4), side * -12)
        paint(hu, cover(crus + 0.8 * plane.bumps[2], px), tissues["muscle"])


def _paint_bone(body: Body, plane: SlicePlane, hu: Field) -> None:
    """Paint the vertebra, its arch and the ribs."""
    x, y, px, tissues = plane.x, plane.y, plane.pixel, body.tissues
    step = 33.0
    height = (plane.z - body.vertebra_mm + step / 2) % step - step / 2
    disc = float(np.clip((abs(height) - 11.5) / 2.5, 0, 1))
    waist = 1.0 - 0.07 * float(np.cos(height / step * 2 * np.pi))
    vertebra = ellipsoid(x, y, 0, (0, 39, 0), (22 * waist, 17.5 * waist, 1e4))
    notch = ellipsoid(x, y, 0, (0, 60, 0), (11, 9, 1e4))
    vertebra = cut_smooth(vertebra + 0.9 * plane.bumps[2], notch, 4)
    spongy = tissues["trabecular"] + 26 * plane.grain
    shell = np.clip(1 + (vertebra + 0.6) / 2.2, 0, 1) * cover(vertebra, px)
    bone = spongy + shell * (tissues["cortical"] - 170 - spongy)
    paint(hu, cover(vertebra, px), bone * (1 - disc) + tissues["disc"] * disc)
    pedicle = float(np.clip(1 - (abs(height - 5) - 6) / 3, 0, 1))
    arch = [
        Tube((0, 78, 0), (0, 104, 0), 3.8, 3.2, ""),
        Tube((-13, 67, 0), (0, 79, 0), 3.6, 4.2, ""),
        Tube((13, 67, 0), (0, 79, 0), 3.6, 4.2, ""),
    ]
    for side in (-1.0, 1.0):
        arch.append(Tube((side * 13, 51, 0), (side * 14, 67, 0), 4.2, 4.6, "pedicle"))
        arch.append(Tube((side * 14, 66, 0), (side * 35, 72, 0), 4.2, 3.4, "pedicle"))
    for piece in arch:
        strength = pedicle if piece.tissue else 0.35 + 0.65 * pedicle
        if strength <= 0.02:
            continue
        gap = capsule(x, y, 0, piece) + 0.6 * plane.bumps[2] + np.float32(2 * (1 - strength))
        core = np.clip(-gap / 3.2, 0, 1)
        paint(hu, cover(gap, px), tissues["cortical"] * (1 - 0.55 * core))
    canal = ellipsoid(x, y, 0, (0, 62, 0), (10.5, 9, 1e4))
    paint(hu, cover(canal, px), tissues["fat"] * 0.6)
    paint(hu, cover(ellipsoid(x, y, 0, (0, 62, 0), (8, 7, 1e4)), px), tissues["canal"])
    _paint_ribs(body, plane, hu)


def _rim(angle: float) -> tuple[float, float]:
    """Return the point on the ribs' ring at an angle in degrees: 0 is the back, 180 the front."""
    sin, cos = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    depth = BACK if cos > 0 else FRONT
    ring = (abs(sin / HALF_WIDTH) ** 2.35 + abs(cos / depth) ** 2.35) ** (-1 / 2.35)
    return float(ring * sin), float(ring * cos)


def _paint_ribs(body: Body, plane: SlicePlane, hu: Field) -> None:
    """Paint ribs, which lie further forward the lower the slice, and their cartilage in front."""
    tissues, px = body.tissues, plane.pixel
    last = 180 + 0.75 * min(plane.z + 20, 0)
    for side in (-1.0, 1.0):
        first = (body.rib_turn + 6 * side - 0.32 * plane.z) % 25.0
        for angle in np.arange(30 + first, min(last, 166), 25.0):
            x0, y0 = _rim(float(angle))
            x1, y1 = _rim(float(angle) + 2)
            tilt = float(np.rad2deg(np.arctan2(y1 - y0, x1 - x0)))
            inset = 1 - 7.0 / float(np.hypot(x0, y0))
            x0, y0 = side * x0 * inset, y0 * inset
            rows, columns = plane.window(x0, y0, 18)
            gristle = angle > 128
            radii = (11.0, 5.5, 1e4) if gristle else (10.5 + 0.03 * angle, 4.0, 1e4)
            rib = ellipsoid(
                plane.x[rows, columns], plane.y[rows, columns], 0, (x0, y0, 0), radii, side * tilt
            )
            rib = rib + 0.7 * plane.bumps[2][rows, columns]
            view = hu[rows, columns]
            paint(view, cover(rib + 0, px) * 0 + cover(rib - 1.6, px) * 0.5, tissues["muscle"])
            if gristle:
                paint(view, cover(rib, px), tissues["cartilage"])
                continue
            paint(view, cover(rib, px), tissues["cortical"])
            paint(view, cover(rib + 2.1, px), tissues["trabecular"] + 40)


def _paint_chest(body: Body, plane: SlicePlane, hu: Field, cavity: Field) -> Field:
    """Paint lung bases and heart above the diaphragm; return the distance to its underside."""
    px, tissues, solids = plane.pixel, body.tissues, body.solids
    below = add_smooth(_solid(plane, solids["right_dome"]), _solid(plane, solids["left_dome"]), 10)
    below = add_smooth(below, _solid(plane, solids["mediastinum"]), 16)
    below = np.asarray(below + 1.2 * plane.bumps[0], np.float32)
    heart = _solid(plane, solids["heart"]) + 1.5 * plane.bumps[1]
    deepest = np.float32(-76) - np.float32(0.62) * plane.y + 5 * plane.bumps[0]
    lung = np.maximum(np.maximum(cavity + 0.8, -below), (deepest - plane.z) * np.float32(0.5))
    lung = np.maximum(lung, 6 - heart)
    branches = np.maximum(plane.grain + 0.5 * plane.bumps[2] - 2.3, 0)
    paint(hu, cover(lung, px), tissues["lung"] + np.minimum(branches * 900, 700))
    muscle = np.maximum(np.maximum(np.abs(below + 1.2) - 1.3, cavity), deepest - 12 - plane.z)
    paint(hu, cover(muscle, px), tissues["muscle"])
    if plane.z > -45:
        paint(hu, cover(heart, px), tissues["heart"] + 4 * plane.bumps[2])
    return below


def _paint_tubes(body: Body, plane: SlicePlane, hu: Field, kinds: set[str], keep: Field) -> None:
    """Paint those vessels and glands that cross the slice, inside `keep` (0 to 1)."""
    soft = max(plane.pixel, 1.0)
    for tube in body.tubes:
        reach = max(tube.radius_start, tube.radius_end) + soft
        low, high = sorted((tube.start[2], tube.end[2]))
        if tube.tissue not in kinds or not low - reach < plane.z < high + reach:
            continue
        middle = ((tube.start[0] + tube.end[0]) / 2, (tube.start[1] + tube.end[1]) / 2)
        half = np.hypot(tube.end[0] - tube.start[0], tube.end[1] - tube.start[1]) / 2
        box = plane.window(*middle, float(half) + reach)
        if hu[box].size == 0:
            continue
        gap = capsule(plane.x[box], plane.y[box], plane.z, tube)
        value: float | Field = body.tissues.get(tube.tissue, 0.0)
        if tube.tissue == "pancreas":
            gap = gap + 2.6 * plane.grain[box] + plane.bumps[2][box]
            value = body.tissues["pancreas"] + 5 * plane.grain[box]
        elif tube.tissue == "mesenteric":
            value = 0.75 * body.tissues["portal"]
        elif tube.tissue == "adrenal":
            value = body.tissues["bowel_wall"]
        paint(hu[box], cover(gap, plane.pixel, 1.3) * keep[box], value)


def _paint_bowel(body: Body, plane: SlicePlane, hu: Field, keep: Field) -> None:
    """Paint bowel loops: a wall, then fluid, or stool and gas."""
    tissues = body.tissues
    for loop, kind in body.loops:
        if abs(plane.z - loop.centre[2]) > loop.radii[2]:
            continue
        box = plane.window(loop.centre[0], loop.centre[1], max(loop.radii[:2]) + 4)
        if hu[box].size == 0:
            continue
        gap = ellipsoid(plane.x[box], plane.y[box], plane.z, loop.centre, loop.radii, loop.tilt)
        gap = gap + 2.2 * plane.bumps[2][box] + 1.2 * plane.grain[box]
        share = keep[box]
        paint(hu[box], cover(gap, plane.pixel, 1.3) * share, tissues["bowel_wall"])
        inner = cover(gap + 2.6, plane.pixel, 1.5) * share
        if kind == "small":
            paint(hu[box], inner, tissues["fluid"] + 22 + 10 * plane.bumps[2][box])
            continue
        stool = 30 + 45 * plane.grain[box] - 420 * np.maximum(plane.grain[box] - 0.5, 0)
        paint(hu[box], inner, stool)
        gas = np.maximum(gap + 3.2, plane.y[box] - (loop.centre[1] - 2 + 2 * plane.grain[box]))
        paint(hu[box], cover(gas, plane.pixel) * share, tissues["gas"])


def _paint_left(body: Body, plane: SlicePlane, hu: Field, room: Field) -> None:
    """Paint stomach, oesophagus and spleen."""
    px, tissues, solids, bumps = plane.pixel, body.tissues, body.solids, plane.bumps
    stomach = np.maximum(_solid(plane, solids["stomach"]) + 4 * bumps[0] + 2 * bumps[2], room + 2)
    spleen = _solid(plane, solids["spleen"]) + 3.4 * bumps[0] + 1.6 * bumps[1]
    spleen = cut_smooth(np.maximum(spleen, room + 2.2), stomach - 4, 5)
    kidney = _solid(plane, solids["left_kidney"])
    spleen = cut_smooth(np.asarray(spleen, np.float32), kidney - 5, 5)
    paint(hu, cover(stomach, px), tissues["bowel_wall"])
    inner = stomach + 4.2 + 1.4 * plane.grain
    meal = body.meal_hu + 9 * plane.grain + 12 * bumps[2]
    paint(hu, cover(inner, px, 1.5), meal)
    level = np.maximum(inner + 0.5, plane.y - body.gas_level)
    paint(hu, cover(level, px), tissues["gas"])
    moire = 30 * bumps[1] if body.phase == "arterial" else 2.0 * bumps[1]
    paint(hu, cover(spleen, px), tissues["spleen"] + moire)
    oesophagus = _solid(plane, solids["oesophagus"])
    paint(hu, cover(oesophagus, px), tissues["bowel_wall"])


def _paint_kidneys(body: Body, plane: SlicePlane, hu: Field) -> None:
    """Paint both kidneys: cortex, pyramids, and the fat of the sinus that opens to the middle."""
    px, tissues = plane.pixel, body.tissues
    for name, side in (("right_kidney", -1.0), ("left_kidney", 1.0)):
        solid = body.solids[name]
        if abs(plane.z - solid.centre[2]) > solid.radii[2]:
            continue
        kidney = _solid(plane, solid) + 1.2 * plane.bumps[2]
        paint(hu, cover(kidney - 7, px, 3) * 0.85, tissues["fat"] + 5 * plane.grain)
        paint(hu, cover(kidney, px), tissues["cortex"])
        pyramids = np.maximum(kidney + 7, 4 - 9 * np.abs(plane.grain + 0.4 * plane.bumps[2]))
        paint(hu, cover(pyramids, px, 2), tissues["medulla"])
        cx, cy, cz = solid.centre
        inner = Solid(
            (cx - side * 11, cy - 7, cz),
            (solid.radii[0] * 0.62, solid.radii[1] * 0.42, solid.radii[2] * 0.55),
            side * 30,
        )
        sinus = _solid(plane, inner) + 2.2 * plane.bumps[2]
        paint(hu, cover(sinus, px, 1.5), tissues["fat"] + 12 + 24 * plane.grain)


def _liver(body: Body, plane: SlicePlane, room: Field) -> Field:
    """Return the distance to the liver's surface."""
    solids, bumps = body.solids, plane.bumps
    lobe = solids["right_lobe"]
    drop = max(0.0, -plane.z - 95)
    right = Solid(
        (lobe.centre[0] - 0.22 * drop, lobe.centre[1] + 0.1 * drop, lobe.centre[2]),
        lobe.radii,
        lobe.tilt,
    )
    liver = add_smooth(_solid(plane, right), _solid(plane, solids["left_lobe"]), 14)
    liver = add_smooth(liver, _solid(plane, solids["caudate"]), 8)
    liver = liver + 3.2 * bumps[0] + 1.4 * bumps[1]
    hollow = _solid(plane, solids["hollow"]) + 4 * bumps[1]
    liver = cut_smooth(liver, np.asarray(hollow, np.float32), 14)
    liver = cut_smooth(liver, _solid(plane, solids["kidney_bed"]), 10)
    spine = ellipsoid(plane.x, plane.y, 0, (2, 30, 0), (34, 34, 1e4))
    liver = cut_smooth(liver, spine, 8)
    for name in ("ligament", "venosum"):
        liver = cut_smooth(liver, _solid(plane, solids[name]) + 0.6 * bumps[2], 2)
    return np.asarray(-add_smooth(-liver, -(room + 1.6), 5), np.float32)


def draw_slice(body: Body, plane: SlicePlane) -> tuple[Field, Field, Field, NDArray[np.bool_]]:
    """Paint one slice of a healthy body.

    Args:
        body: the anatomy.
        plane: from `make_plane`.

    Returns:
        (y, x) HU without noise or table; (y, x) the same before any vessel was painted into the
        liver; (y, x) share of each pixel that is liver, 0 to 1; and (y, x) where the body is.
    """
    px, tissues, solids = plane.pixel, body.tissues, body.solids
    hu = np.full_like(plane.x, AIR_HU)
    trunk = _trunk(plane)
    cavity = _paint_wall(body, plane, hu, trunk)
    inside = hu > -500
    _paint_back(body, plane, hu)
    below = _paint_chest(body, plane, hu, cavity)
    room = np.maximum(cavity, below)
    keep = cover(room + 3, px)
    _paint_bowel(body, plane, hu, keep)
    _paint_tubes(body, plane, hu, {"mesenteric", "pancreas", "adrenal"}, keep)
    _paint_left(body, plane, hu, room)
    _paint_kidneys(body, plane, hu)
    liver = _liver(body, plane, room)
    share = cover(liver, px)
    texture = tissues["liver"] + 1.6 * plane.bumps[1] + 2.0 * plane.grain
    texture = texture + body.steatosis * 7 * plane.bumps[0]
    paint(hu, share, texture)
    if body.has_gallbladder:
        gallbladder: Field = _solid(plane, solids["gallbladder"]) + 1.2 * plane.bumps[2]
        paint(hu, cover(gallbladder, px), tissues["liver"] * 0.6)
        paint(hu, cover(gallbladder + 1.6, px), tissues["bile"])
        share = share * (1 - cover(gallbladder, px))
    aorta = ellipsoid(plane.x, plane.y, 0, (9, 8, 0), (10.5, 10.5, 1e4))
    cava = ellipsoid(plane.x, plane.y, 0, (-23, 6, 0), (13, 9.5, 1e4), -20)
    tight = np.clip(-(cava + plane.bumps[1]) / np.float32(px) + 0.5, 0, 1)
    share = share * (1 - tight)
    paint(hu, tight, tissues["cava"])
    paint(hu, cover(aorta, px), tissues["aorta"])
    ground = hu.copy()
    _paint_tubes(body, plane, hu, {"hepatic_vein"}, share)
    _paint_tubes(body, plane, hu, {"portal", "aorta", "cava"}, keep)
    _paint_bone(body, plane, hu)
    return hu, ground, share, inside
