"""What printed digits allow: test-set sizes, an F1, means of rounded values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from hepar.errors import EvaluateError

__all__ = [
    "MOST_SIZES",
    "Printed",
    "chance_size",
    "f1_bounds",
    "mean_steps",
    "parse_printed",
    "sizes_of",
    "tail_of_mixed",
    "whole_percent_classes",
]

MOST_SIZES = 100_000
"""Test-set sizes that are tried; four decimals of a fraction are possible at every n >= 10,000."""

_MOST_DIGITS = 12
_CELL = re.compile(r"([0-9]{1,9}(?:[.,][0-9]{0,40})?|[.,][0-9]{1,40})\s*(%?)")
_SPREAD = re.compile(r"(±|\+/?-|\(|\[).*")


@dataclass(frozen=True, slots=True)
class Printed:
    """A proportion as it was printed, with the rounding that its digits allow.

    Attributes:
        text: the characters in the table.
        scaled: the proportion times 10 ** digits.
        digits: decimals of the proportion: 4 for 99.25 %.
        percent: it was printed in percent.
        spread: what follows the number, such as "± 0.3"; then it is a mean over runs or folds.
    """

    text: str
    scaled: int
    digits: int
    percent: bool = True
    spread: str = ""

    @property
    def value(self) -> Fraction:
        """The proportion, in [0, 1]."""
        return Fraction(self.scaled, 10**self.digits)

    @property
    def decimals(self) -> int:
        """Decimals of the percentage; 0 for 99 %, and for 0.9."""
        return max(0, self.digits - 2)

    @property
    def low(self) -> Fraction:
        """The smallest proportion that rounds to these digits."""
        return max(Fraction(0), self.value - Fraction(1, 2 * 10**self.digits))

    @property
    def high(self) -> Fraction:
        """The largest that rounds to these digits."""
        return min(Fraction(1), self.value + Fraction(1, 2 * 10**self.digits))

    @property
    def cut_high(self) -> Fraction:
        """The largest that is cut (not rounded) to these digits, always below `value` + 1 digit."""
        return min(Fraction(1), self.value + Fraction(1, 10**self.digits))

    def __str__(self) -> str:
        return f"{float(100 * self.value):.{self.decimals}f} %"


def parse_printed(text: str, where: str, *, percent: bool) -> Printed:
    """Read one cell: 99.25 %, "99,25", .9925, 0.91 ± 0.02, 0.91 (0.88-0.95).

    Args:
        text: the cell.
        where: table, row and column, for the message.
        percent: a number without a percent sign is a percentage.

    Raises:
        EvaluateError: it is not a number, or a proportion outside 0 to 1.

    Example:
        >>> str(parse_printed("99,25", "Table 3", percent=True))
        '99.25 %'
    """
    spread = _SPREAD.search(text)
    number = _CELL.fullmatch(text[: spread.start()].strip() if spread else text.strip())
    if number is None:
        raise EvaluateError(
            f"{where}: expected a number such as 99.25, 99,25 % or 0.9925, got {text[:40]!a}. "
            "Leave the cell empty where the paper gives none."
        )
    whole, _, decimals = number[1].replace(",", ".").partition(".")
    signed = percent or bool(number[2]) or "%" in (spread[0] if spread else "")
    digits = len(decimals) + (2 if signed else 0)
    scaled = int((whole or "0") + decimals)
    if scaled > 10**digits:
        most = "100 %" if signed else "1"
        raise EvaluateError(
            f"{where}: expected 0 to {most}, got {text[:40]}. Correct the number, or say "
            "scale = 'percent' or 'fraction' in a TOML file."
        )
    if digits > _MOST_DIGITS:
        scaled = round(Fraction(scaled, 10 ** (digits - _MOST_DIGITS)))
        digits = _MOST_DIGITS
    return Printed(text.strip(), scaled, digits, signed, spread[0].strip() if spread else "")


def sizes_of(
    printed: Printed, largest: int = MOST_SIZES, *, multiple_of: int = 1, cut: bool = False
) -> NDArray[np.bool_]:
    """Say for n = 1 ... `largest` whether some k of n rounds to these digits (GRIM).

    A half may have been rounded either way. A mean over folds of different sizes is not k of n.

    Args:
        printed: an accuracy, or another count over n.
        largest: sizes to try, at most `MOST_SIZES`.
        multiple_of: only such n are possible, as with classes of one size.
        cut: further digits were cut off, not rounded.

    Returns:
        (largest,) booleans; entry n - 1 is of n.

    Source: Brown and Heathers 2017, Soc Psychol Personal Sci 8:363.

    Example:
        >>> (np.flatnonzero(sizes_of(Printed("99.10", 9910, 4), 500)) + 1)[:3].tolist()
        [111, 221, 222]
    """
    if not 1 <= largest <= MOST_SIZES:
        raise EvaluateError(f"largest: expected 1 to {MOST_SIZES} cases, got {largest}.")
    n = np.arange(1, largest + 1, dtype=np.int64)
    unit = 2 * 10**printed.digits
    low = 2 * printed.scaled - (0 if cut else 1)
    fewest = -((-n * low) // unit)
    most = (n * (low + 2) - cut) // unit  # what is cut off is less than a digit
    return np.asarray((fewest <= most) & (n % multiple_of == 0))


def chance_size(printed: Sequence[Printed], largest: int = MOST_SIZES) -> int | None:
    """Return about the smallest n that makes numbers of random digits all possible, as a median.

    n cases make n + 1 of the 10 ** digits + 1 printed values possible.

    Args:
        printed: the numbers whose count and digits are taken.
        largest: where to stop.

    Returns:
        The n, or None above `largest`.
    """
    n = np.arange(1, largest + 1, dtype=np.float64)
    log_share = np.zeros_like(n)
    for value in printed:
        log_share += np.log(np.minimum(1.0, (n + 1) / (10.0**value.digits + 1)))
    hazard = np.cumsum(-np.log1p(-np.minimum(np.exp(log_share), 1 - 1e-12)))
    at = int(np.searchsorted(hazard, np.log(2)))
    return at + 1 if at < largest else None


def f1_bounds(
    precision: tuple[Fraction, Fraction], sensitivity: tuple[Fraction, Fraction]
) -> tuple[Fraction, Fraction]:
    """Return the range of an F1 whose precision and sensitivity lie in these ranges.

    It holds for one class and for every mean over classes, folds or both, of whatever number and
    weights, as long as all three have the same weights. F1 = 2pr / (p + r) is concave, so a mean of
    F1 is at most the F1 of the means (Jensen); and F1 >= max(0, p + r - 1), which is convex. Both
    ends are reached: the upper by equal classes, the lower by classes with p and r of 0 or 1.

    Args:
        precision: lowest and highest, in [0, 1].
        sensitivity: the same.

    Example:
        >>> p = Fraction(1, 2)
        >>> [float(end) for end in f1_bounds((p, p), (p, p))]
        [0.0, 0.5]
    """
    (p_low, p_high), (r_low, r_high) = precision, sensitivity
    total = p_high + r_high
    high = 2 * p_high * r_high / total if total else Fraction(0)
    return max(Fraction(0), p_low + r_low - 1), high


def whole_percent_classes(
    precision: Printed, sensitivity: Printed, f1: Printed, most: int = 10
) -> tuple[int, ...]:
    """Return over how many classes means of *whole percents* give all three printed numbers.

    Rounding per class before averaging can lift a mean of F1 above the harmonic mean of the other
    two. Classes within two percent of the mean are tried, where the lift is largest.

    Args:
        precision: mean over classes, as printed.
        sensitivity: the same.
        f1: the same, above their harmonic mean.
        most: classes to try, from 2.
    """
    rows, columns = _near(precision), _near(sensitivity)
    best = np.zeros((1, 1), dtype=np.int64)  # highest sum of F1 by the sums of the other two
    found = []
    for k in range(1, most + 1):
        n, m = best.shape
        grown = np.full((n + len(rows) - 1, m + len(columns) - 1), -1, dtype=np.int64)
        for i, p in enumerate(rows):
            for j, r in enumerate(columns):
                window = grown[i : i + n, j : j + m]
                np.maximum(window, best + _highest_f1(p, r), out=window)
        best = grown
        wanted = _sums(f1, k)
        at_p = [total - k * rows[0] for total in _sums(precision, k)]
        at_r = [total - k * columns[0] for total in _sums(sensitivity, k)]
        if k > 1 and at_p and at_r and wanted and best[np.ix_(at_p, at_r)].max() >= wanted[0]:
            found.append(k)
    return tuple(found)


def _near(printed: Printed) -> range:
    percent = floor(100 * printed.value)
    return range(max(0, percent - 2), min(100, percent + 3) + 1)


def _sums(printed: Printed, k: int) -> range:
    """Return the sums of k whole percents whose mean rounds to the printed number."""
    return range(ceil(100 * k * printed.low), floor(100 * k * printed.high) + 1)


def _highest_f1(p: int, r: int) -> int:
    """Return the highest whole-percent F1 beside a whole-percent precision and sensitivity."""
    p_twice, r_twice = min(200, 2 * p + 1), min(200, 2 * r + 1)  # the most that rounds to p and r
    total = p_twice + r_twice
    return (2 * p_twice * r_twice + total) // (2 * total)  # p_twice * r_twice / total, rounded


def mean_steps(printed: Printed, k: int) -> tuple[bool, float]:
    """Say whether a number may be a multiple of 1/k percent, and the chance of that.

    Args:
        printed: the number, with at least one decimal of the percentage.
        k: classes that whole percents would have been averaged over.

    Returns:
        Whether some multiple of 1/k percent rounds to it, and the share of all numbers of as many
        decimals for which that is so.

    Example:
        >>> mean_steps(Printed("94.75", 9475, 4), 4)
        (True, 0.04)
    """
    grid = 10**printed.decimals
    half = Fraction(1, 2)
    kept = {
        r % grid
        for m in range(k)
        for r in range(ceil(Fraction(m * grid, k) - half), floor(Fraction(m * grid, k) + half) + 1)
    }
    return printed.scaled % grid in kept, min(1.0, len(kept) / grid)


def tail_of_mixed(hits: int, chances: Sequence[float]) -> float:
    """Return the probability of `hits` or more successes of independent trials of these chances.

    Args:
        hits: successes.
        chances: (n,) probability of each trial.

    Example:
        >>> round(tail_of_mixed(2, [0.5, 0.5]), 6)
        0.25
    """
    upper = np.zeros(len(chances) + 1)
    upper[0] = 1.0
    for i, chance in enumerate(chances):
        upper[1 : i + 2] = upper[1 : i + 2] * (1 - chance) + upper[: i + 1] * chance
        upper[0] *= 1 - chance
    return float(min(1.0, upper[hits:].sum()))
