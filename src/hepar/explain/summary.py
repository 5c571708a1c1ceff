"""Aims and checks of many slices, as means over patients with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from hepar.config import EvaluateConfig
from hepar.data import LabelSet
from hepar.evaluate import patient_mean
from hepar.explain.faithfulness import Checks
from hepar.explain.localisation import Aim

__all__ = ["Aimed", "summarise_aims", "summarise_checks"]


@dataclasses.dataclass(frozen=True)
class Aimed:
    """How the map of one slice aims.

    Attributes:
        patient_id: whose slice it is.
        label: its reference, whose map it is.
        aim: of the map.
        untrained: of the map of an untrained network under the same head.
    """

    patient_id: str
    label: str
    aim: Aim
    untrained: Aim


def summarise_aims(
    aimed: Sequence[Aimed], labels: LabelSet, config: EvaluateConfig
) -> list[dict[str, Any]]:
    """Return a record a label that has slices with lesions.

    Each holds label, region, n_patients, n_slices, and estimates of chance, energy, hit, their gain
    over chance, and energy and hit of untrained networks.
    """
    records = []
    for label in labels:
        own = [one for one in aimed if one.label == label]
        if not own:
            continue
        patients = [one.patient_id for one in own]
        values = {
            "chance": [one.aim.chance for one in own],
            "energy": [one.aim.energy for one in own],
            "hit": [one.aim.hit for one in own],
            "energy_gain": [one.aim.energy - one.aim.chance for one in own],
            "hit_gain": [one.aim.hit - one.aim.chance for one in own],
            "energy_untrained": [one.untrained.energy for one in own],
            "hit_untrained": [one.untrained.hit for one in own],
        }
        records.append(
            {
                "label": label,
                "region": own[0].aim.region,
                "n_patients": len(set(patients)),
                "n_slices": len(own),
                **{name: _mean(each, patients, config) for name, each in values.items()},
            }
        )
    return records


def summarise_checks(
    checks: Sequence[Checks], patients: Sequence[str], config: EvaluateConfig
) -> dict[str, Any]:
    """Return estimates of every check, of what deletion and insertion gain over random order."""
    found = [dataclasses.asdict(one) for one in checks]
    values = {name: [one[name] for one in found] for name in found[0]}
    for name, sign in (("deletion", -1), ("insertion", 1)):
        values[f"{name}_gain"] = [sign * (one[name] - one[f"{name}_random"]) for one in found]
    means = {name: _mean(each, patients, config) for name, each in values.items()}
    return {**means, "n_slices": len(found)}


def _mean(
    values: Sequence[float], patients: Sequence[str], config: EvaluateConfig
) -> dict[str, Any]:
    return dataclasses.asdict(patient_mean(np.asarray(values, np.float64), patients, config))
