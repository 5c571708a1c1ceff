"""What a control found, and when a score is beyond chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepar.fit.control_inputs import Scored

__all__ = ["Finding", "chance_p", "found"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """What one control found.

    Attributes:
        value: its score, an AUROC; None where it could not be made.
        low: lower end of the interval, or of the range of the deals; None where there is none.
        high: upper end.
        floor: what chance stays below in 95 of 100 cohorts.
        p: how likely chance alone scores as well; None where nothing can be said.
        meaning: what it means when it fires.
        detail: what it was made of.
        not_made: why it could not be made, "" where it was.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    p: float | None = None
    meaning: str = ""
    detail: str = ""
    not_made: str = ""


def chance_p(value: float, dealt: Floats) -> tuple[float, float]:
    """Return how likely chance alone scores as well, and what it stays below 95 times in 100.

    The scores under labels dealt anew are taken for draws from a normal distribution, of which
    `value` would be one more: the prediction interval of Student's t. Counting the deals alone
    could never give less than 1 / (deals + 1).

    Args:
        value: the score under the real labels.
        dealt: (n,) scores under labels dealt anew, two or more.

    Example:
        >>> p, floor = chance_p(0.9, np.array([0.3, 0.4, 0.35, 0.3, 0.4]))
        >>> p < 0.001, round(floor, 2)
        (True, 0.47)
    """
    from scipy.stats import t

    n = len(dealt)
    spread = max(float(dealt.std(ddof=1)), 1e-6) * (1 + 1 / n) ** 0.5
    middle = float(dealt.mean())
    floor = middle + float(t.isf(0.05, n - 1)) * spread
    return float(t.sf((value - middle) / spread, n - 1)), min(1.0, floor)


def found(scored: Scored, meaning: str, detail: str = "") -> Finding:
    """Return what a score against its own floor says."""
    own = scored.estimate
    if own is None:
        return Finding(not_made="a label has no row to be scored on")
    if len(scored.dealt) < 2:
        return Finding(not_made="too few patients carry a label to deal labels anew")
    p, floor = chance_p(own.value, scored.dealt)
    text = meaning.replace("{value}", f"{own.value:.2f}").replace("{floor}", f"{floor:.2f}")
    text = text.replace("{unit}", scored.table.unit).replace("{label}", scored.label)
    detail = f"{scored.label} told best" + (f"; {detail}" if detail else "")
    return Finding(own.value, own.low, own.high, floor, p, text, detail)
