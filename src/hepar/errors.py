"""Every error a user can cause, one class per room.

The message is the interface: what, expected which constraint (with unit), got which value, and one
way to fix it. The command line prints it on one line and exits with status 2.
"""

from __future__ import annotations

__all__ = [
    "BackboneError",
    "BundleError",
    "ConfigError",
    "DataError",
    "EvaluateError",
    "FitError",
    "HeparError",
    "IngestError",
    "LeakageError",
    "PhantomError",
    "RecipeError",
    "RegistryError",
    "ReportError",
    "SegmentError",
    "SplitError",
    "WeightsNotFoundError",
]


class HeparError(Exception):
    """Something the user gave or asked for cannot be used as it is."""


class ConfigError(HeparError, ValueError):
    """A configuration file or option is wrong."""


class RegistryError(HeparError, LookupError):
    """A name is not registered, or is registered twice."""


class DataError(HeparError, ValueError):
    """A manifest, label set or artefact on disk is not what it should be."""


class IngestError(HeparError, ValueError):
    """A source cannot be read as labelled CT."""


class SplitError(HeparError, ValueError):
    """A split cannot be made as asked."""


class LeakageError(SplitError):
    """A patient stands on both sides of a split."""


class RecipeError(HeparError, ValueError):
    """A preprocessing step does not fit the pixels it was given."""


class BackboneError(HeparError, ValueError):
    """A network, its graph or its weights cannot be used."""


class WeightsNotFoundError(BackboneError, FileNotFoundError):
    """No pretrained weights were found for a network."""


class FitError(HeparError, ValueError):
    """A head cannot be fitted to these samples."""


class BundleError(HeparError, ValueError):
    """A bundle is incomplete, altered or of another version."""


class EvaluateError(HeparError, ValueError):
    """Predictions cannot be evaluated."""


class ReportError(HeparError, ValueError):
    """A report cannot be written from these files."""


class SegmentError(HeparError, ValueError):
    """The liver cannot be segmented, or its mask cannot be written, as asked."""


class PhantomError(HeparError, ValueError):
    """A phantom cohort cannot be made as asked."""
