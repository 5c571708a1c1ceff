"""Numbers: reads predictions, never a model; a metric is a value with an interval or a reason."""

from hepar.evaluate.evaluation import (
    PATIENTS_UNKNOWN,
    Evaluation,
    evaluate,
    headline,
    write_evaluation,
)
from hepar.evaluate.intervals import Estimate, Undefined, estimate, wilson
from hepar.evaluate.metrics import METRICS, count_by_patient, roc_curve
from hepar.evaluate.predictions import (
    Predictions,
    aggregate,
    decide,
    read_predictions,
    write_predictions,
)

__all__ = [
    "METRICS",
    "PATIENTS_UNKNOWN",
    "Estimate",
    "Evaluation",
    "Predictions",
    "Undefined",
    "aggregate",
    "count_by_patient",
    "decide",
    "estimate",
    "evaluate",
    "headline",
    "read_predictions",
    "roc_curve",
    "wilson",
    "write_evaluation",
    "write_predictions",
]
