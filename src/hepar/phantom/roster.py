"""Who is in a phantom cohort: its config, the label of each number, and planted copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepar.errors import PhantomError
from hepar.registry import nearest

__all__ = [
    "CONFOUNDERS",
    "LABELS",
    "Copy",
    "PhantomConfig",
    "label_of",
    "name_patient",
    "plan_copies",
]

LABELS = ("malignant", "benign", "normal")
"""In order of severity."""

CONFOUNDERS = ("", "table", "noise", "mark")
"""What can be planted to give the malignant patients away without a look at their liver."""


@dataclass(frozen=True)
class PhantomConfig:
    """What cohort to make.

    Attributes:
        patients: how many, 3 or more; the labels have equal shares.
        slices: axial slices of each patient.
        size: pixels along each side of a slice.
        difficulty: 0 (easy) to 1 (very hard): less contrast, smaller lesions, labels more alike.
            At 1 models are at chance with 60 patients (docs/results.md).
        seed: of every random choice.
        confounder: "" for none; "table", "noise" or "mark" differs in malignant patients only.
        duplicates: how many slices are exact copies of another patient's slices.

    Raises:
        PhantomError: a value is out of its range.
    """

    patients: int = 60
    slices: int = 8
    size: int = 256
    difficulty: float = 0.5
    seed: int = 0
    confounder: str = ""
    duplicates: int = 0

    def __post_init__(self) -> None:
        _check_range("patients", self.patients, 3, 9999)
        _check_range("slices", self.slices, 1, 128)
        _check_range("size", self.size, 64, 512)
        _check_range("seed", self.seed, 0, 2**32 - 1)
        _check_range("duplicates", self.duplicates, 0, self.patients * self.slices // 4)
        if not 0 <= self.difficulty <= 1:
            raise PhantomError(
                f"difficulty: expected 0 (easy) to 1 (very hard), got {self.difficulty}."
            )
        if self.confounder not in CONFOUNDERS:
            hint = nearest(self.confounder, CONFOUNDERS[1:])
            raise PhantomError(
                f"confounder: expected one of {', '.join(map(repr, CONFOUNDERS))}, "
                f"got {self.confounder!r}. {hint}".rstrip()
            )
        if self.duplicates and self.patients < 6:
            raise PhantomError(
                f"duplicates: expected 6 or more patients to copy between, got {self.patients}. "
                "Ask for more patients."
            )


def _check_range(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise PhantomError(f"{name}: expected a whole number from {low} to {high}, got {value}.")


@dataclass(frozen=True)
class Copy:
    """A planted leak: a slice that is an exact copy of another patient's.

    Attributes:
        slice_index: of the copy.
        source_patient_id: where it comes from.
        source_slice_index: which slice of that patient.
    """

    slice_index: int
    source_patient_id: str
    source_slice_index: int


def name_patient(number: int) -> str:
    """Return the patient_id of a number.

    Example:
        >>> name_patient(7)
        'P007'
    """
    return f"P{number:03d}"


def label_of(seed: int, number: int) -> str:
    """Return a patient's label: each three in a row hold every label once, in drawn order."""
    block, place = divmod(number - 1, len(LABELS))
    order = np.random.default_rng([seed, 0, block]).permutation(len(LABELS))
    return LABELS[order[place]]


def plan_copies(config: PhantomConfig) -> dict[int, tuple[Copy, ...]]:
    """Return which slices of which patient numbers are copies, and of what.

    A copy comes from a patient of the same label, so that the reference stays true, and never
    from a slice that is a copy itself.
    """
    if not config.duplicates:
        return {}
    rng = np.random.default_rng([config.seed, 0, 0, config.patients])
    labels = {n: label_of(config.seed, n) for n in range(1, config.patients + 1)}
    places = [(n, s) for n in labels for s in range(config.slices)]
    picks = rng.permutation(len(places))[: config.duplicates]
    taken = {places[i] for i in picks}
    plan: dict[int, tuple[Copy, ...]] = {}
    for number, slice_index in sorted(taken):
        donors = [
            (n, s)
            for n, s in places
            if n != number and labels[n] == labels[number] and (n, s) not in taken
        ]
        if not donors:
            raise PhantomError(
                f"duplicates: expected fewer copies than there are slices to copy, got "
                f"{config.duplicates}. Ask for more patients."
            )
        source, source_slice = donors[int(rng.integers(len(donors)))]
        copy = Copy(slice_index, name_patient(source), source_slice)
        plan[number] = (*plan.get(number, ()), copy)
    return plan
