"""A cohort that needs no download: synthetic abdominal CT in HU with known lesions."""

from hepar.phantom.anatomy import PHASES
from hepar.phantom.cohort import PhantomPatient, make_cohort, make_patient
from hepar.phantom.files import FORMATS, draw_contact_sheet, write_cohort
from hepar.phantom.lesions import Lesion
from hepar.phantom.roster import CONFOUNDERS, LABELS, Copy, PhantomConfig

__all__ = [
    "CONFOUNDERS",
    "FORMATS",
    "LABELS",
    "PHASES",
    "Copy",
    "Lesion",
    "PhantomConfig",
    "PhantomPatient",
    "draw_contact_sheet",
    "make_cohort",
    "make_patient",
    "write_cohort",
]
