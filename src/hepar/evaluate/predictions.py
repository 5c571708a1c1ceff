"""What a classifier said about each sample or patient, on disk as CSV with its provenance."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hepar.data import Unit
from hepar.errors import EvaluateError
from hepar.provenance import read_artefact, sha256_file, write_artefact, write_atomic
from hepar.registry import nearest

__all__ = ["Level", "Predictions", "aggregate", "decide", "read_predictions", "write_predictions"]

Level = Literal["slice", "patient"]
Text = NDArray[np.str_]

_TEXTS = ("sample_id", "patient_id", "partition", "fold", "reference", "predicted")
_PARTITIONS = ("train", "tune", "test", "predict")


def decide(probabilities: NDArray[np.float64], labels: Sequence[str]) -> Text:
    """Return the label of highest probability in each row; a tie goes to the more severe label.

    Args:
        probabilities: (n, k).
        labels: k labels in order of severity.

    Example:
        >>> decide(np.array([[0.5, 0.5], [0.9, 0.1]]), ["no_tumour", "tumour"]).tolist()
        ['tumour', 'no_tumour']
    """
    last = len(labels) - 1
    winners = last - np.argmax(probabilities[:, ::-1], axis=1)
    decided: Text = np.asarray(labels, dtype=np.str_)[winners]
    return decided


@dataclass(frozen=True, eq=False)
class Predictions:
    """Rows of predictions, one a sample (level "slice") or one a patient (level "patient").

    Attributes:
        sample_id: (n,) unique; at patient level the same as `patient_id`.
        patient_id: (n,) the person; unique at patient level.
        partition: (n,) "train" (out-of-fold), "tune", "test" or "predict" (new data).
        fold: (n,) the fold that the row was left out in, "" outside cross-validation.
        reference: (n,) the reference standard's label, "" where unknown.
        predicted: (n,) the label the classifier gave.
        probabilities: (n, k) float64 in [0, 1], rows sum to 1.
        labels: k labels in order of severity, most harmless first.
        level: "slice" or "patient".
        unit: what a patient_id stands for: "patient", "group" (of images, inferred) or "image".
        attention: (n,) float64, the logarithm of how much a slice weighs in its patient's answer,
            but for a constant; None where the head does not say.

    Raises:
        EvaluateError: lengths differ, a label is not in the label set, an id occurs twice, or a
            probability is not one.
    """

    sample_id: Text
    patient_id: Text
    partition: Text
    fold: Text
    reference: Text
    predicted: Text
    probabilities: NDArray[np.float64]
    labels: tuple[str, ...]
    level: Level = "slice"
    unit: Unit = "patient"
    attention: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        for name in _TEXTS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.str_))
        object.__setattr__(self, "probabilities", np.asarray(self.probabilities, np.float64))
        self._check_shapes()
        self._check_words()
        self._check_probabilities()
        self._check_attention()

    def _check_shapes(self) -> None:
        n = len(self.patient_id)
        lengths = {name: getattr(self, name).shape for name in _TEXTS}
        wrong = [f"{name} {shape}" for name, shape in lengths.items() if shape != (n,)]
        if wrong or self.probabilities.shape != (n, len(self.labels)):
            got = ", ".join([*wrong, f"probabilities {self.probabilities.shape}"])
            raise EvaluateError(
                f"predictions: expected {n} rows and {len(self.labels)} probabilities each, "
                f"got {got}. Give every column one entry a row."
            )
        name = "patient_id" if self.level == "patient" else "sample_id"
        ids, counts = np.unique(getattr(self, name), return_counts=True)
        if n and (counts > 1).any():
            raise EvaluateError(
                f"predictions: expected every {name} once at {self.level} level, got "
                f"{str(ids[counts > 1][0])!r} {counts.max()} times. Remove the repeated rows."
            )

    def _check_words(self) -> None:
        known = {
            "partition": set(_PARTITIONS),
            "predicted": set(self.labels),
            "reference": {*self.labels, ""},
        }
        for name, words in known.items():
            for word in sorted(set(np.unique(getattr(self, name)).tolist()) - words):
                hint = nearest(word, words)
                raise EvaluateError(
                    f"predictions: expected {name} one of {sorted(words)}, got {word!r}. {hint}"
                )

    def _check_probabilities(self) -> None:
        p = self.probabilities
        bad = ~np.isfinite(p).all(axis=1) | (p < 0).any(axis=1) | (p > 1).any(axis=1)
        bad |= ~(np.abs(p.sum(axis=1) - 1.0) < 1e-3)
        if bad.any():
            row = int(np.argmax(bad))
            raise EvaluateError(
                f"predictions: expected probabilities in [0, 1] that sum to 1, got "
                f"{p[row].tolist()} for {str(self.sample_id[row])!r}. Apply softmax to raw scores."
            )

    def _check_attention(self) -> None:
        if self.attention is None:
            return
        object.__setattr__(self, "attention", np.asarray(self.attention, np.float64))
        if self.attention.shape != (len(self),) or not np.isfinite(self.attention).all():
            raise EvaluateError(
                f"predictions: expected {len(self)} finite numbers of attention, one a row, got "
                f"{self.attention.shape}. Fit the model again."
            )

    def __len__(self) -> int:
        return len(self.patient_id)

    @property
    def reference_index(self) -> NDArray[np.int64]:
        """Position of each reference in the label set, shape (n,); -1 where it is unknown."""
        return _index(self.reference, self.labels)

    @property
    def predicted_index(self) -> NDArray[np.int64]:
        """Position of each predicted label in the label set, shape (n,)."""
        return _index(self.predicted, self.labels)

    def select(self, rows: NDArray[Any]) -> Predictions:
        """Return some of the rows.

        Args:
            rows: (n,) boolean mask, or indices.
        """
        kept = {name: getattr(self, name)[rows] for name in (*_TEXTS, "probabilities")}
        attention = None if self.attention is None else self.attention[rows]
        return replace(self, **kept, attention=attention)


def _index(words: Text, labels: Sequence[str]) -> NDArray[np.int64]:
    out = np.full(len(words), -1, dtype=np.int64)
    for position, label in enumerate(labels):
        out[words == label] = position
    return out


def write_predictions(path: Path, predictions: Predictions, provenance: Mapping[str, Any]) -> None:
    """Write `predictions.csv` (or `patients.csv`), and its `.meta.json` beside it.

    Probabilities are written with the fewest digits that give the same float64 back, so equal
    predictions give equal bytes and what is read is what was written.

    Args:
        path: the CSV to write.
        predictions: the rows, written in their order.
        provenance: from `hepar.provenance.stamp`.

    Raises:
        EvaluateError: an id holds a carriage return, which CSV readers take for the end of a row.
    """
    texts = _TEXTS if predictions.level == "slice" else _TEXTS[1:]
    columns = [getattr(predictions, name).tolist() for name in texts]
    weighs = [] if predictions.attention is None else [predictions.attention]
    numbers = [*predictions.probabilities.T, *weighs]
    columns += [[repr(p) for p in column.tolist()] for column in numbers]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    named = [f"p_{label}" for label in predictions.labels]
    writer.writerow([*texts, *named, *(["attention"] if weighs else [])])
    writer.writerows(zip(*columns, strict=True))
    if "\r" in text.getvalue():
        raise EvaluateError(f"{path}: expected ids without carriage return, got one. Rename it.")
    write_atomic(path, text.getvalue())
    content = {
        "csv_sha256": sha256_file(path),
        "level": predictions.level,
        "labels": list(predictions.labels),
        "unit": predictions.unit,
        **({"attention": True} if weighs else {}),
    }
    write_artefact(path.with_suffix(".meta.json"), "predictions", content, provenance)


def read_predictions(path: Path) -> Predictions:
    """Read predictions written by `write_predictions`.

    Raises:
        DataError: the `.meta.json` beside the CSV is missing or of another kind.
        EvaluateError: the CSV is missing, was edited since it was written, or its columns are not
            those of the contract.
    """
    meta = read_artefact(path.with_suffix(".meta.json"), "predictions")
    if not path.exists():
        raise EvaluateError(f"{path}: expected predictions, got no file. Run `hepar run` first.")
    if sha256_file(path) != meta["csv_sha256"]:
        raise EvaluateError(
            f"{path}: expected the file that hepar wrote, got one edited since. Predict again."
        )
    labels = tuple(meta["labels"])
    texts = _TEXTS if meta["level"] == "slice" else _TEXTS[1:]
    weighs = bool(meta.get("attention"))
    expected = [*texts, *(f"p_{label}" for label in labels), *(["attention"] if weighs else [])]
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        rows = list(reader)
    if header != expected:
        raise EvaluateError(
            f"{path}: expected the columns {expected}, got {header}. Predict again."
        )
    table = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    attention = np.array(table.get("attention", ()), np.float64) if weighs else None
    fields = {name: np.array(table.get(name, ()), dtype=np.str_) for name in texts}
    columns = [np.array(table.get(f"p_{label}", ()), dtype=np.float64) for label in labels]
    fields.setdefault("sample_id", fields["patient_id"])
    return Predictions(
        **fields,
        probabilities=np.stack(columns, axis=1),
        labels=labels,
        level=meta["level"],
        unit=meta["unit"],
        attention=attention,
    )


def aggregate(predictions: Predictions, how: str = "mean", top_k: int = 3) -> Predictions:
    """Turn the slices of each patient into one answer for the patient.

    "mean" averages the probability vectors of all slices. "top" averages only the `top_k` slices
    with the highest probability of *not the most harmless label* (all of them where a patient has
    fewer), because a small lesion shows on a few slices; "max" is "top" with one slice. Whole
    vectors are averaged, so they still sum to 1. "noisy-or" takes slices for independent: a patient
    has the most harmless label if every slice has it, and the rest is shared out in proportion to
    what slices say of the others. "attention" averages log-probabilities, weighted
    by the softmax of each patient's attention. The patient's reference is the most severe
    reference of its slices.

    Args:
        predictions: at slice level.
        how: "mean", "top", "max", "noisy-or" or "attention".
        top_k: slices that "top" averages, at least 1.

    Returns:
        Predictions at patient level, sorted by patient_id; the order of the slices does not matter.

    Raises:
        EvaluateError: a patient has rows in two partitions or folds, an argument is wrong, or
            there is no attention.
    """
    keep = _slices_kept(how, top_k)
    if how == "attention" and predictions.attention is None:
        raise EvaluateError(
            "aggregate: expected predictions with attention, got none. Fit the model with "
            "head.kind=attention, or use 'mean'."
        )
    if predictions.level != "slice":
        raise EvaluateError(
            f"aggregate: expected predictions at slice level, got {predictions.level} level. "
            "Use them as they are."
        )
    predictions = predictions.select(np.lexsort((predictions.sample_id, predictions.patient_id)))
    patients, first, owner = np.unique(
        predictions.patient_id, return_index=True, return_inverse=True
    )
    for name in ("partition", "fold"):
        _check_one_per_patient(predictions, name, first[owner])
    most_severe = np.full(len(patients), -1, dtype=np.int64)
    np.maximum.at(most_severe, owner, predictions.reference_index)
    names = np.array([*predictions.labels, ""], dtype=np.str_)  # index -1 is "unknown"
    if how == "attention":
        probabilities = _weigh(predictions, owner)
    elif how == "noisy-or":
        probabilities = _noisy_or(predictions.probabilities, owner)
    else:
        probabilities = _pool(predictions.probabilities, owner, keep)
    return Predictions(
        sample_id=patients,
        patient_id=patients,
        partition=predictions.partition[first],
        fold=predictions.fold[first],
        reference=names[most_severe],
        predicted=decide(probabilities, predictions.labels),
        probabilities=probabilities,
        labels=predictions.labels,
        level="patient",
        unit=predictions.unit,
    )


def _slices_kept(how: str, top_k: int) -> int | None:
    known = ("mean", "top", "max", "noisy-or", "attention")
    if how not in known:
        raise EvaluateError(
            f"aggregate: expected one of {', '.join(known)}, got {how!r}. {nearest(how, known)}"
        )
    if how == "top" and top_k < 1:
        raise EvaluateError(f"aggregate: expected top_k >= 1 slices, got {top_k}. 3 is usual.")
    return {"top": top_k, "max": 1}.get(how)


def _check_one_per_patient(predictions: Predictions, name: str, first: NDArray[np.int64]) -> None:
    values: Text = getattr(predictions, name)
    differs = values != values[first]
    if differs.any():
        row = int(np.argmax(differs))
        raise EvaluateError(
            f"patient {str(predictions.patient_id[row])!r}: expected one {name}, got "
            f"{str(values[first[row]])!r} and {str(values[row])!r}. Split by patient."
        )


def _weigh(predictions: Predictions, owner: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the softmax of each owner's log-probabilities, averaged by attention."""
    energy = np.asarray(predictions.attention, np.float64)
    n = int(owner[-1]) + 1 if len(owner) else 0
    highest = np.full(n, -np.inf)
    np.maximum.at(highest, owner, energy)
    raised = np.exp(energy - highest[owner])
    share = raised / np.bincount(owner, raised, n)[owner]
    logs = np.log(np.maximum(predictions.probabilities, 1e-300))
    pooled = np.stack([np.bincount(owner, share * column, n) for column in logs.T], axis=1)
    shifted = np.exp(pooled - pooled.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float64)


