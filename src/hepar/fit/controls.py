"""Controls: what a model is compared with, to see that it looks at the right thing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hepar.errors import FitError, SplitError
from hepar.evaluate import holm
from hepar.evaluate.intervals import MIN_PATIENTS, bootstrap
from hepar.evaluate.metrics import METRICS, count_by_patient
from hepar.fit.control_finding import Finding, found
from hepar.fit.control_inputs import ControlInputs, Scored, score
from hepar.fit.control_source import predict_source
from hepar.fit.metadata import filled, read_metadata
from hepar.registry import Registry

__all__ = ["CONTROLS", "make_controls"]

_METADATA_PENALTY = 10.0
"""For a handful of columns; the model's own is for a thousand features."""

_CHANCE = 0.5

_AS_GOOD = 0.05
"""AUROC that an untrained network may be behind and still count as as good."""


Control = Callable[[ControlInputs], Finding]

CONTROLS: Registry[tuple[str, Control]] = Registry("control")
"""Name -> the title in a report, and the control; the docstring says what it asks."""


def _control(name: str, title: str) -> Callable[[Control], Control]:
    def register(control: Control) -> Control:
        CONTROLS.add(name)((title, control))
        return control

    return register


@_control("permutation", "Labels dealt anew")
def _permutation(inputs: ControlInputs) -> Finding:
    """With labels dealt anew to patients, is the score still above chance?"""
    from scipy.stats import ttest_1samp

    scores = inputs.model[1].slices
    if len(scores) < 2:
        return Finding(not_made="too few patients carry a label to deal labels anew")
    copies = int((inputs.origin != np.arange(len(inputs.origin))).sum())
    p = (
        1.0
        if np.ptp(scores) == 0
        else float(ttest_1samp(scores, _CHANCE, alternative="greater")[1])
    )
    meaning = (
        f"With labels dealt at random to {inputs.unit}s, left-out {inputs.things} still score "
        f"{scores.mean():.2f} (AUROC) where chance is 0.50: the model knows them again, "
        "because copies or patients stand on both sides of the folds. Remove the copies that the "
        "audit lists, or correct the ids."
    )
    detail = f"{len(scores)} deals, scored by {inputs.things}"
    if copies:
        detail += f"; {copies} copies of other patients' slices keep their original's label"
    low, high = float(scores.min()), float(scores.max())
    return Finding(float(scores.mean()), low, high, _CHANCE, p, meaning, detail)


@_control("background", "Background only")
def _background(inputs: ControlInputs) -> Finding:
    """Can the labels be told with the liver painted over?"""
    if isinstance(inputs.background, str):
        return Finding(not_made=inputs.background)
    scored = score(inputs, inputs.refit(inputs.background), inputs.codes, inputs.labels.names)
    return found(
        scored,
        "With the liver painted over, {label} is still told from the rest, in left-out {unit}s, "
        "with AUROC {value} (chance stays below {floor}): the model can answer from what is "
        "outside the liver, or from what runs through the whole image, such as noise. Look for "
        "tables, marks, dose and kernel that go with a label.",
        "a rectangle hides the liver",
    )


@_control("grain", "Grain only")
def _grain(inputs: ControlInputs) -> Finding:
    """Can the labels be told from how noisy and sharp the image is, and nothing else?"""
    columns = [column for values in inputs.grain.T for column in filled(values)]
    if not columns:
        return Finding(not_made="no slice shows enough soft tissue to measure its grain")
    refit = inputs.refit(np.stack(columns, axis=1), _METADATA_PENALTY)
    scored = score(inputs, refit, inputs.codes, inputs.labels.names)
    return found(
        scored,
        "From noise and sharpness alone, {label} is told from the rest, in left-out {unit}s, with "
        "AUROC {value} (chance stays below {floor}): dose, kernel, slice thickness or how files "
        "were made go with a label. Balance the cohort over them, or smooth the images alike.",
        "strength of the grain of soft tissue outside the liver mask, at three scales",
    )


