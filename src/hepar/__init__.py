"""From labelled liver CT to a classifier, a report, and the truth about how good it is.

Names are loaded when they are first used, so that `import hepar` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hepar.backbone import BACKBONES, Network, find_weights
    from hepar.config import RunConfig, read_config
    from hepar.data import LabelSet, Manifest, Sample, Slice, read_manifest, write_manifest
    from hepar.errors import HeparError
    from hepar.evaluate import Predictions, read_predictions
    from hepar.findings_job import run_findings
    from hepar.ingest import ingest_files
    from hepar.main_job import run
    from hepar.model import load_predictor, read_bundle
    from hepar.phantom import PhantomConfig, write_cohort
    from hepar.preprocess import RECIPES, STEPS, Recipe
    from hepar.split import make_split

_ROOMS = {
    "backbone": ("BACKBONES", "Network", "find_weights"),
    "config": ("RunConfig", "read_config"),
    "data": ("LabelSet", "Manifest", "Sample", "Slice", "read_manifest", "write_manifest"),
    "errors": ("HeparError",),
    "evaluate": ("Predictions", "read_predictions"),
    "findings_job": ("run_findings",),
    "ingest": ("ingest_files",),
    "main_job": ("run",),
    "model": ("load_predictor", "read_bundle"),
    "phantom": ("PhantomConfig", "write_cohort"),
    "preprocess": ("RECIPES", "STEPS", "Recipe"),
    "split": ("make_split",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "BACKBONES",
    "RECIPES",
    "STEPS",
    "HeparError",
    "LabelSet",
    "Manifest",
    "Network",
    "PhantomConfig",
    "Predictions",
    "Recipe",
    "RunConfig",
    "Sample",
    "Slice",
    "find_weights",
    "ingest_files",
    "load_predictor",
    "make_split",
    "read_bundle",
    "read_config",
    "read_manifest",
    "read_predictions",
    "run",
    "run_findings",
    "write_cohort",
    "write_manifest",
]


def __getattr__(name: str) -> object:
    try:
        room = importlib.import_module(f"hepar.{_ROOM_OF[name]}")
    except KeyError:
        raise AttributeError(f"module 'hepar' has no attribute {name!r}") from None
    return getattr(room, name)
