"""A cohort of stained tiles: several findings a tile, tiles of slides, slides of patients."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.errors import PhantomError
from hepar.phantom.roster import name_patient
from hepar.phantom.tissue import FINDINGS, Stained, draw_tissue
from hepar.progress import LOG, track
from hepar.provenance import package_version, read_artefact, stamp, write_artefact, write_atomic

__all__ = ["Tile", "TileConfig", "make_tiles", "write_tiles"]

RGB = NDArray[np.uint8]

HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
"""Optical density of red, green and blue of the two stains: Ruifrok and Johnston 2001."""

_ALIKE = 0.75
"""Share of a patient's tiles that show what the patient has."""


@dataclass(frozen=True)
class TileConfig:
    """What cohort of tiles to make.

    Attributes:
        patients: how many, 4 or more; of each four in a row, two have a given finding.
        slides: of each patient.
        tiles: of each slide.
        size: side of a tile in pixels.
        laboratories: that stained the slides, each in its own colours; a patient's slides are all
            of one, dealt by number and so untied to the findings.
        difficulty: 0 (easy) to 1 (very hard): less of each finding.
        seed: of every random choice.

    Raises:
        PhantomError: a value is out of its range.
    """

    patients: int = 24
    slides: int = 2
    tiles: int = 6
    size: int = 256
    laboratories: int = 3
    difficulty: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = {
            "patients": (4, 9999),
            "slides": (1, 9),
            "tiles": (1, 99),
            "size": (64, 1024),
            "laboratories": (1, 9),
            "seed": (0, 2**32 - 1),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise PhantomError(
                    f"{name}: expected a whole number from {low} to {high}, got {value}."
                )
        if not 0 <= self.difficulty <= 1:
            raise PhantomError(
                f"difficulty: expected 0 (easy) to 1 (very hard), got {self.difficulty}."
            )


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile.

    Attributes:
        slide_id: "P001-1" and so on.
        number: on its slide, 1 and so on.
        shown: of `FINDINGS`, in that order.
        pixels: (y, x, 3) RGB.
    """

    slide_id: str
    number: int
    shown: tuple[str, ...]
    pixels: RGB


@dataclass(frozen=True)
class _Colours:
    """How a laboratory or a slide looks: optical density of 1 of each stain, glass, sharpness."""

    haematoxylin: tuple[float, ...]
    eosin: tuple[float, ...]
    glass: tuple[float, ...]
    blur: float


def laboratory_of(config: TileConfig, number: int) -> str:
    """Return the laboratory of a patient number: A, B and so on in turn."""
    return "ABCDEFGHI"[(number - 1) % config.laboratories]


def _findings_of(config: TileConfig, number: int) -> tuple[str, ...]:
    """Return what a patient has: of each four patients in a row, two have a given finding."""
    block, place = divmod(number - 1, 4)
    found = []
    for i, name in enumerate(FINDINGS):
        order = np.random.default_rng([config.seed, 1, block, i]).permutation(4)
        if order[place] < 2:
            found.append(name)
    return tuple(found)


def _turned(rng: np.random.Generator, vector: tuple[float, ...], by: float) -> NDArray[np.float64]:
    """Return a stain's colour, of unit length, moved by some `by` in a random direction."""
    moved = np.clip(np.asarray(vector) + rng.normal(0, by, 3), 0.02, None)
    return np.asarray(moved / np.linalg.norm(moved))


def _laboratory(config: TileConfig, letter: str) -> _Colours:
    rng = np.random.default_rng([config.seed, 2, ord(letter)])
    strong = rng.uniform(0.85, 1.35, 2)
    return _Colours(
        haematoxylin=tuple(strong[0] * _turned(rng, HAEMATOXYLIN, 0.09)),
        eosin=tuple(strong[1] * _turned(rng, EOSIN, 0.09)),
        glass=tuple(rng.uniform(228, 250, 3)),
        blur=float(rng.uniform(0.4, 1.0)),
    )


def _slide(rng: np.random.Generator, laboratory: _Colours) -> _Colours:
    """Return a slide's colours: its laboratory's, stained a little longer or shorter."""
    longer = rng.normal(1, 0.08, 2).clip(0.75, 1.25)
    return _Colours(
        tuple(longer[0] * np.asarray(laboratory.haematoxylin)),
        tuple(longer[1] * np.asarray(laboratory.eosin)),
        laboratory.glass,
        laboratory.blur,
    )


def _expose(rng: np.random.Generator, tissue: Stained, colours: _Colours) -> RGB:
    """Return the picture of stained tissue: light that passes, by Beer and Lambert; blur, noise."""
    density = tissue.haematoxylin[..., None] * np.asarray(colours.haematoxylin, np.float32)
    density = density + tissue.eosin[..., None] * np.asarray(colours.eosin, np.float32)
    light = np.asarray(colours.glass, np.float32) * np.exp(-density)
    sharp = cv2.GaussianBlur(light, (0, 0), colours.blur)
    noisy = sharp + rng.normal(0, 1.5, light.shape)
    return np.asarray(np.rint(np.clip(noisy, 0, 255)), np.uint8)


def make_tiles(config: TileConfig, number: int) -> list[Tile]:
    """Make one patient's tiles, slide by slide; they depend on seed and number alone.

    What a patient has shows on three tiles in four, and on the first of every slide.

    Args:
        config: the cohort.
        number: of the patient, 1 and so on.

    Example:
        >>> tiles = make_tiles(TileConfig(tiles=1, size=64), 1)
        >>> [tile.slide_id for tile in tiles], tiles[0].pixels.shape
        (['P001-1', 'P001-2'], (64, 64, 3))
    """
    rng = np.random.default_rng([config.seed, 3, number])
    laboratory = _laboratory(config, laboratory_of(config, number))
    has = _findings_of(config, number)
    made = []
    for slide in range(1, config.slides + 1):
        colours = _slide(rng, laboratory)
        for tile in range(1, config.tiles + 1):
            seen = rng.uniform(size=len(FINDINGS)) < _ALIKE
            shown = tuple(
                f for f, s in zip(FINDINGS, seen, strict=True) if f in has and (s or tile == 1)
            )
            tissue = draw_tissue(rng, config.size, shown, config.difficulty)
            slide_id = f"{name_patient(number)}-{slide}"
            made.append(Tile(slide_id, tile, shown, _expose(rng, tissue, colours)))
    return made


def write_tiles(out: Path, config: TileConfig) -> Path:
    """Write a cohort as PNG tiles with a table: `index.csv`, a row per tile.

    Its columns are path, patient_id, slide_id, a column of 0 and 1 per finding, laboratory, and
    partition, which holds out the last laboratory ("test") where `split.column=partition` is set.
    `truth.json` is written last; a complete cohort of the same config is kept as it is.

    Args:
        out: folder to write into; made if missing.
        config: what cohort.

    Returns:
        The path of `index.csv`.

    Raises:
        PhantomError: `out` already holds another cohort.
    """
    truth, index = out / "truth.json", out / "index.csv"
    if truth.exists():
        found = read_artefact(truth, "phantom_tiles")
        if (found["config"], found["provenance"]["version"]) != (asdict(config), package_version()):
            raise PhantomError(
                f"{out}: expected no cohort or this one, got another. Name another folder."
            )
        LOG.info("%s: kept, it is this cohort already", out)
        return index

    def work(number: int) -> list[dict[str, Any]]:
        return [_write(out, config, number, tile) for tile in make_tiles(config, number)]

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = pool.map(work, range(1, config.patients + 1))
        rows = [row for rows in track(jobs, "tiles", total=config.patients) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(index, text.getvalue())
    letters = sorted({str(row["laboratory"]) for row in rows})
    colours: Mapping[str, Any] = {name: asdict(_laboratory(config, name)) for name in letters}
    content = {"config": asdict(config), "laboratories": colours}
    write_artefact(truth, "phantom_tiles", content, stamp("hepar phantom-tiles", seed=config.seed))
    return index


def _write(out: Path, config: TileConfig, number: int, tile: Tile) -> dict[str, Any]:
    """Write one tile and return its row."""
    name = f"tiles/{tile.slide_id}/{tile.number:02d}.png"
    encoded = cv2.imencode(".png", tile.pixels[..., ::-1])[1]
    write_atomic(out / name, encoded.tobytes())
    laboratory = laboratory_of(config, number)
    last = config.laboratories > 1 and laboratory == "ABCDEFGHI"[config.laboratories - 1]
    return {
        "path": name,
        "patient_id": name_patient(number),
        "slide_id": tile.slide_id,
        **{finding: int(finding in tile.shown) for finding in FINDINGS},
        "laboratory": laboratory,
        "partition": "test" if last else "train",
    }
