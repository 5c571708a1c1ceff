"""Patients, never images, are divided: a test partition and folds, stratified by label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hepar.config import SplitConfig
from hepar.data import LabelSet, Manifest, Sample, Unit
from hepar.errors import LeakageError, SplitError
from hepar.provenance import digest, read_artefact, write_artefact

__all__ = [
    "Assignment",
    "Split",
    "hold_out",
    "make_split",
    "read_split",
    "split_findings",
    "split_table",
    "write_split",
]

Partition = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where one patient goes.

    Attributes:
        partition: "train" or "test".
        fold: the fold that holds the patient out; None in the test partition.
    """

    partition: Partition
    fold: int | None


@dataclass(frozen=True)
class Split:
    """Every patient's place; a patient has one place by construction.

    Attributes:
        assignments: patient_id -> Assignment.
        folds: number of folds of the train partition.
        seed: of the assignment.
        unit: what a patient_id stands for: "patient", "group" or "image".
    """

    assignments: Mapping[str, Assignment]
    folds: int
    seed: int
    unit: Unit = "patient"

    def of(self, sample: Sample) -> Assignment:
        """Return the place of a sample's patient.

        Raises:
            SplitError: the patient is not in the split.
        """
        try:
            return self.assignments[sample.patient_id]
        except KeyError:
            raise SplitError(
                f"patient {sample.patient_id}: expected a patient of the split, got one it does "
                "not name. Re-run `hepar split`."
            ) from None


def _check_labels(manifest: Manifest) -> None:
    unlabelled = sum(not sample.label for sample in manifest.samples)
    if unlabelled:
        raise SplitError(
            f"manifest: expected a label on every sample, got {unlabelled} without. "
            "Give a label column or --labels."
        )
    if len(manifest.labels) < 2:
        raise SplitError(
            f"manifest: expected two labels or more, got {list(manifest.labels)}. "
            "A classifier needs something to tell apart."
        )
    for label in manifest.labels:
        carriers = {s.patient_id for s in manifest.samples if s.label == label}
        if len(carriers) < 2:
            mend = "add patients or merge labels"
            if manifest.unit == "group":
                mend += ", or give patient ids (audit.groups=false takes images for patients)"
            raise SplitError(
                f"label {label!r}: expected at least 2 {manifest.unit}s that carry it, got "
                f"{len(carriers)}. With the only one held out, nothing is left to learn from; "
                f"{mend}."
            )


def _shuffled(patients: Sequence[str], seed: int) -> list[str]:
    """Order patients by a hash of their own id, so that the order of the files does not matter."""
    return sorted(patients, key=lambda patient: digest(seed, patient))


def _strata(carried: Mapping[str, tuple[str, ...]], seed: int) -> list[list[str]]:
    """Group patients by the labels they carry, rarest group first, each in shuffled order."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for patient, labels in carried.items():
        groups.setdefault(labels, []).append(patient)
    ordered = sorted(groups.items(), key=lambda item: (len(item[1]), item[0]))
    return [_shuffled(patients, seed) for _, patients in ordered]


def _carried(samples: Iterable[Sample], labels: LabelSet) -> dict[str, tuple[str, ...]]:
    """Return patient -> the labels of its samples, in the label set's order."""
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(sample.patient_id, set()).add(sample.label)
    return {patient: tuple(sorted(own, key=labels.index)) for patient, own in found.items()}


def _take_test(strata: list[list[str]], share: float) -> list[str]:
    """Return the head of every stratum: `share` of all patients, by largest remainder."""
    wanted = round(share * sum(map(len, strata)))
    quotas = [share * len(stratum) for stratum in strata]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(strata)), key=lambda i: (counts[i] - quotas[i], i))
    for i in by_remainder[: max(0, wanted - sum(counts))]:
        counts[i] += 1
    return [p for stratum, count in zip(strata, counts, strict=True) for p in stratum[:count]]


def _column_places(manifest: Manifest, column: str) -> dict[str, str]:
    """Return each patient's value in a column, refusing a patient who has two."""
    values: dict[str, Counter[str]] = {}
    for sample in manifest.samples:
        value = sample.extra.get(column, "")
        values.setdefault(sample.patient_id, Counter())[value] += 1
    for patient, counts in values.items():
        if len(counts) > 1:
            listed = " and ".join(
                f"{v or '(empty)'} ({n} slices)" for v, n in sorted(counts.items())
            )
            raise LeakageError(
                f"column {column!r}: patient {patient} is in {listed}; a patient belongs to one "
                "partition and one fold. Correct the column, or leave it out."
            )
        value = next(iter(counts))
        if value not in {"train", "test"} and not value.isdigit():
            raise SplitError(
                f"column {column!r}, patient {patient}: expected train, test or a fold number, "
                f"got {value!r}."
            )
    return {patient: next(iter(counts)) for patient, counts in values.items()}


