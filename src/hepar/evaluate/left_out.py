"""Who is judged by what whom taught, and which share of them is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import Unit
from hepar.errors import EvaluateError
from hepar.evaluate.intervals import wilson
from hepar.evaluate.predictions import Predictions

__all__ = ["Turn", "check_one_row_each", "judged", "share", "teachers", "turns"]

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Turn:
    """Some rows of a table, and the rows that may teach what these are judged by.

    Attributes:
        rows: (n,) which rows of the table are judged.
        teachers: left-out rows of the other folds; of all folds where `rows` are in none.
        where: "without fold '2': ", to begin a reason with; "" where all folds teach.
    """

    rows: Bools
    teachers: Predictions
    where: str


def check_one_row_each(predictions: Predictions, what: str) -> None:
    """Refuse several rows of one patient where rows are counted as patients.

    Where the rows are images by choice or because nothing else is known (unit "image"), they are
    let through; `share` then gives no interval.

    Raises:
        EvaluateError: a patient has several rows.
    """
    n = len(np.unique(predictions.patient_id))
    if predictions.unit != "image" and n < len(predictions):
        raise EvaluateError(
            f"{what}: expected one row a {predictions.unit}, got {len(predictions)} rows of "
            f"{n}. Use hepar.evaluate.aggregate first."
        )


def teachers(predictions: Predictions) -> Predictions:
    """Return the rows that thresholds may be learned from: train, left out in a fold, labelled."""
    rows = (predictions.partition == "train") & (predictions.fold != "")
    return predictions.select(rows & (predictions.reference != ""))


def turns(table: Predictions, taught_by: Predictions) -> Iterator[Turn]:
    """Yield the rows of a table by who teaches them, so that no row is judged by its own.

    Args:
        table: rows to judge, of any partition.
        taught_by: from `teachers`.
    """
    own = table.partition == "train"
    for fold in np.unique(table.fold[own]).tolist():
        others = taught_by.select(taught_by.fold != fold)
        yield Turn(own & (table.fold == fold), others, f"without fold {fold!r}: ")
    if not own.all():
        yield Turn(~own, taught_by, "")


def judged(predictions: Predictions) -> Iterator[tuple[str, Predictions, list[Turn]]]:
    """Yield the out-of-fold and the test patients that have a reference, with their turns."""
    learn = teachers(predictions)
    labelled = predictions.select(predictions.reference != "")
    for name, partition in (("out-of-fold", "train"), ("test", "test")):
        table = labelled.select(labelled.partition == partition)
        if len(table):
            yield name, table, list(turns(table, learn))


def share(hits: Bools, unit: Unit, level: float = 0.95) -> dict[str, Any] | None:
    """Return {value, low, high, k, n} of hits with Wilson's interval, None of nothing.

    The ends are None where the unit is "image": images of one patient are alike, and an interval
    that counts them would be too narrow.

    Example:
        >>> share(np.array([True, True, False, True]), "image")
        {'value': 0.75, 'low': None, 'high': None, 'k': 3, 'n': 4}
    """
    if not len(hits):
        return None
    k, n = int(hits.sum()), len(hits)
    low, high = (None, None) if unit == "image" else wilson(k, n, level)
    return {"value": k / n, "low": low, "high": high, "k": k, "n": n}
