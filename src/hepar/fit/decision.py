"""Learning how scores become answers, from the scores of left-out patients and nothing else."""

from __future__ import annotations

from hepar.config import DecideConfig, HeadConfig
from hepar.evaluate import (
    Predictions,
    Undefined,
    aggregate,
    calibrate_out_of_fold,
    choose_operating_point,
    fit_conformal,
)
from hepar.model import Decision

__all__ = ["fit_decision"]


def fit_decision(
    scores: Predictions, head: HeadConfig, config: DecideConfig, things: str = "slices"
) -> tuple[Predictions, Predictions, Decision]:
    """Calibrate slices, add them up, calibrate patients, and choose sets and a threshold.

    Every out-of-fold row is calibrated by what the other folds taught. The decision that ships has
    learned from all of them.

    Args:
        scores: of slices, train rows out of fold.
        head: how slices become a patient.
        config: what is wanted.
        things: what a row of the scores is, in words.

    Returns:
        Predictions of slices and of patients, and the decision.
    """
    slices, of_slices = calibrate_out_of_fold(scores, config.calibration)
    rows = scores if head.aggregate == "attention" else slices
    patients = aggregate(rows, head.aggregate, head.top_k)
    patients, of_patients = calibrate_out_of_fold(patients, config.calibration)
    notes = [
        f"Probabilities of {name} are not calibrated: {calibrator.reason}."
        for name, calibrator in ((things, of_slices), (f"{scores.unit}s", of_patients))
        if calibrator.reason
    ]
    rule = None
    if config.conformal != "none":
        rule = fit_conformal(patients, config.conformal, config.coverage)
        if rule.reason:
            notes.append(f"No sets of labels: {rule.reason}.")
            rule = None
    point = choose_operating_point(patients, config.sensitivity, config.bound)
    if isinstance(point, Undefined):
        notes.append(f"No operating point: {point.reason}.")
    untested = _never_told_apart(patients)
    if untested:
        notes.append(f"No answers about {scores.unit}s: {untested}.")
    decision = Decision(
        aggregate=head.aggregate,
        top_k=head.top_k,
        slices=of_slices,
        patients=of_patients,
        sets=rule,
        point=None if isinstance(point, Undefined) else point,
        notes=tuple(notes),
        untested=untested,
    )
    return slices, patients, decision


def _never_told_apart(patients: Predictions) -> str:
    """Return why nothing is known of answers about patients; "" where something is."""
    found = sorted(set(patients.reference.tolist()) - {""})
    if len(found) != 1 or len(patients.labels) < 2:
        return ""
    return (
        f"every {patients.unit} that taught it is {found[0]}, so this was never tested; "
        "see its slices"
    )