def _numbered_folds(places: Mapping[str, str], column: str) -> dict[str, Assignment]:
    """Take fold numbers as they stand; they must run 0, 1, ... without a gap."""
    assignments = {
        patient: Assignment("test", None) if value == "test" else Assignment("train", int(value))
        for patient, value in places.items()
        if value != "train"
    }
    folds = sorted({a.fold for a in assignments.values() if a.fold is not None})
    if folds != list(range(len(folds))) or len(folds) < 2 or len(assignments) < len(places):
        raise SplitError(
            f"column {column!r}: expected fold numbers 0, 1, ... for every patient not in test, "
            f"got {sorted(set(places.values()))}."
        )
    return assignments


def _check_config(config: SplitConfig) -> None:
    if config.folds < 2:
        raise SplitError(f"split.folds: expected 2 or more, got {config.folds}.")
    if not 0 <= config.test <= 0.9:
        raise SplitError(f"split.test: expected a share from 0 to 0.9, got {config.test}.")
    if config.unit not in {"patient", "image"}:
        raise SplitError(f"split.unit: expected patient or image, got {config.unit!r}.")


def _count_folds(config: SplitConfig, n_train: int, n_test: int) -> int:
    folds = min(config.folds, n_train)
    if folds < 2:
        raise SplitError(
            f"split: expected 2 or more patients to train on, got {n_train} after "
            f"{n_test} went to test. Add patients or lower split.test."
        )
    return folds


def make_split(manifest: Manifest, config: SplitConfig) -> Split:
    """Divide a cohort's patients into an optional test partition and k folds.

    Patients are stratified by the labels they carry, and ordered by a hash of the seed and their
    own id, so the result depends neither on the order of the files nor on other patients' names.
    With fewer patients than folds every patient is left out once.

    Args:
        manifest: the cohort, every sample labelled.
        config: folds >= 2, test in [0, 0.9], seed; `column` names a manifest column that already
            holds the split.

    Returns:
        The split.

    Raises:
        SplitError: a label is carried by fewer than two patients, or folds or test are out of
            range.
        LeakageError: `column` puts one patient in two places.
    """
    _check_labels(manifest)
    _check_config(config)
    places = _column_places(manifest, config.column) if config.column else {}
    if any(value.isdigit() for value in places.values()):
        assignments = _numbered_folds(places, config.column)
        folds = 1 + max(place.fold or 0 for place in assignments.values())
        return Split(assignments, folds, config.seed, manifest.unit)
    strata = _strata(_carried(manifest.samples, manifest.labels), config.seed)
    if places:
        tests = {patient for patient, value in places.items() if value == "test"}
    else:
        tests = set(_take_test(strata, config.test))
    rest = [patient for stratum in strata for patient in stratum if patient not in tests]
    folds = _count_folds(config, len(rest), len(tests))
    assignments = {patient: Assignment("test", None) for patient in tests}
    assignments |= {patient: Assignment("train", i % folds) for i, patient in enumerate(rest)}
    return Split(assignments, folds, config.seed, manifest.unit)


def split_findings(manifest: Manifest, findings: Sequence[str], config: SplitConfig) -> Split:
    """Divide patients once for several findings, each spread as evenly as can be.

    The finding, or lack of one, that the fewest undivided patients carry is dealt first; each of
    them goes where it is wanted most. Patients without any known finding come last.

    Args:
        manifest: the cohort; its other columns hold the findings as "0" or "1".
        findings: names of these columns.
        config: as in `make_split`.

    Returns:
        The split.

    Raises:
        SplitError: as `make_split`.
        LeakageError: as `make_split`.

    Source:
        Iterative stratification: Sechidis et al., ECML PKDD 2011.
    """
    _check_config(config)
    places = _column_places(manifest, config.column) if config.column else {}
    if any(value.isdigit() for value in places.values()):
        assignments = _numbered_folds(places, config.column)
        folds = 1 + max(place.fold or 0 for place in assignments.values())
        return Split(assignments, folds, config.seed, manifest.unit)
    carried = {
        patient: frozenset((name, any(s.extra.get(name) == "1" for s in own))
                           for name in findings if any(s.extra.get(name) for s in own))
        for patient, own in manifest.patients.items()
    }  # fmt: skip
    tests = {patient for patient, value in places.items() if value == "test"}
    if not places and config.test:
        wanted = round(config.test * len(carried)) / len(carried)
        tests = {p for p, at in _dealt(carried, [1 - wanted, wanted], config.seed).items() if at}
    rest = {patient: marks for patient, marks in carried.items() if patient not in tests}
    folds = _count_folds(config, len(rest), len(tests))
    assignments = {patient: Assignment("test", None) for patient in tests}
    dealt = _dealt(rest, [1 / folds] * folds, config.seed)
    assignments |= {patient: Assignment("train", at) for patient, at in dealt.items()}
    return Split(assignments, folds, config.seed, manifest.unit)