@_control("metadata", "Metadata only")
def _metadata(inputs: ControlInputs) -> Finding:
    """Can the labels be told without any pixel: from spacing, place in the series, scanner?"""
    known = read_metadata(inputs.samples, inputs.skip)
    if not known.used:
        return Finding(not_made="nothing but the pixels differs between samples")
    refit = inputs.refit(known.features, _METADATA_PENALTY)
    scored = score(inputs, refit, inputs.codes, inputs.labels.names)
    detail = f"from {', '.join(known.used)}"
    if known.left_out:
        detail += f"; left out, for they may tell the label: {', '.join(known.left_out)}"
    return found(
        scored,
        "Without a single pixel, {label} is told from the rest, in left-out {unit}s, with AUROC "
        f"{{value}} (chance stays below {{floor}}) from {', '.join(known.used)}: how a patient was "
        "scanned gives the label away. Balance the cohort over it, or report each group apart.",
        detail,
    )


_control("source", "Predict the source")(predict_source)


@_control("untrained", "Untrained network")
def _untrained(inputs: ControlInputs) -> Finding:
    """Does a network of the same build that has learned nothing do as well?"""
    if isinstance(inputs.untrained, str):
        return Finding(not_made=inputs.untrained)
    scored = score(inputs, inputs.refit(inputs.untrained), inputs.codes, inputs.labels.names)
    model = inputs.model[1]
    result = found(
        scored,
        "A network with random weights tells {label} from the rest, in left-out {unit}s, with "
        "AUROC {value} (chance stays below {floor}), and does as well as the pretrained one: "
        "labels show in plain brightness or grain. Look for noise, dose, kernel or marks that go "
        "with a label.",
        f"the same recipe; as good means shown to be less than {_AS_GOOD:g} behind",
    )
    if result.p is None:
        return result
    behind = _p_behind(inputs, model, scored)
    if behind is None:
        why = (
            f"a label has fewer than {MIN_PATIENTS} patients: too few to say whether it is as good"
        )
        return dataclasses.replace(result, p=None, detail=why)
    return dataclasses.replace(result, p=max(result.p, behind))


def _p_behind(inputs: ControlInputs, model: Scored, other: Scored) -> float | None:
    """Return how likely an untrained network that is clearly behind looks like this one."""
    counts = [count_by_patient(scored.table) for scored in (model, other)]
    metric = METRICS.get("auroc")
    if inputs.unit == "image" or counts[0].fewest_patients(metric, None) < MIN_PATIENTS:
        return None
    drawn = [bootstrap(c, inputs.evaluate)["auroc"][:, -1] for c in counts]
    lead = drawn[0] - drawn[1]
    lead = lead[~np.isnan(lead)]
    return float((1 + (lead >= _AS_GOOD).sum()) / (1 + len(lead)))


def make_controls(inputs: ControlInputs) -> list[dict[str, Any]]:
    """Make every control; one fires where its score is beyond chance after Holm's correction.

    The correction is over all controls of the answer, so that a cohort without any confounder has
    a false alarm with a chance of 1 - `evaluate.level` at most, however many controls there are.

    Args:
        inputs: the model's features, folds and labels.

    Returns:
        Records {name, title, asks, value, low, high, floor, p, p_holm, fires, meaning, detail,
        not_made}, in the order of `CONTROLS`.
    """
    made = {name: _make(control, inputs) for name, (_, control) in CONTROLS.items()}
    adjusted = holm([finding.p for finding in made.values()])
    rate = 1 - inputs.evaluate.level
    records: list[dict[str, Any]] = []
    for (name, finding), p in zip(made.items(), adjusted, strict=True):
        title, control = CONTROLS.get(name)
        asks = (control.__doc__ or "").strip()
        fires = p is not None and p < rate
        own: Mapping[str, Any] = dataclasses.asdict(finding)
        records.append(
            {"name": name, "title": title, "asks": asks, **own, "p_holm": p, "fires": fires}
        )
    return records


def _make(control: Control, inputs: ControlInputs) -> Finding:
    try:
        return control(inputs)
    except (FitError, SplitError) as error:
        return Finding(not_made=str(error))