def _noisy_or(probabilities: NDArray[np.float64], owner: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each owner the chance that some row is not the most harmless label, shared out."""
    harmless = np.exp(np.bincount(owner, np.log(np.maximum(probabilities[:, 0], 1e-300))))
    sums = np.stack([np.bincount(owner, column) for column in probabilities.T[1:]], axis=1)
    share = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1e-300)
    return np.concatenate([harmless[:, None], (1 - harmless)[:, None] * share], axis=1)


def _pool(
    probabilities: NDArray[np.float64], owner: NDArray[np.int64], keep: int | None
) -> NDArray[np.float64]:
    """Average the rows of each owner, or its `keep` rows least like the most harmless label."""
    if keep is not None:
        # Ties in the first key are broken by the other probabilities, never by the row order.
        keys = (*(-column for column in probabilities.T[1:]), probabilities[:, 0])
        order = np.lexsort((*keys, owner))
        starts = np.searchsorted(owner[order], owner[order])
        order = order[np.arange(len(order)) - starts < keep]
        probabilities, owner = probabilities[order], owner[order]
    counts = np.bincount(owner)
    sums = np.stack([np.bincount(owner, weights=column) for column in probabilities.T], axis=1)
    return np.asarray(np.clip(sums / counts[:, None], 0.0, 1.0), dtype=np.float64)
