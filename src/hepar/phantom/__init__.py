"""Cohorts that need no download: synthetic abdominal CT with known lesions, and stained tiles."""

from hepar.phantom.anatomy import PHASES
from hepar.phantom.cohort import PhantomPatient, make_cohort, make_patient
from hepar.phantom.files import FORMATS, draw_contact_sheet, write_cohort
from hepar.phantom.lesions import Lesion
from hepar.phantom.observer import observe
from hepar.phantom.roster import CONFOUNDERS, LABELS, Copy, PhantomConfig
from hepar.phantom.tiles import Tile, TileConfig, make_tiles, write_tiles
from hepar.phantom.tissue import FINDINGS

__all__ = [
    "CONFOUNDERS",
    "FINDINGS",
    "FORMATS",
    "LABELS",
    "PHASES",
    "Copy",
    "Lesion",
    "PhantomConfig",
    "PhantomPatient",
    "Tile",
    "TileConfig",
    "draw_contact_sheet",
    "make_cohort",
    "make_patient",
    "make_tiles",
    "observe",
    "write_cohort",
    "write_tiles",
]
