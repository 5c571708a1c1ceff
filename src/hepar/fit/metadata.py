"""What is known of a slice before anyone looks at it, as numbers: spacing, place, scanner."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepar.data import Sample

__all__ = ["Metadata", "filled", "read_metadata", "source_of"]

Floats = NDArray[np.float64]

_TELLS = frozenset((
    "px", "pixels", "area", "volume", "lesion", "lesions", "tumor", "tumour", "diameter",
    "size", "grade", "stage", "tnm", "diagnosis", "pathology", "histology", "biopsy", "label",
    "class", "category", "reference", "truth", "mask", "annotation", "annotator", "reader",
    "reading", "report", "finding", "findings", "bclc", "lirads", "rads", "outcome", "survival",
    "split", "fold", "partition", "id", "uid", "number", "name", "path", "file", "frame", "sha",
))  # fmt: skip
"""Words of a column's name by which it tells the label, who it is, or how it was tested."""

SOURCES = (
    "dataset", "source", "site", "institution", "hospital", "centre", "center", "laboratory",
    "manufacturer", "scanner", "model",
)  # fmt: skip
"""Columns that say where an image comes from, the first that differs between samples."""

_MOST_LEVELS = 12
"""Values of a column told apart; rarer ones are "other"."""


@dataclass(frozen=True, eq=False)
class Metadata:
    """What is known of samples before they are looked at.

    Attributes:
        features: (n, d) float64; d is 0 where nothing differs between samples.
        used: what the features were made of.
        left_out: columns that may tell the label or name a patient.
    """

    features: Floats
    used: tuple[str, ...]
    left_out: tuple[str, ...]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _standing(samples: Sequence[Sample]) -> dict[str, Floats]:
    """Return what every manifest has: spacing, and a slice's place in its series."""
    spacing = np.array([s.spacing_mm or (np.nan,) * 3 for s in samples], np.float64)
    series = [(s.patient_id, s.series_id) for s in samples]
    sizes = Counter(series)
    top: dict[tuple[str, str], int] = {}
    for key, sample in zip(series, samples, strict=True):
        top[key] = max(top.get(key, 0), sample.slice_index)
    return {
        "slice spacing": spacing[:, 0],
        "pixel spacing": spacing[:, 2],
        "number of slices": np.array([sizes[key] for key in series], np.float64),
        "slice index": np.array([s.slice_index for s in samples], np.float64),
        "place in the series": np.array(
            [s.slice_index / max(top[key], 1) for key, s in zip(series, samples, strict=True)]
        ),
        "kind of pixels": np.array([s.kind == "hu" for s in samples], np.float64),
    }


def filled(values: Floats) -> list[Floats]:
    """Return a column with its mean in the gaps, and where the gaps were; nothing if constant."""
    known = np.isfinite(values)
    if not known.any():
        return []
    whole = np.where(known, values, values[known].mean())
    return [column for column in (whole, (~known).astype(np.float64)) if np.ptp(column) > 0]


def _levels(values: Sequence[str], patients: Sequence[str]) -> list[Floats]:
    """Return a column of 0 and 1 for each value that two patients or more have."""
    carriers = Counter(v for v, _ in {*zip(values, patients, strict=True)})
    if len(carriers) > max(2, len(set(patients)) // 2):
        return []
    kept = [v for v, n in carriers.most_common(_MOST_LEVELS) if n > 1]
    column = np.asarray(values)
    return [(column == v).astype(np.float64) for v in sorted(kept) if (column != v).any()]


def read_metadata(samples: Sequence[Sample], skip: Sequence[str] = ()) -> Metadata:
    """Return what is known of samples before anyone looks at them.

    A column of numbers stays one; of words it becomes 0 or 1 for each word. Columns whose name says
    that they hold the truth (`lesion_px`, `diagnosis`), an id or the split are left out, and so are
    words that hardly two patients share.

    Args:
        samples: labelled.
        skip: names of more columns to leave out.
    """
    columns: list[Floats] = []
    used, left_out = [], []
    for name, values in _standing(samples).items():
        own = filled(values)
        columns += own
        used += [name] * bool(own)
    patients = [sample.patient_id for sample in samples]
    for name in sorted({name for sample in samples for name in sample.extra}):
        if name in skip or _TELLS & set(re.split(r"[^a-z]+", name.lower())):
            left_out.append(name)
            continue
        texts = [sample.extra.get(name, "") for sample in samples]
        numbers = np.array([_number(text) for text in texts])
        numeric = np.isfinite(numbers[np.array([bool(t) for t in texts])]).all()
        own = filled(numbers) if numeric else _levels(texts, patients)
        columns += own
        used += [name] * bool(own)
    features = np.stack(columns, axis=1) if columns else np.zeros((len(samples), 0))
    return Metadata(features, tuple(used), tuple(left_out))


def source_of(samples: Sequence[Sample]) -> tuple[str, NDArray[np.str_]]:
    """Return the name of what says where samples come from, and each one's source.

    It is a column such as `source` or `scanner`, or else the top folder, where this is neither a
    label's name nor a patient's.

    Args:
        samples: labelled.

    Returns:
        The name, "" where all come from one source or nothing says it; (n,) sources.
    """
    by_column = {name.lower(): name for s in samples for name in s.extra}
    for word in SOURCES:
        for low, name in sorted(by_column.items()):
            if word not in re.split(r"[^a-z]+", low):
                continue
            values = np.array([s.extra.get(name, "") for s in samples])
            if len(np.unique(values)) > 1:
                return name, values
    tops = np.array([s.path.split("/")[0] if "/" in s.path else "" for s in samples])
    labels = {s.label.lower() for s in samples}
    patients = {s.patient_id.lower() for s in samples}
    found = {top.lower() for top in tops.tolist()}
    if len(found) < 2 or found & labels or found & patients or ".." in found:
        return "", tops
    return "top folder", tops
