"""Where a model looks, whether it is right to, and what it resembles."""

from hepar.explain.cam import METHODS
from hepar.explain.faithfulness import Checks, check_map
from hepar.explain.likelihood import AUTO, LIKELIHOOD, lesion_labels, method_of
from hepar.explain.localisation import Aim, measure_aim
from hepar.explain.look import OCCLUSION, Cells, Evidence, Look, Model, look_at
from hepar.explain.neighbours import nearest_of, nearest_patients
from hepar.explain.overlay import (
    draw_contours,
    draw_heat,
    draw_map,
    draw_outlines,
    draw_scale,
    grey_picture,
    in_colour,
    lesion_outlines,
)
from hepar.explain.scenes import CANDIDATE, DRAWN, FALSE, Scene, draw_scene, scenes_of
from hepar.explain.summary import Aimed, summarise_aims, summarise_checks
from hepar.explain.volume import (
    Plane,
    SeriesEvidence,
    SeriesLook,
    aim_of_planes,
    hottest_planes,
    look_at_series,
    planes_of,
)

__all__ = [
    "AUTO",
    "CANDIDATE",
    "DRAWN",
    "FALSE",
    "LIKELIHOOD",
    "METHODS",
    "OCCLUSION",
    "Aim",
    "Aimed",
    "Cells",
    "Checks",
    "Evidence",
    "Look",
    "Model",
    "Plane",
    "Scene",
    "SeriesEvidence",
    "SeriesLook",
    "aim_of_planes",
    "check_map",
    "draw_contours",
    "draw_heat",
    "draw_map",
    "draw_outlines",
    "draw_scale",
    "draw_scene",
    "grey_picture",
    "hottest_planes",
    "in_colour",
    "lesion_labels",
    "lesion_outlines",
    "look_at",
    "look_at_series",
    "measure_aim",
    "method_of",
    "nearest_of",
    "nearest_patients",
    "planes_of",
    "scenes_of",
    "summarise_aims",
    "summarise_checks",
]
