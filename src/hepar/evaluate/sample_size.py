"""How many patients a study needs, for an interval of a width or a difference worth finding."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, sqrt
from typing import Literal

from hepar.errors import EvaluateError
from hepar.evaluate.intervals import newcombe_auroc, wilson

__all__ = [
    "MOST_PATIENTS",
    "AurocMethod",
    "Width",
    "design_effect",
    "hanley_mcneil",
    "pairs_for_difference",
    "patients_for_auroc",
    "patients_for_difference",
    "patients_for_proportion",
    "patients_with_clusters",
    "power_of_mcnemar",
]

Width = Literal["half", "below"]
AurocMethod = Literal["newcombe", "hanley-mcneil"]

MOST_PATIENTS = 1_000_000
"""More than this is refused: no study of that size will be made."""


def _check(name: str, value: float, low: float, high: float, mend: str) -> None:
    if not low < value < high:
        raise EvaluateError(f"{name}: expected between {low:g} and {high:g}, got {value:g}. {mend}")


def _smallest(name: str, is_enough: Callable[[int], bool]) -> int:
    """Return the smallest n that is enough, where every larger one is."""
    if not is_enough(MOST_PATIENTS):
        raise EvaluateError(
            f"{name}: expected a study of at most {MOST_PATIENTS:,} patients, got more. Ask for a "
            "wider interval or a larger difference."
        )
    low, high = 0, 1
    while not is_enough(high):
        low, high = high, min(2 * high, MOST_PATIENTS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def patients_for_proportion(
    expected: float, half_width: float, level: float = 0.95, *, width: Width = "half"
) -> int:
    """Return how many patients give a sensitivity, specificity or accuracy its interval.

    Sensitivity takes patients with the disease, specificity without, accuracy any.

    Args:
        expected: the proportion, 0 to 1.
        half_width: wanted, such as 0.05; as a proportion.
        level: coverage of the interval.
        width: "half" of Wilson's interval, or the distance to its end "below" the proportion,
            which is the longer where the proportion is above one half.

    Source: Wilson 1927, J Am Stat Assoc 22:209, searched exactly with n * expected successes.

    Example:
        >>> patients_for_proportion(0.9, 0.05)
        141
    """
    if not 0 <= expected <= 1:
        raise EvaluateError(f"expected proportion: expected 0 to 1, got {expected:g}. Write 0.9.")
    _check("half_width", half_width, 0, 0.5, "Write 0.05 for five points.")

    def is_enough(n: int) -> bool:
        low, high = wilson(expected * n, n, level)
        return (expected - low if width == "below" else (high - low) / 2) <= half_width

    return _smallest("half_width", is_enough)


def hanley_mcneil(expected: float, n_positive: float, n_negative: float) -> float:
    """Return the standard error of an AUROC, from scores taken for exponential.

    Args:
        expected: AUROC, 0 to 1.
        n_positive: patients with the disease, above 0.
        n_negative: patients without.

    Source: Hanley and McNeil 1982, Radiology 143:29.

    Example:
        >>> round(hanley_mcneil(0.893, 51, 58), 4)
        0.0325
    """
    both, negatives = expected / (2 - expected), 2 * expected**2 / (1 + expected)
    spread = expected * (1 - expected)
    spread += (n_positive - 1) * (both - expected**2) + (n_negative - 1) * (negatives - expected**2)
    return sqrt(spread / (n_positive * n_negative))


def patients_for_auroc(
    expected: float,
    half_width: float,
    ratio: float = 1.0,
    level: float = 0.95,
    *,
    method: AurocMethod = "newcombe",
) -> tuple[int, int]:
    """Return how many patients with and without the disease give an AUROC its interval.

    Args:
        expected: AUROC, above 0.5 and below 1.
        half_width: half of the interval's length, such as 0.05.
        ratio: patients without the disease for each with it.
        level: coverage of the interval.
        method: "newcombe", the interval that `hepar` reports, or "hanley-mcneil", the usual
            value +- z * standard error.

    Returns:
        Patients with the disease, patients without.

    Source: Newcombe 2006, Stat Med 25:559, method 5; Hanley and McNeil 1982, Radiology 143:29.

    Example:
        >>> patients_for_auroc(0.9, 0.05)
        (83, 83)
    """
    _check("expected AUROC", expected, 0.5, 1, "Write 0.9.")
    _check("half_width", half_width, 0, 0.5, "Write 0.05 for five points.")
    _check("ratio", ratio, 0, 1000, "It is patients without the disease for each with it.")
    z = _z(level)

    def is_enough(n: int) -> bool:
        others = ceil(n * ratio)
        if method == "hanley-mcneil":
            return z * hanley_mcneil(expected, n, others) <= half_width
        low, high = newcombe_auroc(expected, n, others, level)
        return (high - low) / 2 <= half_width

    n = _smallest("half_width", is_enough)
    return n, ceil(n * ratio)


def _z(level: float, side: float = 0.5) -> float:
    from scipy.special import ndtri

    _check("level", level, 0, 1, "0.95 is usual.")
    return float(ndtri(1 - side * (1 - level)))


def power_of_mcnemar(
    pairs: int, difference: float, discordance: float, level: float = 0.95
) -> float:
    """Return the power of McNemar's exact test, the one that `hepar compare` makes.

    Args:
        pairs: patients that both models answer for.
        difference: of the two accuracies, without sign.
        discordance: share of patients that exactly one model gets right, at least `difference`.
        level: 1 minus the two-sided error of the first kind.

    Returns:
        The probability of p <= 1 - level; either sign of the difference counts.

    Source: the exact distribution of the discordant pairs, as in O'Brien (G*Power 3.1 manual).

    Example:
        >>> round(power_of_mcnemar(100, 0.1, 0.2), 3)
        0.544
    """
    import numpy as np
    from scipy.stats import binom

    difference = abs(difference)
    if not 0 < difference <= discordance <= 1:
        raise EvaluateError(
            f"discordance: expected at least the difference of {difference:g} (above 0) and at "
            f"most 1, got {discordance:g}. It is the share that exactly one model gets right."
        )
    _check("level", level, 0, 1, "0.95 is usual.")
    error = 1 - level
    spread = 12 * sqrt(pairs * discordance * (1 - discordance)) + 12
    first = max(0, int(pairs * discordance - spread))
    m = np.arange(first, min(pairs, ceil(pairs * discordance + spread)) + 1)
    most = binom.ppf(error / 2, m, 0.5)
    most = np.where(2 * binom.cdf(most, m, 0.5) <= error * (1 + 1e-12), most, most - 1)
    share = (discordance + difference) / (2 * discordance)
    rejects = binom.sf(m - most - 1, m, share) + binom.cdf(most, m, share)
    return float((binom.pmf(m, pairs, discordance) * rejects).sum())


def pairs_for_difference(
    difference: float, discordance: float, power: float = 0.8, level: float = 0.95
) -> int:
    """Return how many patients two models on the *same* patients need, by McNemar's exact test.

    What counts is how often they disagree: at the same difference, models that err on the same
    patients need fewer. Independent errors have discordance p (1 - q) + q (1 - p).

    Args:
        difference: of the two accuracies, without sign.
        discordance: share of patients that exactly one model gets right.
        power: wanted, 0 to 1.
        level: 1 minus the two-sided error of the first kind.

    Returns:
        The smallest n.

    Example:
        >>> pairs_for_difference(0.1, 0.2)
        168
    """
    _check("power", power, 0, 1, "0.8 is usual.")
    return _smallest(
        "difference", lambda n: power_of_mcnemar(n, difference, discordance, level) >= power
    )


def patients_for_difference(
    first: float, second: float, power: float = 0.8, level: float = 0.95, *, ratio: float = 1.0
) -> tuple[int, int]:
    """Return how many patients two proportions of *different* patients need.

    Args:
        first: proportion in the first group.
        second: in the second.
        power: wanted, 0 to 1.
        level: 1 minus the two-sided error of the first kind.
        ratio: patients in the second group for each in the first.

    Returns:
        Patients in the first group, in the second.

    Source: Fleiss, Levin and Paik 2003, Statistical Methods for Rates and Proportions, 4.2, without
    the continuity correction.

    Example:
        >>> patients_for_difference(0.5, 0.75, power=0.9)
        (77, 77)
    """
    for name, value in (("first", first), ("second", second)):
        _check(f"{name} proportion", value, 0, 1, "Write 0.9.")
    _check("power", power, 0, 1, "0.8 is usual.")
    _check("ratio", ratio, 0, 1000, "It is patients of the second group for each of the first.")
    if first == second:
        raise EvaluateError(
            f"difference: expected two proportions that differ, got {first:g} twice."
        )
    pooled = (first + ratio * second) / (1 + ratio)
    under_null = sqrt(pooled * (1 - pooled) * (1 + 1 / ratio))
    under_other = sqrt(first * (1 - first) + second * (1 - second) / ratio)
    root = (_z(level) * under_null + _z(power, 1.0) * under_other) / (first - second)
    n = ceil(root**2 - 1e-9)
    if max(n, n * ratio) > MOST_PATIENTS:
        raise EvaluateError(
            f"difference: expected a study of at most {MOST_PATIENTS:,} patients, got {n:,}. Ask "
            "for a larger difference."
        )
    return n, ceil(n * ratio)


def design_effect(per_patient: float, icc: float) -> float:
    """Return by how much observations of the same patient blow up a variance.

    Args:
        per_patient: lesions or slices a patient, at least 1.
        icc: correlation inside a patient, 0 to 1.

    Source: Kish 1965, Survey Sampling.

    Example:
        >>> design_effect(10, 0.5)
        5.5
    """
    if not 1 <= per_patient <= 1e6:
        raise EvaluateError(f"per_patient: expected 1 or more a patient, got {per_patient:g}.")
    if not 0 <= icc <= 1:
        raise EvaluateError(f"icc: expected a correlation of 0 to 1, got {icc:g}. Write 0.5.")
    return 1 + (per_patient - 1) * icc


def patients_with_clusters(n: int, per_patient: float, icc: float) -> int:
    """Return how many patients stand for n independent observations, with several from each.

    Args:
        n: independent observations needed.
        per_patient: lesions or slices a patient.
        icc: correlation inside a patient; at 1 more slices help nothing, at 0 they are patients.

    Example:
        >>> patients_with_clusters(141, 10, 0.5)
        78
    """
    return ceil(n * design_effect(per_patient, icc) / per_patient - 1e-9)
