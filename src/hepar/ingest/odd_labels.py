"""Labels that do not go together, and may be slips of whoever wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hepar.data import Finding, Sample

__all__ = ["odd_labels"]

Series = Mapping[tuple[str, str], set[str]]


def odd_labels(samples: Sequence[Sample]) -> list[Finding]:
    """Return findings about labels spelled in several ways, and patients whose series differ."""
    return [*_same_words(samples), *_series_at_odds(samples)]


def _same_words(samples: Sequence[Sample]) -> list[Finding]:
    """Return a finding for labels that differ only by case, spaces, hyphens or underscores."""
    words: dict[str, set[str]] = {}
    for label in {sample.label for sample in samples if sample.label}:
        words.setdefault("".join(filter(str.isalnum, label.lower())), set()).add(label)
    return [
        Finding(
            "labels-alike",
            ", ".join(sorted(alike)),
            f"expected one spelling of a label, got {', '.join(map(repr, sorted(alike)))}: they "
            "count as different labels. Give them one name in the source.",
        )
        for alike in words.values()
        if len(alike) > 1
    ]


def _series_at_odds(samples: Sequence[Sample]) -> list[Finding]:
    """Return a finding for patients with series of different labels, where a series has one label.

    Where some series holds several labels, labels are of slices, and may differ. A series of one
    slice says nothing, and slides of one patient may show different tissue.
    """
    patients: dict[str, dict[tuple[str, str], list[str]]] = {}
    for sample in samples:
        if sample.series_id and sample.label and sample.kind != "rgb":
            own = patients.setdefault(sample.patient_id, {})
            own.setdefault((sample.study_id, sample.series_id), []).append(sample.label)
    told = {
        patient: {key: set(labels) for key, labels in own.items() if len(labels) > 1}
        for patient, own in patients.items()
        if patient
    }
    if any(len(labels) > 1 for own in told.values() for labels in own.values()):
        return []
    odd = {patient: own for patient, own in told.items() if len(set().union(*own.values())) > 1}
    visits = {patient: own for patient, own in odd.items() if _only_between_visits(own)}
    findings = []
    if same := {patient: own for patient, own in odd.items() if patient not in visits}:
        findings.append(
            Finding(
                "series-at-odds",
                _whose(same),
                f"expected series of one patient to have one label, got {_first(same)}; the "
                "patient counts as the most severe. Correct the labels, or the patient_id.",
            )
        )
    if visits:
        findings.append(
            Finding(
                "visits-at-odds",
                _whose(visits),
                f"the label differs between visits: {_first(visits)}; the patient counts as the "
                "most severe.",
                "note",
            )
        )
    return findings


def _only_between_visits(own: Series) -> bool:
    """Return whether the series of each known visit have one label."""
    visits: dict[str, set[str]] = {}
    for (study, _), labels in own.items():
        visits.setdefault(study, set()).update(labels)
    return all(len(labels) == 1 for labels in visits.values())


def _whose(patients: Mapping[str, Series]) -> str:
    return next(iter(patients)) if len(patients) == 1 else f"{len(patients)} patients"


def _first(patients: Mapping[str, Series]) -> str:
    """Return the first patient's labels, each with a series that has it."""
    patient, own = next(iter(patients.items()))
    series = {label: key[1] for key, labels in reversed([*own.items()]) for label in labels}
    listed = ", ".join(f"{label!r} (series {series[label]})" for label in sorted(series))
    return f"{listed} of {patient}"