def _dealt(
    carried: Mapping[str, frozenset[tuple[str, bool]]], shares: Sequence[float], seed: int
) -> dict[str, int]:
    """Return patient -> bin, so that each bin has about its share of each mark's carriers."""
    left = {patient: carried[patient] for patient in _shuffled(list(carried), seed)}
    counts = Counter(mark for marks in left.values() for mark in marks)
    room = [share * len(left) for share in shares]
    wanted = [{mark: share * n for mark, n in counts.items()} for share in shares]
    dealt: dict[str, int] = {}
    while left:
        counts = Counter(mark for marks in left.values() for mark in marks)
        rarest = min(counts, key=lambda mark: (counts[mark], mark)) if counts else None
        for patient in [p for p, marks in left.items() if rarest is None or rarest in marks]:
            own = left.pop(patient)
            at = max(
                range(len(shares)),
                key=lambda i: (wanted[i][rarest] if rarest else 0.0, room[i], -i),
            )
            room[at] -= 1
            for mark in own:
                wanted[at][mark] -= 1
            dealt[patient] = at
    return dealt


def hold_out(
    samples: Sequence[Sample], labels: LabelSet, share: float, seed: int
) -> frozenset[str]:
    """Return patients to set aside, stratified by label; the others still carry every label.

    Args:
        samples: of the patients to divide.
        labels: the label set.
        share: of the patients, 0 to 0.9; at least one where share is above 0.
        seed: of the choice.

    Returns:
        patient_ids; empty where nobody can be spared.
    """
    carried = _carried(samples, labels)
    if not share or len(carried) < 2:
        return frozenset()
    strata = _strata(carried, seed)
    chosen = _take_test(strata, max(share, 1 / len(carried)))
    left = Counter(label for own in carried.values() for label in own)
    spared = []
    for patient in chosen:
        if all(left[label] > 1 for label in carried[patient]):
            left.subtract(carried[patient])
            spared.append(patient)
    return frozenset(spared)


def split_table(split: Split, manifest: Manifest) -> list[dict[str, Any]]:
    """Count patients and samples by place and label: what a reader checks a split with."""
    patients: Counter[tuple[str, int | None, str]] = Counter()
    samples: Counter[tuple[str, int | None, str]] = Counter()
    for rows in manifest.patients.values():
        place = split.of(rows[0])
        for label in {row.label for row in rows}:
            patients[place.partition, place.fold, label] += 1
        for row in rows:
            samples[place.partition, place.fold, row.label] += 1
    order = sorted(samples, key=lambda key: (key[0] == "test", key[1] or 0, key[2]))
    return [
        {
            "partition": partition,
            "fold": fold,
            "label": label,
            "patients": patients[partition, fold, label],
            "samples": samples[partition, fold, label],
        }
        for partition, fold, label in order
    ]


def write_split(
    path: Path, split: Split, manifest: Manifest, provenance: Mapping[str, Any]
) -> None:
    """Write `split.json`: every patient's place, and the counts by place and label."""
    content = {
        "unit": split.unit,
        "folds": split.folds,
        "seed": split.seed,
        "assignments": {
            patient: {"partition": place.partition, "fold": place.fold}
            for patient, place in sorted(split.assignments.items())
        },
        "table": split_table(split, manifest),
    }
    write_artefact(path, "split", content, provenance)


def read_split(path: Path) -> Split:
    """Read `split.json`.

    Raises:
        SplitError: a place is neither a fold nor test.
    """
    document = read_artefact(path, "split")
    assignments = {}
    for patient, place in document["assignments"].items():
        partition, fold = place.get("partition"), place.get("fold")
        if not (
            (partition == "test" and fold is None)
            or (partition == "train" and isinstance(fold, int) and 0 <= fold < document["folds"])
        ):
            raise SplitError(
                f"{path.name}: patient {patient}: expected train with a fold below "
                f"{document['folds']}, or test without one, got {place}. Re-run `hepar split`."
            )
        assignments[patient] = Assignment(partition, fold)
    return Split(assignments, document["folds"], document["seed"], document["unit"])
