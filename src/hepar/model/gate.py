"""The gate: which slices and patients are unlike what a model learned from, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import Sample
from hepar.errors import BundleError
from hepar.model.cloud import Cloud, cloud_from_arrays

__all__ = ["Gate", "Turned", "Verdict", "gate_from_document", "gate_to_document"]

Floats = NDArray[np.float64]
Turned = Callable[[Sequence[int]], NDArray[np.floating[Any]]]
"""Positions of slices -> features (m, d) of these slices stood on their heads."""

_STRETCH = 1.25
"""A spacing may leave the range seen in training by this factor: scanners are set by the patient's
size, so the next patient's is often just outside."""

_NEARER = 1.05
"""A patient lies upside down where its slices turned over are this many times nearer. At this value
no patient of three sources was called wrongly (docs/explanation/gate.md)."""

_TURNED_A_PATIENT = 8
"""Slices of a patient, evenly spread, that are turned over for a look."""

_AXES = ("spacing between slices", "pixel height", "pixel width")


@dataclass(frozen=True)
class Verdict:
    """What the gate says about a slice or a patient.

    Attributes:
        accepted: whether the model was made for it, as far as the gate can tell.
        score: distance from the training slices in multiples of the limit, above 1 for a refusal;
            of a patient, the mean over the slices. None where distance was not judged.
        reason: why it is refused, in one line; "" where it is accepted.
    """

    accepted: bool
    score: float | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Gate:
    """What was seen in training, and how far from it is too far.

    Attributes:
        clouds: by kind of pixels; a kind without one is judged by its header alone.
        kinds: of the pixels seen: "hu", "picture", "rgb".
        spacing_mm: least and greatest (z, y, x) voxel size seen, ((z, y, x), (z, y, x)); None where
            no training slice tells.
        phases: contrast phases seen, lower case; empty where none is named.
        coloured: whether colour pictures were among them.
        share: of a new patient's slices that the limit was set to refuse, at most.
        n_patients: that it learned from.
        notes: what cannot be promised, in a line each.
        weights: SHA-256 of the weights of the network that it looks with.
    """

    clouds: Mapping[str, Cloud]
    kinds: tuple[str, ...]
    spacing_mm: tuple[tuple[float, ...], tuple[float, ...]] | None
    phases: tuple[str, ...]
    coloured: bool
    share: float
    n_patients: int
    notes: tuple[str, ...] = ()
    weights: str = ""

    def judge(
        self,
        features: NDArray[np.floating[Any]],
        samples: Sequence[Sample],
        coloured: Collection[str] = (),
    ) -> list[Verdict]:
        """Judge slices, each by its header and then by its distance.

        Args:
            features: (n, d) of the gate's own network; a row that is not finite is refused.
            samples: (n,) whose kind, spacing and column `phase` are looked at.
            coloured: paths of colour pictures, from `hepar.model.coloured_paths`.

        Returns:
            A verdict per slice, in order.

        Raises:
            BundleError: features and samples do not agree in number, or features have another
                width than in training.
        """
        scores = self._scores(np.asarray(features), samples)
        verdicts = []
        for sample, score in zip(samples, scores.tolist(), strict=True):
            known = score if sample.kind in self.clouds and np.isfinite(score) else None
            reason = self._header(sample, sample.path in coloured)
            if not reason and sample.kind in self.clouds:
                reason = _distance_reason(score, sample.kind)
            verdicts.append(Verdict(not reason, known, reason))
        return verdicts

    def judge_patients(
        self,
        verdicts: Sequence[Verdict],
        samples: Sequence[Sample],
        turned: Turned | None = None,
    ) -> dict[str, Verdict]:
        """Judge patients from the verdicts on their slices.

        A patient is refused where more than half of the slices are, or where the slices lie nearer
        to the training slices when stood on their heads.

        Args:
            verdicts: from `judge`.
            samples: (n,) as there.
            turned: computes features of slices turned over; None not to look. It is asked once, for
                a few slices of each patient whose distance was judged.

        Returns:
            patient_id -> verdict, in the order of first appearance.
        """
        rows: dict[str, list[int]] = {}
        for i, sample in enumerate(samples):
            rows.setdefault(sample.patient_id, []).append(i)
        upside_down = self._upside_down(verdicts, samples, rows, turned) if turned else {}
        answers = {}
        for patient, own in rows.items():
            refused = [i for i in own if not verdicts[i].accepted]
            scores = [s for i in own if (s := verdicts[i].score) is not None]
            reason = upside_down.get(patient, "")
            if not reason and 2 * len(refused) > len(own):
                reason = verdicts[refused[0]].reason
                if len(own) > 1:
                    reason = f"{len(refused)} of {len(own)} slices refused: {reason}"
            score = float(np.mean(scores)) if scores else None
            answers[patient] = Verdict(not reason, score, reason)
        return answers

    def _scores(self, features: NDArray[Any], samples: Sequence[Sample]) -> Floats:
        """Return distances in multiples of the limit (n,), NaN where there is no finite row."""
        if features.ndim != 2 or len(features) != len(samples):
            raise BundleError(
                f"gate: expected features (n, d) of {len(samples)} slices, got {features.shape}. "
                "Compute them with hepar.model.gate_features."
            )
        scores = np.full(len(samples), np.nan)
        finite = np.isfinite(features).all(axis=1)
        for kind, cloud in self.clouds.items():
            if features.shape[1] != len(cloud.mean):
                raise BundleError(
                    f"gate: expected features of width {len(cloud.mean)}, got "
                    f"{features.shape[1]}. Compute them with hepar.model.gate_features."
                )
            rows = finite & np.array([sample.kind == kind for sample in samples], bool)
            scores[rows] = cloud.distances(features[rows]) / cloud.limit
        return scores

    def _header(self, sample: Sample, coloured: bool) -> str:  # noqa: FBT001
        """Return why a slice is refused by what is known without its pixels, or ""."""
        if sample.kind == "picture" and "picture" not in self.kinds:
            return "8-bit picture, and the model was trained on HU"
        if coloured and not self.coloured:
            return "colour picture, and the model was trained on grey ones"
        if sample.spacing_mm and self.spacing_mm:
            for axis, own, low, high in zip(
                _AXES, sample.spacing_mm, *self.spacing_mm, strict=True
            ):
                if not low / _STRETCH <= own <= high * _STRETCH:
                    return f"{axis} {own:.3g} mm, trained on {low:.3g} to {high:.3g} mm"
        phase = sample.extra.get("phase", "").strip().lower()
        if phase and self.phases and phase not in self.phases:
            return f"phase {phase} was not in training ({', '.join(self.phases)})"
        return ""

    def _upside_down(
        self,
        verdicts: Sequence[Verdict],
        samples: Sequence[Sample],
        rows: Mapping[str, Sequence[int]],
        turned: Turned,
    ) -> dict[str, str]:
        """Return patient_id -> reason for patients whose slices are nearer when turned over."""
        chosen = {}
        for patient, own in rows.items():
            judged = [i for i in own if verdicts[i].score is not None]
            judged = [i for i in judged if samples[i].kind != "rgb"]  # a tile has no upper side
            if judged:
                spread = np.linspace(0, len(judged) - 1, min(_TURNED_A_PATIENT, len(judged)))
                chosen[patient] = [judged[round(at)] for at in spread]
        asked = [i for own in chosen.values() for i in own]
        if not asked:
            return {}
        over = self._scores(np.asarray(turned(asked)), [samples[i] for i in asked])
        score = dict(zip(asked, over.tolist(), strict=True))
        reasons = {}
        for patient, own in chosen.items():
            upright = float(np.mean([verdicts[i].score or 0.0 for i in own]))
            flipped = float(np.mean([score[i] for i in own]))
            if flipped <= 1 and upright > _NEARER * flipped:
                is_picture = samples[own[0]].kind == "picture"
                way = "try --flip-vertical" if is_picture else "check the orientation it states"
                reasons[patient] = (
                    f"looks upside down ({upright / flipped:.2f} times as far from the training "
                    f"slices as when turned over): {way}"
                )
        return reasons


