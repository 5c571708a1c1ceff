"""From scores to answers: calibrated probabilities, one answer a patient, a set of labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepar.errors import BundleError
from hepar.evaluate import (
    Calibrator,
    ConformalRule,
    OperatingPoint,
    Predictions,
    aggregate,
    calibrate,
    calibrator_from_json,
    conformal_from_json,
    operating_point_from_json,
)
from hepar.provenance import sha256_file, write_artefact, write_atomic

__all__ = ["Decision", "PatientAnswer", "decision_from_json", "write_answers"]

_PLAIN = Calibrator("none", reason="not calibrated")


@dataclass(frozen=True)
class PatientAnswer:
    """What is said about one patient.

    Attributes:
        patient_id: whom it is about.
        label: the answer; "" where the model abstains.
        possible: labels that the patient may have at the stated coverage; empty where no sets are
            made, or none is likely enough.
        flagged: whether the most severe label reaches the operating point; None without one.
        reason: why there is no answer, "" where there is one.
    """

    patient_id: str
    label: str
    possible: tuple[str, ...]
    flagged: bool | None
    reason: str


@dataclass(frozen=True, eq=False)
class Decision:
    """What turns a head's scores into answers, all of it learned from left-out patients.

    Attributes:
        aggregate: how slices become a patient: "mean", "top", "max", "noisy-or" or "attention",
            which weighs the scores as they are before calibration.
        top_k: slices that "top" averages.
        slices: calibrates the scores of slices.
        patients: calibrates what slices add up to.
        sets: which labels a patient may have; None for no sets.
        point: the threshold of the most severe label; None where none was chosen.
        notes: why something of this is missing, in a line each.
        untested: why nothing can be said about patients; "" where it can.
    """

    aggregate: str = "mean"
    top_k: int = 3
    slices: Calibrator = _PLAIN
    patients: Calibrator = _PLAIN
    sets: ConformalRule | None = None
    point: OperatingPoint | None = None
    notes: tuple[str, ...] = field(default=())
    untested: str = ""

    def decide(self, scores: Predictions) -> tuple[Predictions, Predictions]:
        """Return calibrated predictions of slices and of patients from scores of slices."""
        slices = calibrate(scores, self.slices)
        rows = scores if self.aggregate == "attention" else slices
        return slices, calibrate(aggregate(rows, self.aggregate, self.top_k), self.patients)

    def answer(self, patients: Predictions) -> tuple[PatientAnswer, ...]:
        """Return what is said about each patient.

        With sets, the answer is the set's one label, and a set of several labels, or none, is no
        answer; without, it is the most probable label. What was never tested is no answer either.
        """
        n = len(patients)
        if self.untested:
            return tuple(
                PatientAnswer(str(name), "", (), None, self.untested)
                for name in patients.patient_id
            )
        sets = self.sets.answers(patients.probabilities) if self.sets else [((), "")] * n
        score = patients.probabilities[:, -1]
        flags = [None] * n if self.point is None else (score >= self.point.threshold).tolist()
        likeliest = patients.predicted.tolist()
        return tuple(
            PatientAnswer(
                patient_id=str(patients.patient_id[i]),
                label="" if reason else (possible[0] if possible else likeliest[i]),
                possible=possible,
                flagged=flags[i],
                reason=reason,
            )
            for i, (possible, reason) in enumerate(sets)
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `decision.json` holds."""
        return {
            "aggregate": self.aggregate,
            "top_k": self.top_k,
            "slices": self.slices.to_json(),
            "patients": self.patients.to_json(),
            "sets": self.sets.to_json() if self.sets else None,
            "point": self.point.to_json() if self.point else None,
            "notes": list(self.notes),
            "untested": self.untested,
        }


def decision_from_json(document: Mapping[str, Any]) -> Decision:
    """Return the decision that `to_json` described.

    Raises:
        BundleError: the document is not one.
    """
    try:
        return Decision(
            aggregate=document["aggregate"],
            top_k=document["top_k"],
            slices=calibrator_from_json(document["slices"]),
            patients=calibrator_from_json(document["patients"]),
            sets=conformal_from_json(document["sets"]) if document["sets"] else None,
            point=operating_point_from_json(document["point"]) if document["point"] else None,
            notes=tuple(document["notes"]),
            untested=document.get("untested", ""),
        )
    except (KeyError, TypeError) as error:
        raise BundleError(f"decision: expected one that hepar wrote, got {error}.") from error


def write_answers(
    path: Path, answers: Sequence[PatientAnswer], provenance: Mapping[str, Any]
) -> None:
    """Write a CSV of what is said about each patient, and its `.meta.json` beside it.

    Columns: patient_id, answer ("" where the model abstains), possible (labels joined by "|"),
    flagged ("true", "false", or "" without an operating point), reason.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["patient_id", "answer", "possible", "flagged", "reason"])
    for said in answers:
        flagged = "" if said.flagged is None else str(said.flagged).lower()
        possible = "|".join(said.possible)
        writer.writerow([said.patient_id, said.label, possible, flagged, said.reason])
    write_atomic(path, text.getvalue())
    content = {"csv_sha256": sha256_file(path), "n_patients": len(answers)}
    write_artefact(path.with_suffix(".meta.json"), "answers", content, provenance)