def _distance_reason(score: float, kind: str) -> str:
    if not np.isfinite(score):
        return "its features are not finite numbers: damaged pixels?"
    if score <= 1:
        return ""
    what, guess = "slices", "perhaps no abdominal CT at liver level"
    if kind == "rgb":
        what, guess = "tiles", "perhaps another tissue, stain or magnification"
    return f"unlike the training {what} (distance {max(score, 1.01):.2f} times the limit): {guess}"


def gate_to_document(gate: Gate) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return a gate as JSON-able values and arrays in C order, as a bundle stores them."""
    document = {
        "clouds": {k: {"rest": c.rest, "limit": c.limit} for k, c in sorted(gate.clouds.items())},
        "kinds": list(gate.kinds),
        "spacing_mm": [list(end) for end in gate.spacing_mm] if gate.spacing_mm else None,
        "phases": list(gate.phases),
        "coloured": gate.coloured,
        "share": gate.share,
        "n_patients": gate.n_patients,
        "notes": list(gate.notes),
        "weights": gate.weights,
    }
    arrays = {
        f"{kind}/{name}": np.ascontiguousarray(getattr(cloud, name))
        for kind, cloud in sorted(gate.clouds.items())
        for name in ("mean", "directions", "variances")
    }
    return document, arrays


def gate_from_document(document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Gate:
    """Return the gate that `gate_to_document` described.

    Raises:
        BundleError: a value or an array is missing, or they do not agree.
    """
    try:
        spacing = document["spacing_mm"]
        return Gate(
            clouds={
                kind: cloud_from_arrays(kind, c, arrays) for kind, c in document["clouds"].items()
            },
            kinds=tuple(document["kinds"]),
            spacing_mm=(_three(spacing[0]), _three(spacing[1])) if spacing else None,
            phases=tuple(document["phases"]),
            coloured=bool(document["coloured"]),
            share=float(document["share"]),
            n_patients=int(document["n_patients"]),
            notes=tuple(document["notes"]),
            weights=str(document["weights"]),
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(
            f"gate: expected one that hepar wrote, got {type(error).__name__}: {error}. "
            "Fit it again."
        ) from error


def _three(values: Sequence[float]) -> tuple[float, ...]:
    if len(values) != 3:
        raise ValueError(f"a spacing of {len(values)} values, not 3")
    return tuple(float(value) for value in values)
